"""Mixed outcomes when the sender can't be told, and what is left running then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from deliveries import TWO, Client

from fickle_server import FickleServer

FAILURE = (75, b"4.3.0 bounce or trace service failure")
THREE = (*TWO, "third@b.test")


def judge(stage: str, subject: str, times: int) -> str | None:
    if stage == "rcpt" and subject == "r@b.test":
        return "550 5.1.1 no such user"
    if stage == "rcpt" and subject == "third@b.test" and times == 0:
        return "450 4.2.0 later"
    return None


class Bench:
    """A client whose sendmail is a script."""

    def __init__(self, program: str, place: Path) -> None:
        self.server = FickleServer(judge)
        self.client = Client(program, place, self.server)
        self.report = place / "report"
        self.path = place / "sendmail"

    def run(
        self, script: str, *options: str, recipients: tuple[str, ...] = TWO
    ) -> tuple[int, bytes]:
        self.path.write_text(
            f"#!/bin/sh\n{script}\n".replace("REPORT", str(self.report))
        )
        self.path.chmod(0o755)
        options = ("-o", f"sendmail_path={self.path}", *options)
        return self.client.run(*self.client.with_state(*options), recipients=recipients)

    def check(self) -> None:
        """Nobody has it twice."""
        assert self.server.copies("ok@b.test") == 1
        assert self.server.copies("r@b.test") == 0


@pytest.fixture
def bench(program: str, tmp_path: Path) -> Bench:
    return Bench(program, tmp_path)


@pytest.mark.fault("36 a recipient that can't be sent, among others")
def test_one_that_can_not_be_sent(bench: Bench) -> None:
    """An address with a line end in it bounces, and nobody else does."""
    with bench.server:
        code, _ = bench.run("cat >REPORT", recipients=("ok@b.test", "x\ny@b.test"))
        assert code == 0
        bench.check()
    report = bench.report.read_text()
    assert "Status: 5.1.3\n" in report
    assert "Final-Recipient: rfc822; " in report
    assert "ok@b.test" not in report.partition("Undelivered Message")[0]


@pytest.mark.fault("37 delivered and deferred")
def test_one_deferred(bench: Bench) -> None:
    with bench.server:
        code, output = bench.run("exit 1", recipients=("ok@b.test", "third@b.test"))
        assert (code, output[:5]) == (75, b"4.2.0")
        assert bench.run("exit 1", recipients=("ok@b.test", "third@b.test"))[0] == 0
    assert bench.server.copies("ok@b.test") == bench.server.copies("third@b.test") == 1


@pytest.mark.fault("38 delivered and refused; sendmail fails, then works")
@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("cat >/dev/null; exit 75", id="exit 75"),
        pytest.param("exit 1", id="exit 1"),
        pytest.param("kill -9 $$", id="killed"),
        pytest.param("exec /nonexistent", id="missing"),
    ],
)
def test_sender_can_not_be_told(bench: Bench, broken: str) -> None:
    with bench.server:
        assert bench.run(broken) == FAILURE
        assert bench.run("cat >>REPORT")[0] == 0
        assert bench.run("cat >>REPORT")[0] == 0
    bench.check()
    # The same with all that is needed: one report, of one recipient.
    assert bench.report.read_text().count("Final-Recipient: rfc822; r@b.test") == 1
    assert "ok@b.test" not in bench.report.read_text().partition("message/rfc822")[0]


@pytest.mark.fault("38 sendmail is not there: the mail is kept")
def test_sendmail_is_no_program(bench: Bench) -> None:
    with bench.server:
        bench.run("exit 1")
        options = ("-o", "sendmail_path=/nonexistent")
        client = bench.client
        done = client.run(*client.with_state(*options), recipients=TWO)
        assert done == FAILURE
    bench.check()


@pytest.mark.fault("39 the null sender is told nothing")
def test_null_sender(bench: Bench) -> None:
    with bench.server:
        assert bench.run("cat >>REPORT", "--sender", "")[0] == 0
    bench.check()
    assert not bench.report.exists()
    assert "sender is not to be told" in bench.client.log()


@pytest.mark.fault("39 who wants no report gets none (NOTIFY)")
@pytest.mark.parametrize(
    ("notify", "told"), [("never", False), ("delay", False), ("failure", True)]
)
def test_notify(bench: Bench, notify: str, told: bool) -> None:
    with bench.server:
        assert bench.run("cat >>REPORT", "--notify", notify)[0] == 0
    bench.check()
    assert bench.report.exists() == told


@pytest.mark.fault("40 all refused, for two reasons: each in its own words")
def test_all_refused(program: str, tmp_path: Path) -> None:
    def refuse(stage: str, subject: str, _times: int) -> str | None:
        return f"550 5.7.1 no {subject}" if stage == "rcpt" else None

    bench = Bench(program, tmp_path)
    bench.server.judge = refuse
    with bench.server:
        assert bench.run("cat >>REPORT")[0] == 0
    for recipient in TWO:
        wanted = f"Diagnostic-Code: smtp; 550 5.7.1 no {recipient}\n"
        assert bench.report.read_text().count(wanted) == 1


@pytest.mark.fault("41 sendmail leaves a process that holds its output")
def test_child_that_goes_on(bench: Bench) -> None:
    """pipe(8) would wait for it, and then bounce."""
    begun = time.monotonic()
    with bench.server:
        # run() reads our output to its end.
        assert bench.run("cat >>REPORT; sleep 100 & exit 0")[0] == 0
    assert time.monotonic() - begun < 60
    bench.check()


@pytest.mark.fault("13 several recipients, and no state directory at all")
def test_no_state(program: str, tmp_path: Path) -> None:
    with FickleServer() as server:
        done = Client(program, tmp_path, server).run(recipients=THREE)
    assert done.answer == (75, "4.3.5")
    assert server.connections == 0
