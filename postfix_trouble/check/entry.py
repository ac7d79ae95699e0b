"""Whether an entry in master.cf leads to what its author wants: of pipe(8), which runs
`deliver`, or of spawn(8), which runs `lmtp`, the server for the lmtp(8) entries.

Both do as they are told, and most mistakes are not seen until mail is bounced, or
delivered twice. Each rule is one of pipe(8) or spawn(8) (start, attributes, time limit)
or of the program that they run.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterator

from postfix_trouble.check import argv
from postfix_trouble.check.argv import Line, error, note, warning
from postfix_trouble.check.findings import Finding, fine
from postfix_trouble.config.masking import masked_pair
from postfix_trouble.config.master_cf import FLAGS, NULL_SENDER, PipeEntry, Service
from postfix_trouble.core.value import Value

# Seconds between our own limit and that of whoever waits for us.
MARGIN = 30
DEFERRED = "all mail of this transport is deferred"
# Parameters that only the program has, and pipe(8) and spawn(8) have not.
_OWN = ("smtp_", "lmtp_", "trouble_", "tls_")


class Circumstances(Value):
    """What main.cf says about a transport, and the program's own settings."""

    # <name>_time_limit, seconds.
    time_limit: float = 1000.0
    # <name>_destination_recipient_limit
    recipient_limit: int = 50
    # Seconds that one message may take us: trouble_deadline, 540 at most for `lmtp`.
    deadline: float = 900.0
    state_directory: str = ""
    # What `-` in the column chroot means: it does so at compatibility_level 0.
    chroot_default: bool = False
    # Where all mail goes without --nexthop.
    relayhost: str = ""
    # The command that changes main.cf and master.cf.
    postconf: str = "postconf"


class Client(Value):
    """An lmtp(8) entry. Times are seconds, with the -o of the entry."""

    service: Service
    # lmtp_data_done_timeout
    patience: float = 600.0
    # lmtp_connection_reuse_time_limit
    reuse: float = 300.0
    # <name>_destination_recipient_limit
    recipient_limit: int = 50


def about(service: Service) -> str:
    """How an entry is named."""
    return f"{service.name}, line {service.line}"


def judge(
    entry: PipeEntry, line: Line, now: Circumstances, clients: tuple[Client, ...] = ()
) -> Iterator[Finding]:
    """Everything that can be said without looking at the file system.

    `clients`: the lmtp(8) entries that may speak to a server under spawn(8); the
    transport table says which of them do.
    """
    found = [*_columns(entry, now), *_misplaced(entry), *_attributes(entry)]
    if line.problem:
        found.append(
            error(line.problem, f"{DEFERRED} (4.3.5)", "write argv= without it")
        )
    if entry.service.command == "spawn":
        found += [*_server(entry, line, now, clients)]
    else:
        found += [*_flags(entry, line)]
        if not line.problem:
            single, kept = now.recipient_limit == 1, bool(now.state_directory)
            found += argv.judge(entry.argv, line, single=single, kept=kept)
        found += [*_limits(entry, now)]
    name = about(entry.service)
    found = [each._replace(about=name) for each in found]
    if entry.service.command == "spawn":
        for one in clients:
            where = about(one.service)
            found += (e._replace(about=where) for e in _client(one, entry, now))
    yield from found or [fine(name, "no mistakes in the entry")]


# --- columns and attributes ---------------------------------------------------------


def _columns(entry: PipeEntry, now: Circumstances) -> Iterator[Finding]:
    service = entry.service
    change = f"{now.postconf} -F {service.name}/{service.kind}"
    if service.kind != "unix" and service.command == "pipe":
        yield error(f"type {service.kind}", _fatal(entry), "write unix there")
    elif service.kind == "inet":
        yield warning(
            "type inet",
            "spawn(8) leaves Nagle's algorithm on: each message waits for it",
            "write unix there, and unix:private/... in the transport table",
        )
    if service.unprivileged != "n":
        yield error(
            f"column unpriv is {service.unprivileged}",
            f"{service.command}(8) can't become the user: {DEFERRED}",
            f"{change}/unprivileged=n",
        )
    if service.chroot == "y" or (service.chroot == "-" and now.chroot_default):
        level = ", which is y: compatibility_level is 0"
        yield error(
            f"column chroot is {service.chroot}{level * (service.chroot == '-')}",
            f"the program is not found in there: {DEFERRED}",
            f"{change}/chroot=n",
        )


def _fatal(entry: PipeEntry) -> str:
    return f"{entry.service.command}(8) does not start: {DEFERRED}"


def _misplaced(entry: PipeEntry) -> Iterator[Finding]:
    """Settings of the program that it never sees, since they stand before argv=."""
    command = "lmtp" if entry.service.command == "spawn" else "deliver"
    for pair in map(str.strip, entry.overrides):
        if pair.startswith(_OWN):
            name = pair.partition("=")[0].strip()
            yield error(
                f"-o {masked_pair(pair)} stands before argv=",
                f"it is {entry.service.command}(8)'s, and the program never sees it:"
                f" mail goes out without {name}",
                f"write it behind the command in argv=: {command} -o {name}=...",
            )


def _attributes(entry: PipeEntry) -> Iterator[Finding]:
    unknown = [*entry.unknown]
    if entry.service.command == "spawn":
        given = {"null_sender": entry.null_sender != NULL_SENDER}
        given["eol"] = entry.eol != "\\n"
        words = ("flags", "size", "directory", "chroot")
        given |= {word: bool(getattr(entry, word)) for word in words}
        unknown += [word for word in sorted(given) if given[word]]
    else:
        yield from _attributes_of_pipe(entry)
    for word in unknown:
        problem = f"{entry.service.command}(8) has no attribute {word}"
        yield error(problem, _fatal(entry), f"remove {word}= from the entry")
    if not entry.user:
        remedy = "write user=nobody, or an account of its own, before argv="
        yield error("user= is missing", _fatal(entry), remedy)


def _attributes_of_pipe(entry: PipeEntry) -> Iterator[Finding]:
    if entry.null_sender not in ("", "<>"):
        missing = entry.null_sender == NULL_SENDER
        yield error(
            "null_sender= is missing"
            if missing
            else f"null_sender={entry.null_sender}",
            f"bounces go out from {entry.null_sender}, and may bounce in turn",
            "write null_sender= with nothing behind it, before argv=",
        )
    if entry.chroot:
        consequence = f"the program is not found in there: {DEFERRED}"
        yield error(f"chroot={entry.chroot}", consequence, "remove chroot=")
    if entry.eol not in ("\\n", ""):
        consequence = "the program takes lines that end in LF: messages are damaged"
        yield error(f"eol={entry.eol}", consequence, "remove eol=")
    if entry.size and not entry.size.isdecimal():
        remedy = "write a number of bytes, or remove size="
        yield error(f"size={entry.size}", _fatal(entry), remedy)
    elif set(entry.size) - {"0"}:
        consequence = "pipe(8) bounces what is larger, without asking a server"
        yield note(f"size={entry.size}", consequence)


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
    for flag in entry.flags:
        if flag not in FLAGS:
            remedy = f"remove {flag} from flags="
            yield error(f"unknown flag {flag}", _fatal(entry), remedy)
    for flag, hurts, consequence in _FLAGS:
        if flag in entry.flags:
            make = error if hurts else warning
            remedy = f"remove {flag} from flags="
            yield make(f"flag {flag}", consequence, remedy)
    quoted = "--quoted" in line.values
    if "q" in entry.flags and not quoted:
        yield error(
            "flag q, and no --quoted",
            'addresses like "a b"@example.com are quoted twice: servers refuse them',
            "remove q from flags=",
        )
    if quoted and "q" not in entry.flags:
        yield error(
            "--quoted, and no flag q",
            "backslashes and quotes in addresses get lost",
            "remove --quoted from argv=",
        )


# --- limits -------------------------------------------------------------------------


def _limits(entry: PipeEntry, now: Circumstances) -> Iterator[Finding]:
    service = entry.service
    limit = f"{service.name}_destination_recipient_limit"
    single = f"{now.postconf} -e '{limit} = 1'"
    if now.recipient_limit != 1 and not now.state_directory:
        yield error(
            f"{limit} is {now.recipient_limit or 'unlimited'}, and there is no state "
            "directory",
            "requests with more than one recipient are deferred, again and again",
            f"{single}, or write --state-directory in argv=",
        )
    if now.recipient_limit == 1 and service.process_limit in ("-", "0"):
        yield warning(
            f"{limit} is 1, and nothing limits the number of processes",
            "one server may get as many connections as Postfix has processes",
            f"{now.postconf} -F {service.name}/{service.kind}/process_limit=20",
        )
    for flag in "DO":
        if flag in entry.flags and now.recipient_limit != 1:
            yield error(
                f"flag {flag} with {limit} = {now.recipient_limit}",
                "pipe(8) defers what has more than one recipient",
                f"{single}, or remove {flag} from flags=",
            )
    if now.deadline + MARGIN > now.time_limit:
        yield error(
            f"trouble_deadline is {now.deadline:g}s, and pipe(8) waits"
            f" {now.time_limit:g}s",
            "pipe(8) kills the program, and BOUNCES mail that may be delivered",
            f"{now.postconf} -e '{service.name}_time_limit = {now.deadline + 100:g}s'",
        )


def _server(
    entry: PipeEntry, line: Line, now: Circumstances, clients: tuple[Client, ...]
) -> Iterator[Finding]:
    """Whoever kills us while we deliver has the message delivered twice: the last
    message over a connection ends before spawn(8)'s limit."""
    service = entry.service
    reuse = max((each.reuse for each in clients), default=300.0)
    needed = reuse + now.deadline + MARGIN
    if needed > now.time_limit:
        yield error(
            f"spawn(8) ends a connection after {now.time_limit:g}s; lmtp(8) uses it for"
            f" {reuse:g}s, and the last message may take {now.deadline:g}s more",
            "killed at a wrong moment, mail is delivered twice",
            f"{now.postconf} -e '{service.name}_time_limit = {max(needed, 3600):g}s'",
        )
    if now.relayhost and "--nexthop" not in line.values and not line.problem:
        yield warning(
            f"relayhost is {now.relayhost}",
            "all mail for the LMTP server goes there, whatever the transport table"
            " says: lmtp(8) can't tell the program about it",
            "write -o relayhost= behind lmtp in argv=, or --nexthop, if it is meant",
        )


def _client(client: Client, server: PipeEntry, now: Circumstances) -> Iterator[Finding]:
    """Who gives up waiting while we deliver has the message delivered twice, too."""
    service, name = client.service, about(client.service)
    if now.deadline + MARGIN > client.patience:
        yield error(
            f"lmtp_data_done_timeout is {client.patience:g}s, and a message may take"
            f" {now.deadline:g}s",
            "lmtp(8) tries again while we deliver: mail is delivered twice",
            f"{now.postconf} -e 'lmtp_data_done_timeout = {now.deadline + 60:g}s' (and"
            f" without -o lmtp_data_done_timeout in {name})",
        )
    if client.recipient_limit == 1:
        limit = f"{service.name}_destination_recipient_limit"
        yield warning(
            f"{limit} is 1",
            "lmtp(8) keeps no connection: a process for each message",
            f"{now.postconf} -X {limit}, if {service.name} is for the LMTP server",
        )
    ours, theirs = server.service.process_limit, service.process_limit
    most = int(ours) if ours.isdigit() else 0
    if most and not (theirs.isdigit() and 0 < int(theirs) <= most):
        yield warning(
            f"maxproc is {theirs}, that of {server.service.name} {ours}",
            "some lmtp(8) wait for a busy LMTP server, and defer mail",
            f"{now.postconf} -F {service.name}/{service.kind}/process_limit={ours}, if"
            f" {service.name} is for the LMTP server",
        )
