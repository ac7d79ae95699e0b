"""What we offer in a handshake: protocols, ciphers, certificates of our own.

Everything here comes from our own settings. Where OpenSSL can't do what they ask for,
that is said with the name of the parameter: no server is to blame.
"""

from __future__ import annotations

import os

from postfix_trouble.config.parameters import lmtp_name
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.sasl.redaction import exposure
from postfix_trouble.tls import offer as tls_offer
from postfix_trouble.tls import trust

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from typing import IO

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.tls import TlsPolicy
    from postfix_trouble.tls.kept import KeptTls


class Unusable(Exception):
    """A setting that nothing can be offered by. The text names the parameter."""


def unusable(name: str, settings: Settings, problem: str) -> Unusable:
    """The exception for a parameter, by its smtp_ name."""
    shown, value = lmtp_name(name) if settings.lmtp else name, settings.text(name)
    return Unusable(f"{shown} = {value}: {problem.removeprefix(f'{value}: ')}")


def kept_context(
    policy: TlsPolicy, settings: Settings, kept: KeptTls | None
) -> ssl.SSLContext:
    """client_context(), made anew only when a file with a certificate has changed."""
    if kept is None:
        return client_context(policy, settings)
    offer = policy.protocols, policy.ciphers, policy.exclude
    return kept.made(
        (*offer, trust.security_level(policy)),
        _certificate_files(settings),
        lambda: client_context(policy, settings),
    )


def client_context(policy: TlsPolicy, settings: Settings) -> ssl.SSLContext:
    """A context that accepts everybody, without authorities. Raises Unusable."""
    from postfix_trouble.tls.ssl_lean import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    problem = _limit_protocols(context, policy) or _set_ciphers(context, policy)
    if problem is not None:
        named = (tls_offer.source(x, policy, settings) for x in problem.attributes)
        raise Unusable(f"{', '.join(filter(None, named))}: {problem.problem}")
    load_certificates(context, settings)
    return context


def _limit_protocols(
    context: ssl.SSLContext, policy: TlsPolicy
) -> tls_offer.Unusable | None:
    import warnings

    from postfix_trouble.tls.ssl_lean import ssl

    listed = tls_offer.protocols(policy.protocols)
    if isinstance(listed, tls_offer.Unusable):
        return listed
    names = [name.replace(".", "_") for name in tls_offer.PROTOCOLS]
    usable = [n for n in listed.numbers if getattr(ssl, f"HAS_{names[n]}")]
    if not usable:
        only = tls_offer.PROTOCOLS[listed.numbers[-1]]
        return tls_offer.Unusable(("protocols",), f"OpenSSL has no {only}")
    with warnings.catch_warnings():
        # Old protocols are deprecated; that is for the administrator to know.
        warnings.simplefilter("ignore")
        context.minimum_version = getattr(ssl.TLSVersion, names[usable[0]])
        context.maximum_version = getattr(ssl.TLSVersion, names[usable[-1]])
        for number in range(usable[0], usable[-1]):
            if number not in usable:
                context.options |= getattr(ssl, f"OP_NO_{names[number]}")
    return None


def _set_ciphers(
    context: ssl.SSLContext, policy: TlsPolicy
) -> tls_offer.Unusable | None:
    from postfix_trouble.tls.ssl_lean import ssl

    ciphers = tls_offer.cipher_list(policy.ciphers, policy.exclude)
    if isinstance(ciphers, tls_offer.Unusable):
        return ciphers
    try:
        # Whom we don't check may be weak; it is still better than nothing.
        context.set_ciphers(f"{ciphers}:@SECLEVEL={trust.security_level(policy)}")
    except ssl.SSLError:
        return tls_offer.Unusable(("ciphers", "exclude"), "no cipher is left")
    return None


def authority_problem(settings: Settings) -> str:
    """Why smtp_tls_CAfile can't be loaded, with the parameter; empty if it can."""
    from postfix_trouble.tls.ssl_lean import ssl

    name = "smtp_tls_CAfile"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if path := settings.text(name):
            context.load_verify_locations(path)
    except (OSError, ValueError) as problem:
        return str(unusable(name, settings, words(problem)))
    return ""


# --- certificates of our own --------------------------------------------------------


def kept_certificate_problem(settings: Settings, kept: KeptTls | None) -> str:
    """certificate_problem(), looked at anew only when a file has changed."""
    if kept is None:
        return certificate_problem(settings)
    files = _certificate_files(settings)
    return kept.made("certificates", files, lambda: certificate_problem(settings))


def _certificate_files(settings: Settings) -> tuple[str, ...]:
    names = ("smtp_tls_cert_file", "smtp_tls_key_file")
    files = settings.words("smtp_tls_chain_files")
    return files or tuple(filter(None, map(settings.text, names)))


def certificate_problem(settings: Settings) -> str:
    """Why the client certificates can't be used, with the parameter; empty if they can.

    Files with a key in them that are open to everybody are not used.
    """
    from postfix_trouble.tls.ssl_lean import ssl

    try:
        for name, path in _secrets(settings):
            exposed = exposure(path, os.stat(path).st_mode)
            if exposed:
                return f"{lmtp_name(name) if settings.lmtp else name}: {exposed}"
        load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings)
    except Unusable as problem:
        return str(problem)
    return ""


def _secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    """Parameter and path of each file that a key is in. Raises Unusable."""
    from postfix_trouble.tls.key_chain import holds_key

    name = "smtp_tls_chain_files"
    named = [(name, path) for path in settings.words(name)]
    if not named:
        names = ("smtp_tls_cert_file", "smtp_tls_key_file")
        named = [(name, settings.text(name)) for name in names]
    for name, path in named:
        try:
            if path != "none" and holds_key(_read(path)):
                yield name, path
        except OSError as problem:
            raise unusable(name, settings, words(problem)) from problem


def load_certificates(context: ssl.SSLContext, settings: Settings) -> None:
    """Load all client certificates that are configured. Raises Unusable."""
    files = settings.words("smtp_tls_chain_files")
    cert, key = (settings.text(f"smtp_tls_{x}_file") for x in ("cert", "key"))
    try:
        if files:
            name = "smtp_tls_chain_files"
            _load_chains(context, files)
        elif cert and cert != "none":
            name = "smtp_tls_key_file" if key != cert else "smtp_tls_cert_file"
            _load(context, cert, key or None)
    except (OSError, ValueError) as problem:
        raise unusable(name, settings, words(problem)) from problem


def _load_chains(context: ssl.SSLContext, files: tuple[str, ...]) -> None:
    """Raises OSError or ValueError."""
    from postfix_trouble.tls.key_chain import chains

    found = chains((path, _read(path)) for path in files)
    if isinstance(found, str):
        raise ValueError(found)
    for chain in found:
        file, path = _as_file(chain.text)
        with file:
            try:
                _load(context, path)
            except (OSError, ValueError) as problem:
                raise ValueError(f"{chain.path}: {words(problem)}") from problem


def _read(path: str) -> str:
    with open(path, encoding="latin-1") as file:
        return file.read()


def _load(context: ssl.SSLContext, cert: str, key: str | None = None) -> None:
    # Never ask for a pass phrase: nobody is there.
    context.load_cert_chain(cert, key, password="")  # nosec B106


def _as_file(text: str) -> tuple[IO[str], str]:
    """OpenSSL's function takes a path. A key is not written to a disk if it can be."""
    file: IO[str]
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("chain")
        path = f"/proc/self/fd/{descriptor}"
        file = os.fdopen(descriptor, "w", encoding="latin-1")
    else:
        import tempfile

        file = tempfile.NamedTemporaryFile("w", encoding="latin-1")  # noqa: SIM115
        path = file.name
    file.write(text)
    file.flush()
    return file, path


def words(problem: Exception) -> str:
    """What is wrong, as OpenSSL or the system says it."""
    from postfix_trouble.tls.ssl_lean import ssl

    if isinstance(problem, ssl.SSLError):
        if not problem.reason:
            return "OpenSSL can't read it"
        return problem.reason.replace("_", " ").lower()
    if isinstance(problem, OSError) and problem.strerror:
        where = f"{problem.filename}: " if problem.filename else ""
        return where + problem.strerror
    return str(problem)
