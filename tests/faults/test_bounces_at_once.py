"""Who is refused is reported with the attempt that refused, whatever else happens."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from deliveries import Client, Done

from fickle_server import FickleServer

GOOD, BAD, LATE = "ok@b.test", "refused@b.test", "late@b.test"
FAILURE = (75, b"4.3.0 bounce or trace service failure")
# Accepts, and refuses to.
WORKS, BROKEN = "cat >>REPORTS", "cat >/dev/null; exit 75"
# Accepts, and has the whole delivery killed (the program's process, then its launcher).
KILLS = """cat >>REPORTS
launcher=$(awk '$1 == "PPid:" { print $2 }' /proc/$PPID/status)
kill -9 $launcher $PPID"""


class Bench:
    """A client whose sendmail is a script, and a server that refuses and defers."""

    def __init__(self, program: str, place: Path) -> None:
        self.place = place
        self.server = FickleServer(self.judge)
        self.client = Client(program, place, self.server)
        self.reports = place / "reports"
        self.reports.touch()
        # So many times LATE is deferred.
        self.deferrals = 1
        self.asked: list[str] = []

    def judge(self, stage: str, subject: str, times: int) -> str | None:
        if stage != "rcpt":
            return None
        self.asked.append(subject)
        if subject == BAD:
            return "550 5.1.1 no such user"
        if subject == LATE and times < self.deferrals:
            return "450 4.2.0 later"
        return None

    def run(self, script: str, *recipients: str, options: tuple[str, ...] = ()) -> Done:
        sendmail = self.place / "sendmail"
        text = script.replace("REPORTS", str(self.reports))
        sendmail.write_text(f"#!/bin/sh\n{text}\n")
        sendmail.chmod(0o755)
        options = ("-o", f"sendmail_path={sendmail}", *options)
        return self.client.run(*self.client.with_state(*options), recipients=recipients)

    def told(self) -> list[str]:
        """The recipients of all reports."""
        pattern = r"^Final-Recipient: rfc822; (.*)$"
        return re.findall(pattern, self.reports.read_text(), re.M)


@pytest.fixture
def bench(program: str, tmp_path: Path) -> Bench:
    return Bench(program, tmp_path)


@pytest.mark.fault("38 refused while another is deferred: reported at once")
@pytest.mark.parametrize("others", [(LATE,), (GOOD, LATE)], ids=["late", "good, late"])
def test_reported_at_once(bench: Bench, others: tuple[str, ...]) -> None:
    everybody = (*others, BAD)
    bench.deferrals = 3
    with bench.server:
        for _ in range(3):
            code, output = bench.run(WORKS, *everybody)
            assert (code, output[:6]) == (75, b"4.2.0 "), "the deferred one's text"
            assert bench.told() == [BAD]
        code, output = bench.run(WORKS, *everybody)
    assert bench.told() == [BAD]
    assert bench.asked.count(BAD) == 1
    assert [bench.server.copies(each) for each in others] == [1] * len(others)
    number = len(others)
    found = re.fullmatch(
        rf"{number} sent, 1 bounced \(5\.1\.1\): see (postfix-trouble\[\d+\])",
        output.decode(),
    )
    assert code == 0
    assert found, output
    # There it stands who it was, though it was another process that was told.
    assert f"{found[1]}: 3F2A1: to=<{BAD}>: bounced before: " in bench.client.log()


@pytest.mark.fault("38 reported at once, when the report can't be submitted")
def test_only_the_report_is_tried_again(bench: Bench) -> None:
    bench.deferrals = 4
    with bench.server:
        assert bench.run(BROKEN, GOOD, BAD, LATE) == FAILURE
        assert bench.run(BROKEN, GOOD, BAD, LATE) == FAILURE
        assert bench.told() == []
        assert bench.run(WORKS, GOOD, BAD, LATE).answer == (75, "4.2.0")
        assert bench.told() == [BAD]
        assert bench.run(BROKEN, GOOD, BAD, LATE).answer == (75, "4.2.0")
        assert bench.run(BROKEN, GOOD, BAD, LATE).code == 0
    assert bench.told() == [BAD]
    assert (bench.asked.count(BAD), bench.asked.count(GOOD)) == (1, 1)


@pytest.mark.fault("38 reported at once, when the destination is suspended")
def test_report_does_not_wait_for_the_destination(bench: Bench) -> None:
    with bench.server:
        assert bench.run(BROKEN, BAD, LATE) == FAILURE
    options = ("-o", "trouble_destination_retry_time=1h")
    # Nobody listens there any more.
    for text in (b"4.4.1 connect to ", b"4.4.1 delivery temporarily suspended"):
        done = bench.run(WORKS, BAD, LATE, options=options)
        assert done.code == 75
        assert done.output.startswith(text)
        assert bench.told() == [BAD]


@pytest.mark.fault("3, 38 killed between the report and what is remembered of it")
@pytest.mark.parametrize("others", [(), (GOOD,), (LATE,), (GOOD, LATE)], ids=str)
def test_killed_after_the_report(bench: Bench, others: tuple[str, ...]) -> None:
    """One more copy of the report, and none of the message."""
    other = () if others else ("also-refused@b.test",)
    everybody = (*others, *other, BAD)

    def judge(stage: str, subject: str, times: int) -> str | None:
        if stage == "rcpt" and subject in other:
            return "550 5.7.1 another reason"
        return bench.judge(stage, subject, times)

    bench.server.judge = judge
    with bench.server:
        assert bench.run(KILLS, *everybody).code < 0
        assert bench.told().count(BAD) == 1
        codes = [bench.run(WORKS, *everybody).code for _ in range(3)]
    assert codes[-1] == 0
    assert sorted(bench.told()) == sorted([*other, BAD] * 2)
    assert bench.asked.count(BAD) == 1, "remembered before the report went out"
    assert [bench.server.copies(each) for each in others] == [1] * len(others)


def test_all_refused_at_different_attempts(bench: Bench) -> None:
    """One report for each, though Postfix could have reported both in the end."""

    def judge(stage: str, subject: str, times: int) -> str | None:
        if stage == "rcpt" and subject == LATE and times:
            return "550 5.1.1 no such user"
        return bench.judge(stage, subject, times)

    bench.server.judge = judge
    with bench.server:
        assert bench.run(WORKS, BAD, LATE).answer == (75, "4.2.0")
        code, output = bench.run(WORKS, BAD, LATE)
    assert bench.told() == [BAD, LATE]
    assert (code, output[:18]) == (0, b"2 bounced (5.1.1):")


@pytest.mark.long
@pytest.mark.fault("16, 38 database locked when a refusal is to be remembered")
def test_nothing_is_reported_that_can_not_be_remembered(bench: Bench) -> None:
    """It would be at every attempt. Who was refused is tried once more instead."""
    held: list[sqlite3.Connection] = []

    def judge(stage: str, subject: str, times: int) -> str | None:
        if stage == "rcpt" and subject == BAD and not times:
            (path,) = bench.client.state.glob("state-*.sqlite")
            held.append(sqlite3.connect(path, check_same_thread=False))
            held[0].execute("BEGIN IMMEDIATE")
        return bench.judge(stage, subject, times)

    bench.server.judge = judge
    bench.deferrals = 2
    with bench.server:
        assert bench.run(WORKS, LATE, BAD).answer == (75, "4.2.0")
        held[0].rollback()
        held[0].close()
        assert bench.told() == []
        assert bench.run(WORKS, LATE, BAD).answer == (75, "4.2.0")
        assert bench.told() == [BAD]
        assert bench.run(WORKS, LATE, BAD).code == 0
    assert bench.told() == [BAD]
    assert bench.asked.count(BAD) == 2


# --- as JSON --------------------------------------------------------------------------


def statuses(done: Done) -> dict[str, str]:
    found = json.loads(done.output)
    assert found["exit_status"] == done.code
    return {each["recipient"]: each["status"] for each in found["recipients"]}


@pytest.mark.fault("38 --json with a state directory: nobody bounces who has it")
def test_json_with_a_state_directory(bench: Bench) -> None:
    with bench.server:
        first = bench.run(WORKS, GOOD, BAD, LATE, options=("--json",))
        again = bench.run(WORKS, GOOD, BAD, LATE, options=("--json",))
    assert (first.code, again.code) == (75, 0)
    assert statuses(first) == {GOOD: "sent", BAD: "bounced", LATE: "deferred"}
    assert statuses(again) == {GOOD: "sent", BAD: "bounced", LATE: "sent"}
    assert bench.told() == [BAD]
    assert [bench.server.copies(each) for each in (GOOD, BAD, LATE)] == [1, 0, 1]


def test_json_all_refused_for_one_reason(bench: Bench) -> None:
    other = "refused@c.test"

    def judge(stage: str, _subject: str, _times: int) -> str | None:
        return "550 5.1.1 no such user" if stage == "rcpt" else None

    bench.server.judge = judge
    with bench.server:
        done = bench.run(WORKS, BAD, other, options=("--json",))
    assert done.code == 67
    assert statuses(done) == {BAD: "bounced", other: "bounced"}
    assert bench.told() == []


def test_json_shows_who_was_given_up(bench: Bench) -> None:
    old = ("--json", "--age", "86400", "-o", "trouble_give_up_age=3600s")
    with bench.server:
        done = bench.run(WORKS, GOOD, LATE, options=old)
    assert done.code == 0
    assert statuses(done) == {GOOD: "sent", LATE: "bounced"}
    assert bench.told() == [LATE]
    line = json.loads(done.output)["status_line"]
    assert line.startswith("1 sent, 1 expired (4.2.0): see postfix-trouble[")


@pytest.mark.fault("13 --json behind pipe(8), several recipients, no state directory")
def test_json_behind_pipe8_without_a_state_directory(bench: Bench) -> None:
    """One exit code can't be right for all: nothing is sent, and the log says why."""
    pipe8 = {"MAIL_CONFIG": "/etc/postfix"}
    with bench.server:
        done = bench.client.run("--json", recipients=(GOOD, BAD), environment=pipe8)
        by_hand = bench.client.run("--json", recipients=(GOOD, BAD))
    assert done.code == 75
    assert "need a state directory" in json.loads(done.output)["status_line"]
    assert "warning: --json behind pipe(8)" in bench.client.log()
    # Who reads the object sees it all.
    assert by_hand.code == 67
    assert statuses(by_hand) == {GOOD: "sent", BAD: "bounced"}
