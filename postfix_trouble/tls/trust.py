"""Whether the certificates that a server showed lead to somebody we trust.

OpenSSL tells what became of the verification without hanging up, Python's ssl module
does not: without a demand for a good certificate it keeps the result to itself, and
with one it breaks off the handshake. So the certificates are verified once more, by
OpenSSL all the same, in memory: they are put into the first messages of a TLS 1.2
server and given to a client that demands a good chain. It either wants to read on, or
says what is wrong; neither needs the server's key.

Road not taken: the verifier of `cryptography`, which follows the rules of web browsers,
not of mail servers, and takes tens of milliseconds to load.
"""

from __future__ import annotations

import os

from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tls import certificate

if TYPE_CHECKING:
    import ssl
    from typing import Any

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.tls import TlsPolicy
    from postfix_trouble.tls.kept import KeptTls

# Cipher suites for certificates with an RSA key, and with another one.
_SUITES = (b"\xc0\x2f", b"\xc0\x2b")
_SUITE_NAMES = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"


def security_level(policy: TlsPolicy) -> int:
    """OpenSSL's: 80 bits where the server must be the right one, as Postfix has it.

    Whom we don't check may be weak: it is still better than no TLS.
    """
    return 1 if policy.level > TlsLevel.ENCRYPT else 0


def shown_chain(session: ssl.SSLSocket) -> list[bytes]:
    """Certificates of a session as they came, DER, the server's own first."""
    from postfix_trouble.tls.ssl_lean import ssl

    # Public only from Python 3.13 on; before, the same is one level down.
    found = getattr(session, "get_unverified_chain", None)
    if found is not None:
        return list(found() or ())
    inner: Any = session._sslobj  # type: ignore[attr-defined]
    encoding = ssl._ssl.ENCODING_DER  # type: ignore[attr-defined]
    return [one.public_bytes(encoding) for one in inner.get_unverified_chain() or ()]


def chain_problem(
    chain: list[bytes],
    policy: TlsPolicy,
    settings: Settings,
    kept: KeptTls | None = None,
) -> str:
    """Why the chain is not trusted, in OpenSSL's words; empty if it is.

    Raises OSError or ValueError if the authorities can't be loaded.
    """
    if policy.trust_anchors:
        context = _context(policy)
        if _is_anchor(context, chain, policy.trust_anchors):
            return ""
    elif kept is None:
        context = _with_authorities(policy, settings)
    else:
        context = kept.made(
            ("authorities", security_level(policy)),
            _authority_files(settings),
            lambda: _with_authorities(policy, settings),
        )
    return _verified(context, chain)


def dane_problem(chain: list[bytes], policy: TlsPolicy) -> str:
    """Why no TLSA record of the policy vouches for the chain; empty if one does.

    A record about the server's own certificate is all that is looked at then: neither
    names nor dates count (RFC 7671 5.1).
    """
    from postfix_trouble.tls import dane

    shown = [x for x in map(certificate.parse, chain) if x is not None]
    if not shown or shown[0].der != chain[0]:
        return "certificate can't be read"
    if dane.matches(shown[0], policy.tlsa, dane.SERVER):
        return ""
    anchored = dane.anchors(shown, policy.tlsa)
    if not anchored:
        return "no matching DANE TLSA records"
    context = _context(policy)
    for one in anchored:
        try:
            _trust_only(context, {one})
        except (OSError, ValueError):
            # What OpenSSL can't read is no authority; others may be.
            continue
    problem = _verified(context, chain)
    if problem:
        return problem
    named = certificate.names_match(shown[0], policy.match)
    return "" if named else "hostname mismatch"


def _context(policy: TlsPolicy) -> ssl.SSLContext:
    """For _verify(); trusts nobody yet."""
    from postfix_trouble.tls.ssl_lean import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{_SUITE_NAMES}:@SECLEVEL={security_level(policy)}")
    return context


def _verified(context: ssl.SSLContext, chain: list[bytes]) -> str:
    """Why a context does not trust a chain, in OpenSSL's words; empty if it does."""
    said = _verify(context, chain, _SUITES[0])
    if said == "WRONG_CERTIFICATE_TYPE":
        said = _verify(context, chain, _SUITES[1])
    return said


def _verify(context: ssl.SSLContext, chain: list[bytes], suite: bytes) -> str:
    """Play a server that shows this chain. What is wrong, empty if nothing is."""
    from postfix_trouble.tls.ssl_lean import ssl

    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        incoming.write(certificate.server_flight(chain, suite))
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        # The certificates are accepted: it waits for what comes next.
        return ""
    except ssl.SSLCertVerificationError as problem:
        return problem.verify_message
    except ssl.SSLError as problem:
        return problem.reason or "unknown"
    return "handshake without a server"


# --- authorities --------------------------------------------------------------------


def _authority_files(settings: Settings) -> tuple[str, ...]:
    from postfix_trouble.tls.ssl_lean import ssl

    given = map(settings.text, ("smtp_tls_CAfile", "smtp_tls_CApath"))
    paths = ssl.get_default_verify_paths()
    return tuple(filter(None, (*given, paths.cafile, paths.capath)))


def _with_authorities(policy: TlsPolicy, settings: Settings) -> ssl.SSLContext:
    """For _verify(); trusts whom the settings name. Raises OSError, ValueError."""
    context = _context(policy)
    load_authorities(context, settings)
    return context


def load_authorities(context: ssl.SSLContext, settings: Settings) -> None:
    """Trust whom the settings name. Raises OSError, ValueError."""
    file = settings.text("smtp_tls_CAfile")
    directory = settings.text("smtp_tls_CApath")
    if file or directory:
        context.load_verify_locations(file or None, directory or None)
    if settings.flag("tls_append_default_CA"):
        _load_system_authorities(context)


def _load_system_authorities(context: ssl.SSLContext) -> None:
    """The hashed directory, of which OpenSSL reads what it needs: one file, not 140."""
    from postfix_trouble.tls.ssl_lean import ssl

    paths = ssl.get_default_verify_paths()
    if paths.capath and any(name.endswith(".0") for name in os.listdir(paths.capath)):
        context.load_verify_locations(capath=paths.capath)
    elif paths.cafile:
        context.load_verify_locations(cafile=paths.cafile)


# --- trust anchors ------------------------------------------------------------------


def anchors(path: str) -> list[tuple[str, bytes]]:
    """Label and DER of the certificates and public keys in a file.

    Raises OSError, and ValueError if there is nothing of use in it.
    """
    with open(path, encoding="latin-1") as file:
        blocks = list(certificate.pem_blocks(file.read()))
    known = [x for x in blocks if x[0] in ("CERTIFICATE", "PUBLIC KEY")]
    if not known:
        raise ValueError(f"{path}: no trust anchor in it")
    return known


def _is_anchor(
    context: ssl.SSLContext, chain: list[bytes], files: tuple[str, ...]
) -> bool:
    """Whether the server's certificate is listed itself: no more is asked of it then.

    Otherwise the context trusts what is listed and nothing else, whoever issued it. A
    key without a certificate becomes one, for the issuer that the chain ends with.
    """
    trusted: set[bytes] = set()
    keys: set[bytes] = set()
    for file in files:
        for label, der in anchors(file):
            (keys if label == "PUBLIC KEY" else trusted).add(der)
    known = [x for x in map(certificate.parse, chain) if x is not None]
    if chain[0] in trusted or (known and known[0].public_key in keys):
        return True
    for one in known:
        if one.public_key in keys:
            trusted.add(one.der)
    if known:
        issuer = certificate.top(known).issued_by
        trusted.update(certificate.authority(issuer, x) for x in keys)
    if trusted:
        _trust_only(context, trusted)
    return False


def _trust_only(context: ssl.SSLContext, trusted: set[bytes]) -> None:
    """Trust these certificates, whoever issued them. Raises OSError, ValueError."""
    from postfix_trouble.tls.ssl_lean import ssl

    context.load_verify_locations(cadata=b"".join(trusted))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
