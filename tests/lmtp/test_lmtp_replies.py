"""Outcomes as LMTP replies: what lmtp(8) makes of them is what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.envelope import Recipient
from postfix_trouble.core.outcome import DSN, Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.lmtp.replies import reply

SENT, DEFERRED, BOUNCED = Disposition


def outcome(disposition: Disposition, status: str, reason: str) -> Outcome:
    dsn = DSN(EnhancedStatus(status), reason)
    return Outcome(Recipient("a@d"), disposition, dsn)


def lmtp8_reads(lines: tuple[bytes, ...]) -> tuple[str, str, str]:
    """Class, status and text, after smtp_chat_resp: the last line decides."""
    for line in lines[:-1]:
        assert line[:3].isdigit()
        assert line[3:4] == b"-"
    last = lines[-1].decode()
    assert last[:3].isdigit()
    assert last[3:4] in (" ", "")
    status = EnhancedStatus.leading(last[4:].lstrip(" "))
    if status is None or status[0] != last[0]:
        status = EnhancedStatus(f"{last[0]}.0.0")
    return last[0], status, " ".join(line.decode() for line in lines)


ODD = "a\r\nb\x1b[2J\0\udcff \u00fc"
ROWS: dict[str, tuple[Outcome, str]] = {
    "sent, in the server's words": (
        outcome(SENT, "2.0.0", "250 2.0.0 Ok: as A"),
        "250 2.0.0 Ok: as A",
    ),
    "sent, no status in it": (outcome(SENT, "2.0.0", "250 Ok"), "250 Ok"),
    "another 2xx": (outcome(SENT, "2.1.5", "252 2.1.5 Ok"), "252 2.1.5 Ok"),
    "odd class": (outcome(SENT, "2.0.0", "250 4.1.1 odd"), "250 4.1.1 odd"),
    "status changed by a filter": (
        outcome(SENT, "2.6.6", "250 2.0.0 Ok"),
        "250 2.6.6 250 2.0.0 Ok",
    ),
    "several lines": (
        outcome(SENT, "2.0.0", "250-2.0.0 one 250 2.0.0 two"),
        "250 2.0.0 250-2.0.0 one 250 2.0.0 two",
    ),
    "sent, no words": (outcome(SENT, "2.0.0", ""), "250 2.0.0"),
    "deferred": (
        outcome(DEFERRED, "4.4.1", "connect to mx: timed out"),
        "450 4.4.1 connect to mx: timed out",
    ),
    "bounced": (
        outcome(BOUNCED, "5.1.1", "host mx said: 550 who?"),
        "550 5.1.1 host mx said: 550 who?",
    ),
    "class mismatch": (outcome(DEFERRED, "5.1.1", "soft"), "450 4.0.0 soft"),
    "no status": (outcome(BOUNCED, "", "no status"), "550 5.0.0 no status"),
    "the words say otherwise": (
        outcome(SENT, "2.0.0", "550 5.1.1 no"),
        "250 2.0.0 550 5.1.1 no",
    ),
    "control characters and bad bytes": (
        outcome(BOUNCED, "5.0.0", ODD),
        "550 5.0.0 a? b?[2J?? \u00fc",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_one_line(row: str) -> None:
    told, line = ROWS[row]
    assert reply(told) == (line.encode(),)


def test_long_text_is_broken_at_blanks_and_cut_where_lmtp8_would() -> None:
    words = [f"word{number}" for number in range(600)]
    lines = reply(outcome(BOUNCED, "5.7.1", " ".join(words)))
    assert len(lines) > 1
    assert all(len(line) <= 510 for line in lines)
    assert all(line.startswith(b"550-5.7.1 word") for line in lines[:-1])
    assert lines[-1].startswith(b"550 5.7.1 word")
    assert 1900 < len(b"\n".join(lines)) <= 2048
    shown = b" ".join(line[10:] for line in lines).decode()
    assert " ".join(words).startswith(shown)


def test_long_text_without_blanks_is_broken_between_characters() -> None:
    lines = reply(outcome(DEFERRED, "4.0.0", "ü" * 700))
    assert "".join(line[10:].decode() for line in lines) == "ü" * 700


STATUSES = st.from_regex(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True)


@given(
    st.sampled_from(list(Disposition)),
    STATUSES | st.text(max_size=8),
    st.text() | st.from_regex(r"[2-5][0-9][0-9][ -]([245]\.[0-9]\.[0-9] )?.*"),
)
def test_lmtp8_reads_what_we_meant(kind: Disposition, status: str, text: str) -> None:
    lines = reply(outcome(kind, status, text))
    wanted = {SENT: "2", DEFERRED: "4", BOUNCED: "5"}[kind]
    klass, read, said = lmtp8_reads(lines)
    assert klass == wanted
    assert read[0] == wanted
    if EnhancedStatus.leading(status) == status and status[0] == wanted:
        assert read == status
    assert said.isprintable() or not text.isprintable()
    assert not any(b < 32 or b == 127 for line in lines for b in line)
