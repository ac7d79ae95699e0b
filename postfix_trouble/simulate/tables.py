"""The policy as tables, found out by trying: every code at every stage.

No rule is written down here. Each row is the outcome of a simulated session
(session.py) with a reply code, or with what comes in place of a reply; codes with the
same outcome share a row.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import HandshakeFailed
from postfix_trouble.core.tls import TlsFacts
from postfix_trouble.core.value import Value
from postfix_trouble.dns.lookup import Result
from postfix_trouble.dns.no_server import without_server
from postfix_trouble.simulate.answer import Case, case
from postfix_trouble.simulate.codes import BORDERS, named
from postfix_trouble.simulate.explanation import COLOURS
from postfix_trouble.simulate.session import (
    STAGES,
    NotOffered,
    Setting,
    read_reply,
    simulate,
)
from postfix_trouble.terminal.columns import Field, Paint, plain, wrapped
from postfix_trouble.terminal.columns import table as columns

if TYPE_CHECKING:
    from postfix_trouble.simulate.session import Happening

# What is printed for what becomes of a recipient.
WORDS = {
    "keep": "keep",
    "defer": "defer",
    "bounce": "bounce",
    "sent": "sent",
    "continue": "go on",
    "plaintext": "again",
}
_LOST = {
    "connection lost": Lost.EOF,
    "no answer": Lost.TIME,
    "own table fails": Lost.DATA,
}
_LOOKUPS = {
    "name unknown": Result.NOT_FOUND,
    "null MX": Result.NULL,
    "bad name": Result.INVALID,
    "DNS refuses": Result.FAIL,
    "no DNS answer": Result.RETRY,
    "filtered out": Result.POLICY,
}
_CONNECT = DSN(EnhancedStatus("4.4.1"), "connect to mx.example.com: refused")
_NOT_THEIRS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, matched=False)
# Parameters that make a difference at a stage; each value gets a table of its own.
_VARIANTS: dict[str, tuple[dict[str, str], ...]] = {
    "greeting": (
        {"smtp_skip_5xx_greeting": "yes"},
        {"smtp_skip_5xx_greeting": "no"},
    ),
    "starttls": (
        {"smtp_tls_security_level": "may"},
        {"smtp_tls_security_level": "encrypt"},
    ),
    "handshake": (
        {"smtp_tls_security_level": "may"},
        {"smtp_tls_security_level": "encrypt"},
        {"smtp_tls_security_level": "secure"},
    ),
    "auth": (
        {"smtp_sasl_auth_soft_bounce": "yes"},
        {"smtp_sasl_auth_soft_bounce": "no"},
    ),
}


class DecisionRow(Value):
    """What follows from one kind of event."""

    # Codes, or what comes in place of a reply.
    event: str
    # In the class that counts; y and z are the server's.
    status: str
    # Keys of WORDS: with another host left, and at the last one.
    another: str
    last: str
    # The same under soft_bounce.
    soft_another: str
    soft_last: str
    throttles: bool
    soft_throttles: bool
    # Class of the notice for the postmaster.
    notice: str
    # Entry point of policy/trouble.py.
    entry: str


class Table(Value):
    """All that may happen at a stage."""

    stage: str
    lmtp: bool
    # The setting that this is about, as in main.cf; empty: none makes a difference.
    setting: str
    rows: tuple[DecisionRow, ...]

    @property
    def title(self) -> str:
        """The stage in words, and the setting."""
        words = STAGES[self.stage]
        if self.lmtp and self.stage != "lhlo":
            words += " (LMTP)"
        return f"{words}, {self.setting}" if self.setting else words


def stages(lmtp: bool = False) -> tuple[str, ...]:
    """The names of all stages of a protocol, the same for XFORWARD only once."""
    other = ("ehlo", "helo") if lmtp else ("lhlo",)
    return tuple(name for name in STAGES if name not in (*other, "xforward_helo"))


def tables(
    stage: str, values: Mapping[str, str] = {}, *, lmtp: bool = False
) -> tuple[Table, ...]:
    """The tables of a stage: one, or one for each value of the parameter that matters
    and is not among the `values`."""
    found = []
    for variant in _VARIANTS.get(stage, ({},)):
        named_here = {
            (name.replace("smtp_", "lmtp_", 1) if lmtp else name): value
            for name, value in variant.items()
        }
        if set(named_here) & set(values):
            return (Table(stage, lmtp, "", _rows(stage, values, lmtp)),)
        setting = ", ".join(f"{name} = {value}" for name, value in named_here.items())
        rows = _rows(stage, {**values, **named_here}, lmtp)
        found.append(Table(stage, lmtp, setting, rows))
    return tuple(found)


def _rows(stage: str, values: Mapping[str, str], lmtp: bool) -> tuple[DecisionRow, ...]:
    def row(event: str, happening: Happening, age: float = 0.0) -> DecisionRow:
        return _row(event, stage, happening, Setting(values, lmtp=lmtp, age=age))

    if stage == "lookup":
        return tuple(row(name, without_server(how)) for name, how in _LOOKUPS.items())
    if stage == "connect":
        return (row("refused, timeout", _CONNECT),)
    if stage == "handshake":
        failed = HandshakeFailed("handshake failure")
        rows = [row("fails", failed), row("fails, age 300s", failed, 300.0)]
        same = rows[0]._replace(event="") == rows[1]._replace(event="")
        other = row("not its certificate", _NOT_THEIRS)
        return (*rows[: 1 if same else 2], other)
    lost = tuple(row(name, what) for name, what in _LOST.items())
    if stage == "body":
        return lost
    offer = (row("not offered", NotOffered()),) if stage == "starttls" else ()
    return (*offer, *_by_code(stage, values, lmtp), *lost)


def _by_code(
    stage: str, values: Mapping[str, str], lmtp: bool
) -> Iterator[DecisionRow]:
    """Rows for reply codes, those with the same outcome together."""
    groups: dict[DecisionRow, list[int]] = {}
    setting = Setting(values, lmtp=lmtp)
    for code in BORDERS:
        groups.setdefault(row_for_code(code, stage, setting), []).append(code)
    for row, name in named(groups).items():
        yield row._replace(event=name)


def row_for_code(code: int, stage: str, setting: Setting) -> DecisionRow:
    """The row of one reply code, without a name."""
    status = f"{code // 100}.7.1 " if code // 100 in (2, 4, 5) else ""
    reply = read_reply(f"{code:03} {status}text")
    assert reply is not None
    return _row("", stage, reply, setting)


def _row(event: str, stage: str, happening: Happening, setting: Setting) -> DecisionRow:
    def played(final: bool, soft: bool) -> Case:
        values = {**setting.values, "soft_bounce": "yes" if soft else "no"}
        now = setting._replace(values=values, final_server=final)
        return case(final, stage, simulate(stage, happening, now))

    another, last = played(False, False), played(True, False)
    end = simulate(stage, happening, setting._replace(final_server=True))
    failed = last.effect not in ("sent", "continue")
    return DecisionRow(
        event,
        last.status.replace(".7.1", ".y.z") if failed else "",
        another.effect,
        last.effect,
        played(False, True).effect,
        played(True, True).effect,
        last.throttled,
        played(True, True).throttled,
        ", ".join(end.errors),
        end.entry,
    )


# --- for people, for programs, for the manual ---------------------------------------

_HEAD = ("event", "status", "host left", "last host", "soft_bounce", "and")


def _cells(row: DecisionRow) -> list[Field]:
    soft = (row.soft_another, row.soft_last)
    changed = soft != (row.another, row.last)
    shown = " / ".join(dict.fromkeys(WORDS[word] for word in soft)) if changed else ""
    return [
        Field("", row.event),
        Field("", row.status),
        Field("", WORDS[row.another], COLOURS[row.another]),
        Field("", WORDS[row.last], COLOURS[row.last]),
        Field("", shown, COLOURS[row.soft_last]),
        Field("", ", ".join(effects(row))),
    ]


def effects(row: DecisionRow) -> list[str]:
    """What follows besides: other mail waits, the postmaster hears of it."""
    found = ["throttle"] if row.throttles else []
    if row.soft_throttles and not row.throttles:
        found = ["throttle*"]
    return [*found, "notice"] if row.notice else found


def text(table: Table, width: int, paint: Paint = plain) -> Iterator[str]:
    """The lines of a table for a terminal."""
    yield from (paint("bold", line) for line in wrapped(table.title, width))
    yield from columns(_HEAD, [_cells(row) for row in table.rows], width, paint)
    entries = dict.fromkeys(row.entry for row in table.rows if row.entry)
    if any(row.soft_throttles and not row.throttles for row in table.rows):
        yield "* under soft_bounce"
    if entries:
        yield f"decided by {', '.join(entries)}"


def markdown(table: Table) -> Iterator[str]:
    """The lines of a table for the manual."""
    yield "| event | status | host left | last host | soft_bounce | and | by |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in table.rows:
        cells = [cell.text for cell in _cells(row)]
        shown = (f" {cell} " if cell else " " for cell in [*cells, row.entry])
        yield f"|{'|'.join(shown)}|"


def as_dict(table: Table) -> dict[str, Any]:
    """A table as a JSON object."""
    return {
        "version": 1,
        "stage": table.stage,
        "protocol": "lmtp" if table.lmtp else "smtp",
        "setting": table.setting,
        "rows": [row._asdict() for row in table.rows],
    }
