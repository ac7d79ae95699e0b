"""An explanation, as text for a person and as an object for a program."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from postfix_trouble.core.sysexits import NAMES
from postfix_trouble.report import pipe8
from postfix_trouble.report.log import printable
from postfix_trouble.simulate.answer import Case, Explanation
from postfix_trouble.simulate.session import STAGES
from postfix_trouble.terminal.columns import Field, Paint, fields, plain, wrapped

VERSION = 1

# What becomes of a recipient, in words.
EFFECTS = {
    "keep": "the next host is tried",
    "defer": "Postfix keeps the mail and tries again later",
    "bounce": "Postfix returns the mail to its sender",
    "sent": "delivered",
    "continue": "no failure, the dialogue goes on",
    "plaintext": "the same host is tried again at once, without TLS",
}
# And its colour.
COLOURS = {
    "keep": "cyan",
    "defer": "yellow",
    "bounce": "red",
    "sent": "green",
    "continue": "green",
    "plaintext": "cyan",
}
_NO_REPLY = ("lookup", "connect", "handshake", "body")


def text(
    explanation: Explanation,
    width: int,
    paint: Paint = plain,
    *,
    final_only: bool = False,
    verbose: bool = False,
) -> Iterator[str]:
    """The lines of an explanation. `final_only`: leave out the host that follows;
    `verbose`: all that is known, and who decides."""
    *first, end = explanation.subject.split("\n")
    for line in (*first, f"{end} ({place(explanation)})"):
        yield from (paint("bold", part) for part in wrapped(printable(line), width))
    another, last = explanation.cases
    rows = [] if final_only else [_verdict("more hosts", another)]
    rows += [_verdict("last host", last), *_essence(explanation, verbose)]
    if verbose:
        rows += _details(explanation, final_only)
    yield from fields(rows, width, paint)


def place(explanation: Explanation) -> str:
    """Where it happened, in words."""
    stage = explanation.stage
    where = STAGES[stage]
    if stage in _NO_REPLY:
        words = where
    elif stage == "greeting":
        words = "as the greeting"
    else:
        words = f"in reply to {where}"
    if explanation.stage_assumed:
        words += "; assumed, see --stage"
    return words


def _verdict(label: str, case: Case) -> Field:
    words = EFFECTS[case.effect]
    if case.soft_bounce:
        words += " (soft_bounce)"
    return Field(label, f"{case.effect}: {words}", COLOURS[case.effect])


def _essence(explanation: Explanation, verbose: bool) -> Iterator[Field]:
    another, last = explanation.cases
    if explanation.entry:
        status = f"{last.status or another.status}, for {explanation.scope}"
        if last.throttled:
            status += "; the destination is suspended"
        yield Field("status", status)
    yield Field("pipe(8)", _pipe(last, verbose))
    for remark in explanation.remarks:
        yield Field("note", remark)
    if explanation.logged is not None and explanation.logged.word:
        yield Field("the log", _compared(explanation))


def _details(explanation: Explanation, final_only: bool) -> Iterator[Field]:
    another, last = explanation.cases
    if explanation.entry:
        yield Field("reason", printable(last.reason))
        if not final_only:
            yield Field(
                "next host", "tried" if another.next_host_tried else "not tried"
            )
        notices = ", ".join(explanation.notices)
        told = f"notice, if notify_classes has {notices}" if notices else "no notice"
        yield Field("postmaster", told)
        yield Field("rule", _rules(another, last, final_only))
        yield Field("decided by", _source(explanation))


def _pipe(case: Case, verbose: bool) -> str:
    if case.outcome is None:
        return "nothing yet: the delivery goes on"
    if case.effect == "continue":
        return "nothing yet: the dialogue goes on"
    end = pipe8.result((case.outcome,))
    text = f"exit status {end.code} ({NAMES[end.code]})"
    return f"{text} and: {end.output.decode()}" if verbose else text


def _rules(another: Case, last: Case, final_only: bool) -> str:
    if final_only or another.rule == last.rule:
        return last.rule
    return f"{another.rule}; {last.rule}"


def _source(explanation: Explanation) -> str:
    entry = explanation.entry
    return (
        f"{entry} in postfix_trouble/policy/trouble.py"
        f" (smtp_{entry} in Postfix's smtp_trouble.c)"
    )


def _compared(explanation: Explanation) -> str:
    logged = explanation.logged
    assert logged is not None
    said = f"status={logged.word}, dsn={logged.dsn}"
    return f"{said}: {'the same' if explanation.agrees else 'something else'}"


# --- for programs -------------------------------------------------------------------


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """The explanation as a JSON object: public, and versioned."""
    another, last = explanation.cases
    logged = explanation.logged
    return {
        "version": VERSION,
        "subject": explanation.subject,
        "stage": explanation.stage,
        "stage_assumed": explanation.stage_assumed,
        "protocol": "lmtp" if explanation.lmtp else "smtp",
        "another_host_left": _case(another),
        "last_host": _case(last),
        "next_host_tried": another.next_host_tried,
        "throttled": last.throttled,
        "concerns": explanation.scope,
        "notices": list(explanation.notices),
        "entry_point": explanation.entry,
        "remarks": list(explanation.remarks),
        "logged": logged._asdict() if logged and logged.word else None,
        "agrees_with_log": explanation.agrees,
    }


def _case(case: Case) -> dict[str, Any]:
    end = pipe8.result((case.outcome,)) if case.outcome else None
    if case.effect == "continue":
        end = None
    return {
        "verdict": case.effect,
        "status": case.status if case.effect != "continue" else "",
        "reason": case.reason if case.effect != "continue" else "",
        "soft_bounce": case.soft_bounce,
        "rule": case.rule,
        "exit_status": end.code if end else None,
        "exit_name": NAMES[end.code] if end else "",
        "status_line": end.output.decode() if end else "",
    }
