"""Whether an entry in master.cf leads to what its author wants.

pipe(8) does as it is told, and most mistakes are not seen until mail is bounced. Each
rule here is one of pipe(8)'s own (its start, its macros, its flags, its time limit) or
one of `postfix-trouble deliver`.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re

from postfix_trouble.check.findings import error, fine, note, warning
from postfix_trouble.config.masking import masked_pair
from postfix_trouble.config.master_cf import FLAGS, NULL_SENDER
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postfix_trouble.check.findings import Finding
    from postfix_trouble.config.master_cf import PipeEntry

# Seconds between our own limit and pipe(8)'s: the alarm, and a bounce under way.
MARGIN = 30
_FATAL = "pipe(8) does not start: all mail of this transport is deferred"
_MACRO = re.compile(r"\$\$|\$\{(\w*)\}|\$\((\w*)\)|\$(\w+)")
_ANY_MACRO = re.compile(r"\$(?:\{[^}]*\}|\([^)]*\)|\w+|\$)?")
_MACROS = frozenset({
    "client_address", "client_helo", "client_hostname", "client_port",
    "client_protocol", "domain", "envid", "extension", "mailbox", "nexthop",
    "original_recipient", "queue_id", "recipient", "sasl_method", "sasl_sender",
    "sasl_username", "sender", "size", "user",
})  # fmt: skip
_PER_RECIPIENT = ("domain", "extension", "mailbox", "original_recipient", "user")
_REMEDY = "compare with master.cf.example"


class Circumstances(Value):
    """What main.cf says about a transport, and the program's own settings."""

    # <name>_time_limit, seconds, and the text of it.
    time_limit: float = 1000.0
    # <name>_destination_recipient_limit
    recipient_limit: int = 50
    # trouble_deadline, seconds.
    deadline: float = 900.0
    state_directory: str = ""
    # What `-` in the column chroot means: it does so at compatibility_level 0.
    chroot_default: bool = False


class Line(Value):
    """The command line of `deliver`, as far as it was understood."""

    # Options with their values, macros not expanded.
    values: dict[str, str]
    recipients: tuple[str, ...]
    problem: str = ""


def about(entry: PipeEntry) -> str:
    """How an entry is named."""
    return f"{entry.service.name}, line {entry.service.line}"


def judge(entry: PipeEntry, line: Line, now: Circumstances) -> Iterator[Finding]:
    """Everything that can be said without looking at the file system."""
    found = [
        *_columns(entry, now),
        *_attributes(entry),
        *misplaced(entry),
        *_flags(entry, line),
        *_arguments(entry, line, now),
        *_json(entry, line, now),
        *_limits(entry, now),
    ]
    yield from found
    if not found:
        yield fine(about(entry), "the entry is as it should be")


# --- columns and attributes ---------------------------------------------------------


def _columns(entry: PipeEntry, now: Circumstances) -> Iterator[Finding]:
    service, name = entry.service, about(entry)
    if service.kind != "unix":
        yield error(name, f"type {service.kind}", _FATAL, "make it unix")
    if service.unprivileged != "n":
        yield error(
            name,
            f"column unpriv is {service.unprivileged}",
            "pipe(8) can't become the user: all mail of this transport is deferred",
            "make it n",
        )
    yield from chrooted(entry, now.chroot_default)


def chrooted(entry: PipeEntry, default: bool) -> Iterator[Finding]:
    """Whether the column chroot puts the program where it is not found."""
    column = entry.service.chroot
    if column == "y" or (column == "-" and default):
        why = ", which is y: compatibility_level is 0" if column == "-" else ""
        yield error(
            about(entry),
            f"column chroot is {column}{why}",
            "the program is not found in there: all mail is deferred",
            "make it n",
        )


# Parameters that only the program has, and pipe(8) and spawn(8) have not.
_OWN = ("smtp_", "lmtp_", "trouble_", "tls_")


def misplaced(entry: PipeEntry) -> Iterator[Finding]:
    """Settings of the program that it never sees, since they stand before argv=."""
    for pair in entry.overrides:
        if pair.strip().startswith(_OWN):
            name = pair.partition("=")[0].strip()
            yield error(
                about(entry),
                f"-o {masked_pair(pair)} stands before argv=",
                f"it is {entry.service.command}(8)'s, and the program never sees it:"
                f" mail goes out without {name}",
                "write it into argv=, behind the command: deliver -o NAME=VALUE",
            )


def _attributes(entry: PipeEntry) -> Iterator[Finding]:
    name = about(entry)
    for word in entry.unknown:
        yield error(name, f"unknown attribute name: {word}", _FATAL, _REMEDY)
    if not entry.user:
        yield error(name, "user= is missing", _FATAL, "add user=nobody, or another")
    if entry.null_sender == NULL_SENDER:
        yield error(
            name,
            "null_sender= is missing",
            f"bounces go out as from {NULL_SENDER}, and bounce in turn",
            "add null_sender= with nothing behind it",
        )
    elif entry.null_sender not in ("", "<>"):
        yield error(
            name,
            f"null_sender={entry.null_sender}",
            "bounces go out from an address that answers",
            "write null_sender= with nothing behind it",
        )
    if entry.chroot:
        yield error(
            name,
            f"chroot={entry.chroot}",
            "the program is not found in there: all mail is deferred",
            "take chroot= out",
        )
    if entry.eol not in ("\\n", ""):
        yield error(
            name,
            f"eol={entry.eol}",
            "the program takes lines that end in LF: messages are damaged",
            "take eol= out",
        )
    if entry.size and not entry.size.isdecimal():
        yield error(name, f"size={entry.size}", _FATAL, "write a number of bytes")
    elif set(entry.size) - {"0"}:
        yield note(
            name,
            f"size={entry.size}",
            "pipe(8) bounces what is larger, without asking a server",
        )


# Flag, whether mail is hurt, what happens.
_FLAGS = (
    ("h", False, "domains of recipients are made lower case: ORCPT and log differ"),
    ("u", True, "local parts are made lower case: mail goes to other mailboxes"),
    ("F", True, "a line that is no header comes first: messages are damaged"),
    (".", True, "dots are doubled twice: messages are damaged"),
    (">", True, "lines that begin with From get a >: signatures break"),
    ("B", False, "an empty line is added to each message"),
)


def _flags(entry: PipeEntry, line: Line) -> Iterator[Finding]:
    name = about(entry)
    for flag in entry.flags:
        if flag not in FLAGS:
            yield error(name, f"unknown flag {flag}", _FATAL, f"take {flag} out")
    for flag, hurts, consequence in _FLAGS:
        if flag in entry.flags:
            make = error if hurts else warning
            yield make(name, f"flag {flag}", consequence, f"take {flag} out of flags=")
    if "q" in entry.flags and "--quoted" not in line.values:
        yield error(
            name,
            "flag q, and no --quoted",
            'addresses like "a b"@example.com are quoted twice: servers refuse them',
            "take q out of flags=, or add --quoted",
        )
    if "q" not in entry.flags and "--quoted" in line.values:
        yield error(
            name,
            "--quoted, and no flag q",
            "backslashes and quotes in addresses get lost",
            "take --quoted out",
        )


# --- argv ---------------------------------------------------------------------------

# Option, macro that belongs there, what happens without.
_NEEDED = (
    ("--nexthop", "nexthop", "no nexthop: all mail is deferred"),
    ("--sender", "sender", "all mail goes out from the null sender"),
)


def _arguments(entry: PipeEntry, line: Line, now: Circumstances) -> Iterator[Finding]:
    name = about(entry)
    if line.problem:
        yield error(
            name,
            line.problem,
            "all mail of this transport is deferred (4.3.5)",
            _REMEDY,
        )
        return
    yield from _macros(entry)
    yield from _quotes(entry)
    yield from _recipients(entry, line, now)
    for option, macro, consequence in _NEEDED:
        if option not in line.values:
            remedy = f"add {option} ${{{macro}}}"
            yield error(name, f"{option} is missing", consequence, remedy)
    if not _is_macro(line.values.get("--sender", "$sender"), "sender"):
        yield warning(
            name,
            f"--sender {line.values['--sender']}",
            "bounces go there, not to the sender",
            "write --sender ${sender}",
        )
    if "--queue-id" not in line.values:
        yield warning(
            name,
            "--queue-id is missing",
            "the log can't be followed, and several recipients are deferred (4.3.5)",
            "add --queue-id ${queue_id}",
        )


def _json(entry: PipeEntry, line: Line, now: Circumstances) -> Iterator[Finding]:
    if "--json" not in line.values:
        return
    single = now.recipient_limit == 1
    make = warning if single else error
    consequence = "pipe(8) can't read it: bounces and the queue show a JSON object"
    if not single and not now.state_directory:
        consequence += ", and requests with more than one recipient are deferred"
    yield make(about(entry), "--json", consequence, "take --json out")


def _is_macro(text: str, name: str) -> bool:
    """Whether a text is a macro, in one of its three forms, and nothing else."""
    return text in (f"${{{name}}}", f"$({name})", f"${name}")


def macros(text: str) -> list[str]:
    """The names of the macros in an argument."""
    found = ("".join(groups) for groups in _MACRO.findall(text))
    # Two of them stand for a dollar sign.
    return [name for name in found if name]


def _macros(entry: PipeEntry) -> Iterator[Finding]:
    name = about(entry)
    for word in entry.argv:
        for odd in _ANY_MACRO.findall(word):
            known = macros(odd)
            if odd == "$$":
                continue
            if not known or known[0] not in _MACROS:
                yield error(
                    name,
                    f"unknown macro {odd}",
                    "pipe(8) runs nothing: all mail is deferred (4.3.5)",
                    f"known are {', '.join(sorted(_MACROS))}",
                )
            elif known == ["envid"]:
                yield note(
                    name, "${envid} needs Postfix 3.9", "before, all is deferred"
                )


def _quotes(entry: PipeEntry) -> Iterator[Finding]:
    for word in entry.argv:
        if word.startswith(("'", '"')):
            yield error(
                about(entry),
                f"quotes in {word}",
                "there is no shell: the program gets the quotes, too",
                "take them out; { a b } keeps blanks",
            )


def _recipients(entry: PipeEntry, line: Line, now: Circumstances) -> Iterator[Finding]:
    name = about(entry)
    remedy = "let argv end with -- ${recipient}"
    if len(line.recipients) != 1 or not _is_macro(line.recipients[0], "recipient"):
        shown = " ".join(line.recipients) or "nothing"
        yield error(
            name,
            f"recipients are given as {shown}, not as ${{recipient}} alone",
            "mail goes to other addresses, or is deferred",
            remedy,
        )
    elif "--" not in entry.argv:
        yield error(
            name,
            "there is no -- before ${recipient}",
            "an address that begins with - is taken for an option: it is deferred",
            remedy,
        )
    if now.recipient_limit == 1:
        # There is one recipient, and one of each of its macros.
        return
    for option, value in line.values.items():
        hit = [macro for macro in macros(value) if macro in _PER_RECIPIENT]
        if "recipient" in macros(value) or (hit and option != "--original-recipient"):
            yield error(
                name,
                f"{option} {value}",
                "with several recipients there is one for each: all is deferred",
                "use macros of the request here: nexthop, sender, size, queue_id",
            )


# --- limits -------------------------------------------------------------------------


def _limits(entry: PipeEntry, now: Circumstances) -> Iterator[Finding]:
    name, service = about(entry), entry.service
    limit = f"{service.name}_destination_recipient_limit"
    if now.recipient_limit != 1 and not now.state_directory:
        yield error(
            name,
            f"{limit} is {now.recipient_limit or 'unlimited'}, and there is no state "
            "directory",
            "requests with more than one recipient are deferred, again and again",
            f"set {limit} = 1 in main.cf, or add --state-directory",
        )
    if now.recipient_limit == 1 and service.process_limit in ("-", "0"):
        yield warning(
            name,
            f"{limit} is 1, and nothing limits the number of processes",
            "one server may get as many connections as Postfix has processes",
            "write a number, say 20, into the column maxproc",
        )
    for flag in "DO":
        if flag in entry.flags and now.recipient_limit != 1:
            yield error(
                name,
                f"flag {flag} with {limit} = {now.recipient_limit}",
                "pipe(8) defers what has more than one recipient",
                f"set {limit} = 1 in main.cf, or take {flag} out of flags=",
            )
    yield from _time(name, service.name, now)


def _time(name: str, transport: str, now: Circumstances) -> Iterator[Finding]:
    if now.deadline + MARGIN > now.time_limit:
        yield error(
            name,
            f"trouble_deadline is {now.deadline:g}s, and pipe(8) waits"
            f" {now.time_limit:g}s",
            "pipe(8) kills the program, and BOUNCES mail that may be delivered",
            f"set {transport}_time_limit = {now.deadline + 100:g}s in main.cf, or"
            f" trouble_deadline to {max(now.time_limit - 100, 1):g}s at most",
        )
