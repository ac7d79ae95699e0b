"""A delivery with somebody looking on: each line as it comes, and how long it took.

The delivery service is that of every delivery; what is added here decides nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from postfix_trouble.cli.live import BY_PHASE, Event, Stage, Timing, Way, merged
from postfix_trouble.client.smtp_connection import LIMITS
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.hostname import address_family
from postfix_trouble.core.outcome import DSN, ServerRecord
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.steps import Authenticate, Phase, Read, SendBody, StartTls
from postfix_trouble.core.tls import TlsFacts
from postfix_trouble.terminal.waiting import Waiting

if TYPE_CHECKING:
    from postfix_trouble.core.steps import Answer, Step
    from postfix_trouble.smtp.interfaces import Addressless, Route, Wire

_DIRECTIONS = {"In: ": Way.IN, "Out:": Way.OUT, "Replaced-by:": Way.REPLACED}
_HELLO = (Phase.EHLO, Phase.HELO, Phase.LHLO)
_NO_ANSWER = {
    Lost.EOF: "connection lost",
    Lost.TIME: "no answer in time",
    Lost.DATA: "local data error",
}


class Recorder:
    """What happened, and when: seconds since the recorder was made."""

    def __init__(self, show: Callable[[Event], None], waiting: Waiting) -> None:
        """`show` is told of each line at once; `waiting` of what takes its time."""
        self._show = show
        self.waiting = waiting
        self._begin = time.monotonic()
        self._stages: list[tuple[str, list[Stage]]] = []
        self.events: list[Event] = []
        # The connection that is open is in TLS.
        self.tls = False

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    def tell(self, way: Way, text: str) -> None:
        """Record a line. The same remark twice in a row is one."""
        last = self.events[-1] if self.events else None
        about = way in (Way.ABOUT, Way.TROUBLE)
        if about and last is not None and last.text == text:
            return
        event = Event(self.now(), way, text, self.tls and not about)
        self.events.append(event)
        with self.waiting.silent():
            self._show(event)

    def on_line(self, direction: str, line: str) -> None:
        """Record a line of the dialogue."""
        self.tell(_DIRECTIONS[direction], line)

    def note(self, text: str) -> None:
        """Record what goes into the log elsewhere."""
        self.tell(Way.ABOUT, text)

    def turn_to(self, server: str) -> None:
        """What follows is about this server, or destination."""
        if not self._stages or self._stages[-1][0] != server:
            self._stages.append((server, []))
        self.tls = False

    def spent(self, stage: str, begin: float) -> None:
        """A stage took from `begin` until now."""
        self._stages[-1][1].append(Stage(stage, begin, self.now() - begin))

    @property
    def timings(self) -> tuple[Timing, ...]:
        """Stages by server, in order."""
        return tuple(Timing(name, merged(x)) for name, x in self._stages if x)


class TracedWire:
    """A connection that tells the recorder what its steps are and take."""

    def __init__(
        self, wire: Wire, recorder: Recorder, settings: Settings, size: int
    ) -> None:
        """`size`: of the message, bytes."""
        self._wire = wire
        self._recorder = recorder
        self._settings = settings
        self._size = size
        self._greeted = False
        self._upgraded = False
        self.close = wire.close

    def play(self, step: Step) -> Answer:
        """Carry out one step."""
        recorder, begin = self._recorder, self._recorder.now()
        if isinstance(step, SendBody):
            recorder.tell(Way.OUT, f"({self._size} bytes of message)")
        what, parameter = _awaited(step)
        limit = self._settings.seconds(parameter) if parameter else 0.0
        with recorder.waiting.on(what, limit):
            answer = self._wire.play(step)
        stage = self._stage(step, answer)
        if stage:
            recorder.spent(stage, begin)
        if isinstance(answer, TlsFacts):
            recorder.tls = True
            self._upgraded = self._greeted
        elif isinstance(answer, Lost):
            recorder.tell(Way.TROUBLE, _NO_ANSWER[answer])
        return answer

    def _stage(self, step: Step, answer: Answer) -> str:
        if isinstance(step, Read):
            self._greeted = True
            # Whoever goes over to TLS has to say hello once more.
            again = self._upgraded and step.phase in _HELLO
            return "TLS" if again else BY_PHASE[step.phase]
        if isinstance(step, StartTls):
            return "TLS"
        if isinstance(step, Authenticate):
            # Without credentials nothing is said.
            return "AUTH" if answer is not None else ""
        return "data" if isinstance(step, SendBody) else ""

    def record(self) -> ServerRecord:
        """What was said."""
        return self._wire.record()


def _awaited(step: Step) -> tuple[str, str]:
    """What a step waits for, and the parameter that limits it; empty: nothing."""
    if isinstance(step, Read):
        if step.phase is Phase.GREETING:
            return "the greeting", LIMITS[step.phase]
        command = step.phase.command.removesuffix(" command")
        return f"the reply to {command}", LIMITS[step.phase]
    if isinstance(step, StartTls):
        return "the TLS handshake", "smtp_starttls_timeout"
    if isinstance(step, Authenticate):
        return "the reply to AUTH", ""
    if isinstance(step, SendBody):
        return "the server to take the message", ""
    return "", ""


class TracedRoute:
    """The servers of a destination; finding them may take a while."""

    def __init__(
        self, name: str, find: Callable[[], Route], recorder: Recorder
    ) -> None:
        self._name = name
        self._recorder = recorder
        recorder.turn_to(name)
        begin = recorder.now()
        with recorder.waiting.on(f"the servers of {name}"):
            self._route = find()
        recorder.spent("look-up", begin)
        if self._route.failure.status:
            recorder.tell(Way.TROUBLE, self._route.failure.reason)

    def next(self) -> Relay | None:
        """The next server."""
        begin = self._recorder.now()
        with self._recorder.waiting.on(f"the servers of {self._name}"):
            found = self._route.next()
        if found is not None:
            self._recorder.turn_to(self._name)
            self._recorder.spent("look-up", begin)
        return found

    def more(self) -> bool:
        """Whether there is another one."""
        return self._route.more()

    @property
    def failure(self) -> DSN:
        """Why there is none."""
        return self._route.failure

    @property
    def addressless(self) -> Addressless:
        """Hosts that mail can't go to."""
        return self._route.addressless

    @property
    def last_resort(self) -> bool:
        """Whether no other destination follows."""
        return self._route.last_resort


class RecordingTrace:
    """Records a delivery as it goes (client/interfaces.py, Trace)."""

    def __init__(self, recorder: Recorder, settings: Settings, size: int) -> None:
        """`size`: of the message, bytes."""
        self._recorder = recorder
        self._settings = settings
        self._size = size
        self.on_line = recorder.on_line
        # The final dot is out, and no reply to it is in.
        self.in_doubt = False

    def route(
        self, destination: Destination, find: Callable[[Destination], Route]
    ) -> Route:
        """Timed, if there is something to look up."""
        if destination.socket or address_family(destination.host):
            return find(destination)
        return TracedRoute(destination.text, lambda: find(destination), self._recorder)

    def connect(self, relay: Relay, connect: Callable[[], Wire | DSN]) -> Wire | DSN:
        """Timed, and what goes over the connection is shown."""
        recorder = self._recorder
        recorder.turn_to(relay.namaddrport)
        recorder.tell(Way.ABOUT, f"connecting to {relay.namaddrport}")
        begin = recorder.now()
        limit = self._settings.seconds("smtp_connect_timeout")
        with recorder.waiting.on(f"a connection to {relay.namaddrport}", limit):
            found = connect()
        recorder.spent("connect", begin)
        if isinstance(found, DSN):
            recorder.tell(Way.TROUBLE, found.reason)
            return found
        return TracedWire(found, recorder, self._settings, self._size)

    def on_final_dot(self, begun: bool) -> None:
        """The end of the message is out, or what came of it is known.

        An interrupt closes the connection too, and then nothing is known.
        """
        self.in_doubt = begun or (self.in_doubt and sys.exc_info()[0] is not None)


def waited_for() -> Callable[[], bool]:
    """Asks later whether the one who waits for us now has gone."""
    parent = os.getppid()
    return lambda: os.getppid() != parent


def time_left(settings: Settings) -> Callable[[], float]:
    """Tells the seconds that are left of trouble_deadline, which begins now."""
    end = time.monotonic() + settings.seconds("trouble_deadline")
    return lambda: end - time.monotonic()
