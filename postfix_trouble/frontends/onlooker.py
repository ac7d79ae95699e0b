"""A delivery with somebody looking on: each line as it comes, and how long it took.

The agent is the one of every delivery; what is added here watches and decides nothing.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from postfix_trouble.agent import Agent
from postfix_trouble.engine import delivery
from postfix_trouble.model.reply import Lost
from postfix_trouble.model.steps import (
    Authenticate,
    Phase,
    Read,
    SendBody,
    StartTls,
)
from postfix_trouble.model.tls import TlsFacts
from postfix_trouble.model.verdict import DSN
from postfix_trouble.policy.hostnames import address_family
from postfix_trouble.reports.live import (
    BY_PHASE,
    Event,
    Stage,
    Timing,
    Way,
    merged,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.edge.message import Message
    from postfix_trouble.engine.surroundings import Route, Wire
    from postfix_trouble.model.envelope import DeliveryRequest
    from postfix_trouble.model.relay import Destination, Relay
    from postfix_trouble.model.steps import Answer, Step
    from postfix_trouble.model.tls import TlsPolicy
    from postfix_trouble.model.verdict import Report, ServerRecord
    from postfix_trouble.policy.sasl import Credentials

_DIRECTIONS = {"In: ": Way.IN, "Out:": Way.OUT, "Replaced-by:": Way.REPLACED}
_HELLO = (Phase.EHLO, Phase.HELO, Phase.LHLO)
_NO_ANSWER = {
    Lost.EOF: "connection lost",
    Lost.TIME: "no answer in time",
    Lost.DATA: "local data error",
}


class Recorder:
    """What happened, and when: seconds since the recorder was made."""

    def __init__(self, show: Callable[[Event], None]) -> None:
        """`show` is told of each line at once."""
        self._show = show
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
        self._show(event)

    def said(self, direction: str, line: str) -> None:
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


class WatchedWire:
    """A connection that tells the recorder what its steps are and take."""

    def __init__(self, wire: Wire, recorder: Recorder, size: int) -> None:
        """`size`: of the message, bytes."""
        self._wire = wire
        self._recorder = recorder
        self._size = size
        self._greeted = False
        self._upgraded = False
        self.close = wire.close

    def play(self, step: Step) -> Answer:
        """Carry out one step."""
        recorder, begin = self._recorder, self._recorder.now()
        if isinstance(step, SendBody):
            recorder.tell(Way.OUT, f"({self._size} bytes of message)")
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


class WatchedRoute:
    """The servers of a destination; finding them may take a while."""

    def __init__(
        self, name: str, find: Callable[[], Route], recorder: Recorder
    ) -> None:
        self._name = name
        self._recorder = recorder
        recorder.turn_to(name)
        begin = recorder.now()
        self._route = find()
        recorder.spent("look-up", begin)
        if self._route.failure.status:
            recorder.tell(Way.TROUBLE, self._route.failure.reason)

    def next(self) -> Relay | None:
        """The next server."""
        begin = self._recorder.now()
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
    def last_resort(self) -> bool:
        """Whether no other destination follows."""
        return self._route.last_resort


class OnlookersAgent(Agent):
    """The outside of a delivery that somebody looks on to."""

    def __init__(
        self,
        settings: Settings,
        request: DeliveryRequest,
        message: Message,
        recorder: Recorder,
        credentials: Credentials | None,
    ) -> None:
        """`credentials`: typed by a person, for any server; None: those of tables."""
        end = time.monotonic() + settings.seconds("trouble_deadline")
        parent = os.getppid()
        super().__init__(
            settings,
            request,
            message,
            left=lambda: end - time.monotonic(),
            note=recorder.note,
            critical=self._critical,
            said=recorder.said,
            abandoned=lambda: os.getppid() != parent,
        )
        self.recorder = recorder
        # The final dot is out, and no reply to it is in.
        self.in_doubt = False
        self._credentials = credentials

    def route(self, destination: Destination) -> Route:
        """As Agent's, and timed if there is something to look up."""
        if destination.socket or address_family(destination.host):
            return super().route(destination)
        find = super().route
        name = destination.text
        return WatchedRoute(name, lambda: find(destination), self.recorder)

    def unready(self) -> DSN | None:
        """As Agent's; a password that was typed is there."""
        return None if self._credentials else super().unready()

    def find_credentials(
        self, destination: Destination, relay: Relay
    ) -> Credentials | None:
        """Those that were typed, else as Agent's."""
        return self._credentials or super().find_credentials(destination, relay)

    def connect(  # type: ignore[override]
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> Wire | DSN:
        """As Agent's, and watched."""
        recorder = self.recorder
        recorder.turn_to(relay.namaddrport)
        recorder.tell(Way.ABOUT, f"connecting to {relay.namaddrport}")
        begin = recorder.now()
        found = super().connect(destination, relay, tls)
        recorder.spent("connect", begin)
        if isinstance(found, DSN):
            recorder.tell(Way.TROUBLE, found.reason)
            return found
        return WatchedWire(found, recorder, self.message.size)

    def deliver(self) -> Report:
        """Deliver the request. Raises TableError."""
        return delivery.deliver(
            self.request,
            self.destinations(),
            self.settings,
            self,
            self.status_filter(),
        )

    def _critical(self, begun: bool) -> None:
        self.in_doubt = begun
