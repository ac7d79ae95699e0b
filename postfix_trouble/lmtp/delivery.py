"""What the LMTP service does with a message: route it, deliver it, answer for each."""

from __future__ import annotations

import os
import threading
import time

from postfix_trouble.client.connection_cache import Connections
from postfix_trouble.client.service import Caller, Service
from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.outcome import DSN, Disposition, Outcome, deferred
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.lmtp import dialogue as lmtp_dialogue
from postfix_trouble.lmtp import replies as lmtp_replies
from postfix_trouble.message.message import Message
from postfix_trouble.pipe.command import encoding, plausible_age, utf8_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.envelope import DeliveryRequest, Recipient
    from postfix_trouble.lmtp.server import Transaction
    from postfix_trouble.report.maillog import MailLog

# Seconds. lmtp(8) waits lmtp_data_done_timeout (600s) for the replies; if it gave up
# while we deliver, it would have the message delivered once more.
DEADLINE = 540.0
# Destinations of one message that are served at the same time.
_AT_ONCE = 5
_BUG = DSN(EnhancedStatus("4.3.0"), "internal error, see the log")
# Where a reply can't be worded.
_PLAINLY = {Disposition.SENT: (b"250 2.0.0 Ok",)}


class _Part(Value):
    """The recipients of a message that go to one destination."""

    nexthop: str
    recipients: tuple[Recipient, ...]


class LmtpService:
    """What all clients share."""

    def __init__(
        self,
        settings: Settings,
        log: MailLog,
        *,
        nexthop: str,
        service: Service | None = None,
    ) -> None:
        """`nexthop`: for all mail; empty: relayhost, or else the recipient's domain.
        `service`: one that is shared with others; they close it."""
        self.settings = settings
        self.log = log
        self.nexthop = nexthop or settings.text("relayhost")
        self.service = service or Service(
            settings, log.write, connections=Connections(settings)
        )
        self.service.open_state(log.write)

    def __enter__(self) -> LmtpService:
        return self

    def __exit__(self, *_: object) -> None:
        self.service.close()

    def client(self) -> LmtpClient:
        """Somebody to serve one client."""
        return LmtpClient(lambda: self)


class LmtpClient:
    """One client's messages, one after the other."""

    def __init__(self, find: Callable[[], LmtpService]) -> None:
        """`find` is asked before each message: settings may have changed."""
        self._find = find
        # When the last message was done: one that follows soon is part of a stream.
        self._last = float("-inf")

    def deliver(
        self, transaction: Transaction, client_gone: Callable[[], bool]
    ) -> Sequence[tuple[bytes, ...]]:
        """Deliver one message. The reply for each recipient, in their order."""
        service = self._find()
        idle = service.settings.seconds("smtp_connection_cache_time_limit")
        busy = time.monotonic() - self._last < idle
        delivery = _Delivery(service, transaction, client_gone, busy)
        try:
            delivery.run()
            self._last = time.monotonic()
            return [lmtp_replies.reply(outcome) for outcome in delivery.outcomes()]
        except (Exception, SystemExit) as bug:  # noqa: BLE001  some have the message
            warn(service.log.write, "replies", bug)
            return [
                _PLAINLY.get(outcome.disposition, lmtp_dialogue.BUG)
                for outcome in delivery.outcomes()
            ]


class _Delivery:
    """One message on its way to its destinations."""

    def __init__(
        self,
        service: LmtpService,
        transaction: Transaction,
        client_gone: Callable[[], bool],
        busy: bool,
    ) -> None:
        self._service = service
        # How recipients ended, by position. Whatever goes wrong, this stands.
        self._ended: dict[int, Outcome] = {}
        self._client_gone = client_gone
        self._busy = busy
        deadline = min(DEADLINE, service.settings.seconds("trouble_deadline"))
        self._end = time.monotonic() + deadline
        self._message = _message(transaction)
        request = transaction.request
        received = self._message.received()
        age = None if received is None else time.time() - received
        self._request = request._replace(
            encoding=request.encoding or encoding(self._message, service.settings),
            utf8_header=request.smtputf8
            and utf8_header(self._message, service.settings),
            age=plausible_age(age, service.settings, not request.sender),
            lmtp=service.settings.lmtp,
            # lmtp(8) tells only with lmtp_send_xforward_command.
            queue_id=request.queue_id or self._message.queue_id() or "NOQUEUE",
        )

    def outcomes(self) -> list[Outcome]:
        """How each recipient ended, in order: deferred where that is not known."""
        missing = [x for x in self._request.recipients if x.position not in self._ended]
        why = deferred(missing, _BUG)
        found = [*self._ended.values(), *why]
        return sorted(found, key=lambda end: end.recipient.position)

    def run(self) -> None:
        """Deliver to all destinations, several at the same time."""
        waiting = _parts(self._request, self._service.nexthop)

        def work() -> None:
            while waiting:
                try:
                    part = waiting.pop(0)
                except IndexError:
                    return
                self._part(part)

        threads = []
        try:
            for _ in range(min(len(waiting), _AT_ONCE) - 1):
                thread = threading.Thread(target=work)
                thread.start()
                threads.append(thread)
        except RuntimeError as problem:
            # No more of them to be had. Those that there are do the work.
            self._note(f"fewer destinations at a time: {problem}")
        try:
            work()
        finally:
            for thread in threads:
                thread.join()
            self._message.close()

    def _part(self, part: _Part) -> None:
        """Deliver to one destination. What goes wrong with us defers the mail."""
        request = self._request._replace(
            nexthop=part.nexthop, recipients=part.recipients
        )
        try:
            report = self._service.service.deliver(
                request,
                self._message,
                # If others used up the time, this destination is in no trouble for it.
                Caller(
                    time_left=lambda: self._end - time.monotonic(),
                    on_outcomes=self._record,
                    abandoned=self._client_gone,
                    stream=self._busy,
                    throttles=True,
                ),
            )
            self._record(report.outcomes)
        except Exception as bug:  # noqa: BLE001  the other parts may be delivered
            warn(self._note, f"mail for {part.nexthop}", bug)

    def _record(self, outcomes: tuple[Outcome, ...]) -> None:
        """These ended, unless they have ended already."""
        for outcome in outcomes:
            self._ended.setdefault(outcome.recipient.position, outcome)

    def _note(self, text: str) -> None:
        self._service.log.write(f"{self._request.queue_id}: {text}")


def _message(transaction: Transaction) -> Message:
    """The spooled message. It has a descriptor only if it is large."""
    spool = transaction.message
    try:
        return Message([], os.dup(spool.fileno()))
    except OSError:
        return Message.from_bytes(spool.read())


def _parts(request: DeliveryRequest, nexthop: str) -> list[_Part]:
    """Recipients by destination, in the order in which the destinations appear."""
    groups: dict[str, list[Recipient]] = {}
    for recipient in request.recipients:
        domain = recipient.address.rpartition("@")[2].lower()
        groups.setdefault(nexthop or domain or "localhost", []).append(recipient)
    return [_Part(where, tuple(who)) for where, who in groups.items()]
