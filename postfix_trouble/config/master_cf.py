"""The syntax of master.cf, and of what follows `pipe` in it (master(5), pipe(8))."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterator

from postfix_trouble.config.lines import BLANKS, logical_lines
from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.value import Value

# Of pipe(8): attribute names, and what an empty sender becomes if nobody says.
ATTRIBUTES = (
    "argv",
    "chroot",
    "directory",
    "eol",
    "flags",
    "null_sender",
    "size",
    "user",
)
NULL_SENDER = "MAILER-DAEMON"
FLAGS = "BDFORXhuq.>"


class Service(Value):
    """One entry of master.cf."""

    line: int
    name: str
    kind: str
    private: str
    unprivileged: str
    chroot: str
    wakeup: str
    process_limit: str
    command: str
    arguments: tuple[str, ...]


class PipeEntry(Value):
    """What an entry asks of pipe(8); or of spawn(8), which has `user` and `argv`."""

    service: Service
    # Empty where the entry has none.
    user: str = ""
    group: str = ""
    flags: str = ""
    null_sender: str = NULL_SENDER
    eol: str = "\\n"
    size: str = ""
    directory: str = ""
    chroot: str = ""
    argv: tuple[str, ...] = ()
    # -o of the entry: parameters of pipe(8), not of the program.
    overrides: tuple[str, ...] = ()
    # Words that are no attribute, and the names of unknown ones.
    unknown: tuple[str, ...] = ()


def parse(text: str, filename: str) -> list[Service]:
    """The entries of a master.cf.

    Raises ConfigError, with file and line, for a line that is no entry.
    """
    found = []
    for number, line in logical_lines(text):
        if line[:1] in BLANKS:
            problem = "starts with a blank, but continues nothing"
            raise ConfigError("", f"{filename}, line {number}: {problem}")
        words = split(line)
        if len(words) < 8:
            problem = f"{len(words)} fields, 8 expected: {line[:60].rstrip()}"
            raise ConfigError("", f"{filename}, line {number}: {problem}")
        name, kind, private, unprivileged, chroot, wakeup, limit, command = words[:8]
        columns = (name, kind, private, unprivileged, chroot, wakeup, limit, command)
        found.append(Service(number, *columns, tuple(words[8:])))
    return found


def split(text: str) -> list[str]:
    """Words, split at blanks outside of braces (mystrtokq(3))."""
    words, level = [""], 0
    for letter in text:
        if letter == "{":
            level += 1
        elif letter == "}" and level:
            level -= 1
        if letter in BLANKS and not level:
            words.append("")
        else:
            words[-1] += letter
    return [word for word in words if word]


def pipe_entry(service: Service) -> PipeEntry:
    """What the arguments of a pipe service say."""
    values: dict[str, str] = {}
    argv: list[str] = []
    overrides: list[str] = []
    unknown: list[str] = []
    words = iter(service.arguments)
    for word in words:
        # Behind the first attribute there are no options any more.
        option = word.startswith("-") and not (values or unknown)
        if option:
            if word == "-o":
                overrides.append(_unbraced(next(words, "")))
            elif word.startswith("-o"):
                overrides.append(_unbraced(word[2:]))
            continue
        name, equals, value = _unbraced(word).partition("=")
        name = name.strip().lower()
        if not equals or name not in ATTRIBUTES:
            unknown.append(name)
        elif name == "argv":
            argv = [value, *(_unbraced(each) for each in words)]
        else:
            values[name] = value.strip()
    user, colon, group = values.pop("user", "").partition(":")
    known = {name: values[name] for name in values if name != "argv"}
    return PipeEntry(
        service,
        user,
        group if colon else "",
        argv=tuple(argv),
        overrides=tuple(overrides),
        unknown=tuple(unknown),
        **known,
    )


def _unbraced(word: str) -> str:
    """An argument without the braces around it and the blanks just inside."""
    if word.startswith("{") and word.endswith("}"):
        return word[1:-1].strip(BLANKS)
    return word


def place(entry: PipeEntry, program: str) -> int | None:
    """Where in argv a program is named, also behind a wrapper; None if nowhere."""
    for number, word in enumerate(entry.argv):
        if word.rpartition("/")[2] == program:
            return number
    return None


def entries(services: list[Service], command: str, program: str) -> Iterator[PipeEntry]:
    """The services of pipe(8), or of spawn(8), that run a program."""
    for service in services:
        if service.command == command:
            entry = pipe_entry(service)
            if place(entry, program) is not None:
                yield entry
