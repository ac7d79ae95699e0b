"""One request of pipe(8): delivered, remembered, and answered with one result.

pipe(8) takes one result for all recipients and can't suspend a destination. Where there
is a state directory, what Postfix's own agents tell the queue manager is remembered
there instead: who is finished (the ledger) and which destination is in trouble.
policy/mixed.py says what the answer is; this module does what that takes.
"""

from __future__ import annotations

import time

from postfix_trouble.agent import Agent, deliver_request
from postfix_trouble.frontends.command import BAD_RECIPIENT, refused
from postfix_trouble.model.value import TYPE_CHECKING
from postfix_trouble.model.verdict import DSN, Disposition, Outcome, Report
from postfix_trouble.reports import pipe8
from postfix_trouble.reports.log import delivery_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.edge.maillog import MailLog
    from postfix_trouble.edge.message import Message
    from postfix_trouble.edge.state import State
    from postfix_trouble.frontends.interrupts import Watch
    from postfix_trouble.model.envelope import DeliveryRequest, Recipient
    from postfix_trouble.reports.pipe8 import Exit

    Ended: TypeAlias = Callable[[tuple[Outcome, ...]], None]


class PipeRequest:
    """A delivery request and what belongs to it."""

    def __init__(
        self,
        settings: Settings,
        request: DeliveryRequest,
        message: Message,
        watch: Watch,
        log: MailLog,
        *,
        age: float | None,
        by_hand: bool,
        verbose: bool,
    ) -> None:
        """`age`: seconds since the message arrived, None if that is not sure.
        `by_hand`: who reads the answer sees every outcome. Then several recipients
        need no ledger; and transcripts are not mailed."""
        self.settings = settings
        self.request = request
        self.message = message
        self.watch = watch
        self.log = log
        self.age = age or 0.0
        self.by_hand = by_hand
        self.verbose = verbose
        self.report: Report | None = None
        # Positions of recipients that had the message before this attempt.
        self.sent_before: frozenset[int] = frozenset()
        # Of this attempt, so far.
        self.outcomes: tuple[Outcome, ...] = ()
        self.notices: tuple[str, ...] = ()
        self._state: State | None = None
        # What is wrong with the state directory, if there is one.
        self._problem = ""
        # What became of recipients is remembered, and the one answer follows from that.
        self._ledgered = False
        self._started = time.monotonic()

    def note(self, text: str) -> None:
        """Log something about this request."""
        self.log.write(f"{self.request.queue_id or 'NOQUEUE'}: {text}")

    def deliver(self) -> Exit:
        """Deliver, and say how it ended."""
        directory = self.settings.text("trouble_state_directory")
        if directory:
            self._open_state(directory)
        end = self._with_ledger()
        if end is not None:
            return end
        return pipe8.result(self.attempt(self.request, self.ended).outcomes)

    def age_now(self) -> float:
        """Seconds since the message arrived."""
        return self.age + time.monotonic() - self._started

    def _open_state(self, directory: str) -> None:
        from postfix_trouble.edge.state import State, StateProblem

        state = State.open(directory, self.note)
        if isinstance(state, StateProblem):
            # With one recipient nothing hangs on it: the delivery goes on.
            self.note(f"warning: {state.text}")
            self._problem = state.text
        else:
            self._state = state

    # --- one attempt

    def attempt(self, request: DeliveryRequest, ended: Ended) -> Report:
        """Try the recipients of the request, unless the destination is in trouble."""
        bad = tuple(filter(refused, request.recipients))
        if bad:
            return self._without(bad, request, ended)
        self.report = report = self._suspended(request, ended) or deliver_request(
            Agent(
                self.settings,
                request,
                self.message,
                left=self.watch.left,
                note=self.note,
                ended=ended,
                critical=self.watch.critical,
                abandoned=self._abandoned,
                state=self._state,
            )
        )
        self._remember_destination(report)
        self._tell_postmaster(report)
        return report

    def _without(
        self, bad: tuple[Recipient, ...], request: DeliveryRequest, ended: Ended
    ) -> Report:
        """Try those whose addresses can be said; the others bounce, and they alone."""
        from postfix_trouble.policy.trouble import Appending, bounce_append

        rules = Appending(self.settings.flag("soft_bounce"))
        outcomes = tuple(bounce_append(rules, each, BAD_RECIPIENT) for each in bad)
        ended(outcomes)
        left = tuple(each for each in request.recipients if each not in bad)
        report = Report(request, ())
        if left:
            report = self.attempt(request._replace(recipients=left), ended)
        found = sorted(
            (*outcomes, *report.outcomes), key=lambda end: end.recipient.position
        )
        self.report = report._replace(request=request, outcomes=tuple(found))
        return self.report

    def _abandoned(self) -> bool:
        """Asked before the end of the message: does anybody wait for the answer?

        If not, Postfix has deferred the mail, and will give it to us again.
        """
        if self.watch.abandoned():
            self.note("nobody waits for the answer: the message is not sent")
            self.watch.abandon()
        return False

    def ended(self, outcomes: tuple[Outcome, ...]) -> None:
        """Log outcomes as Postfix does. Those that are known already are no more."""
        self.outcomes += tuple(x for x in outcomes if x not in self.outcomes)
        queue_id = self.request.queue_id or "NOQUEUE"
        for record in delivery_records(queue_id, outcomes, self.settings):
            self.log.write(record)
        if self.settled:
            self.watch.settled()

    @property
    def settled(self) -> bool:
        """Everybody has the message, and nothing that comes now can change that."""
        sent = set(self.sent_before)
        for end in self.outcomes:
            if end.disposition is Disposition.SENT:
                sent.add(end.recipient.position)
        return len(sent) == len(self.request.recipients)

    @property
    def _by_ledger(self) -> bool:
        """Only with the ledger there is one answer for all recipients."""
        several = len(self.request.recipients) > 1
        return several and (self._ledgered or not self.by_hand)

    def so_far(self, why: DSN) -> Report | None:
        """What is known when something of ours has gone wrong: who has the message
        must not get it again, and the rest is put off. None if the ledger knows more
        than can be told here."""
        if self._by_ledger and not (self.outcomes and self.settled):
            return None
        done = {outcome.recipient.position for outcome in self.outcomes}
        done |= self.sent_before
        rest = (
            Outcome(recipient, Disposition.DEFERRED, why, action="delayed")
            for recipient in self.request.recipients
            if recipient.position not in done
        )
        found = sorted((*self.outcomes, *rest), key=lambda end: end.recipient.position)
        self.report = Report(self.request, tuple(found))
        return self.report

    # --- destinations in trouble

    def _retry_time(self) -> float:
        if self._state is None:
            return 0.0
        return self.settings.seconds("trouble_destination_retry_time")

    def _suspended(self, request: DeliveryRequest, ended: Ended) -> Report | None:
        """The report of an attempt that is not made, None if it may be made."""
        retry_time = self._retry_time()
        if self._state is None or not retry_time:
            return None
        now = time.time()
        standing = self._state.destinations.check(request.nexthop, now, retry_time)
        if not isinstance(standing, DSN):
            return None
        outcomes = tuple(
            Outcome(recipient, Disposition.DEFERRED, standing, action="delayed")
            for recipient in request.recipients
        )
        ended(outcomes)
        return Report(request, outcomes, suspended=True)

    def _remember_destination(self, report: Report) -> None:
        if self._state is None or not self._retry_time() or report.suspended:
            return
        destinations, name = self._state.destinations, report.request.nexthop
        if report.throttled is not None:
            destinations.mark(name, report.throttled, time.time())
        else:
            destinations.clear(name)

    # --- several recipients

    def _with_ledger(self) -> Exit | None:
        """Deliver with a ledger. Refuse to without, if one is needed.

        None: there is none, and there need not be: for a single recipient, or by hand
        without a state directory. A single recipient is looked up too: the queue
        manager may group recipients in another way.
        """
        count = len(self.request.recipients)
        if self._state is None and count == 1:
            return None
        from postfix_trouble.policy import mixed

        named = bool(self.request.queue_id)
        if self._state is None:
            why = mixed.refusal(count, problem=self._problem)
            free = self.by_hand and not (named and self._problem)
            return None if free or why is None else self._refuse(why)
        if not named:
            # The same text once more may be another message: nobody's mail may be
            # taken for delivered because of that.
            free = self.by_hand or count == 1
            return None if free else self._refuse(mixed.NO_NAME)
        from postfix_trouble.frontends.ledgered import LedgeredRequest

        ledgered = LedgeredRequest(self, self._state)
        trouble = ledgered.open()
        if trouble is None:
            self._ledgered = True
            return ledgered.deliver()
        if trouble is mixed.IN_PROGRESS or count > 1:
            return self._refuse(trouble)
        return None

    def _refuse(self, why: DSN) -> Exit:
        self.note(why.reason)
        return pipe8.answer(why)

    # --- the postmaster

    def _tell_postmaster(self, report: Report) -> None:
        """Transcripts of sessions that went wrong go to the log, if wanted by mail."""
        if self.verbose or any(server.errors for server in report.servers):
            from postfix_trouble.frontends.postmaster import tell
            from postfix_trouble.frontends.rare_notices import RareNotices

            self.notices = tell(
                report,
                self.settings,
                RareNotices(self._state),
                self.note,
                by_mail=not self.by_hand,
                verbose=self.verbose,
            )
