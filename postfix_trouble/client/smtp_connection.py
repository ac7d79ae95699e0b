"""One connected server: carries out the steps of a session."""

from __future__ import annotations

import time

from postfix_trouble.core.failure import ContentError, TableError
from postfix_trouble.core.outcome import ServerRecord
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.steps import (
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
    TlsResult,
    Unsendable,
)
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from postfix_trouble.client.interfaces import RunningDelivery
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.reply import Reply
    from postfix_trouble.core.steps import Answer, Step
    from postfix_trouble.core.tls import TlsPolicy
    from postfix_trouble.smtp import connection as smtp_connection

# Phase, and the parameter that limits the wait for its reply.
LIMITS = {
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

NOBODY_WAITS = "nobody waits for the answer: the message is not sent"

# These share one budget under smtp_per_request_deadline.
_HANDSHAKE = (Phase.GREETING, Phase.EHLO, Phase.HELO, Phase.LHLO)


class SmtpConnection:
    """One connected server: carries out the steps of a session (a smtp Wire)."""

    def __init__(
        self,
        delivery: RunningDelivery,
        connection: smtp_connection.Connection,
        destination: Destination,
        tls: TlsPolicy,
    ) -> None:
        self._delivery = delivery
        self._connection = connection
        # Replies asked for: each has its own limit of time.
        self._reads = 0
        self._destination = destination
        self._tls = tls
        self._our_address = ""
        if delivery.tls_reports is not None and connection.sock is not None:
            # The handshake may leave nothing to ask.
            self._our_address = str(connection.sock.getsockname()[0])
        # What to do once the server has spoken under TLS.
        self._secured: Callable[[], None] | None = None
        self._actions: dict[type, Callable[[Any], Answer]] = {
            Send: self._send,
            Read: self._read,
            StartTls: self._start_tls,
            Authenticate: self._authenticate,
            SendBody: self._send_body,
            LookUp: self._look_up,
            Pause: self._pause,
            TlsResult: self._tell_tls,
            Pending: lambda step: connection.pending(),
            Hangup: lambda step: connection.drop(),
            Note: lambda step: self._delivery.note(step.text),
        }

    def play(self, step: Step) -> Answer:
        """Carry out one step. A table that can't be searched is Lost.DATA."""
        try:
            # Until what comes of the final dot is written down, and one step on.
            self._delivery.on_final_dot(
                isinstance(step, Read) and step.phase is Phase.DOT
            )
            return self._actions[type(step)](step)
        except TableError as problem:
            self._delivery.note(str(problem))
            return Lost.DATA

    def close(self) -> None:
        """Hang up."""
        self._delivery.on_final_dot(False)
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
        return self._delivery.settings.seconds(LIMITS[phase])

    def adopt(self, delivery: RunningDelivery, relay: Relay) -> None:
        """Serve another request over the same connection, maybe by another name."""
        self._delivery = delivery
        self._connection.relay = relay
        self._connection.start_over(delivery.time_left)

    def quit(self) -> None:
        """Nobody needs the connection any more."""
        self._connection.putcmd("QUIT")
        self._connection.hang_up()

    def _send(self, step: Send) -> Answer:
        if b"." in step.lines and self._delivery.abandoned():
            # Whoever gave us the message will give it to us again.
            self._connection.drop()
            return Unsendable("4.3.0", NOBODY_WAITS)
        for line in step.lines:
            self._connection.putcmd(line.decode("utf-8", "surrogateescape"))
        return None

    def _read(self, step: Read) -> Answer:
        phase = step.phase
        self._reads += 1
        budget = "handshake" if phase in _HANDSHAKE else f"reply {self._reads}"
        limit = self._limit(phase)
        if phase is not Phase.DOT:
            reply = self._connection.read(budget, limit)
            if self._secured is not None and phase in _HANDSHAKE:
                self._secured()
            return reply
        return self._connection.verdict(budget, limit)

    def _send_body(self, step: SendBody) -> Answer:
        limit = self._delivery.settings.seconds("smtp_data_xfer_timeout")
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
        delivery = self._delivery
        return delivery.message.outgoing(
            delivery.settings.integer("smtp_line_length_limit"),
            stages=delivery.stages(seven_bit),
            note=delivery.note,
        )

    def _look_up(self, step: LookUp) -> Answer:
        return self._delivery.find(step.parameter, step.key)

    def _pause(self, step: Pause) -> Answer:
        lost = self._connection.flush()
        if lost is None:
            time.sleep(max(0.0, min(step.seconds, self._delivery.time_left())))
        return lost

    def _start_tls(self, step: StartTls) -> Answer:
        from postfix_trouble.tls import handshake as tls_handshake

        delivery, connection = self._delivery, self._connection
        if connection.flush() is not None or connection.sock is None:
            return HandshakeFailed("connection lost")
        kept, resumption = delivery.kept_tls, None
        if kept is not None:
            relay = connection.relay
            where = self._destination.text, relay.host, relay.address, relay.port
            resumption = kept.resumption((*where, self._tls))
        limit = delivery.settings.seconds("smtp_starttls_timeout")
        answer = tls_handshake.handshake(
            connection.sock,
            self._tls,
            self._destination,
            connection.relay,
            delivery.settings,
            min(limit, delivery.time_left()),
            resumption,
        )
        if isinstance(answer, HandshakeFailed):
            delivery.note(
                f"SSL_connect error to {connection.relay.namaddrport}: {answer.reason}"
            )
            return answer
        sock, facts = answer
        connection.secured(sock)
        if resumption is not None:
            # The answer is EHLO only where the server is who it should be.
            self._secured = lambda: resumption.keep(sock)
        if delivery.settings.text("smtp_tls_loglevel") not in ("", "0"):
            level = self._tls.level
            delivery.note(tls_handshake.tls_summary(facts, connection.relay, level))
        return facts

    def _tell_tls(self, step: TlsResult) -> None:
        reports, connection = self._delivery.tls_reports, self._connection
        if reports is not None:
            where = self._destination, connection.relay, self._tls
            reports.tell(*where, step, self._our_address)

    def _authenticate(self, step: Authenticate) -> Answer:
        from postfix_trouble.client.login import log_in
        from postfix_trouble.sasl.redaction import Concealer

        delivery, connection = self._delivery, self._connection
        credentials = delivery.find_credentials(self._destination, connection.relay)
        if credentials is None:
            return None
        limit = self._limit(step.phase)
        connection.conceal = conceal = Concealer()

        def exchange(line: bytes) -> Reply | Lost:
            command = line.startswith(b"AUTH ")
            for word in line.split()[2:] if command else (line,):
                conceal.add(word.decode("ascii", "replace"))
            connection.putcmd(line.decode("ascii"))
            return connection.read("handshake", limit)

        connection.secret = True
        try:
            return log_in(
                delivery, connection.relay, step, credentials, exchange, conceal
            )
        finally:
            connection.secret = False
