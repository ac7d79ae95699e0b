"""The policy as tables, found out by trying: every code at every stage.

No rule is written down here. Each row is the outcome of a simulated session
(session.py) with a reply code, or with what comes in place of a reply; codes with the
same outcome share a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import HandshakeFailed
from postfix_trouble.core.tls import TlsFacts
from postfix_trouble.dns.lookup import Answer, Result
from postfix_trouble.dns.routing import Rules, find_servers
from postfix_trouble.simulate.answer import Case, case
from postfix_trouble.simulate.session import (
    STAGES,
    NotOffered,
    Setting,
    read_reply,
    simulate,
)

if TYPE_CHECKING:
    from postfix_trouble.simulate.session import Happening

T = TypeVar("T")

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


class DecisionRow(NamedTuple):
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


class Table(NamedTuple):
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


def tables(stage: str, *, lmtp: bool = False) -> tuple[Table, ...]:
    """The tables of a stage: one for each value of the parameter that matters."""
    found = []
    for variant in _VARIANTS.get(stage, ({},)):
        values = {
            (name.replace("smtp_", "lmtp_", 1) if lmtp else name): value
            for name, value in variant.items()
        }
        setting = ", ".join(f"{name} = {value}" for name, value in values.items())
        found.append(Table(stage, lmtp, setting, _rows(stage, values, lmtp)))
    return tuple(found)


def _without_server(result: Result) -> DSN:
    """Why a domain has no server, if all its look-ups end like this."""
    answer = Answer(result, result.name)
    lookups: Any = SimpleNamespace(query=lambda name, kind: answer)
    domain = Destination("example.com", "example.com", 25)
    return find_servers(domain, Rules(), lookups).failure


def _rows(stage: str, values: Mapping[str, str], lmtp: bool) -> tuple[DecisionRow, ...]:
    def row(event: str, happening: Happening, age: float = 0.0) -> DecisionRow:
        return _row(event, stage, happening, Setting(values, lmtp=lmtp, age=age))

    if stage == "lookup":
        return tuple(row(name, _without_server(how)) for name, how in _LOOKUPS.items())
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


def markdown(table: Table) -> Iterator[str]:
    """The lines of a table."""
    yield "| event | status | host left | last host | soft_bounce | and | by |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in table.rows:
        soft = (row.soft_another, row.soft_last)
        changed = soft if soft != (row.another, row.last) else ()
        cells = (
            row.event,
            row.status,
            WORDS[row.another],
            WORDS[row.last],
            " / ".join(dict.fromkeys(WORDS[word] for word in changed)),
            ", ".join(effects(row)),
            row.entry,
        )
        shown = (f" {cell} " if cell else " " for cell in cells)
        yield f"|{'|'.join(shown)}|"


def effects(row: DecisionRow) -> list[str]:
    """What follows besides: other mail waits, the postmaster hears of it."""
    found = ["throttle"] if row.throttles else []
    if row.soft_throttles and not row.throttles:
        found = ["throttle*"]
    return [*found, "notice"] if row.notice else found


# --- sets of reply codes, and their names -------------------------------------------

# Both sides of every place where the policy may change; that it changes nowhere else
# is tested with all codes.
BORDERS = (
    0, 99, 100, 199, 200, 219, 220, 221, 299, 300, 399, 400, 420, 421, 422, 499, 500,
    509, 510, 554, 555, 556, 599, 600, 999,
)  # fmt: skip


def named(groups: Mapping[T, Sequence[int]]) -> dict[T, str]:
    """The name of each group of codes, in the order of the first code that matters.

    Each group holds those of BORDERS that belong to it.
    """
    whole = {key: _spread(codes) for key, codes in groups.items()}
    partial = {code // 100 for codes in whole.values() for code in _parts(codes)}
    found = {key: _name(codes, partial) for key, codes in whole.items()}
    return dict(sorted(found.items(), key=lambda item: _place(item[1])))


def _spread(borders: Sequence[int]) -> set[int]:
    """All codes between borders that belong together."""
    codes = set(borders)
    for low, high in pairwise(BORDERS):
        if low in borders and high in borders:
            codes.update(range(low, high + 1))
    return codes


def _classes(codes: set[int]) -> list[int]:
    """First digits under which all codes are in a set."""
    return [d for d in range(10) if codes.issuperset(range(100 * d, 100 * d + 100))]


def _parts(codes: set[int]) -> set[int]:
    """Codes of classes that are not in the set as a whole."""
    classes = _classes(codes)
    return {code for code in codes if code // 100 not in classes}


def _name(codes: set[int], partial: set[int]) -> str:
    classes = _classes(codes)
    if len(classes) == 10:
        return "any code"
    if len(classes) > 4:
        return "any other code"
    words = [f"{digit}xx" for digit in classes]
    rest = _parts(codes)
    for digit in sorted({code // 100 for code in rest} & partial):
        mine = {code for code in rest if code // 100 == digit}
        words.append(f"other {digit}xx" if len(mine) > 50 else _ranges(mine))
    return ", ".join(words)


def _ranges(codes: set[int]) -> str:
    words = []
    for code in sorted(codes):
        if code - 1 in codes:
            continue
        last = code
        while last + 1 in codes:
            last += 1
        words.append(f"{code}-{last}" if last > code else f"{code}")
    return ", ".join(words)


def _place(name: str) -> str:
    """Where a name stands: by its digit, exceptions behind the rest of their class."""
    if name.startswith("any"):
        return "9"
    digit = name.removeprefix("other ")[:1]
    return digit + ("" if "xx" in name else "x")
