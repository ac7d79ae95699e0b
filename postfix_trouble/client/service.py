"""The delivery service: a request and its message in, a report out.

pipe(8), LMTP, send, the Python API and the engine all deliver by this. It owns what
goes with one set of settings: connections that stay open, destinations that are left
alone for a while, log records, notices to the postmaster. It ends no process, takes no
alarm and writes to no standard stream, so that one process may have many requests
delivered at the same time.
"""

from __future__ import annotations

from _thread import allocate_lock

from postfix_trouble.client.context import DeliveryContext, deliver_request
from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.failure import TableError
from postfix_trouble.core.outcome import DSN, Outcome, Report, deferred
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.report.log import delivery_records
from postfix_trouble.smtp.address import unsendable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postfix_trouble.client.connection_cache import Connections
    from postfix_trouble.client.interfaces import Trace
    from postfix_trouble.client.throttled import Throttled
    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.envelope import DeliveryRequest, Recipient
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.message.message import Message
    from postfix_trouble.report.rate_limit import RareNotices
    from postfix_trouble.sasl.choose import Credentials
    from postfix_trouble.smtp.interfaces import Addressless
    from postfix_trouble.smtp.probing import Depth, ProbeResult
    from postfix_trouble.state import State

#: An address with NUL, CR or LF in it, or none, can't be said in SMTP.
BAD_RECIPIENT = DSN(EnhancedStatus("5.1.3"), "bad recipient address syntax")
_TOO_LATE = DSN(EnhancedStatus("4.4.2"), "delivery time limit exceeded")


class Caller(Value):
    """Who has a request delivered: how long it may take, and what is told meanwhile."""

    # Seconds that are left for all of it.
    time_left: Callable[[], float]
    # Takes log records about the request; None: they go to the log.
    note: Callable[[str], None] | None = None
    # Is told of outcomes as they come, before the log is.
    on_outcomes: Callable[[tuple[Outcome, ...]], None] = lambda outcomes: None
    # The end of the message is out, and what comes of it not known.
    on_final_dot: Callable[[bool], None] = lambda begun: None
    # Asked right before that: if nobody waits any more, the end is not sent.
    abandoned: Callable[[], bool] = lambda: False
    # The request comes close behind another one.
    stream: bool = False
    # Nobody but us leaves a destination in trouble alone for a while.
    throttles: bool = False
    # Sees the dialogue; and credentials that the user entered, for any server.
    trace: Trace | None = None
    credentials: Credentials | None = None
    # Transcripts for the postmaster are mailed, if the settings say so.
    mail_notices: bool = True
    # They are logged in any case.
    verbose: bool = False


class Service:
    """Delivers requests, all by one set of settings. Used by several threads."""

    def __init__(
        self,
        settings: Settings,
        write: Callable[[str], None],
        *,
        connections: Connections | None = None,
        throttles: bool = False,
    ) -> None:
        """`write`: takes log records. `connections`: those that stay open, in a process
        that stays itself. `throttles`: destinations in trouble are remembered in
        memory too; otherwise only if there is a state directory."""
        self.settings = settings
        self.write = write
        self.connections = connections
        self._throttles = throttles
        #: What is remembered between processes, once open_state() has been called.
        self.state: State | None = None
        self._throttled: Throttled | None = None
        self._notices: RareNotices | None = None
        self._opening = allocate_lock()

    def open_state(self, note: Callable[[str], None]) -> str:
        """Open the state directory of the settings, if there is to be one.

        Returns what is wrong with it; with a single recipient nothing hangs on that,
        and the delivery goes on. Opened once; one that can't be is tried again.
        """
        directory = self.settings.text("trouble_state_directory")
        if not directory or self.state is not None:
            return ""
        from postfix_trouble.state import State, StateProblem

        stays = self.connections is not None
        with self._opening:
            if self.state is not None:
                # Another thread was faster.
                return ""
            state = State.open(directory, note, stays=stays)
            if isinstance(state, StateProblem):
                note(f"warning: {state.text}")
                return state.text
            self.state = state
            self._throttled = None
            return ""

    def deliver(
        self, request: DeliveryRequest, message: Message, caller: Caller
    ) -> Report:
        """Try once to deliver to every recipient; each has an outcome in the report.

        Raises what is a bug of ours, as long as nobody has the message.
        """
        queue_id = request.queue_id or "NOQUEUE"
        note = caller.note or (lambda text: self.write(f"{queue_id}: {text}"))

        def tell(outcomes: tuple[Outcome, ...]) -> None:
            caller.on_outcomes(outcomes)
            for record in delivery_records(queue_id, outcomes, self.settings):
                self.write(record)

        bad = self._refused(request)
        if bad:
            tell(bad)
        rest = tuple(x for x in request.recipients if not _unsendable(x))
        if not rest:
            return Report(request, bad)
        why = _TOO_LATE if caller.time_left() <= 0 else self._suspended(request, caller)
        if why is not None:
            outcomes = deferred(rest, why)
            tell(outcomes)
            return _with(bad, Report(request, outcomes, suspended=True))
        nobody_waits = False

        def abandoned() -> bool:
            nonlocal nobody_waits
            nobody_waits = caller.abandoned()
            return nobody_waits

        context = DeliveryContext(
            self.settings,
            request._replace(recipients=rest),
            message,
            time_left=caller.time_left,
            note=note,
            on_outcomes=tell,
            on_final_dot=caller.on_final_dot,
            state=self.state,
            abandoned=abandoned,
            trace=caller.trace,
            credentials=caller.credentials,
        )
        self._report_tls(context)
        report = self._attempt(context, caller.stream)
        try:
            if not nobody_waits:
                # Otherwise we hung up, which says nothing about the destination.
                self._remember(report, caller, note)
            report = self._afterwards(report, note, caller)
            _close_tables(context, note)
            return _with(bad, report._replace(request=request))
        except Exception as bug:  # noqa: BLE001  somebody may have the message
            warn(note, "report", bug)
            return report._replace(outcomes=(*bad, *report.outcomes))

    def probe(
        self,
        request: DeliveryRequest,
        caller: Caller,
        *,
        depth: Depth,
        found: Callable[[ProbeResult], None],
        listed: Callable[[Destination, Sequence[Relay], Addressless], None],
        every: bool,
    ) -> Report | None:
        """Ask the servers that a delivery would ask, down to a depth; send nothing.

        `listed` is told of the servers of a destination beforehand, `found` of each
        when it was asked. `every`: also those that a delivery would not
        come to. None: a server let us come as deep as was wanted, short of RCPT.
        Raises TableError, ConfigError.
        """
        from postfix_trouble.message.message import Message
        from postfix_trouble.smtp.probing import Probe

        context = DeliveryContext(
            self.settings,
            request,
            Message.from_bytes(b""),
            time_left=caller.time_left,
            note=caller.note or self.write,
            trace=caller.trace,
            credentials=caller.credentials,
        )
        context.policies_of = self._policies(context.note)
        probe = Probe(
            request,
            context.destinations(),
            self.settings,
            context,
            depth=depth,
            found=found,
            listed=listed,
            status_filter=context.status_filter(),
        )
        report = probe.run()
        if every:
            probe.rest()
        context.close()
        return report

    def _policies(self, note: Callable[[str], None]) -> State | None:
        """Whose MTA-STS policies a probe knows: those of deliveries by this account.

        A database that is opened by another account, root above all, may no longer be
        written by its own.
        """
        directory = self.settings.text("trouble_state_directory")
        if not directory or not self.settings.flag("trouble_mta_sts"):
            return None
        import os

        try:
            owner = os.stat(directory).st_uid
        except OSError as problem:
            note(f"MTA-STS policies of {directory} not read: {problem.strerror}")
            return None
        if owner != os.geteuid():
            note(
                f"MTA-STS policies of {directory} not read: it belongs to another"
                f" account (user id {owner})"
            )
            return None
        self.open_state(note)
        return self.state

    def _refused(self, request: DeliveryRequest) -> tuple[Outcome, ...]:
        """Who has an address that can't be said; they bounce, and they alone."""
        bad = tuple(filter(_unsendable, request.recipients))
        if not bad:
            return ()
        from postfix_trouble.policy.trouble import OutcomeRules, bounce_append

        rules = OutcomeRules(self.settings.flag("soft_bounce"))
        return tuple(bounce_append(rules, each, BAD_RECIPIENT) for each in bad)

    def _attempt(self, context: DeliveryContext, stream: bool) -> Report:
        """Deliver. What the configuration lacks defers; nobody has an outcome then."""
        request = context.request
        try:
            if self.connections is None:
                return deliver_request(context)
            with self.connections.use(request.nexthop, stream) as more:
                context.lease = self.connections.lease(self.settings, request, more)
                return deliver_request(context)
        except TableError as problem:
            why = DSN(EnhancedStatus("4.3.0"), f"table look-up error: {problem}")
        except ConfigError as problem:
            text = f"mail system configuration error: {problem}"
            why = DSN(EnhancedStatus("4.3.5"), text)
        outcomes = deferred(request.recipients, why)
        context.on_outcomes(outcomes)
        return Report(request, outcomes, suspended=True)

    # --- destinations in trouble, and the postmaster

    def suspended(self) -> int:
        """How many destinations are suspended now, as far as this process knows."""
        return self._throttled.suspended() if self._throttled is not None else 0

    def _suspended(self, request: DeliveryRequest, caller: Caller) -> DSN | None:
        throttled = self._destinations(caller)
        return None if throttled is None else throttled.check(request.nexthop)

    def _destinations(self, caller: Caller) -> Throttled | None:
        """Destinations in trouble; None where nobody would remember them."""
        with self._opening:
            if not (self.state or self._throttles or caller.throttles):
                return None
            if self._throttled is None:
                from postfix_trouble.client.throttled import Throttled

                retry_time = self.settings.seconds("trouble_destination_retry_time")
                self._throttled = Throttled(retry_time, self.state)
            return self._throttled

    def _report_tls(self, context: DeliveryContext) -> None:
        """Tell what becomes of TLS, if the settings say so (TLSRPT)."""
        if not context.request.lmtp and self.settings.flag("smtp_tlsrpt_enable"):
            from postfix_trouble.client.tls_reports import TlsReports

            context.tls_reports = TlsReports(
                self.settings,
                context.new_resolver,
                time_left=context.time_left,
                note=context.note,
            )

    def _remember(
        self, report: Report, caller: Caller, note: Callable[[str], None]
    ) -> None:
        """What the next requests should know; no outcome changes."""
        try:
            throttled = self._destinations(caller)
            if throttled is not None:
                throttled.remember(report)
        except Exception as bug:  # noqa: BLE001  the outcomes stand
            warn(note, "after the delivery", bug)

    def _afterwards(
        self, report: Report, note: Callable[[str], None], caller: Caller
    ) -> Report:
        """What the postmaster should know; no outcome changes."""
        try:
            if caller.verbose or any(server.errors for server in report.servers):
                return self._tell_postmaster(report, note, caller)
        except Exception as bug:  # noqa: BLE001  the outcomes stand
            warn(note, "after the delivery", bug)
        return report

    def _tell_postmaster(
        self, report: Report, note: Callable[[str], None], caller: Caller
    ) -> Report:
        from postfix_trouble.report.postmaster import tell
        from postfix_trouble.report.rate_limit import RareNotices

        if self._notices is None:
            self._notices = RareNotices(self.state)
        notices = tell(
            report,
            self.settings,
            self._notices,
            note,
            by_mail=caller.mail_notices,
            verbose=caller.verbose,
        )
        return report._replace(notices=notices)

    def close(self) -> None:
        """Say goodbye on connections that stayed open; close the state directory."""
        if self.connections is not None:
            self.connections.close()
        if self.state is not None:
            self.state.close()


def _with(bad: tuple[Outcome, ...], report: Report) -> Report:
    """The report with those in it who were not tried."""
    if not bad:
        return report
    found = sorted((*bad, *report.outcomes), key=lambda end: end.recipient.position)
    return report._replace(outcomes=tuple(found))


def _close_tables(context: DeliveryContext, note: Callable[[str], None]) -> None:
    """Hang up on the servers that tables are looked up at; no outcome changes."""
    try:
        context.close()
    except Exception as bug:  # noqa: BLE001  the outcomes stand
        warn(note, "closing tables", bug)


def _unsendable(recipient: Recipient) -> bool:
    return not recipient.address or unsendable(recipient.address)
