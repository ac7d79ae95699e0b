"""What may be wrong about argv= of an entry that runs `deliver`: pipe(8)'s macros, and
the options that have to be there."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from postfix_trouble.check import findings
from postfix_trouble.check.findings import Finding
from postfix_trouble.core.value import Value

# Findings about an entry: entry.judge says about which.
error = partial(findings.error, "")
warning = partial(findings.warning, "")
note = partial(findings.note, "")

_MACRO = re.compile(r"\$\$|\$\{(\w*)\}|\$\((\w*)\)|\$(\w+)")
_ANY_MACRO = re.compile(r"\$(?:\{[^}]*\}|\([^)]*\)|\w+|\$)?")
_MACROS = frozenset({
    "client_address", "client_helo", "client_hostname", "client_port",
    "client_protocol", "domain", "envid", "extension", "mailbox", "nexthop",
    "original_recipient", "queue_id", "recipient", "sasl_method", "sasl_sender",
    "sasl_username", "sender", "size", "user",
})  # fmt: skip
_PER_RECIPIENT = ("domain", "extension", "mailbox", "original_recipient", "user")


class Line(Value):
    """The command line of an entry, as far as it was understood."""

    # Options with their values, macros not expanded.
    values: dict[str, str]
    recipients: tuple[str, ...] = ()
    # Why it can't be used; empty if it can.
    problem: str = ""


def judge(
    argv: tuple[str, ...], line: Line, *, single: bool, kept: bool
) -> Iterator[Finding]:
    """Look at a command line that can be understood.

    `single`: a request has one recipient; `kept`: there is a state directory.
    """
    for word in argv:
        yield from _word(word)
    yield from _recipients(argv, line)
    yield from _options(line, single, kept)
    engine = line.values.get("--engine")
    if engine is not None and ("deliver", f"--engine={engine}") not in pairwise(argv):
        yield warning(
            "--engine is not the first option, or not written as --engine=PATH",
            "no engine is used: one process a mail",
            f"write deliver --engine={engine} in argv=, and all else behind it",
        )
    if single:
        # There is one recipient, and one of each of its macros.
        return
    for option, value in line.values.items():
        hit = [macro for macro in macros(value) if macro in _PER_RECIPIENT]
        if "recipient" in macros(value) or (hit and option != "--original-recipient"):
            yield error(
                f"{option} {value}",
                "with several recipients there is one for each: all is deferred",
                "use macros of the request here: nexthop, sender, size, queue_id",
            )


def macros(text: str) -> list[str]:
    """The names of the macros in an argument."""
    found = ("".join(groups) for groups in _MACRO.findall(text))
    # Two of them stand for a dollar sign.
    return [name for name in found if name]


def _is_macro(text: str, name: str) -> bool:
    """Whether a text is a macro, in one of its three forms, and nothing else."""
    return text in (f"${{{name}}}", f"$({name})", f"${name}")


def _word(word: str) -> Iterator[Finding]:
    for odd in _ANY_MACRO.findall(word):
        known = macros(odd)
        if odd == "$$":
            continue
        if not known or known[0] not in _MACROS:
            yield error(
                f"unknown macro {odd}",
                "pipe(8) runs nothing: all mail is deferred (4.3.5)",
                f"known are {', '.join(sorted(_MACROS))}",
            )
        elif known == ["envid"]:
            yield note("${envid} needs Postfix 3.9", "before, all is deferred")
    if word.startswith(("'", '"')):
        yield error(
            f"quotes in {word}",
            "there is no shell: the program gets the quotes, too",
            "remove them; { a b } keeps blanks",
        )


def _recipients(argv: tuple[str, ...], line: Line) -> Iterator[Finding]:
    remedy = "let argv end with -- ${recipient}"
    if len(line.recipients) != 1 or not _is_macro(line.recipients[0], "recipient"):
        shown = " ".join(line.recipients) or "nothing"
        yield error(
            f"recipients are given as {shown}, not as ${{recipient}} alone",
            "mail goes to other addresses, or is deferred",
            remedy,
        )
    elif "--" not in argv:
        yield error(
            "there is no -- before ${recipient}",
            "an address that begins with - is taken for an option: it is deferred",
            remedy,
        )


# Option, macro that belongs there, whether mail is hurt, what happens without.
_NEEDED = (
    ("--nexthop", "nexthop", error, "no nexthop: all mail is deferred"),
    ("--sender", "sender", error, "all mail goes out from the null sender"),
    ("--queue-id", "queue_id", warning,
     "the log can't be followed, and several recipients are deferred (4.3.5)"),
)  # fmt: skip


def _options(line: Line, single: bool, kept: bool) -> Iterator[Finding]:
    for option, macro, make, consequence in _NEEDED:
        if option not in line.values:
            remedy = f"write {option} ${{{macro}}} in argv="
            yield make(f"{option} is missing", consequence, remedy)
    sender = line.values.get("--sender", "$sender")
    if not _is_macro(sender, "sender"):
        consequence = "bounces go there, not to the sender"
        remedy = "write --sender ${sender}"
        yield warning(f"--sender {sender}", consequence, remedy)
    if "--json" in line.values:
        consequence = "pipe(8) can't read it: bounces and the queue show a JSON object"
        if not (single or kept):
            consequence += ", and requests with more than one recipient are deferred"
        make = warning if single else error
        yield make("--json", consequence, "remove --json from argv=")
