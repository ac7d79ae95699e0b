"""Recorded deliveries of several messages: when smtp(8) uses a connection again.

several/FAMILY.jsonl: as in recorded.py, but "more" has the messages that follow, each
with what is different (envelope, message, nexthop) and perhaps the seconds to "wait"
before it; "expected" has what came of each in "parts". They are played to a process
that stays: the engine, or the LMTP server.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recorded import (
    COMMON,
    Placeholders,
    Scenario,
    arguments,
    dialogues,
    differences,
    message,
    servers,
)

from engine_client import DirectClient
from lmtp_client import Client, Service
from postfix_trouble.config.settings import Settings
from postfix_trouble.lmtp.dialogue import XFORWARD

# Plays one message, and returns the differences from what was recorded.
Step = Callable[[Scenario], list[str]]
_CODES = {"sent": "2", "deferred": "4", "bounced": "5"}


def messages(scenario: Scenario) -> list[Scenario]:
    """A scenario for each message."""
    found: list[Scenario] = []
    for more, part in zip(
        [{}, *scenario["more"]], scenario["expected"]["parts"], strict=True
    ):
        envelope = {**scenario["envelope"], **more.get("envelope", {})}
        found.append({**scenario, **more, "envelope": envelope, "expected": part})
    return found


def play(
    scenario: Scenario,
    places: Placeholders,
    step: Step,
    over: Callable[[], object],
) -> list[str]:
    """Run one; `over` has what is still open closed. The differences."""
    running = servers(scenario, places)
    try:
        found = []
        for number, one in enumerate(messages(scenario), 1):
            time.sleep(one.get("wait", 0))
            found += [f"message {number}: {text}" for text in step(one)]
    finally:
        over()
        seen = {name: server.stop() for name, server in running.items()}
    told = places.restore(dialogues(seen))
    recorded = scenario["expected"]["servers"]
    for name, connections in recorded.items():
        want = [(c["commands"], c.get("data", [])) for c in connections]
        got = [(_kept(c["commands"], want, n), c["data"])
               for n, c in enumerate(told.get(name, []))]  # fmt: skip
        if want != got:
            found.append(f"{name}: recorded {want!r}, got {got!r}")
    return found


def _kept(commands: list[str], want: list[tuple[list[str], Any]], n: int) -> list[str]:
    """Without the QUIT that we say, and scache(8) does not, when nobody wants it."""
    if n < len(want) and want[n][0][-1:] != ["QUIT"] and commands[-1:] == ["QUIT"]:
        return commands[:-1]
    return commands


class ByEngine:
    """Messages by way of an engine."""

    def __init__(self, path: Path, log: Path, places: Placeholders) -> None:
        self.notices: list[str] = []
        self._path = path
        self._log = Log(log)
        self._places = places

    def step(self, scenario: Scenario) -> list[str]:
        argv = arguments(scenario, self._places)[1:]
        with DirectClient(self._path) as client:
            options = ("--log-file", str(self._log.path))
            client.ask(*options, *argv, message=message(scenario))
            code, text = client.answer()
        try:
            result = self._places.restore(json.loads(text))
        except ValueError:
            return [f"no JSON: exit {code}, {text!r}"]
        # Recorded for all messages together.
        notices = result.get("notices", [])
        self.notices += notices
        expected = {**scenario["expected"], "notices": notices}
        return [*differences(expected, result, {}), *self._log.uses(expected)]


class ByLmtp:
    """Messages by way of the LMTP server, one client for all of them."""

    def __init__(self, log: Path, scenario: Scenario, places: Placeholders) -> None:
        self._log = Log(log)
        given = {**COMMON, **scenario.get("params", {})}
        # What smtp(8) leaves to the queue manager.
        given["trouble_destination_retry_time"] = "0"
        settings = Settings(
            overrides={name: places.fill(value) for name, value in given.items()},
            lmtp=scenario.get("protocol") == "lmtp",
        )
        self._service = Service.of(str(log), places.fill(scenario["nexthop"]), settings)
        self._client = self._service.connect()

    def close(self) -> None:
        self._client.hang_up()
        self._service.__exit__(None, None, None)

    def step(self, scenario: Scenario) -> list[str]:
        client, envelope = self._client, scenario["envelope"]
        expected = scenario["expected"]
        self._attributes(client, envelope.get("client", {}))
        words = [f"MAIL FROM:<{envelope['sender']}> SIZE={expected['size']}"]
        words += ["SMTPUTF8"] if envelope.get("smtputf8") else []
        words += [f"RET={envelope['ret'].upper()}"] if envelope.get("ret") else []
        words += [f"ENVID={envelope['envid']}"] if envelope.get("envid") else []
        client.ask(" ".join(words))
        recipients = expected.get("recipient_order", envelope["recipients"])
        for recipient in recipients:
            words = [f"RCPT TO:<{recipient}>"]
            if envelope.get("notify"):
                words.append(f"NOTIFY={envelope['notify'].upper()}")
            original = expected.get("orcpt", {}).get(recipient)
            words += [f"ORCPT={original}"] if original else []
            client.ask(" ".join(words))
        client.ask("DATA")
        client.end(message(scenario))
        replies = {recipient: client.text() for recipient in recipients}
        return [*_replies(expected, replies), *self._log.uses(expected)]

    def _attributes(self, client: Client, given: dict[str, str]) -> None:
        words = [f"{word}={given[name]}" for word, name in XFORWARD.items()
                 if given.get(name)]  # fmt: skip
        if words:
            assert client.ask(f"XFORWARD {' '.join(words)}")[:3] == "250"


def _replies(expected: Any, replies: dict[str, str]) -> Iterator[str]:
    for one in expected["recipients"]:
        got = replies[one["recipient"]].replace("\n", " ")
        want = one["reason"]
        if one["status"] != "sent":
            want = f"{_CODES[one['status']]}50 {one['dsn']} {want}"
        if got != want:
            yield f"{one['recipient']}: recorded {want!r}, got {got!r}"


class Log:
    """What of a log is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = len(path.read_text()) if path.exists() else 0

    def uses(self, expected: Any) -> Iterator[str]:
        """Differences in how often each connection had been used, and in tls=."""
        text = self.path.read_text()
        new, self._read = text[self._read :], len(text)
        found = dict(re.findall(r" to=<([^>]*)>,.* conn_use=(\d+),", new))
        tls = dict(re.findall(r" to=<([^>]*)>,.* tls=([^,]+),", new))
        for one in expected["recipients"]:
            want, got = one.get("conn_use", 1), found.get(one["recipient"], 1)
            if want != int(got):
                yield f"{one['recipient']} conn_use: recorded {want}, got {got}"
            if one.get("tls") != tls.get(one["recipient"]):
                yield f"{one['recipient']} tls: recorded {one.get('tls')}, got {tls}"
