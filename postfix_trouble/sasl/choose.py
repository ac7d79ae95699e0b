"""With what to log in, by which mechanism, and what a failure means.

After Postfix smtp_sasl_glue.c. The rules for a client of ours:

- one mechanism, one try: a second one would be a second wrong password, and might
  send in the clear what the first one protected;
- where a password is known, mail never goes without logging in;
- no secret is part of a value that somebody may print.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.steps import AuthFailed
    from postfix_trouble.core.tls import TlsFacts

    # Parameter that names the tables, key, whether to fold its case.
    Find = Callable[[str, str, bool], str | None]


# --- credentials --------------------------------------------------------------------


class Credentials:
    """A user name and a password. Nothing shows the password but asking for it."""

    __slots__ = ("is_token", "password", "username")

    def __init__(self, username: str, password: str, is_token: bool = False) -> None:
        self.username = username
        self.password = password
        # The password is an OAuth token: good for nothing but a bearer mechanism.
        self.is_token = is_token

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"

    def with_token(self, token: str) -> Credentials:
        """The same user with a token in place of the password."""
        return Credentials(self.username, token, is_token=True)


def credentials(
    settings: Settings,
    destination: Destination,
    relay: Relay,
    sender: str,
    find: Find,
    *,
    find_sender: Callable[[str], str | None] | None = None,
) -> Credentials | None:
    """User name and password for a server, None if we know none.

    By the sender (if smtp_sender_dependent_authentication is on), then by the host's
    name, then by the destination as it was given. `find_sender` looks up an address
    with all its forms. What the look-ups raise passes: who can't find out must not
    go on as if there were nothing.
    """
    tables = "smtp_sasl_password_maps"
    found = None
    if sender and settings.flag("smtp_sender_dependent_authentication"):
        if find_sender is not None:
            found = find_sender(sender)
        else:
            found = find(tables, sender, True)
    if found is None:
        found = find(tables, relay.host, True)
    if found is None:
        found = find(tables, destination.text, True)
    if found is None:
        return None
    delimiter = settings.text("smtp_sasl_password_result_delimiter")
    username, _, password = found.partition(delimiter)
    return Credentials(username, password)


# --- the mechanism ------------------------------------------------------------------


class Mechanism(Value):
    """What a mechanism is worth, as Cyrus SASL describes it to itself."""

    # Words of smtp_sasl_security_options that it satisfies.
    qualities: frozenset[str]
    # Sends the token in place of a password.
    bearer: bool = False


_PASSWORD = frozenset(("noanonymous",))
_DIGEST = frozenset(("noanonymous", "noplaintext"))
_MUTUAL = frozenset(("noanonymous", "noplaintext", "noactive", "mutual_auth"))
_OUTSIDE = frozenset(("noanonymous", "noplaintext", "nodictionary"))

# In order of preference: what tells an eavesdropper least first, as Cyrus SASL picks.
MECHANISMS = {
    "SCRAM-SHA-512": Mechanism(_MUTUAL),
    "SCRAM-SHA-256": Mechanism(_MUTUAL),
    "SCRAM-SHA-1": Mechanism(_MUTUAL),
    "EXTERNAL": Mechanism(_OUTSIDE),
    "CRAM-MD5": Mechanism(_DIGEST),
    "PLAIN": Mechanism(_PASSWORD),
    "LOGIN": Mechanism(_PASSWORD),
    "OAUTHBEARER": Mechanism(_PASSWORD, bearer=True),
    "XOAUTH2": Mechanism(_PASSWORD, bearer=True),
}


class Options(Value):
    """How logging in is to be done over this connection."""

    # smtp_sasl_..._security_options: what a mechanism must satisfy.
    security: frozenset[str] = frozenset(("noplaintext", "noanonymous"))
    # smtp_sasl_mechanism_filter; empty: no filter.
    mechanisms: tuple[str, ...] = ()
    soft_bounce: bool = True
    # Say whose mail it is, too (send_cyrus_sasl_authzid).
    authzid: bool = False


def options(settings: Settings, tls: TlsFacts | None) -> Options:
    """The options for a connection in the clear, in TLS, or with the right server."""
    if tls is None:
        name = "smtp_sasl_security_options"
    elif tls.matched:
        name = "smtp_sasl_tls_verified_security_options"
    else:
        name = "smtp_sasl_tls_security_options"
    return Options(
        frozenset(word.lower() for word in settings.words(name)),
        settings.words("smtp_sasl_mechanism_filter"),
        settings.flag("smtp_sasl_auth_soft_bounce"),
        settings.flag("send_cyrus_sasl_authzid"),
    )


def usable(
    offered: Iterable[str],
    allowed: tuple[str, ...],
    in_table: Callable[[str, str], bool],
) -> tuple[str, ...]:
    """What is left of an offer after smtp_sasl_mechanism_filter.

    `in_table` tells whether a table or file that the filter names has a word.
    """
    return tuple(x for x in offered if not allowed or _listed(x, allowed, in_table))


def _listed(
    word: str, items: tuple[str, ...], in_table: Callable[[str, str], bool]
) -> bool:
    """Postfix string_list_match: the first item that fits decides, "!" turns it."""
    for item in items:
        bare = item.lstrip("!")
        if ":" in bare or bare.startswith("/"):
            fits = in_table(bare, word.lower())
        else:
            fits = bare.lower() == word.lower()
        if fits:
            return item.removesuffix(bare).count("!") % 2 == 0
    return False


def offer_problem(offered: str, left: tuple[str, ...], namaddrport: str) -> str:
    """What to warn of in an offer, empty if nothing.

    `offered`: the words after AUTH; `left`: those that the filter lets pass.
    """
    if not offered:
        return f"{namaddrport} offered null AUTH mechanism list"
    if not left:
        return f"{namaddrport} offered no supported AUTH mechanisms: '{offered}'"
    return ""


def choose(
    left: Iterable[str], options: Options, credentials: Credentials
) -> str | None:
    """The mechanism to use, None if none will do.

    A token goes by a bearer mechanism only. EXTERNAL, which needs a certificate that
    the server knows, is used only where the filter asks for it by name. (Cyrus SASL
    picks it wherever it is offered, and then can't do it.)

    As Cyrus SASL reads an offer: what is no letter, digit, "-" or "_" separates, so
    "LOGIN,PLAIN" are two. (The filter goes by blanks, and takes it for one.)
    """
    import re  # loaded where somebody logs in

    words = {word.upper() for x in left for word in re.findall("[A-Za-z0-9_-]+", x)}
    named = {word.upper() for word in options.mechanisms}
    for name, mechanism in MECHANISMS.items():
        if name not in words or not options.security <= mechanism.qualities:
            continue
        if credentials.is_token and not mechanism.bearer:
            continue
        if name == "EXTERNAL" and name not in named:
            continue
        return name
    return None


# --- failure ------------------------------------------------------------------------

# Client commands end with the line limit of RFC 4954 section 4: a longer initial
# response is kept for the server's empty challenge.
COMMAND_LIMIT = 512
# A server that asks more often than this is not going to be satisfied.
CHALLENGE_LIMIT = 100

NO_MECHANISM = "no mechanism available"
BAD_PROTOCOL = "bad protocol / cancel"
GENERIC = "generic failure"
BAD_SERVER = "server failed mutual authentication step"


def not_compatible(relay: Relay) -> tuple[str, str]:
    """Status and text: nothing in the offer may be used."""
    return "4.7.0", (
        f"SASL authentication failed: server {relay.namaddr} offered no compatible "
        "authentication mechanisms for this type of connection security"
    )


def cannot_authenticate(relay: Relay, problem: str) -> tuple[str, str]:
    """Status and text: our own side of the mechanism failed."""
    return "4.7.0", (
        "SASL authentication failed; cannot authenticate to server "
        f"{relay.namaddr}: {problem}"
    )


def both_first(relay: Relay, mechanism: str) -> tuple[str, str]:
    """Status and text: the server challenged where it was our turn.

    Postfix adds the response that was not sent; with it goes the password.
    """
    return "4.7.0", (
        f"SASL authentication failed; non-empty initial {mechanism} challenge from "
        f"server {relay.namaddr}"
    )


def endless(relay: Relay) -> tuple[str, str]:
    """Status and text: one challenge too many."""
    return "4.3.0", (
        "SASL authentication failed; authentication protocol loop with server "
        f"{relay.namaddr}"
    )


def cached(relay: Relay, status: str, text: str, soft: bool) -> tuple[str, str]:
    """Status and text: the server refused this very log-in not long ago."""
    known = EnhancedStatus(status)
    return known.softened() if soft else known, (
        f"SASL [CACHED] authentication failed; server {relay.host} said: {text}"
    )


def failure(failed: AuthFailed, relay: Relay, *, soft: bool, program: str) -> DSN:
    """The report of a failed log-in. `soft`: smtp_sasl_auth_soft_bounce.

    `program` (smtp or lmtp) is the type of the server's own words. Line ends in them
    stay, other than everywhere else.
    """
    reply = failed.reply
    if reply is None:
        kind, _, words = failed.diagnostic.partition("; ")
        # What x-sasl says is our library's word, not the server's.
        host = relay.host if kind not in ("", "x-sasl") else ""
        return DSN(EnhancedStatus(failed.status), failed.text, host, kind, words)
    status = reply.status
    if reply.klass == 5 and soft:
        status = status.softened()
    text = f"SASL authentication failed; server {relay.namaddr} said: {reply.text}"
    return DSN(status, text, relay.host, program, reply.text)
