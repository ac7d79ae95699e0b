"""Log in to a server (RFC 4954), after Postfix smtp_sasl_authenticate.

smtplib's login() is not used: after a refusal it tries the next mechanism, which sends
in the clear what the first one protected and counts as three wrong passwords; and it
can't encode a password that is not ASCII.
"""

from __future__ import annotations

import binascii
import os
import re

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import Authenticated, AuthFailed
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.sasl import choose
from postfix_trouble.sasl.redaction import Concealer, exposure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.relay import Relay
    from postfix_trouble.sasl.choose import Credentials, Options

    # Yields responses (None: the server goes first), is sent challenges.
    Dialogue = Generator[bytes | None, bytes, None]


# What postmap adds to the name of a table.
_INDEXES = ("", ".db", ".lmdb", ".cdb", ".dir", ".pag")


class Cache(Value):
    """Log-ins that servers refused with 535, if they are remembered."""

    # Key to status and text, None if nothing is known.
    get: Callable[[str], tuple[str, str] | None]
    # Key, status, text.
    put: Callable[[str, str, str], None]


def authenticate(
    exchange: Callable[[bytes], Reply | Lost],
    mechanisms: tuple[str, ...],
    credentials: Credentials,
    relay: Relay,
    options: Options,
    *,
    cache: Cache | None = None,
    in_table: Callable[[str, str], bool] = lambda table, word: False,
    program: str = "smtp",
) -> Authenticated | AuthFailed | Lost:
    """Log in with one mechanism, in one try.

    `exchange` sends a line (without its end) and returns the reply; it must not
    record the line. `mechanisms`: as offered. `in_table`: see policy.sasl.usable.
    Nothing that is returned holds a secret: what the server repeats of our own lines
    is blanked. Never raises for what the server says.
    """
    left = choose.usable(mechanisms, options.mechanisms, in_table)
    if not left:
        return AuthFailed(None, *choose.not_compatible(relay))
    key = _cache_key(relay, credentials) if cache else ""
    known = cache.get(key) if cache else None
    if known is not None:
        status, text = choose.cached(relay, *known, soft=options.soft_bounce)
        return AuthFailed(None, status, text, f"{program}; {known[1]}")
    name = choose.choose(left, options, credentials)
    if name is None:
        return _broken(relay, choose.NO_MECHANISM)
    answer = _Attempt(exchange, name, credentials, relay, options).run()
    if cache and isinstance(answer, AuthFailed) and answer.reply is not None:
        reply = answer.reply
        if reply.code == 535:
            cache.put(key, reply.status, reply.text)
    return answer


def unready(settings: Settings) -> DSN | None:
    """Why no log-in can be made with this configuration, None if nothing is wrong.

    To be asked before connecting, where smtp_sasl_auth_enable is on.
    """
    tables = settings.words("smtp_sasl_password_maps")
    problem = ""
    if not tables:
        problem = (
            "specify a password table via the `smtp_sasl_password_maps' "
            "configuration parameter"
        )
    for table in tables:
        path = table.removeprefix("proxy:").partition(":")[2]
        for name in (path + index for index in _INDEXES if path.startswith("/")):
            try:
                problem = problem or exposure(name, os.stat(name).st_mode)
            except OSError:
                # Not there, or not for us: looking it up will tell.
                continue
    return DSN(EnhancedStatus("4.3.5"), problem) if problem else None


def _broken(relay: Relay, problem: str) -> AuthFailed:
    status, text = choose.cannot_authenticate(relay, problem)
    return AuthFailed(None, status, text, f"x-sasl; {problem}")


def _cache_key(relay: Relay, credentials: Credentials) -> str:
    """Another password is another log-in; the key must not help to guess it."""
    import hashlib

    name = f"{relay.host};{credentials.username}"
    digest = hashlib.scrypt(
        credentials.password.encode("utf-8", "surrogateescape"),
        salt=name.encode("utf-8", "surrogateescape"),
        n=4096,
        r=8,
        p=1,
        dklen=16,
    )
    return f"{name};{digest.hex()}"


class _Attempt:
    """One mechanism, one try."""

    def __init__(
        self,
        exchange: Callable[[bytes], Reply | Lost],
        name: str,
        credentials: Credentials,
        relay: Relay,
        options: Options,
    ) -> None:
        self._exchange = exchange
        self._name = name
        self._relay = relay
        self._dialogue = _DIALOGUES[name](credentials, relay, options, name)
        self._conceal = Concealer()
        self._conceal.add(credentials.password)
        # What a bearer mechanism's server says is wrong, before it gives up.
        self._complaint = ""

    def run(self) -> Authenticated | AuthFailed | Lost:
        """Play the client's part (smtp_sasl_authenticate)."""
        try:
            initial = next(self._dialogue)
        except ValueError:
            return _broken(self._relay, choose.GENERIC)
        line = b"AUTH " + self._name.encode("ascii")
        held = None if initial is None else self._encoded(initial)
        if held is not None and len(line) + len(held) + 3 <= choose.COMMAND_LIMIT:
            # An empty response is written "=", or it would be none at all.
            line, held = line + b" " + (held or b"="), None
        reply = self._exchange(line)
        for _ in range(choose.CHALLENGE_LIMIT):
            if isinstance(reply, Lost) or reply.klass != 3:
                return self._end(reply)
            response = self._respond(reply, held)
            if isinstance(response, AuthFailed):
                return response
            held = None
            reply = self._exchange(response)
        if isinstance(reply, Reply) and reply.klass == 3:
            return AuthFailed(None, *choose.endless(self._relay))
        return self._end(reply)

    def _encoded(self, response: bytes) -> bytes:
        """A response as it is sent; a server that repeats it must not give it away."""
        encoded = binascii.b2a_base64(response, newline=False)
        self._conceal.add(encoded.decode("ascii"))
        return encoded

    def _respond(self, reply: Reply, held: bytes | None) -> bytes | AuthFailed:
        """The line that answers a challenge."""
        text = re.sub(r"\A[- \t\n]*[^- \t\n]+[- \t\n]?", "", reply.text)
        if held is not None:
            if not text:
                return held
            status, reason = choose.both_first(self._relay, self._name)
            return AuthFailed(None, status, reason, "x-sasl; protocol error")
        try:
            challenge = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
            if choose.MECHANISMS[self._name].bearer:
                self._complaint = challenge.decode("utf-8", "replace")
            return self._encoded(self._dialogue.send(challenge) or b"")
        except StopIteration:
            # It is the server's turn to end this.
            return _broken(self._relay, choose.GENERIC)
        except ValueError:
            return _broken(self._relay, choose.BAD_PROTOCOL)
        except _ServerUnproven:
            return _broken(self._relay, choose.BAD_SERVER)

    def _end(self, reply: Reply | Lost) -> Authenticated | AuthFailed | Lost:
        if isinstance(reply, Lost):
            return reply
        if reply.klass == 2:
            return Authenticated(self._name)
        text = reply.text
        if self._complaint:
            text += " " + " ".join(self._complaint[:500].split())
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
        return AuthFailed(reply._replace(text=self._conceal(text)))


# --- mechanisms ---------------------------------------------------------------------


class _ServerUnproven(Exception):
    """The server does not know the password either."""


def _bytes(text: str) -> bytes:
    """As it was configured: UTF-8, or whatever it is."""
    return text.encode("utf-8", "surrogateescape")


def _plain(who: Credentials, relay: Relay, options: Options, name: str) -> Dialogue:
    """RFC 4616."""
    authzid = who.username if options.authzid else ""
    yield _bytes(f"{authzid}\0{who.username}\0{who.password}")


def _login(who: Credentials, relay: Relay, options: Options, name: str) -> Dialogue:
    """draft-murchison-sasl-login: what the server asks for doesn't matter."""
    yield None
    yield _bytes(who.username)
    yield _bytes(who.password)


def _cram_md5(who: Credentials, relay: Relay, options: Options, name: str) -> Dialogue:
    """RFC 2195."""
    import hmac

    challenge = yield None
    digest = hmac.new(_bytes(who.password), challenge, "md5").hexdigest()
    yield _bytes(f"{who.username} {digest}")


def _scram(who: Credentials, relay: Relay, options: Options, name: str) -> Dialogue:
    """RFC 5802, RFC 7677."""
    import scramp  # type: ignore[import-untyped]

    # Neither RFC nor Cyrus SASL knows a shortest salt; scramp since 1.5.
    if hasattr(scramp.core, "Salt"):
        scramp.core.Salt.MIN_LENGTH = 1
    try:
        client = scramp.ScramClient([name], who.username, who.password)
        challenge = yield client.get_client_first().encode()
        client.set_server_first(challenge.decode())
        proof = yield client.get_client_final().encode()
    except scramp.ScramException:
        raise ValueError("not what RFC 5802 has") from None
    try:
        client.set_server_final(proof.decode())
    except scramp.ScramException:
        raise _ServerUnproven from None
    yield b""


def _external(who: Credentials, relay: Relay, options: Options, name: str) -> Dialogue:
    """RFC 4422 appendix A: the client certificate says it all."""
    yield _bytes(who.username) if options.authzid else b""


def _oauthbearer(
    who: Credentials, relay: Relay, options: Options, name: str
) -> Dialogue:
    """RFC 7628. An error challenge is answered with one byte."""
    user = who.username.replace("=", "=3D").replace(",", "=2C")
    yield _bytes(
        f"n,a={user},\1host={relay.host}\1port={relay.port}"
        f"\1auth=Bearer {who.password}\1\1"
    )
    yield b"\1"


def _xoauth2(who: Credentials, relay: Relay, options: Options, name: str) -> Dialogue:
    """As Google has it. An error challenge is answered with an empty line."""
    yield _bytes(f"user={who.username}\1auth=Bearer {who.password}\1\1")
    yield b""


_DIALOGUES = {
    "CRAM-MD5": _cram_md5,
    "EXTERNAL": _external,
    "LOGIN": _login,
    "OAUTHBEARER": _oauthbearer,
    "PLAIN": _plain,
    "SCRAM-SHA-1": _scram,
    "SCRAM-SHA-256": _scram,
    "SCRAM-SHA-512": _scram,
    "XOAUTH2": _xoauth2,
}
