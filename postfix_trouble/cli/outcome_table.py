"""What Postfix would do about each recipient: result, server, and its words."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterator, Sequence

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.outcome import Disposition, Outcome, Report
from postfix_trouble.core.sysexits import NAMES
from postfix_trouble.core.value import Value
from postfix_trouble.report.log import printable
from postfix_trouble.report.pipe8 import exit_code
from postfix_trouble.simulate.rule import rule_of
from postfix_trouble.smtp.address import quote_local
from postfix_trouble.terminal import columns
from postfix_trouble.terminal.columns import Field, Paint

_COLOURS = {
    Disposition.SENT: "green",
    Disposition.DEFERRED: "yellow",
    Disposition.BOUNCED: "red",
}
_HEAD = ("RESULT", "STATUS", "SERVER")


class Retries(Value):
    """When the queue manager would try again. Seconds; qmgr(8), qmgr_active.c."""

    minimal_backoff: float
    maximal_backoff: float
    # maximal_queue_lifetime, or bounce_queue_lifetime for the null sender.
    lifetime: float

    @classmethod
    def of(cls, settings: Settings, null_sender: bool) -> Retries:
        """As the settings have it."""
        life = "bounce_queue_lifetime" if null_sender else "maximal_queue_lifetime"
        return cls(
            settings.seconds("minimal_backoff_time"),
            settings.seconds("maximal_backoff_time"),
            settings.seconds(life),
        )

    @property
    def pauses(self) -> tuple[float, ...]:
        """The pauses after the first tries, up to the longest one.

        A message waits for as long as it has been in the queue already, within both
        limits; so the pauses double.
        """
        age, found = 0.0, []
        while True:
            pause = min(max(age, self.minimal_backoff), self.maximal_backoff)
            found.append(pause)
            age += pause
            if pause >= self.maximal_backoff or age > self.lifetime:
                return tuple(found)

    def __str__(self) -> str:
        if not self.lifetime:
            return "never tried again: maximal_queue_lifetime is 0"
        *first, longest = map(duration, self.pauses)
        pauses = f"after {', '.join(first)}, then " if first else ""
        end = duration(self.lifetime)
        return f"tried again {pauses}every {longest}; returned to sender after {end}"


class OutcomeRow(Value):
    """One recipient, and all there is to say."""

    outcome: Outcome
    # simulate/rule.py: entry point and row of the policy.
    rule: str
    retries: Retries
    # The destination as a whole would be suspended.
    throttled: bool = False
    # Nothing was sent: the server would have taken it.
    probed: bool = False

    @property
    def code(self) -> int:
        """The exit code for this recipient alone."""
        return exit_code(self.outcome.dsn.status)

    @property
    def word(self) -> str:
        """sent, deferred, bounced; SOFTBOUNCE as Postfix has it in its log."""
        end = self.outcome
        if self.probed and end.disposition is Disposition.SENT:
            return "accepted"
        return "SOFTBOUNCE" if end.soft_bounce else end.disposition.value

    @property
    def address(self) -> str:
        """The recipient as a person writes it."""
        text = self.outcome.recipient.address
        # A probe may be of a destination, without a recipient.
        return printable(quote_local(text) if "@" in text else text)


def outcome_rows(
    report: Report, settings: Settings, *, probed: bool = False
) -> list[OutcomeRow]:
    """The recipients of a delivery, or of a probe."""
    retries = Retries.of(settings, null_sender=not report.request.sender)
    return [
        OutcomeRow(
            end,
            rule_of(end),
            retries,
            report.throttled is not None and end.disposition is Disposition.DEFERRED,
            probed,
        )
        for end in report.outcomes
    ]


def duration(seconds: float) -> str:
    """`5d`, `1h 6m 40s`, `0s`."""
    left, words = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            words.append(f"{count}{unit}")
    return " ".join(words) or "0s"


def table(
    rows: Sequence[OutcomeRow],
    width: int,
    paint: Paint,
    *,
    rules: bool = False,
    whose: str = "RECIPIENT",
) -> list[str]:
    """All recipients: a line for each, and below it what was said, and what follows.

    `rules`: and the rule of the policy that decided. `whose`: heads the first column.
    """
    if not rows:
        return []
    cells = [_cells(row) for row in rows]
    notes = [list(_notes(row, rules=rules)) for row in rows]
    return list(columns.table((whose, *_HEAD), cells, width, paint, notes))


def _cells(row: OutcomeRow) -> list[Field]:
    end = row.outcome
    return [
        Field("", row.address, "bold"),
        Field("", row.word, _COLOURS[end.disposition]),
        Field("", end.dsn.status),
        Field("", "" if end.relay == "none" else end.relay),
    ]


def _notes(row: OutcomeRow, *, rules: bool) -> Iterator[Field]:
    """The words of the server, or why there are none, and what else follows."""
    end = row.outcome
    # The server has a column of its own.
    host = end.relay.rpartition("]")[0] + "]"
    yield Field("said", printable(end.dsn.reason.replace(f"host {host} said: ", "", 1)))
    if end.disposition is Disposition.DEFERRED:
        yield Field("then", str(row.retries))
    if row.throttled:
        yield Field("then", "other mail for this destination has to wait, too")
    if rules:
        yield Field("rule", f"{row.rule}; exit status {row.code} ({NAMES[row.code]})")


def as_object(row: OutcomeRow) -> dict[str, object]:
    """The same for JSON; what is in report/as_json.py is not told twice."""
    found: dict[str, object] = {
        "recipient": row.outcome.recipient.address,
        "rule": row.rule,
        "exit_status": row.code,
        "exit_name": NAMES[row.code],
    }
    if row.outcome.disposition is Disposition.DEFERRED:
        found["retry_pauses"] = [round(pause) for pause in row.retries.pauses]
        found["returned_after"] = round(row.retries.lifetime)
    return found
