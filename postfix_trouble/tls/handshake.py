"""TLS with a server: the handshake, and who it is that we talk to.

As Postfix, we let every handshake come to its end and judge the certificate after it:
a server that does not pass is told QUIT, over TLS. So the session itself demands
nothing, and what the server showed is verified afterwards (trust.py).
"""

from __future__ import annotations

import errno
import os

from postfix_trouble.core.hostname import address_family, idn_to_ascii
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import HandshakeFailed
from postfix_trouble.core.tls import TlsFacts, TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tls import certificate, trust

if TYPE_CHECKING:
    import socket
    import ssl
    from typing import Any

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.tls import TlsPolicy
    from postfix_trouble.tls.kept import KeptTls, Resumption


def handshake(
    sock: socket.socket,
    policy: TlsPolicy,
    destination: Destination,
    relay: Relay,
    settings: Settings,
    timeout: float,
    resumption: Resumption | None = None,
) -> tuple[ssl.SSLSocket, TlsFacts] | HandshakeFailed:
    """Shake hands on a connected socket, within `timeout` seconds all in all.

    The socket belongs to the result; after a failure it is closed, and nothing may be
    sent any more. Whether the certificate is the right one is in the facts: what
    follows from that is for policy.tls_level to say. `resumption`: in a process that
    stays.
    """
    from postfix_trouble.tls.client_offer import Unusable, kept_context
    from postfix_trouble.tls.ssl_lean import ssl

    secured, setting, session = None, "", None
    kept = None if resumption is None else resumption.kept
    try:
        context = kept_context(policy, settings, kept)
        if resumption is not None:
            session = resumption.session(context)
        name = _server_name(policy, destination, relay)
        secured = context.wrap_socket(
            sock,
            server_hostname=name,
            do_handshake_on_connect=False,
            session=session,
        )
        secured.settimeout(timeout)
        secured.do_handshake()
        chain = trust.shown_chain(secured)
        if resumption is not None:
            chain = resumption.chain(chain, reused=bool(secured.session_reused))
        facts = _facts(secured, chain, policy, destination, relay, settings, kept)
        return secured, facts
    except Unusable as problem:
        setting = str(problem)
        reason = f"{setting}: aborting TLS session"
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
    if resumption is not None:
        resumption.failed()
    (secured or sock).close()
    return HandshakeFailed(reason, setting)


# --- the name that we ask for ------------------------------------------------------


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
    chain: list[bytes],
    policy: TlsPolicy,
    destination: Destination,
    relay: Relay,
    settings: Settings,
    kept: KeptTls | None,
) -> TlsFacts:
    cipher, _, bits = secured.cipher() or ("", "", 0)
    shown = certificate.parse(chain[0]) if chain else None
    facts = TlsFacts(
        secured.version() or "",
        cipher,
        bits,
        certificate=bool(chain),
        resumed=bool(secured.session_reused),
    )
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
        problem = _chain_problem(chain, policy, settings, kept)
        trusted = not problem
    if policy.level >= TlsLevel.VERIFY and trusted:
        wanted = certificate.references(
            policy.match, _nexthop(destination, relay), relay.host
        )
        matched = certificate.names_match(shown, wanted)
        problem = "" if matched else "hostname mismatch"
    elif trusted and _tried_out(policy, settings):
        wanted = certificate.references(("hostname",), "", relay.host)
        if not certificate.names_match(shown, wanted):
            problem = "hostname mismatch"
    if policy.must_fail and policy.level >= TlsLevel.FINGERPRINT:
        trusted, matched = False, False
        problem = f"external policy failure ({policy.must_fail})"
    details = (*shown.details, *((("problem", problem),) if problem else ()))
    return facts._replace(trusted=trusted, matched=matched, details=details)


def _judged(policy: TlsPolicy, settings: Settings) -> bool:
    """Whether trust matters: below verify only for those who read logs and reports."""
    if policy.level >= TlsLevel.VERIFY:
        return True
    if _tried_out(policy, settings):
        return True
    return settings.text("smtp_tls_loglevel") not in ("", "0")


def _tried_out(policy: TlsPolicy, settings: Settings) -> bool:
    if policy.sts is None:
        return False
    from postfix_trouble.tls.tlsrpt import tried_out

    return tried_out(policy, settings)


def _chain_problem(
    chain: list[bytes], policy: TlsPolicy, settings: Settings, kept: KeptTls | None
) -> str:
    from postfix_trouble.tls import client_offer

    try:
        return trust.chain_problem(chain, policy, settings, kept)
    except (OSError, ValueError) as problem:
        why = client_offer.words(problem)
        if policy.level >= TlsLevel.VERIFY:
            raise client_offer.unusable("smtp_tls_CAfile", settings, why) from problem
        return f"authorities can't be loaded: {why}"


def _fingerprint_matches(
    shown: certificate.Certificate, policy: TlsPolicy, settings: Settings
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


def unready(
    policy: TlsPolicy, settings: Settings, kept: KeptTls | None = None
) -> DSN | None:
    """Why this policy can't be carried out with the files that we have, if so.

    Looked at before connecting: a server is skipped rather than talked to with
    less than was asked for. (Postfix turns TLS off where it can't load a file, so that
    mail goes in the clear at level may.) Costs nothing where no file is configured.
    """
    if policy.level is TlsLevel.NONE:
        return None
    if settings.words("smtp_tls_chain_files") or settings.text("smtp_tls_cert_file"):
        from postfix_trouble.tls.client_offer import kept_certificate_problem

        problem = kept_certificate_problem(settings, kept)
        if problem:
            return DSN(EnhancedStatus("4.3.5"), problem)
    if policy.level is TlsLevel.FINGERPRINT and (problem := _no_digest(settings)):
        return DSN(EnhancedStatus("4.7.5"), problem)
    if policy.level >= TlsLevel.VERIFY:
        try:
            for path in policy.trust_anchors:
                trust.anchors(path)
        except (OSError, ValueError):
            return DSN(EnhancedStatus("4.7.5"), "client TLS configuration problem")
        problem = "" if policy.trust_anchors else _no_authorities(settings)
        if problem:
            return DSN(EnhancedStatus("4.7.5"), problem)
    return None


def _no_digest(settings: Settings) -> str:
    """Why no fingerprint can be made, empty if it can."""
    import hashlib

    from postfix_trouble.tls.client_offer import unusable

    name = "smtp_tls_fingerprint_digest"
    try:
        hashlib.new(settings.text(name), usedforsecurity=False).hexdigest()
    except (TypeError, ValueError):
        return str(unusable(name, settings, "there is no such digest"))
    return ""


def _no_authorities(settings: Settings) -> str:
    """Why the authorities that are configured can't be had, empty if they can."""
    from postfix_trouble.tls.client_offer import unusable

    file, directory = "smtp_tls_CAfile", "smtp_tls_CApath"
    if path := settings.text(file):
        try:
            with open(path, "rb"):
                return ""
        except OSError as problem:
            return str(unusable(file, settings, problem.strerror or "can't be read"))
    path = settings.text(directory)
    if path and not (settings.flag("tls_append_default_CA") or os.path.isdir(path)):
        return str(unusable(directory, settings, "no directory"))
    return ""


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
