"""Which TLS level applies to a server, and what follows when TLS does not come about.

After Postfix smtp_tls_policy(3) and the STARTTLS part of smtp_proto.c. The policy
for one server is in tls_policy.

    none                  never STARTTLS
    may                   STARTTLS if offered; who the server is does not matter
    encrypt               no mail without TLS, whoever the server is
    fingerprint           as encrypt, and a certificate that we know
    verify, secure        as encrypt, and a certificate for this name, from an
                          authority that we trust
    dane, dane-only       as encrypt, and a certificate that a TLSA record vouches for;
                          dane.py says what it comes to where there is none

Nothing here opens a file or a socket.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.tls import TlsFacts


# --- the level ----------------------------------------------------------------------


def security_level(settings: Settings) -> TlsLevel:
    """The level where no table says otherwise. Raises ConfigError if it is misspelt."""
    word = settings.text("smtp_tls_security_level")
    if word:
        from postfix_trouble.tls.policy_entry import level_of

        level = level_of(word)
        assert level is not None, "the table of parameters has no other words"
        return level
    if settings.flag("smtp_enforce_tls"):
        peername = settings.flag("smtp_tls_enforce_peername")
        return TlsLevel.VERIFY if peername else TlsLevel.ENCRYPT
    return TlsLevel.MAY if settings.flag("smtp_use_tls") else TlsLevel.NONE


# --- forks of the dialogue ----------------------------------------------------------


class Go(Choice):
    """Where the dialogue goes on."""

    PLAINTEXT = "go on without TLS"
    STARTTLS = "ask for TLS"
    SITE_FAIL = "this server won't do"
    MISC_FAIL = "this server won't do; whether it is in trouble, the fork says"


class Fork(Value):
    """A way to go, and the words for it.

    An empty status is that of the server's reply. The text takes {namaddr} and
    {reply}.
    """

    go: Go
    status: str = ""
    text: str = ""
    throttle: bool = False


_NOT_OFFERED = Fork(
    Go.SITE_FAIL,
    "4.7.4",
    "TLS is required, but was not offered by host {namaddr}",
    throttle=True,
)
_REFUSED = Fork(
    Go.SITE_FAIL,
    "",
    "TLS is required, but host {namaddr} refused to start TLS: {reply}",
    throttle=True,
)
_UNMATCHED = Fork(
    Go.SITE_FAIL, "4.7.5", "Server certificate not verified", throttle=True
)
_HANDSHAKE = Fork(Go.MISC_FAIL, "4.7.5")
_PLAINTEXT = Fork(Go.PLAINTEXT)


def starttls_fork(level: TlsLevel, offered: bool) -> Fork:
    """After EHLO or HELO in the clear: ask for TLS, do without, or give up."""
    if level is TlsLevel.NONE:
        return _PLAINTEXT
    if offered:
        return Fork(Go.STARTTLS)
    if level is TlsLevel.MAY:
        return _PLAINTEXT
    return _NOT_OFFERED


def refused_fork(level: TlsLevel) -> Fork:
    """STARTTLS was answered with something else than 2xx.

    The reply's own status decides, so a 5xx bounces, and a 3xx (5.5.0) does too.
    """
    return _PLAINTEXT if level <= TlsLevel.MAY else _REFUSED


def handshake_fork(level: TlsLevel, setting: str = "") -> Fork:
    """No TLS session came of the handshake; nothing more is sent on this socket.

    Only where TLS is a must is the destination in trouble. `setting`: the one of ours
    that is to blame, and why; Postfix has that in its log only.
    """
    text = f"Cannot start TLS: {setting or 'handshake failure'}"
    return _HANDSHAKE._replace(text=text, throttle=level > TlsLevel.MAY)


def match_fork(level: TlsLevel, facts: TlsFacts) -> Fork | None:
    """The handshake is done: None to go on, else why not. QUIT goes over TLS."""
    if level >= TlsLevel.FINGERPRINT and not facts.matched:
        return _UNMATCHED
    return None


def plaintext_fallback(
    level: TlsLevel, age: float, minimal_backoff_time: float, has_password: bool
) -> bool:
    """Whether the same address may be tried again without TLS.

    After a failed handshake, or a connection lost later in TLS (smtp_start_tls,
    smtp_stream_except). `age` in seconds: a young message waits for another chance.
    Where a password is known it must not be lured out of TLS.
    """
    return (
        level is TlsLevel.MAY and int(age) >= minimal_backoff_time and not has_password
    )
