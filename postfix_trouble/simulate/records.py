"""Records of deliveries in a log: one line for each, and a summary of all.

Behind pipe(8) and lmtp(8) a delivery has two records: ours, which says more, and after
it that of the agent that we answered.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from postfix_trouble.core.value import Value
from postfix_trouble.report.log import printable
from postfix_trouble.simulate.answer import Explanation
from postfix_trouble.simulate.session import STAGES
from postfix_trouble.terminal.columns import Field, Paint, plain, table

_RECORD = re.compile(
    r"(?:(?P<agent>[\w.-]+)\[\d+\]: )?(?P<queue_id>[0-9A-Za-z]{5,25}): "
    r"to=<(?P<recipient>[^>]*)>, .*\bdsn=(?P<dsn>[245]\.\d{1,3}\.\d{1,3}), "
    r"status=(?P<word>sent|deferred|bounced|SOFTBOUNCE) \((?P<reason>.*)\)\s*$"
)
# Agents of Postfix's to whom we give the answer that they log.
_ASKED_US = ("pipe", "lmtp")
# Whom pipe(8) names in place of an SMTP client.
_DELIVERED = re.compile(r"^delivered via \S+ service \((?P<reason>.*)\)$")
_EFFECTS = {
    "keep": "next host",
    "defer": "deferred",
    "bounce": "bounced",
    "sent": "sent",
    "continue": "no failure",
    "plaintext": "without TLS",
}
_COLOURS = {
    "deferred": "yellow",
    "SOFTBOUNCE": "yellow",
    "bounced": "red",
    "sent": "green",
}


class Record(Value):
    """What a record says."""

    # The last part of the name in the log: smtp, lmtp, pipe, postfix-trouble.
    agent: str
    queue_id: str
    recipient: str
    dsn: str
    # sent, deferred, bounced or SOFTBOUNCE.
    word: str
    reason: str


class Line(Value):
    """What there is to say about one record, or one reply, in one line."""

    result: str
    status: str
    rule: str
    # Whom it is about; empty: not told.
    recipient: str
    text: str


class Repeated:
    """Tells which records say again what we have logged already."""

    def __init__(self) -> None:
        self._ours: set[tuple[str, str]] = set()

    def is_it(self, record: Record) -> bool:
        """Whether one of ours was about the same delivery. To be asked once."""
        delivery = (record.queue_id, record.recipient)
        if record.agent in _ASKED_US:
            known = delivery in self._ours
            self._ours.discard(delivery)
            return known
        if record.agent not in ("", "smtp"):
            self._ours.add(delivery)
        return False


def read(text: str) -> Record | None:
    """The record in a line of the log; None if there is none."""
    found = _RECORD.search(text)
    if found is None:
        return None
    delivered = _DELIVERED.match(found["reason"])
    return Record(
        found["agent"] or "",
        found["queue_id"],
        found["recipient"],
        found["dsn"],
        found["word"],
        delivered["reason"] if delivered else found["reason"],
    )


def unexplained(record: Record) -> Line:
    """Of a success, or of an agent that is no SMTP client."""
    rule, text = "2xx", record.reason
    if record.word != "sent":
        rule = f"not explained: a record of {record.agent or 'another agent'}"
        text += f" ({rule})"
    return Line(record.word, record.dsn, rule, record.recipient, text)


def explained(explanation: Explanation, record: Record | None) -> Line:
    """Of a failure; `record`: where it was found, if in one."""
    last = explanation.cases[1]
    logged = explanation.logged
    skipped = logged is not None and not logged.word
    result = _EFFECTS["keep" if skipped else last.effect]
    if last.soft_bounce:
        result = "SOFTBOUNCE"
    text = explanation.subject.replace("\n", " ")
    if explanation.entry != "sess_fail":
        text += f" ({STAGES[explanation.stage]})"
    rule = explanation.cases[0 if skipped or last.outcome is None else 1].rule
    if record is not None and not explanation.agrees:
        text = f"Postfix would say {result}, {last.status}: {text}"
        rule += "; logged otherwise"
        result = record.word
    return Line(
        result,
        record.dsn if record else last.status,
        rule,
        record.recipient if record else "",
        text,
    )


def one_line(line: Line, width: int, paint: Paint = plain) -> str:
    """The line; what is longer than `width` is cut."""
    whom = f"{line.recipient}: " if line.recipient else ""
    text = printable(f"{line.result:10}  {line.status:6}  {whom}{line.text}")
    if len(text) > width:
        text = f"{text[: width - 3]}..."
    return paint(_COLOURS.get(line.result, ""), text[:10]) + text[10:]


# --- all of them --------------------------------------------------------------------


def summary(
    counts: Mapping[Line, int], width: int, paint: Paint = plain
) -> Iterator[str]:
    """Count, result, status and rule, most of them first. See `key`."""
    most = len(str(max(counts.values(), default=0)))
    rows = [
        [
            Field("", str(count).rjust(most)),
            Field("", line.result, _COLOURS.get(line.result, "")),
            Field("", line.status),
            Field("", line.rule),
        ]
        for line, count in _ordered(counts)
    ]
    return table(("COUNT", "RESULT", "STATUS", "RULE"), rows, width, paint)


def key(line: Line) -> Line:
    """What is counted together."""
    return line._replace(recipient="", text="")


def summary_object(counts: Mapping[Line, int]) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "version": 1,
        "summary": [
            {"count": n, "result": x.result, "status": x.status, "rule": x.rule}
            for x, n in _ordered(counts)
        ],
    }


def _ordered(counts: Mapping[Line, int]) -> list[tuple[Line, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
