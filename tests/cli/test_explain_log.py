"""explain reads a log: one line for each record, or all of them counted."""

from __future__ import annotations

import json

import pytest
from pseudo_terminal import assert_golden, piped, run, widest

SERVER = "mx.example.com[192.0.2.1]"
SAID = "host mx.example.com[192.0.2.1] said: {} (in reply to RCPT TO command)"
GREYLISTED = SAID.format("450 4.7.1 Greylisted")
UNKNOWN = SAID.format("550 5.1.1 No such user")


def record(agent: str, queue_id: str, dsn: str, status: str, reason: str) -> str:
    relays = {"pipe": "trouble", "local": "local", "lmtp": "mx[/run/trouble.sock]"}
    return (
        f"Nov 28 10:00:00 mx {agent}[581]: {queue_id}: to=<{queue_id[-1].lower()}"
        f"@example.com>, relay={relays.get(agent.rpartition('/')[2], SERVER + ':25')},"
        f" delay=1, delays=0/0/0/1, dsn={dsn}, status={status} ({reason})\n"
    )


ONE = record("postfix-trouble", "4ABCDA", "4.7.1", "deferred", GREYLISTED)
PIPE = record("postfix/pipe", "4ABCDA", "4.7.1", "deferred", GREYLISTED)
LMTP = record(
    "postfix/lmtp",
    "4ABCDA",
    "4.7.1",
    "deferred",
    f"host mx[/run/trouble.sock] said: 450 4.7.1 {GREYLISTED}"
    " (in reply to end of DATA command)",
)
LOG = (
    ONE
    + PIPE
    # Ours is not in this log.
    + record("postfix/pipe", "4ABCDB", "5.1.1", "bounced", UNKNOWN)
    + record("postfix/pipe", "4ABCDC", "2.0.0", "sent",
             "delivered via trouble service (250 2.0.0 Ok: queued as 4XYZ)")
    + record("postfix/pipe", "4ABCDD", "4.3.0", "deferred",
             "ledger unavailable: /var/lib/postfix-trouble belongs to root")
    + record("postfix/local", "4ABCDE", "5.1.1", "bounced", 'unknown user: "e"')
    + record("postfix/smtp", "4ABCDF", "4.1.1", "deferred", UNKNOWN)
    + f"Nov 28 10:00:00 mx postfix/smtp[9]: 4ABCDG: connect to {SERVER}:25:"
    " Connection timed out\n"
    + record("postfix/smtp", "4ABCDG", "2.0.0", "sent", "250 2.0.0 Ok")
)  # fmt: skip


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize(("name", "argv"), [("log", ()), ("summary", ("--summary",))])
def test_on_a_terminal(name: str, argv: tuple[str, ...], columns: int) -> None:
    screen = run("explain", *argv, columns=columns, given=LOG)
    assert screen.code == 0
    assert widest(screen.plain.splitlines()) <= columns
    assert_golden(f"explain-mail-{name}-{columns}", screen.plain)


def test_in_a_pipe_nothing_is_cut_or_broken() -> None:
    lines = piped("explain", text=LOG).stdout.splitlines()
    assert len(lines) == len(LOG.splitlines()) - 1
    assert (
        lines[0] == "deferred    4.7.1   a@example.com: 450 4.7.1 Greylisted (RCPT TO)"
    )
    assert lines[5].endswith(
        "f@example.com: Postfix would say bounced, 5.1.1:"
        " 550 5.1.1 No such user (RCPT TO)"
    )
    said = "550 5.1.1 " + 30 * "a long story "
    assert said in piped("explain", said).stdout.replace("  ", " ")


@pytest.mark.parametrize("second", [PIPE, LMTP], ids=["pipe", "lmtp"])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=str)
def test_answer_that_an_agent_logs_too_is_one(
    second: str, form: tuple[str, ...]
) -> None:
    both = piped("explain", *form, text=ONE + second)
    assert both.stdout == piped("explain", *form, text=ONE).stdout
    assert len(both.stdout.splitlines()) == 1
    # Each attempt has its own; and an agent that has nothing of ours stands for itself.
    attempts = piped("explain", *form, text=2 * (ONE + second)).stdout.splitlines()
    assert len(attempts) == 2
    alone = piped("explain", *form, text=second)
    assert (alone.returncode, len(alone.stdout.splitlines())) == (0, 1)


def test_summary_counts_what_is_alike() -> None:
    done = piped("explain", "--summary", "--json", text=3 * LOG)
    assert done.returncode == 0
    found = json.loads(done.stdout)["summary"]
    assert {"count": 6, "result": "sent", "status": "2.0.0", "rule": "2xx"} in found
    assert sum(row["count"] for row in found) == 3 * (len(LOG.splitlines()) - 1)
    assert found == sorted(found, key=lambda row: -int(row["count"]))


def test_line_that_is_no_record_is_told() -> None:
    done = piped("explain", "--summary", text=f"{ONE}nonsense\n")
    assert done.returncode == 64
    assert "nonsense" in done.stderr
    assert "4.7.1" in done.stdout


def test_summary_of_nothing_but_standard_input() -> None:
    done = piped("explain", "--summary", "450 x")
    assert (done.returncode, done.stdout) == (64, "")


@pytest.mark.parametrize(
    ("text", "stage", "verdict"),
    [
        ("550 5.1.1 no (in reply to MAIL FROM command)", "mail", "bounce"),
        ("450 x in reply to DATA", "data", "defer"),
        ("RCPT TO: 450 x", "rcpt", "defer"),
        ("greeting: 554 no", "greeting", "defer"),
        ("end of data: lost connection", "dot", "defer"),
        ("lost connection after DATA", "data", "defer"),
        ("timed out while sending end of data", "dot", "defer"),
        ("lost connection while receiving the initial server greeting", "greeting",
         "defer"),
        ("LHLO: 450 x", "lhlo", "defer"),
        ("Connection refused", "connect", "defer"),
        ("connection timed out", "connect", "defer"),
        ("Host not found", "lookup", "bounce"),
        ("Host not found, try again", "lookup", "defer"),
        ("mail for example.com loops back to myself", "lookup", "bounce"),
    ],
)  # fmt: skip
def test_words_that_have_the_stage_in_them(text: str, stage: str, verdict: str) -> None:
    found = json.loads(piped("explain", "--json", text).stdout)
    assert (found["stage"], found["stage_assumed"]) == (stage, False)
    assert found["last_host"]["verdict"] == verdict


def test_all_that_is_known_if_wanted() -> None:
    short = piped("explain", "450 4.7.1 Greylisted", "--stage", "rcpt").stdout
    long = piped("explain", "-v", "450 4.7.1 Greylisted", "--stage", "rcpt").stdout
    assert len(short.splitlines()) == 5
    for words in ("decided by  rcpt_fail", "reason", f"4.7.1 host {SERVER} said: 450"):
        assert words in long
        assert words not in short
