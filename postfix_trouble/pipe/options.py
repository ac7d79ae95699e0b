"""The options of `deliver`: one table, for the reader here and for click's help.

The reader does what click would do with `allow_interspersed_args=False`, without its
13 ms: after the first recipient, or after `--`, nothing is an option. There are no
abbreviations, no `@file` and no environment variables.
"""

from __future__ import annotations

from postfix_trouble.core.value import Value


class Option(Value):
    """One option."""

    name: str
    # Empty: a switch without a value.
    metavar: str
    meaning: str
    repeatable: bool = False


OPTIONS = (
    Option(
        "--engine",
        "PATH",
        "Have the engine at this socket deliver; --engine=PATH, as the first option.",
    ),
    Option("--sender", "ADDRESS", "Envelope sender; empty or <> is the null sender."),
    Option(
        "--nexthop",
        "DESTINATION",
        "Where to deliver: domain, domain:port, [host]:port, several with commas.",
    ),
    Option("--queue-id", "ID", "Queue id, for the log and the ledger."),
    Option("--size", "BYTES", "Message size as Postfix counts it."),
    Option("--envid", "TEXT", "DSN envelope id (RFC 3461)."),
    Option("--ret", "full|hdrs", "What a bounce is to return (RFC 3461)."),
    Option(
        "--notify", "LIST", "When senders want a report: never, success,failure,delay."
    ),
    Option(
        "--orcpt",
        "RCPT=TYPE;ADDR",
        "Original recipient of a recipient.",
        repeatable=True,
    ),
    Option(
        "--original-recipient",
        "ADDRESS",
        "The recipient before rewriting (with a single recipient).",
    ),
    Option(
        "--encoding",
        "7bit|8bit",
        "Body encoding; default: what the headers of message and parts say.",
    ),
    Option(
        "--smtputf8",
        "",
        "The sender asked for SMTPUTF8; default: by Received: header or addresses.",
    ),
    Option(
        "--age",
        "SECONDS",
        "Time since arrival; default: by the topmost Received: header.",
    ),
    Option("--lmtp", "", "Speak LMTP."),
    Option(
        "--attribute",
        "NAME=VALUE",
        "Attribute of the client that sent the message, for XFORWARD.",
        repeatable=True,
    ),
    Option("--requiretls", "", "The sender asked for REQUIRETLS."),
    Option("--quoted", "", "Addresses are in quoted form (flag q in master.cf)."),
    Option("-o", "NAME=VALUE", "Set a main.cf parameter.", repeatable=True),
    Option("--config", "FILE", "Read parameters from a main.cf."),
    Option("--state-directory", "DIR", "Where to remember what is done already."),
    Option("--json", "", "Print one JSON object in place of the status line."),
    Option("--log-file", "FILE", "Log there, not to syslog."),
    Option("-v", "", "Log the dialogue too."),
)

_SHARED = ("--nexthop", "--lmtp", "-o", "--config", "--state-directory", "--log-file")
LMTP_OPTIONS = (
    Option(
        "--listen",
        "unix:PATH|inet:HOST:PORT",
        "Listen there; default: serve the connection on descriptor 0.",
    ),
    Option("--mode", "MODE", "Permissions of unix:PATH, say 0660; default: by umask."),
    Option("--group", "NAME", "Group of unix:PATH: that of lmtp(8) is postfix."),
    Option("--connections", "COUNT", "Serve at most so many clients at once (100)."),
    Option("--processes", "COUNT", "Share them among so many processes (1)."),
    *(option for option in OPTIONS if option.name in _SHARED),
)


SERVE_OPTIONS = (
    Option("--listen", "unix:PATH", "Listen there for `deliver --engine=PATH`."),
    Option("--deliveries", "COUNT", "Make at most so many deliveries at once (100)."),
    Option(
        "--time-limit",
        "SECONDS",
        "Defer what is not delivered so long after it came (900); below pipe(8)'s.",
    ),
    Option("--metrics", "inet:HOST:PORT", "Have figures for Prometheus there."),
    Option(
        "--lmtp-listen",
        "unix:PATH|inet:HOST:PORT",
        "Serve lmtp(8) there as well; what follows is for that, as with `lmtp`.",
    ),
    *(o for o in LMTP_OPTIONS if o.name not in ("--listen", "--processes")),
)


class UsageError(Exception):
    """The command line can't be understood."""


class CommandLine:
    """A command line of `deliver`, taken apart."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.recipients: list[str] = []

    def value(self, name: str, default: str = "") -> str:
        """Value of an option; the last one counts."""
        return self.values.get(name, default)

    def switch(self, name: str) -> bool:
        """Whether a switch was given."""
        return name in self.values

    def pairs(self, name: str) -> dict[str, str]:
        """A repeatable NAME=VALUE option. An address may have "=" in it, so the value
        of --orcpt begins where its type does. Raises UsageError."""
        found = {}
        for text in self.lists.get(name, ()):
            split = _split_orcpt if name == "--orcpt" else _split_pair
            left, right = split(text, name)
            found[left] = right
        return found


def _split_pair(text: str, name: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals or not left.strip():
        raise UsageError(f"{name} {text}: NAME=VALUE expected")
    return left.strip(), right.strip()


def _split_orcpt(text: str, name: str) -> tuple[str, str]:
    for kind in ("=rfc822;", "=utf-8;"):
        at = text.lower().find(kind)
        if at > 0:
            return text[:at], text[at + 1 :]
    return _split_pair(text, name)


def read(argv: list[str], table: tuple[Option, ...] = OPTIONS) -> CommandLine:
    """Take a command line apart. Raises UsageError."""
    line = CommandLine()
    known = {option.name: option for option in table}
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            break
        _option(line, known, word, rest)
    line.recipients = list(reversed(rest))
    return line


def _option(
    line: CommandLine, known: dict[str, Option], word: str, rest: list[str]
) -> None:
    name, equals, value = word.partition("=")
    if not word.startswith("--"):
        # -o NAME=VALUE, -oNAME=VALUE
        name, equals, value = word[:2], word[2:], word[2:]
    option = known.get(name)
    if option is None:
        raise UsageError(f"no such option: {name}{_meant(name, known)}")
    if not option.metavar:
        if equals:
            raise UsageError(f"{name} takes no value")
        line.values[name] = ""
        return
    if not equals:
        if not rest:
            raise UsageError(f"{name} needs a value")
        value = rest.pop()
    if option.repeatable:
        line.lists.setdefault(name, []).append(value)
    else:
        line.values[name] = value


def _meant(name: str, known: dict[str, Option]) -> str:
    """What to say to somebody who gave an option that there is not."""
    if name in ("-h", "--help"):
        return "; see postfix-trouble help"
    from difflib import get_close_matches

    close = get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def number(line: CommandLine, name: str, default: int) -> int:
    """A number from 1 to 999,999, which is what an engine tells its clients. Raises
    UsageError."""
    text = line.value(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) < 1_000_000):
        raise UsageError(f"{name} {text}: a number from 1 to 999999 expected")
    return int(text[:9])
