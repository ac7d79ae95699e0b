"""The answer to pipe(8): it reads what we mean."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.envelope import Recipient
from postfix_trouble.core.outcome import DSN, Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.report.pipe8 import LIMIT, Exit, answer, deferred, result

# sysexits that defer; all others bounce.
SOFT_CODES = (71, 75)


def pipe8_reads(code: int, output: bytes) -> tuple[str, str, bytes]:
    """What pipe(8) makes of an exit: the log's status word, status and reason."""
    output = output[:4096].partition(b"\0")[0]
    output = re.sub(rb"[\t\n]", b" ", output)
    if code == 0:
        return "sent", "2.0.0", output[:100].rstrip(b" ")
    found = re.match(rb"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)", output)
    if found is None:
        return ("deferred" if code in SOFT_CODES else "bounced"), "", output
    status = found[1].decode()
    word = "deferred" if status[0] == "4" else "bounced"
    return word, status, output[found.end() :]


CODES = [
    ("2.0.0", 0),
    ("4.0.0", 75),
    ("4.1.1", 75),
    ("4.7.5", 75),
    ("5.0.0", 69),
    ("5.1.0", 69),
    ("5.1.1", 67),
    ("5.1.10", 69),
    ("5.1.2", 68),
    ("5.4.4", 68),
    ("5.4.6", 69),
    ("5.3.4", 69),
    ("5.5.0", 76),
    ("5.5.4", 76),
    ("5.6.7", 65),
    ("5.7.1", 77),
    ("5.70.1", 69),
    # Nonsense never bounces.
    ("", 75),
    ("3.0.0", 75),
]


@pytest.mark.parametrize(("status", "code"), CODES)
def test_exit_code(status: str, code: int) -> None:
    end = answer(DSN(EnhancedStatus(status), "text"))
    # A success is told without its status: see test_killed_while_we_answer.
    assert end == Exit(code, f"{status} text" if code else "text")


@pytest.mark.parametrize("reason", ["250 2.0.0 Ok", "5.1.1 odd\n250 ok", "2.0.0", ""])
def test_killed_while_we_answer(reason: str) -> None:
    """The success is written, and then the exit code gets lost: not a bounce."""
    output = result([outcome(Disposition.SENT, "2.0.0", reason)]).output
    assert pipe8_reads(75, output)[0] == "deferred"


OUTPUTS: list[Any] = [
    ("4.1.1 text", b"4.1.1 text"),
    ("4.1.1 two\nlines\r", b"4.1.1 two?lines?"),
    ("4.1.1 \x1b[2J\x7f\t\0", b"4.1.1 ?[2J???"),
    ("4.1.1 \u00fc\u2028", "4.1.1 \u00fc\u2028".encode()),
    ("4.1.1 \u0085", b"4.1.1 ?"),
    ("4.1.1 \udcff", b"4.1.1 ?"),
    ("4.1.1 text  ", b"4.1.1 text"),
    ("4.1.1 " + "x" * 5000, b"4.1.1 " + b"x" * (LIMIT - 6)),
    ("4.1.1 x" + "\u00fc" * 5000, b"4.1.1 x" + "\u00fc".encode() * 1996),
]


@pytest.mark.parametrize(("line", "output"), OUTPUTS)
def test_output(line: str, output: bytes) -> None:
    assert Exit(75, line).output == output


@pytest.mark.parametrize("reason", ["", " ", " \t", "\n"])
def test_there_is_text_behind_every_status(reason: str) -> None:
    output = answer(DSN(EnhancedStatus("5.1.1"), reason)).output
    assert re.fullmatch(rb"5\.1\.1 \S.*", output)


def test_an_internal_problem_is_deferred() -> None:
    assert deferred("4.3.0", "text") == Exit(75, "4.3.0 text")
    with pytest.raises(AssertionError):
        deferred("5.3.0", "text")


def outcome(word: Disposition, status: str, reason: str = "text") -> Outcome:
    return Outcome(Recipient("u@d"), word, DSN(EnhancedStatus(status), reason))


SENT = outcome(Disposition.SENT, "2.0.0")
LATER = outcome(Disposition.DEFERRED, "4.1.1")
NEVER = outcome(Disposition.BOUNCED, "5.1.1")


@pytest.mark.parametrize(
    ("outcomes", "line"),
    [
        ([SENT], "text"),
        ([LATER], "4.1.1 text"),
        ([NEVER], "5.1.1 text"),
        ([SENT, LATER, NEVER], "4.1.1 text"),
        ([NEVER, LATER], "4.1.1 text"),
        ([SENT, NEVER], "5.1.1 text"),
        ([SENT, SENT._replace(dsn=DSN(EnhancedStatus("2.0.0"), "b"))], "text"),
    ],
)
def test_several_recipients(outcomes: list[Outcome], line: str) -> None:
    assert result(outcomes).line == line


DIGITS = st.integers(0, 999).map(str)


@given(
    word=st.sampled_from(list(Disposition)),
    subject=DIGITS,
    detail=DIGITS,
    reason=st.one_of(
        st.text(max_size=200),
        st.text(st.characters(), min_size=2000, max_size=5000),
        st.text(st.sampled_from(" \t\n5.1\x00\udc80\u00fc"), max_size=20),
    ),
)
def test_pipe8_reads_what_we_mean(
    word: Disposition, subject: str, detail: str, reason: str
) -> None:
    digit = {"sent": "2", "deferred": "4", "bounced": "5"}[word.value]
    status = f"{digit}.{subject}.{detail}"
    end = result([outcome(word, status, reason)])
    read_word, read_status, read_reason = pipe8_reads(end.code, end.output)
    assert read_word == word.value
    if digit != "2":
        assert read_status == status
        assert read_reason.strip(), "or pipe(8) would show what another command said"
    assert len(end.output) <= LIMIT
    text = end.output.decode("utf-8")
    assert digit == "2" or text.startswith(status)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)
    assert text == text.strip(" ")
