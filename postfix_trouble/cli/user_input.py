"""What a person types: addresses in external form, servers, passwords."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

import click

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.hostname import hostname_problem, idn_to_ascii
from postfix_trouble.core.value import Value
from postfix_trouble.report.log import printable
from postfix_trouble.sasl.choose import NO_MECHANISM, Credentials
from postfix_trouble.sasl.redaction import exposure
from postfix_trouble.smtp.address import unquote_local, unsendable
from postfix_trouble.terminal import screen

SMTPS = "465"
# Not in quotes, and not in an address literal.
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')


class Address(Value):
    """An address that was typed."""

    # As it was typed, without the brackets around it.
    text: str
    # Internal form: not quoted; an IDN domain in A-label form where that can be.
    inner: str
    # Where mail for it goes: a domain, or an address literal with its brackets.
    domain: str


def address(text: str, option: str) -> Address:
    """Take an address apart. Raises click.UsageError."""
    text = text.strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    inner = unquote_local(text)
    local, at, domain = inner.rpartition("@")
    problem = ""
    if unsendable(inner):
        problem = "a line break in an address would break the protocol"
    elif not at or not local or not domain:
        problem = "not an address: name@domain expected"
    elif domain.startswith("["):
        problem = "" if domain.endswith("]") else 'missing "]"'
    else:
        ascii_domain = idn_to_ascii(domain.rstrip("."))
        if hostname_problem(ascii_domain):
            problem = f"{domain} is not a valid domain name"
        elif local.isascii():
            # Any server can take it then; otherwise SMTPUTF8 is needed anyway.
            inner = f"{local}@{ascii_domain}"
        domain = ascii_domain
    if problem:
        where = f"{option} {printable(text)}".strip()
        raise click.UsageError(f"{where}: {problem}")
    return Address(text, inner, domain)


def recipients(texts: Iterable[str], arguments: Iterable[str]) -> list[Address]:
    """Those of --to, with commas and display names, and bare ones. Raises
    click.UsageError."""
    found = [address(one, "--to") for text in texts for one in _listed(text)]
    return found + [address(one, "") for text in arguments for one in _listed(text)]


def _listed(text: str) -> list[str]:
    """The addresses of a list as in a header: commas, `Bob <bob@example.com>`."""
    parts = [one for one in re.split(_COMMA, text) if one.strip()]
    return [_without_name(one) for one in parts] or [text]


def _without_name(text: str) -> str:
    found = re.fullmatch(r'\s*(?:"(?:[^"\\]|\\.)*"|[^"<>]*)\s*(<[^<>]+>)\s*', text)
    return found[1] if found else text


def sender(text: str | None, settings: Settings) -> Address:
    """The envelope sender; `<>` or nothing is the null sender, None: who we are."""
    if text is None:
        return address(f"{_login()}@{settings.text('myorigin')}", "--from")
    return (
        Address("", "", "") if text.strip() in ("", "<>") else address(text, "--from")
    )


def _login() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "postmaster"


def check(
    addresses: Iterable[Address],
    settings: Settings,
    *,
    server: str,
    strict: bool,
    deliverable: bool,
) -> list[str]:
    """What may be wrong with them, one line each; said on standard error.

    `server`: where they go if not to the servers of their domains. Raises
    click.UsageError if `strict`.
    """
    from postfix_trouble.cli.address_check import doubt

    found = []
    for one in addresses:
        problem = one.text and doubt(
            one.text,
            everywhere=not server,
            deliverable=deliverable,
            nameserver=settings.text("trouble_nameserver"),
            seconds=settings.seconds("trouble_resolver_time_limit"),
        )
        if problem:
            found.append(f"{printable(one.text)}: {printable(problem)}")
    if found and strict:
        raise click.UsageError("; ".join(found))
    for line in found:
        screen.complain(f"warning: {line}")
    return found


# --- servers ------------------------------------------------------------------------


def server_nexthop(text: str, *, tls_on_connect: bool, lmtp: bool) -> str:
    """The nexthop for HOST, HOST:PORT, [HOST]:PORT or unix:PATH: no MX look-up."""
    if text.startswith("unix:"):
        if not lmtp:
            raise click.UsageError(
                f"--server {printable(text)}: a socket speaks LMTP; add --lmtp"
            )
        return text
    if "://" in text:
        raise click.UsageError(not_a_url("--server", text))
    host, port = _split(text)
    if port and (problem := port_problem(port)):
        raise click.UsageError(f"--server {printable(text)}: {problem}")
    if not host or any(c in host for c in "[], "):
        raise click.UsageError(
            f"--server {printable(text)}: HOST or HOST:PORT expected"
        )
    if not port and tls_on_connect:
        port = SMTPS
    if ":" in host:
        host = f"ipv6:{host.removeprefix('ipv6:').removeprefix('IPv6:')}"
    return f"[{host}]:{port}" if port else f"[{host}]"


def not_a_url(option: str, text: str) -> str:
    """What to say to somebody who gave a URL."""
    rest = text.partition("://")[2].strip("/")
    host = rest.partition("/")[0]
    meant = f"; did you mean {printable(f'{option} {host}'.strip())}?" if host else ""
    return f"{option} {printable(text)}: a URL, not a server{meant}".strip()


def port_problem(port: str) -> str:
    """What is wrong with a port; empty: nothing. A name may be one of /etc/services."""
    if port.isdecimal() and not 0 < int(port) < 65536:
        return f"{port} is not a port: 1 to 65535 expected"
    return ""


def destination(text: str, *, lmtp: bool) -> str:
    """A nexthop as in a transport table: it must be one. Raises click.UsageError."""
    problem = ""
    if "://" in text:
        problem = not_a_url("", text)
    elif text.startswith("unix:") and not lmtp:
        problem = f"{printable(text)}: a socket speaks LMTP; add --lmtp"
    elif "@" in text:
        domain = text.rpartition("@")[2].rstrip(">")
        problem = (
            f"{printable(text)} is an address; did you mean --to {printable(text)}"
            f" or {printable(domain)}?"
        )
    elif not text.startswith("unix:"):
        for one in text.replace(",", " ").split():
            port = _split(one)[1]
            if port and (wrong := port_problem(port)):
                problem = f"{printable(one)}: {wrong}"
    if problem:
        raise click.UsageError(problem)
    return text


def is_smtps(text: str) -> bool:
    """Whether the port is the one on which TLS comes first."""
    return _split(text)[1] in (SMTPS, "smtps", "submissions")


def _split(text: str) -> tuple[str, str]:
    """Host and port. More than one colon outside of brackets: an IPv6 address."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port


# --- passwords ----------------------------------------------------------------------


def credentials(user: str | None, path: str | None, server: str) -> Credentials | None:
    """User and password: from the first line of a file, or asked for without echo."""
    if user is None:
        if path is not None:
            raise click.UsageError("--auth-password-file needs --auth-user")
        return None
    return Credentials(user, _from_file(path) if path else _asked(user, server))


def hint(reasons: Sequence[str], verified_unasked: bool) -> None:
    """Say what to do about a log-in that did not come about.

    `verified_unasked`: the certificate had to be verified, and nobody had said so.
    """
    if verified_unasked and any(" certificate " in reason for reason in reasons):
        screen.complain(
            "hint: a password goes only where the certificate is verified. Name the"
            " server as its certificate does, or see --ca; with --tls encrypt anybody"
            " may be at the other end."
        )
    if any(NO_MECHANISM in reason for reason in reasons):
        screen.complain(
            "hint: a plain password goes over TLS only. Try --tls encrypt; in the"
            " clear, if it must be: -o smtp_sasl_security_options=noanonymous"
        )


def _from_file(path: str) -> str:
    try:
        own = path != "-"
        with open(path if own else 0, "rb", closefd=own) as file:
            mode = os.fstat(file.fileno()).st_mode
            problem = exposure(path, mode) if own else ""
            line = file.readline().rstrip(b"\r\n")
        password = line.decode("utf-8", "surrogateescape")
    except OSError as error:
        problem, password = f"open {path}: {error.strerror}", ""
    if not problem and not password:
        problem = f"{path}: the first line is empty"
    if problem:
        raise click.UsageError(f"--auth-password-file: {problem}")
    return password


def _asked(user: str, server: str) -> str:
    if not os.isatty(0) and not _has_terminal():
        raise click.UsageError(
            "no terminal to ask for the password on: use --auth-password-file"
        )
    import getpass

    try:
        password = getpass.getpass(f"Password for {printable(user)} at {server}: ")
    except EOFError:
        password = ""  # nosec B105
    if not password:
        raise click.UsageError("no password was typed")
    return password


def _has_terminal() -> bool:
    """Whether there is one to ask on though standard input is something else."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
