"""Once the server has taken a message, nothing of ours can turn that into another end.

after_the_dot.py finds the calls; each of them fails in turn, in each way that a message
can come in. The server must have one copy, and whoever asked must be told the truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from after_the_dot import FAULTS, SIGNALS, Answer, Job, Runs

from scripted_server import Script, ScriptedServer

pytestmark = pytest.mark.fault("29 each call after the final dot fails")

TEXT = "Received: by me.test\n\tid 4SAMPLE; Mon,  1 Jan 2024 00:00:00 +0000\n\nhello\n"
SENT = "a@x.test", "b@x.test"
# A filter, a line that is no reply, and a failure: so there is much to do afterwards.
TALKATIVE: Script = {
    "stages": {"eod": "250-2.0.0 well\nwell\n250 2.0.0 Ok: queued as SAMPLE"}
}
SETTINGS = {
    "myhostname": "me.test",
    "smtp_delivery_status_filter": "inline:{x=y}",
    "smtp_reply_filter": "inline:{x=y}",
    "notify_classes": "protocol",
    "sendmail_path": "/bin/true",
    "smtp_skip_quit_response": "no",
}
QUIET = {"myhostname": "me.test"}


def arguments(settings: Mapping[str, str]) -> list[str]:
    return [
        part for name, value in settings.items() for part in ("-o", f"{name}={value}")
    ]


def copies(server: ScriptedServer, recipient: str) -> int:
    """How often the server took the message for a recipient."""
    count = 0
    for connection in server.connections:
        wanted = False
        for line in connection.commands:
            if line.startswith("MAIL"):
                wanted = False
            elif line.startswith(f"RCPT TO:<{recipient}>"):
                wanted = True
            elif line.startswith("<message") and wanted:
                count += 1
    return count


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with Runs() as found:
        yield found


class Way:
    """One way in: how a message comes, and what is the truth about it."""

    def __init__(
        self, log: Path, lmtp: bool = False, script: Script = TALKATIVE
    ) -> None:
        self.log = log
        self.server = ScriptedServer(script, lmtp=lmtp)
        self.recipients: tuple[str, ...] = SENT[:1]

    def job(self) -> Job:
        raise NotImplementedError

    def fresh(self) -> None:
        """Before each delivery."""
        self.server.connections.clear()

    def wrong(self, answer: Answer) -> str:
        """What is wrong with an answer; empty: nothing."""
        raise NotImplementedError

    def check(self, runs: Runs, site: str = "", fault: str = "") -> tuple[str, Answer]:
        self.fresh()
        job = self.job()
        answer = runs.run(job._replace(site=site, fault=fault))
        wrong = self.wrong(answer)
        for recipient in self.recipients:
            count = copies(self.server, recipient)
            if count != 1:
                wrong += f" {recipient}: {count} copies"
        return wrong, answer


class Pipe(Way):
    """pipe(8), one recipient."""

    options: tuple[str, ...] = ()
    settings: Mapping[str, str] = SETTINGS
    lmtp = False

    def __init__(self, tmp_path: Path, **named: Any) -> None:
        super().__init__(tmp_path / "log", lmtp=self.lmtp, **named)
        self.directory = tmp_path

    def job(self) -> Job:
        nexthop = f"[127.0.0.1]:{self.server.port}"
        log = f"--log-file={self.log}"
        argv = ["deliver", log, *arguments(self.settings), *self.options]
        argv += ["--lmtp"] * self.lmtp
        argv += [
            "--queue-id=4SAMPLE",
            "--sender=s@x.test",
            f"--nexthop={nexthop}",
            "--",
        ]
        return Job("pipe", [*argv, *self.recipients], TEXT)

    def wrong(self, answer: Answer) -> str:
        # A status at the start is believed by pipe(8), whatever the exit status.
        status = answer.output[:2] in ("4.", "5.")
        return f"{answer.status} {answer.output!r}" if answer.status or status else ""


class PipeJson(Pipe):
    """A script, with --json."""

    options = ("--json",)

    def wrong(self, answer: Answer) -> str:
        if answer.status:
            return f"{answer.status} {answer.output!r}"
        # Without an object there is still the exit status.
        found = json.loads(answer.output) if answer.output else {"recipients": []}
        bad = [
            each["status"] for each in found["recipients"] if each["status"] != "sent"
        ]
        return " ".join(bad)


class PipeState(Pipe):
    """pipe(8), one recipient, with a state directory."""

    serial = 0

    def job(self) -> Job:
        self.serial += 1
        job = super().job()
        where = f"--state-directory={self.directory / str(self.serial)}"
        return job._replace(arguments=[job.arguments[0], where, *job.arguments[1:]])


class PipeLedger(PipeState):
    """pipe(8), several recipients."""

    def __init__(self, tmp_path: Path, **named: Any) -> None:
        super().__init__(tmp_path, **named)
        self.recipients = SENT


class PipeLmtp(PipeLedger):
    """The same to an LMTP server, which has a reply for each."""

    lmtp = True


class PipeDeferred(PipeLedger):
    """The same; one recipient is deferred at first, and Postfix tries again."""

    options = ("--age=60",)

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        later = {
            "stages": {**TALKATIVE["stages"], f"rcpt:{SENT[1]}": "450 4.2.0 later"}
        }
        self.server.scripts = (later, TALKATIVE)

    def job(self) -> Job:
        self._job = super().job()
        return self._job

    def check(self, runs: Runs, site: str = "", fault: str = "") -> tuple[str, Answer]:
        self.fresh()
        first = runs.run(self.job()._replace(site=site, fault=fault))
        again = runs.run(self._job)
        wrong = "" if first.status == 75 else f"first: {first.status}"
        wrong += self.wrong(again)
        # The one that was deferred is in the envelope of both.
        for recipient, wanted in zip(self.recipients, (1, 2), strict=True):
            count = copies(self.server, recipient)
            if count != wanted:
                wrong += f" {recipient}: {count} copies"
        return wrong, first


class Api(Way):
    """A Python program."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path / "log")
        self.recipients = SENT

    def job(self) -> Job:
        given = {
            "sender": "s@x.test",
            "recipients": self.recipients,
            "nexthop": f"[127.0.0.1]:{self.server.port}",
            "settings": SETTINGS,
        }
        return Job("api", given, TEXT)

    def wrong(self, answer: Answer) -> str:
        sent = [0, [[each, "sent"] for each in self.recipients]]
        try:
            told = json.loads(answer.output)
        except ValueError:
            told = answer.output
        return "" if told == sent else repr(told)


class Lmtp(Way):
    """lmtp(8) and our LMTP server."""

    more: Mapping[str, str] = {}

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path / "log")
        self.recipients = SENT
        # The client can't be reached any more: then it is told nothing.
        self._gone = False
        self.directory = tmp_path
        self.serial = 0

    def check(self, runs: Runs, site: str = "", fault: str = "") -> tuple[str, Answer]:
        self._gone = fault == "OSError" and "_Client._send" in site
        return super().check(runs, site, fault)

    def job(self) -> Job:
        nexthop = f"--nexthop=[127.0.0.1]:{self.server.port}"
        settings = {**SETTINGS, **self.more}
        argv = [f"--log-file={self.log}", nexthop, *arguments(settings)]
        return Job("lmtp", argv, TEXT, self.recipients)

    def wrong(self, answer: Answer) -> str:
        try:
            replies = json.loads(answer.output)
        except ValueError:
            return answer.output
        wanted = "" if self._gone else "250 "
        good = [reply[:4] for reply in replies] == [wanted] * len(self.recipients)
        return "" if good else answer.output


class LmtpKept(Lmtp):
    """The same with connections that are kept."""

    more = {"smtp_connection_cache_destinations": "static:all"}  # noqa: RUF012


class LmtpState(Lmtp):
    """The same with a state directory."""

    def job(self) -> Job:
        self.serial += 1
        where = f"--state-directory={self.directory / str(self.serial)}"
        job = super().job()
        return job._replace(arguments=[where, *job.arguments])


WAYS: list[Callable[[Path], Way]] = [
    Pipe,
    PipeJson,
    PipeState,
    PipeLedger,
    PipeLmtp,
    PipeDeferred,
    Api,
    Lmtp,
    LmtpKept,
    LmtpState,
]


# Of the call sites of a way, `make test` has one in so many.
SAMPLE = 25


def failing(way: Way, runs: Runs, fault: str, step: int = 1) -> tuple[list[str], int]:
    """The call sites at which a fault changes what is told, and how many there are."""
    wrong, clean = way.check(runs)
    assert not wrong
    found = []
    for site in clean.sites[::step]:
        wrong, _ = way.check(runs, site, fault)
        if wrong:
            found.append(f"{fault} where {site}: {wrong}")
    return found, len(clean.sites)


@pytest.mark.parametrize("make", WAYS)
def test_some_calls_after_the_dot_fail(
    make: Callable[[Path], Way], runs: Runs, tmp_path: Path
) -> None:
    way = make(tmp_path)
    with way.server:
        found, count = failing(way, runs, "RuntimeError", SAMPLE)
    assert not found
    # The profiler has seen something.
    assert count > 100


@pytest.mark.marathon
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("make", WAYS)
def test_each_call_after_the_dot_fails(
    make: Callable[[Path], Way], runs: Runs, fault: str, tmp_path: Path
) -> None:
    way = make(tmp_path)
    with way.server:
        found, _ = failing(way, runs, fault)
    assert not found


@pytest.mark.parametrize("fault", SIGNALS)
@pytest.mark.parametrize("make", [Pipe, PipeLedger])
def test_a_signal_comes_at_some_calls(
    make: Callable[[Path], Way], runs: Runs, fault: str, tmp_path: Path
) -> None:
    way = make(tmp_path)
    with way.server:
        found, _ = failing(way, runs, fault, SAMPLE)
    assert not found


@pytest.mark.marathon
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", SIGNALS)
@pytest.mark.parametrize("make", [Pipe, PipeJson, PipeLedger])
def test_a_signal_comes_at_each_call(
    make: Callable[[Path], Way], runs: Runs, fault: str, tmp_path: Path
) -> None:
    way = make(tmp_path)
    with way.server:
        found, _ = failing(way, runs, fault)
    assert not found
