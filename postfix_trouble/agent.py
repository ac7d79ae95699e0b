"""The delivery agent: joins the engine, which decides, and the edge, which does.

One Agent serves one delivery request. It is the only module that knows both sides;
front-ends call `deliver_request` and get a Report.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from postfix_trouble.content.failure import ContentError
from postfix_trouble.edge import wire
from postfix_trouble.engine import delivery
from postfix_trouble.model.failure import TableError
from postfix_trouble.model.reply import Lost
from postfix_trouble.model.steps import (
    Authenticate,
    HandshakeFailed,
    Hangup,
    LookUp,
    Note,
    Pause,
    Pending,
    Phase,
    Read,
    Send,
    SendBody,
    StartTls,
    Unsendable,
)
from postfix_trouble.model.tls import TlsPolicy
from postfix_trouble.model.verdict import DSN, ServerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.edge.message import Message
    from postfix_trouble.edge.state import State
    from postfix_trouble.engine.surroundings import Route
    from postfix_trouble.model.envelope import DeliveryRequest
    from postfix_trouble.model.relay import Destination, Relay
    from postfix_trouble.model.steps import Answer, Step
    from postfix_trouble.model.verdict import Outcome, Report

# Phase, and the parameter that limits the wait for its reply.
_LIMITS = {
    Phase.GREETING: "smtp_helo_timeout",
    Phase.EHLO: "smtp_helo_timeout",
    Phase.HELO: "smtp_helo_timeout",
    Phase.LHLO: "smtp_helo_timeout",
    Phase.STARTTLS: "smtp_starttls_timeout",
    Phase.XFORWARD_NAME: "smtp_xforward_timeout",
    Phase.XFORWARD_HELO: "smtp_xforward_timeout",
    Phase.MAIL: "smtp_mail_timeout",
    Phase.RCPT: "smtp_rcpt_timeout",
    Phase.DATA: "smtp_data_init_timeout",
    Phase.DOT: "smtp_data_done_timeout",
    Phase.RSET: "smtp_rset_timeout",
    Phase.PROBE: "smtp_rset_timeout",
    Phase.QUIT: "smtp_quit_timeout",
}

# These share one budget under smtp_per_request_deadline.
_HANDSHAKE = (Phase.GREETING, Phase.EHLO, Phase.HELO, Phase.LHLO)


class Agent:
    """The outside of one delivery request (engine/surroundings.py)."""

    def __init__(
        self,
        settings: Settings,
        request: DeliveryRequest,
        message: Message,
        *,
        left: Callable[[], float],
        note: Callable[[str], None],
        ended: Callable[[Outcome], None] = lambda outcome: None,
        critical: Callable[[bool], None] = lambda begun: None,
        state: State | None = None,
    ) -> None:
        """`left`: seconds that are left for the whole request. `critical`: is told
        when the dot goes out, and when the reply to it is in. `state`: where refused
        log-ins and tokens are remembered."""
        self.settings = settings
        self.request = request
        self.message = message
        self.clock = time.time
        self.left = left
        self.note = note
        self.ended = ended
        self.critical = critical
        self.state = state
        self._tables: dict[str, Any] = {}
        self._resolver: Any = None

    # --- tables

    def find(self, parameter: str, key: str, fold: bool = False) -> str | None:
        """Search the tables that a parameter names. Raises TableError."""
        maps = self.maps(parameter)
        if maps is None:
            return None
        found: str | None = maps.find(key, fold)
        return found

    def maps(self, parameter: str) -> Any:
        """The tables that a parameter names, None if it names none."""
        if parameter not in self._tables:
            spec = self.settings.text(parameter)
            maps = None
            if spec:
                from postfix_trouble.edge.tables import open_maps

                maps = open_maps(spec, parameter)
            self._tables[parameter] = maps
        return self._tables[parameter]

    def status_filter(self) -> Callable[[str], str | None] | None:
        """smtp_delivery_status_filter, if there is one."""
        if not self.settings.text("smtp_delivery_status_filter"):
            return None
        return lambda text: self.find("smtp_delivery_status_filter", text)

    def rewrite(self, address: str) -> str:
        """An envelope address after smtp_generic_maps. Raises TableError."""
        maps = self.maps("smtp_generic_maps")
        if maps is None:
            return address
        found: str | None = maps.find_address(address)
        return address if found is None else found

    # --- finding servers

    def route(self, destination: Destination) -> Route:
        """Find the servers of a destination."""
        if self._resolver is None:
            from postfix_trouble.edge.resolver import Resolver

            self._resolver = Resolver(self.settings, self.left, self.note)
        route: Route = self._resolver.route(destination)
        return route

    def tls_policy(self, destination: Destination, relay: Relay) -> TlsPolicy | DSN:
        """The TLS policy for a server, or why it must be passed over."""
        from postfix_trouble.policy import tls_policy

        return tls_policy.policy(
            self.settings,
            destination,
            relay,
            self.find,
            table_error=TableError,
            note=self.note,
            prefix="lmtp" if self.request.lmtp else "smtp",
        )

    def credentials(self, destination: Destination, relay: Relay) -> bool:
        """Whether a user name and password are known for this server."""
        return self._credentials(destination, relay) is not None

    def _credentials(self, destination: Destination, relay: Relay) -> Any:
        if not self.settings.flag("smtp_sasl_auth_enable"):
            return None
        from postfix_trouble.policy import sasl

        return sasl.credentials(
            self.settings, destination, relay, self.request.sender, self.find
        )

    def connect(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> _Server | DSN:
        """Open a connection, or say why not."""
        sixth = ":" in relay.address
        name = "smtp_bind_address6" if sixth else "smtp_bind_address"
        seconds = self.settings.seconds("smtp_connect_timeout")
        sock = wire.connect(
            relay,
            timeout=max(0.001, min(seconds or self.left(), self.left())),
            bind_address=self.settings.text(name).strip("[]"),
            bind_enforce=self.settings.flag("smtp_bind_address_enforce"),
            note=self.note,
        )
        if isinstance(sock, DSN):
            return sock
        limits = wire.TimeLimits(
            self.left,
            budgets=self.settings.flag("smtp_per_request_deadline"),
            min_rate=self.settings.integer("smtp_min_data_rate"),
        )
        reply_filter = None
        if self.settings.text("smtp_reply_filter"):
            reply_filter = self._filter_reply
        connection = wire.Connection(
            sock,
            relay,
            limits,
            line_limit=self.settings.integer("line_length_limit"),
            utf8=self.settings.flag("smtputf8_enable"),
            reply_filter=reply_filter,
            note=self.note,
        )
        return _Server(self, connection, destination, tls)

    def _filter_reply(self, line: str) -> str | None:
        return self.find("smtp_reply_filter", line, fold=True)


class _Server:
    """One connected server: carries out the steps of a session (engine Wire)."""

    def __init__(
        self,
        agent: Agent,
        connection: wire.Connection,
        destination: Destination,
        tls: TlsPolicy,
    ) -> None:
        self._agent = agent
        self._connection = connection
        self._destination = destination
        self._tls = tls
        self._actions: dict[type, Callable[[Any], Answer]] = {
            Send: self._send,
            Read: self._read,
            StartTls: self._start_tls,
            Authenticate: self._authenticate,
            SendBody: self._send_body,
            LookUp: self._look_up,
            Pause: self._pause,
            Pending: lambda step: connection.pending(),
            Hangup: lambda step: connection.drop(),
            Note: lambda step: agent.note(step.text),
        }

    def play(self, step: Step) -> Answer:
        """Carry out one step. A table that can't be searched is Lost.DATA."""
        try:
            return self._actions[type(step)](step)
        except TableError as problem:
            self._agent.note(str(problem))
            return Lost.DATA

    def close(self) -> None:
        """Hang up."""
        self._connection.hang_up()

    def record(self) -> ServerRecord:
        """What was said."""
        connection = self._connection
        return ServerRecord(
            connection.relay,
            transcript=tuple(connection.transcript),
            errors=("protocol",) if connection.garbage else (),
        )

    def _limit(self, phase: Phase) -> float:
        return self._agent.settings.seconds(_LIMITS[phase])

    def _send(self, step: Send) -> None:
        for line in step.lines:
            self._connection.queue(line)

    def _read(self, step: Read) -> Answer:
        phase = step.phase
        dot = phase is Phase.DOT
        if dot:
            self._agent.critical(True)
        budget = "handshake" if phase in _HANDSHAKE else f"{phase.name} {id(step)}"
        answer = self._connection.read(budget, self._limit(phase))
        if dot:
            self._agent.critical(False)
        return answer

    def _send_body(self, step: SendBody) -> Answer:
        limit = self._agent.settings.seconds("smtp_data_xfer_timeout")
        try:
            for chunk in self._text(step.seven_bit):
                lost = self._connection.write(chunk, limit)
                if lost is not None:
                    return lost
        except ContentError as problem:
            self._connection.drop()
            return Unsendable(problem.status, problem.reason)
        return None

    def _text(self, seven_bit: bool) -> Iterator[bytes]:
        agent = self._agent
        return agent.message.outgoing(
            agent.settings.integer("smtp_line_length_limit"), note=agent.note
        )

    def _look_up(self, step: LookUp) -> Answer:
        return self._agent.find(step.parameter, step.key)

    def _pause(self, step: Pause) -> Answer:
        lost = self._connection.flush()
        if lost is None:
            time.sleep(max(0.0, min(step.seconds, self._agent.left())))
        return lost

    def _start_tls(self, step: StartTls) -> Answer:
        from postfix_trouble.edge import tls

        agent, connection = self._agent, self._connection
        if connection.flush() is not None or connection.sock is None:
            return HandshakeFailed("connection lost")
        limit = agent.settings.seconds("smtp_starttls_timeout")
        answer = tls.handshake(
            connection.sock,
            self._tls,
            self._destination,
            connection.relay,
            agent.settings,
            min(limit, agent.left()),
        )
        if isinstance(answer, HandshakeFailed):
            agent.note(
                f"SSL_connect error to {connection.relay.namaddrport}: {answer.reason}"
            )
            return answer
        sock, facts = answer
        connection.secured(sock)
        agent.note(tls.tls_summary(facts, connection.relay))
        return facts

    def _authenticate(self, step: Authenticate) -> Answer:
        raise NotImplementedError


def deliver_request(agent: Agent) -> Report:
    """Deliver one request: find its servers, try them, and say how it ended."""
    from postfix_trouble.policy import nexthop

    settings, request = agent.settings, agent.request
    destinations = nexthop.destinations(
        request.nexthop,
        fallback=settings.text("smtp_fallback_relay"),
        default_port=settings.text("smtp_tcp_port"),
        lmtp=request.lmtp,
        known_ports=settings.words("known_tcp_ports"),
        service_port=wire.service_port,
    )
    return delivery.deliver(
        request, destinations, settings, agent, agent.status_filter()
    )
