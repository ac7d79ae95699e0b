"""TLS with a server: the handshake, and who it is that we talk to.

As Postfix, we let every handshake come to its end and judge the certificate after it:
a server that does not pass is told QUIT, over TLS. So the session itself demands
nothing, and what the server showed is verified afterwards (trust.py).
"""

from __future__ import annotations

import errno
import os

from postfix_trouble.edge.tls import trust
from postfix_trouble.model.status import EnhancedStatus
from postfix_trouble.model.steps import HandshakeFailed
from postfix_trouble.model.tls import TlsFacts, TlsLevel
from postfix_trouble.model.value import TYPE_CHECKING
from postfix_trouble.model.verdict import DSN
from postfix_trouble.policy import certificate as certificates
from postfix_trouble.policy import tls_offer
from postfix_trouble.policy.hostnames import address_family, idn_to_ascii
from postfix_trouble.policy.secrets import exposure

if TYPE_CHECKING:
    import socket
    import ssl
    from typing import Any

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.model.relay import Destination, Relay
    from postfix_trouble.model.tls import TlsPolicy


class _Unusable(Exception):
    """We can't even begin: something in our own configuration."""


def handshake(
    sock: socket.socket,
    policy: TlsPolicy,
    destination: Destination,
    relay: Relay,
    settings: Settings,
    timeout: float,
) -> tuple[ssl.SSLSocket, TlsFacts] | HandshakeFailed:
    """Shake hands on a connected socket, within `timeout` seconds all in all.

    The socket belongs to the result; after a failure it is closed, and nothing may be
    sent any more. Whether the certificate is the right one is in the facts: what
    follows from that is for policy.tls_level to say.
    """
    import ssl

    secured = None
    try:
        context = _context(policy, settings)
        name = _server_name(policy, destination, relay)
        secured = context.wrap_socket(
            sock, server_hostname=name, do_handshake_on_connect=False
        )
        secured.settimeout(timeout)
        secured.do_handshake()
        return secured, _facts(secured, policy, destination, relay, settings)
    except _Unusable as problem:
        reason = f"{problem}: aborting TLS session"
    except TimeoutError:
        reason = os.strerror(errno.ETIMEDOUT)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        reason = "lost connection"
    except ssl.SSLError as problem:
        reason = (problem.reason or str(problem)).replace("_", " ").lower()
    except OSError as problem:
        reason = problem.strerror or "lost connection"
    except ValueError as problem:
        reason = str(problem)
    (secured or sock).close()
    return HandshakeFailed(reason)


# --- what we offer ------------------------------------------------------------------


def _context(policy: TlsPolicy, settings: Settings) -> ssl.SSLContext:
    """A context that accepts everybody. Loads no authorities: cheap."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    numbers = tls_offer.protocols(policy.protocols)
    ciphers = tls_offer.cipher_list(policy.ciphers, policy.exclude)
    if numbers is None:
        raise _Unusable(f'Invalid TLS protocol list "{policy.protocols}"')
    if ciphers is None:
        raise _Unusable(f'invalid ciphers "{policy.ciphers}" without {policy.exclude}')
    _limit_protocols(context, numbers)
    try:
        # Whom we don't check may be weak; it is still better than nothing.
        context.set_ciphers(f"{ciphers}:@SECLEVEL={trust.security_level(policy)}")
    except ssl.SSLError:
        raise _Unusable("no ciphers are left") from None
    for cert, key in _client_certificates(settings):
        try:
            # Never ask for a pass phrase: nobody is there.
            context.load_cert_chain(cert, key or None, password="")  # nosec B106
        except (OSError, ValueError) as problem:
            raise _Unusable(f"cannot load certificate {cert}") from problem
    return context


def _limit_protocols(context: ssl.SSLContext, numbers: tuple[int, ...]) -> None:
    import ssl
    import warnings

    names = [name.replace(".", "_") for name in tls_offer.PROTOCOLS]
    usable = [n for n in numbers if getattr(ssl, f"HAS_{names[n]}")]
    if not usable:
        raise _Unusable("no protocol is left that OpenSSL knows")
    with warnings.catch_warnings():
        # Old protocols are deprecated; that is for the administrator to know.
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion[names[usable[0]]]
        context.maximum_version = ssl.TLSVersion[names[usable[-1]]]
        for number in range(usable[0], usable[-1]):
            if number not in usable:
                context.options |= getattr(ssl, f"OP_NO_{names[number]}")


def _client_certificates(settings: Settings) -> list[tuple[str, str]]:
    """Pairs of certificate and key file; no key: it is in the same file."""
    chains = settings.words("smtp_tls_chain_files")
    if chains:
        return [(path, "") for path in chains]
    cert = settings.text("smtp_tls_cert_file")
    if not cert or cert == "none":
        return []
    return [(cert, settings.text("smtp_tls_key_file"))]


def _server_name(policy: TlsPolicy, destination: Destination, relay: Relay) -> Any:
    """The name for SNI (RFC 6066 3), None for none. Addresses are no names.

    As bytes, which the ssl module takes as they are: for text it would load its own
    idea of internationalised names.
    """
    known = {"hostname": relay.host, "nexthop": _nexthop(destination, relay)}
    name = known.get(policy.servername.lower(), policy.servername)
    name = idn_to_ascii(name).rstrip(".")
    if not name or len(name) > 255 or address_family(name):
        return None
    return name.encode("ascii")


def _nexthop(destination: Destination, relay: Relay) -> str:
    return destination.host or relay.host


# --- what we got --------------------------------------------------------------------


def _facts(
    secured: ssl.SSLSocket,
    policy: TlsPolicy,
    destination: Destination,
    relay: Relay,
    settings: Settings,
) -> TlsFacts:
    cipher, _, bits = secured.cipher() or ("", "", 0)
    chain = trust.shown_chain(secured)
    shown = certificates.parse(chain[0]) if chain else None
    facts = TlsFacts(secured.version() or "", cipher, bits, certificate=bool(chain))
    if shown is None:
        return facts
    problem, trusted, matched = "", False, False
    if policy.level is TlsLevel.FINGERPRINT:
        matched = _fingerprint_matches(shown, policy, settings)
        problem = "" if matched else "no matching fingerprint"
    elif policy.level in (TlsLevel.DANE, TlsLevel.DANE_ONLY):
        problem = trust.dane_problem(chain, policy)
        trusted = matched = not problem
    elif _judged(policy, settings):
        problem = trust.chain_problem(chain, policy, settings)
        trusted = not problem
    if policy.level >= TlsLevel.VERIFY and trusted:
        wanted = certificates.references(
            policy.match, _nexthop(destination, relay), relay.host
        )
        matched = certificates.names_match(shown, wanted)
        problem = "" if matched else "hostname mismatch"
    details = (*shown.details, *((("problem", problem),) if problem else ()))
    return facts._replace(trusted=trusted, matched=matched, details=details)


def _judged(policy: TlsPolicy, settings: Settings) -> bool:
    """Whether trust matters: below verify only for those who read the TLS log."""
    if policy.level >= TlsLevel.VERIFY:
        return True
    return settings.text("smtp_tls_loglevel") not in ("", "0")


def _fingerprint_matches(
    shown: certificates.Certificate, policy: TlsPolicy, settings: Settings
) -> bool:
    """Digest of the certificate, or of its public key: nothing else is looked at."""
    import hashlib

    name = settings.text("smtp_tls_fingerprint_digest")
    try:
        digests = [
            hashlib.new(name, data, usedforsecurity=False).hexdigest()
            for data in (shown.der, shown.public_key)
        ]
    except (TypeError, ValueError):
        return False
    return any(digest in policy.match for digest in digests)


# --- before connecting --------------------------------------------------------------


def unready(policy: TlsPolicy, settings: Settings) -> DSN | None:
    """Why this policy can't be carried out with the files that we have, if so.

    Looked at before connecting: a server is passed over rather than talked to with
    less than was asked for. Costs nothing where no file is configured.
    """
    if policy.level is TlsLevel.NONE:
        return None
    for cert, key in _client_certificates(settings):
        secret = key or cert
        problem = _unreadable(cert) or _unreadable(secret)
        problem = problem or exposure(secret, os.stat(secret).st_mode)
        if problem:
            return DSN(EnhancedStatus("4.3.5"), problem)
    if policy.level >= TlsLevel.VERIFY:
        try:
            for path in policy.trust_anchors:
                trust.anchors(path)
        except (OSError, ValueError):
            return DSN(EnhancedStatus("4.7.5"), "client TLS configuration problem")
        file = settings.text("smtp_tls_CAfile")
        if file and not policy.trust_anchors and _unreadable(file):
            return DSN(EnhancedStatus("4.7.5"), _unreadable(file))
    return None


def _unreadable(path: str) -> str:
    try:
        with open(path, "rb"):
            return ""
    except OSError as problem:
        return f"cannot read {path}: {problem.strerror}"


# --- the log ------------------------------------------------------------------------


def tls_summary(facts: TlsFacts, relay: Relay, level: TlsLevel) -> str:
    """The line that Postfix logs at smtp_tls_loglevel 1 (tls_log_summary)."""
    insecure = relay.exchange is not None and not relay.exchange.authentic
    if not facts.certificate:
        who = "Anonymous"
    elif facts.matched and level is TlsLevel.DANE and insecure:
        # The server that was named, but anybody could have named it.
        who = "Trusted"
    elif facts.matched:
        who = "Verified"
    else:
        # A certificate for another name is as good as none.
        bad = "problem" in dict(facts.details)
        who = "Trusted" if facts.trusted and not bad else "Untrusted"
    return (
        f"{who} TLS connection established to {relay.namaddrport}: {facts.protocol} "
        f"with cipher {facts.cipher} ({facts.bits}/{facts.bits} bits)"
    )
