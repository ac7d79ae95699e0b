"""A delivery that stops short: servers are asked, and no message is sent.

The scripts are those of every delivery (delivery.py, handshake.py, transaction.py), so
it is Postfix's own dialogue that is seen, and its own policy that judges. Only the wire
knows better: it ends the session where the depth is reached, and in the place of DATA,
message and dot it says RSET, so that a recipient who was accepted counts as taken.

Road not taken: a script of its own, which would be a second copy of the dialogue.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Ordered
from postfix_trouble.core.outcome import DSN, Skipped
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.steps import (
    Authenticate,
    Authenticated,
    AuthFailed,
    HandshakeFailed,
    Pause,
    Phase,
    Read,
    Send,
    SendBody,
    StartTls,
)
from postfix_trouble.core.tls import TlsFacts
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.smtp.delivery import deliver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.envelope import DeliveryRequest
    from postfix_trouble.core.outcome import Outcome, Report, ServerRecord
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.steps import Answer, Step
    from postfix_trouble.core.tls import StsPolicy, TlsPolicy
    from postfix_trouble.smtp.interfaces import (
        Addressless,
        DeliveryEnvironment,
        Route,
        Wire,
    )
    from postfix_trouble.smtp.session import Kept


class Depth(Ordered):
    """How far to go with a server."""

    CONNECT = 1
    GREETING = 2
    EHLO = 3
    TLS = 4
    AUTH = 5
    MAIL = 6
    RCPT = 7


class ProbeResult(Value):
    """What was learnt of one server."""

    relay: Relay
    # None: the server was skipped before a policy was known.
    policy: TlsPolicy | None = None
    # Why no session came about; empty: one did.
    problem: str = ""
    greeting: Reply | None = None
    # The last reply to EHLO, LHLO or HELO: what counts, and what it came to.
    hello: Reply | None = None
    # The one before TLS, if there is TLS.
    hello_in_clear: Reply | None = None
    starttls: Reply | None = None
    tls: TlsFacts | HandshakeFailed | None = None
    login: Authenticated | AuthFailed | None = None
    mail: Reply | None = None
    # Command line and the reply to it.
    recipients: tuple[tuple[str, Reply], ...] = ()
    # What MTA-STS says of the destination, if somebody asked.
    sts: StsPolicy | None = None
    # Where the connection broke, in the words of Phase; empty: it did not.
    lost: str = ""
    # It would take mail, as far as was asked.
    willing: bool = False


class _Enough(Exception):
    """A server let us come as far as was asked. Caught in this module."""


class Probe:
    """A request that nothing is sent for."""

    def __init__(
        self,
        request: DeliveryRequest,
        destinations: tuple[Destination, ...] | DSN,
        settings: Settings,
        outside: DeliveryEnvironment,
        *,
        depth: Depth,
        found: Callable[[ProbeResult], None],
        listed: Callable[[Destination, Sequence[Relay], Addressless], None],
        status_filter: Callable[[str], str | None] | None = None,
    ) -> None:
        """`listed` is told of the servers of a destination before they are asked,
        `found` of each when we are done with it. For the others see delivery.deliver.
        """
        self._request = request
        self._destinations = destinations
        self._settings = settings
        self._outside = outside
        self._depth = depth
        self._found = found
        self._listed = listed
        self._status_filter = status_filter
        self._routes: dict[Destination, _Listed] = {}

    def run(self) -> Report | None:
        """Ask servers as a delivery would, in its order, until nobody is left.

        None: one let us come as deep as we wanted, short of RCPT. A recipient whom a
        server accepted counts as sent in the report.
        """
        outside = self._wrapped(self._route, self._outside.on_outcomes)
        return self._deliver(self._destinations, outside)

    def rest(self) -> None:
        """Ask those that a delivery would not, each as if it were the only one."""
        if isinstance(self._destinations, DSN):
            return
        for destination in self._destinations:
            route = self._routes.get(destination) or self._route(destination)
            while (relay := route.next()) is not None:
                alone = _Listed([relay])
                outside = self._wrapped(lambda _: alone, lambda _outcomes: None)  # noqa: B023
                self._deliver((destination,), outside)

    def _route(self, destination: Destination) -> _Listed:
        route = self._outside.route(destination)
        relays = list(iter(route.next, None))
        self._listed(destination, relays, route.addressless)
        found = self._routes[destination] = _Listed(relays, route)
        return found

    def _wrapped(
        self,
        route: Callable[[Destination], Route],
        on_outcomes: Callable[[tuple[Outcome, ...]], None],
    ) -> _Outside:
        return _Outside(self._outside, self._depth, self._found, route, on_outcomes)

    def _deliver(
        self, destinations: tuple[Destination, ...] | DSN, outside: _Outside
    ) -> Report | None:
        try:
            return deliver(
                self._request,
                destinations,
                self._settings,
                outside,
                self._status_filter,
            )
        except _Enough:
            return None


class _Listed:
    """A route whose servers are known."""

    def __init__(self, relays: Sequence[Relay], route: Route | None = None) -> None:
        self._left = list(relays)
        self._route = route

    @property
    def failure(self) -> DSN:
        """Why there is no server."""
        return self._route.failure if self._route else DSN()

    @property
    def addressless(self) -> Addressless:
        """Hosts that mail can't go to."""
        return self._route.addressless if self._route else ()

    @property
    def last_resort(self) -> bool:
        """Whether no other destination follows."""
        return self._route.last_resort if self._route else True

    def next(self) -> Relay | None:
        return self._left.pop(0) if self._left else None

    def more(self) -> bool:
        return bool(self._left)


class _Outside:
    """The outside, with wires that stop short."""

    def __init__(
        self,
        outside: DeliveryEnvironment,
        depth: Depth,
        found: Callable[[ProbeResult], None],
        route: Callable[[Destination], Route],
        on_outcomes: Callable[[tuple[Outcome, ...]], None],
    ) -> None:
        self._outside = outside
        self._depth = depth
        self._found = found
        self.route = route
        self.on_outcomes = on_outcomes
        self.clock = outside.clock
        self.credentials = outside.credentials
        self.rewrite = outside.rewrite
        self.note = outside.note

    def tls_policy(self, destination: Destination, relay: Relay) -> TlsPolicy | Skipped:
        policy = self._outside.tls_policy(destination, relay)
        if isinstance(policy, Skipped):
            reason = policy.why.reason or policy.said or "skipped: no TLS policy for it"
            self._found(ProbeResult(relay, problem=reason, sts=policy.sts))
        return policy

    def connect(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> Wire | DSN:
        wire = self._outside.connect(destination, relay, tls)
        if isinstance(wire, DSN):
            self._found(ProbeResult(relay, tls, wire.reason, sts=tls.sts))
            return wire
        return ProbeWire(
            wire, ProbeResult(relay, tls, sts=tls.sts), self._depth, self._found
        )

    def keeps(self, destination: Destination, relay: Relay, use: int) -> bool:
        return False

    def kept(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> tuple[Wire, Kept] | None:
        return None

    def kept_for_nexthop(
        self, destination: Destination
    ) -> tuple[Wire, Kept, Relay, TlsPolicy] | None:
        return None

    def keep(self, wire: Wire, kept: Kept) -> None:
        """Nobody asks for it: see keeps()."""

    def nexthop_served(self) -> None:
        """Nothing is kept."""


# How deep a command belongs. What is not here always passes (QUIT, RSET).
_DEPTHS = {
    b"EHLO": Depth.EHLO,
    b"HELO": Depth.EHLO,
    b"LHLO": Depth.EHLO,
    b"STARTTLS": Depth.TLS,
    b"XFORWARD": Depth.MAIL,
    b"MAIL": Depth.MAIL,
    b"RCPT": Depth.RCPT,
}
# In the place of a reply to a command that was held back.
_GO_ON = Reply.local("")._replace(code=354)
_TAKEN = Reply.local("2.1.5")._replace(code=250, text="accepted; nothing was sent")


class ProbeWire:
    """A wire (interfaces.py) to one server on which no message goes out."""

    def __init__(
        self,
        wire: Wire,
        finding: ProbeResult,
        depth: Depth,
        found: Callable[[ProbeResult], None],
    ) -> None:
        self._wire = wire
        self._finding = finding
        self._depth = depth
        self._found = found
        # RCPT commands that have no reply yet.
        self._waiting: list[str] = []
        self._reset = False

    def play(self, step: Step) -> Answer:
        """Carry out one step, or stop. Raises _Enough, which Probe catches."""
        if self._depth is Depth.CONNECT:
            self._learn(willing=True)
            raise _Enough
        if isinstance(step, Send):
            self._send(step.lines)
            return None
        if isinstance(step, Read):
            return self._read(step)
        if isinstance(step, SendBody | Pause):
            return None
        if isinstance(step, Authenticate) and self._depth < Depth.AUTH:
            self._leave()
        answer = self._wire.play(step)
        if isinstance(step, StartTls):
            assert isinstance(answer, TlsFacts | HandshakeFailed)
            self._learn(tls=answer, hello_in_clear=self._finding.hello)
        elif isinstance(answer, Authenticated | AuthFailed):
            self._learn(login=answer)
        return answer

    def _send(self, lines: Sequence[bytes]) -> None:
        """Send what belongs to this depth; the dot, too, becomes RSET."""
        passed = []
        for line in lines:
            verb = line.partition(b" ")[0]
            if verb == b"DATA" or _DEPTHS.get(verb, Depth.CONNECT) > self._depth:
                continue
            if verb == b"RCPT":
                self._waiting.append(line.decode("utf-8", "replace"))
            passed.append(b"RSET" if verb == b"." else line)
        if passed:
            self._wire.play(Send(tuple(passed)))
        elif lines[0] != b"DATA":
            self._leave()

    def _read(self, step: Read) -> Answer:
        phase = step.phase
        if phase is Phase.RCPT and not self._waiting:
            # It was held back. If the sender was refused nobody wants to know.
            mail = self._finding.mail
            assert mail is not None
            if mail.klass == 2:
                self._leave()
            return _GO_ON
        if phase is Phase.DATA:
            # Somebody was accepted.
            self._learn(willing=True)
            return _GO_ON
        if phase is Phase.DOT:
            # In LMTP there is one for each recipient, but RSET has one reply.
            if not self._reset:
                self._reset = True
                self._wire.play(Read(Phase.RSET))
            return _TAKEN
        answer = self._wire.play(step)
        if isinstance(answer, Reply):
            self._heard(phase, answer)
        elif phase is not Phase.QUIT:
            assert isinstance(answer, Lost)
            relay = self._finding.relay
            self._learn(lost=answer.value.format(relay.namaddr, phase.doing))
        return answer

    def _heard(self, phase: Phase, reply: Reply) -> None:
        if phase is Phase.GREETING:
            self._learn(greeting=reply)
        elif phase in (Phase.EHLO, Phase.LHLO, Phase.HELO):
            self._learn(hello=reply)
        elif phase is Phase.STARTTLS:
            self._learn(starttls=reply)
        elif phase is Phase.MAIL:
            self._learn(mail=reply)
        elif phase is Phase.RCPT:
            said = (self._waiting.pop(0), reply)
            self._learn(recipients=(*self._finding.recipients, said))

    def _learn(self, **facts: object) -> None:
        self._finding = self._finding._replace(**facts)  # type: ignore[arg-type]

    def _leave(self) -> None:
        """It is enough: QUIT, and out of all scripts."""
        self._learn(willing=True)
        self._wire.play(Send((b"QUIT",)))
        self._wire.play(Read(Phase.QUIT))
        raise _Enough

    def close(self) -> None:
        """Hang up, and tell what was learnt."""
        self._wire.close()
        self._found(self._finding)

    def record(self) -> ServerRecord:
        """What was said."""
        return self._wire.record()
