"""Looking at what the program needs besides its settings: tables, files, the state
directory, name servers, sendmail(1). As whoever runs the command sees them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from postfix_trouble.check import account, tls_inspection
from postfix_trouble.check.findings import Finding, error, fine, note, warning
from postfix_trouble.config.masking import masked
from postfix_trouble.config.parameters import lmtp_name
from postfix_trouble.config.settings import Settings
from postfix_trouble.config.types import ConfigError

_PASSWORDS = "smtp_sasl_password_maps"
_NEEDED = "mail that needs this table is deferred (4.3.0)"
_SUFFERS = {
    "smtp_delivery_status_filter": "statuses and texts are as without it",
    "smtp_reply_filter": "mail is deferred at the first reply of a server (4.3.0)",
    _PASSWORDS: "mail for servers that offer AUTH is deferred (4.3.0)",
}
# Of lines in a table that are told.
_WARNINGS = 10
# A key that no table has.
_NOBODY = "postfix-trouble.invalid"
# Seconds that name servers get.
_PATIENCE = 10.0


def inspect(settings: Settings, lmtp: bool) -> Iterator[Finding]:
    """Look at all that is on this machine. Wrong values are told of elsewhere."""
    looks = [
        _tables,
        tls_inspection.look,
        _tls_reporter,
        _token_command,
        _log_file,
        _state,
        _sendmail,
    ]
    for look in looks:
        try:
            yield from look(settings, lmtp)
        except ConfigError:
            continue


def _tables(settings: Settings, lmtp: bool) -> Iterator[Finding]:
    """Search each table as a delivery would."""
    from postfix_trouble.tables import open_configured, unreachable

    for name in settings.tables():
        shown = lmtp_name(name) if lmtp else name
        if name == _PASSWORDS and (exposed := _exposed(settings)) is not None:
            yield exposed
            continue
        if problem := unreachable(settings, name):
            yield error(
                shown, problem, "all mail is deferred (4.3.5)", _instead(problem)
            )
            continue
        warnings: list[str] = []
        maps = open_configured(settings, name, warnings.append)
        problems = list(dict.fromkeys(maps.problems(_NOBODY)))
        for problem in problems:
            consequence = _SUFFERS.get(name, _NEEDED)
            yield error(shown, problem, consequence, _instead(problem))
        for text in warnings[:_WARNINGS]:
            yield warning(shown, text, "the line counts for nothing", "fix it")
        if not problems:
            yield _searched(shown, masked(shown, settings.text(name)))


def _searched(name: str, specs: str) -> Finding:
    if "proxy:" in specs:
        text = "the program opens the tables itself: proxymap(8) serves Postfix only"
        return note(name, specs, text)
    return fine(name, specs)


def _instead(problem: str) -> str:
    """What to write, or do, about a table that can't be searched."""
    if "type:name" in problem:
        return (
            "write type:name for each table; what has commas or blanks goes into"
            " braces: static:{user:password}"
        )
    if "unsupported dictionary type" in problem:
        return "install what has this type (postfix-mysql ...), or take another type"
    if "No such file" in problem:
        return "correct the path; postmap FILE makes an indexed one"
    return account.to_read(problem) or "name a table that this account can open"


def _exposed(settings: Settings) -> Finding | None:
    """Passwords that everybody may read are not used at all."""
    from postfix_trouble.sasl import log_in

    if not settings.flag("smtp_sasl_auth_enable"):
        return None
    why = log_in.unready(settings)
    if why is None:
        return None
    problem, _, remedy = why.reason.partition(": ")
    return error(
        "smtp_sasl_password_maps",
        problem,
        f"all mail is deferred ({why.status})",
        remedy,
    )


def _token_command(settings: Settings, _lmtp: bool) -> Iterator[Finding]:
    name = "trouble_sasl_token_command"
    words = settings.text(name).split()
    if words and not os.access(words[0], os.X_OK):
        yield error(
            name,
            f"{words[0]} can't be run",
            "nobody logs in: mail is deferred (4.7.0)",
            "give the path of a program that this account may run",
        )


def _tls_reporter(settings: Settings, lmtp: bool) -> Iterator[Finding]:
    """The socket of whoever makes TLSRPT reports."""
    if lmtp or not settings.flag("smtp_tlsrpt_enable"):
        return
    about, name = "smtp_tlsrpt_socket_name", settings.text("smtp_tlsrpt_socket_name")
    path = os.path.join(settings.text("queue_directory"), name)
    problem, remedy = "", "name the socket of tlsrpt-collectd (its socketname)"
    if not name:
        problem = "is empty"
    elif not os.path.exists(path):
        problem = f"{path} is missing, or hidden"
        remedy = "start tlsrpt-collectd, or name its socketname here"
    elif not os.access(path, os.W_OK):
        problem = f"{path} can't be written by {account.current().name}"
        remedy = "set socketmode or socketgroup of tlsrpt-collectd"
    if problem:
        lost = "no report has our connections; mail is delivered all the same"
        yield warning(about, problem, lost, remedy)
    else:
        yield fine(about, f"{path}: can be written")


def _log_file(settings: Settings, _lmtp: bool) -> Iterator[Finding]:
    path = settings.text("trouble_log_file")
    if not path:
        return
    there = path if os.path.exists(path) else os.path.dirname(path) or "."
    if not os.access(there, os.W_OK):
        name = account.current().name
        yield warning(
            "trouble_log_file",
            f"{path} can't be written by {name}",
            "records are lost; mail is delivered all the same",
            f"touch {path}; chown {name} {path}",
        )


# --- state --------------------------------------------------------------------------


def _state(settings: Settings, _lmtp: bool) -> Iterator[Finding]:
    directory = settings.text("trouble_state_directory")
    if directory:
        yield from state_directory(directory)


def state_directory(directory: str) -> Iterator[Finding]:
    """Look into a state directory. A missing one is not made."""
    from postfix_trouble.state import State, StateProblem

    about, who = f"state directory {directory}", account.current()
    if who.uid == 0 and os.path.isdir(directory) and os.stat(directory).st_uid:
        # Root would leave files there that the owner can't use.
        yield note(about, f"{account.whose(directory)}: not looked into as root")
        return
    if problem := account.state_directory(about, directory, who):
        yield problem
        return
    if not os.path.lexists(directory):
        yield note(about, "does not exist; it is made when it is first needed")
        return
    state = State.open(directory, lambda text: None)
    found = state if isinstance(state, StateProblem) else state.inspect()
    if not isinstance(state, StateProblem):
        state.close()
    if isinstance(found, StateProblem):
        found = (found.text.removeprefix(f"{about}: "),)
    for line in found:
        if ": version " in line or line.endswith(" rows"):
            yield fine(about, line.removeprefix(f"{directory}/"))
        else:
            # A damaged file is set aside when it is next used.
            yield error(about, line, account.UNUSED, f"mv {directory} {directory}.old")


def _sendmail(settings: Settings, _lmtp: bool) -> Iterator[Finding]:
    from postfix_trouble.report.sendmail import SENDMAIL

    path = settings.text("sendmail_path") or SENDMAIL
    keeps_ledger = bool(settings.text("trouble_state_directory"))
    classes = {"protocol", "data"} & set(settings.words("notify_classes"))
    if not (keeps_ledger or classes):
        return
    if os.path.isabs(path) and os.access(path, os.X_OK):
        yield fine("sendmail_path", path)
        return
    about = ("sendmail_path", f"{path} can't be run")
    remedy = f"postconf -e 'sendmail_path = {SENDMAIL}' (Postfix's sendmail(1))"
    if keeps_ledger:
        consequence = "mail that some recipients of several refuse is deferred"
        yield error(*about, consequence, remedy)
    else:
        yield warning(*about, "the postmaster gets no transcripts", remedy)


# --- name servers -------------------------------------------------------------------


def answered(settings: Settings) -> list[Finding]:
    """Whether the name servers answer."""
    try:
        return list(_name_servers(settings))
    except ConfigError:
        return []


def _name_servers(settings: Settings) -> Iterator[Finding]:
    import secrets

    from postfix_trouble.dns.nameservers import NameServers

    level = settings.text("smtp_dns_support_level")
    if level == "disabled" or (not level and settings.flag("disable_dns_lookups")):
        yield note("DNS", "not used (smtp_dns_support_level, disable_dns_lookups)")
        return
    own = settings.text("trouble_nameserver")
    domain = settings.text("mydomain")
    if domain.endswith("localdomain") or "." not in domain:
        domain = "example.com"
    try:
        servers = NameServers(
            "/etc/resolv.conf", own, dnssec=False, below=secrets.randbelow
        )
    except ConfigError as problem:
        yield error(
            "trouble_nameserver",
            problem.problem,
            "mail is deferred (4.3.5)",
            "write address or address:port",
        )
        return
    end = time.monotonic() + _PATIENCE
    answer = servers.ask(domain, "MX", lambda: end - time.monotonic())
    named = own or "those of /etc/resolv.conf"
    if answer is None:
        yield error(
            "DNS",
            f"no answer about {domain} from the name servers ({named})",
            "mail to domains is deferred (4.4.3); [addresses] still work",
            "see resolv.conf(5), or set trouble_nameserver",
        )
    else:
        yield fine("DNS", f"name servers answer ({named})")
