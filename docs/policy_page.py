"""docs/policy.md: the policy in words and tables, made from the code."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

from policy_tables import WORDS, Table, markdown, stages, tables

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import Phase
from postfix_trouble.policy import trouble
from postfix_trouble.report.pipe8 import exit_code
from postfix_trouble.simulate.explanation import EFFECTS
from postfix_trouble.simulate.session import STAGES

_ENTRIES = (
    "sess_fail",
    "site_fail",
    "mesg_fail",
    "misc_fail",
    "rcpt_fail",
    "stream_except",
)
_INTRODUCTION = """\
<!-- Made by docs/generate.py from the code; a test holds it up to date. -->
# The policy

What a failure means for a recipient. The tables are found out by trying: each row is
a session of the program (`postfix_trouble/smtp`) with a server that gives this
answer at this stage. `postfix-trouble explain` does the same with the reply that you
give it.

![The whole policy as a picture](policy.svg)
"""
_COLUMNS = """\
| column | meaning |
| --- | --- |
| event | reply codes, or what comes in place of a reply |
| status | enhanced status of the report; `y.z`: the server's own, if its class fits |
| host left | what happens if another host can be tried |
| last host | what happens if not |
| soft_bounce | the same two with `soft_bounce = yes`, where that makes a difference |
| and | throttle: the destination is suspended (`throttle*`: under \
soft_bounce only); notice: the postmaster may get a transcript |
| by | the entry point of `policy/trouble.py` that decides |
"""


def page() -> str:
    """The text of the page."""
    parts = [
        _INTRODUCTION,
        _rule(),
        "## Words\n",
        "\n".join(_words()),
        _COLUMNS,
        "## Six entry points\n",
        "\n".join(_entry_points()),
        *(_section(stage) for stage in stages()),
        "## LMTP\n\nAs SMTP but for these.\n",
        *_lmtp(),
        "## After the last host\n",
        "\n".join(_left_over()),
        "## What pipe(8) is told\n",
        "\n".join(_exits()),
        "## Words of the log\n",
        "\n".join(_phases()),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _rule() -> str:
    """The rule in words: the middle of the module's own description."""
    described = cleandoc(str(trouble.__doc__))
    start = described.index("The rule, in words:")
    end = described.index("Around the six stand:")
    return "## The rule\n\n" + described[start:end].rstrip()


def _words() -> Iterator[str]:
    yield "| word | meaning |"
    yield "| --- | --- |"
    for effect, meaning in EFFECTS.items():
        yield f"| {WORDS[effect]} | {meaning} |"
    yield ""


def _entry_points() -> Iterator[str]:
    yield "| entry point | Postfix | what for |"
    yield "| --- | --- | --- |"
    for name in _ENTRIES:
        described = str(getattr(trouble, name).__doc__).partition("\n")[0]
        yield f"| `{name}` | `smtp_{name}` | {described} |"


def _section(stage: str) -> str:
    title = STAGES[stage]
    lines = [f"## {title[0].upper()}{title[1:]}"]
    for found in tables(stage):
        lines += ["", *([f"`{found.setting}`:", ""] if found.setting else [])]
        lines += markdown(found)
    return "\n".join(lines)


def _lmtp() -> Iterator[str]:
    """Stages at which LMTP differs."""
    for stage in stages(lmtp=True):
        as_smtp = [
            _only_rows(table) for table in tables("ehlo" if stage == "lhlo" else stage)
        ]
        here = tables(stage, lmtp=True)
        if [_only_rows(table) for table in here] != as_smtp:
            for table in here:
                yield "\n".join([f"{table.title}:", "", *markdown(table)])


def _only_rows(table: Table) -> tuple[object, ...]:
    return table.rows


def _left_over() -> Iterator[str]:
    hard = DSN(EnhancedStatus("5.4.4"), "the last report")
    soft = DSN(EnhancedStatus("4.4.1"), "the last report")
    cases = (
        ("there is none", DSN(), False, False),
        ("soft", soft, False, False),
        ("hard, by a host of smtp_fallback_relay", hard, True, False),
        ("hard, and the destination is relayhost", hard, False, True),
        ("any other hard one", hard, False, False),
    )
    yield "| the last report | status | reason | so |"
    yield "| --- | --- | --- | --- |"
    for words, why, fallback, relayhost in cases:
        found, _ = trouble.left_over(why, fallback=fallback, relayhost=relayhost)
        status = found.status if found.status != why.status else "as it is"
        end = "defer" if found.status.soft else "bounce"
        reason = found.reason if found.reason != why.reason else "as it is"
        yield f"| {words} | {status} | {reason} | {end} |"


def _exits() -> Iterator[str]:
    yield "| status | exit |"
    yield "| --- | --- |"
    for status in ("2.0.0", "4.7.1", "5.1.1", "5.1.2", "5.4.4", "5.5.0", "5.6.0"):
        shown = f"{status[0]}.y.z" if status[0] in "24" else status
        shown = f"{status[:3]}.z" if status[:3] in ("5.5", "5.6") else shown
        yield f"| {shown} | {exit_code(status)} |"
    yield f"| 5.7.z | {exit_code('5.7.1')} |"
    yield f"| any other 5.y.z | {exit_code('5.2.2')} |"


def _phases() -> Iterator[str]:
    yield "| lost connection ... while | in reply to |"
    yield "| --- | --- |"
    for phase in Phase:
        yield f"| {phase.doing} |{f' {phase.command} ' if phase.command else ' '}|"
