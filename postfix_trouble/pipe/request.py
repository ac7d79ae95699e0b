"""One request of pipe(8): delivered, remembered, and answered with one result.

pipe(8) takes one result for all recipients and can't suspend a destination. Where there
is a state directory, what Postfix's own agents tell the queue manager is remembered
there instead: who is finished (the ledger) and which destination is in trouble.
policy/multi_recipient.py says what the answer is; this module does what that takes.
"""

from __future__ import annotations

import time

from postfix_trouble.client import Caller
from postfix_trouble.core.outcome import (
    DSN,
    Disposition,
    Outcome,
    Report,
    deferred,
)
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.report import pipe8

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from postfix_trouble.client import Service
    from postfix_trouble.core.envelope import DeliveryRequest
    from postfix_trouble.message.message import Message
    from postfix_trouble.pipe.deadline import Waiting
    from postfix_trouble.report.maillog import MailLog
    from postfix_trouble.report.pipe8 import Exit

    Ended: TypeAlias = Callable[[tuple[Outcome, ...]], None]


class PipeRequest:
    """A delivery request and what belongs to it."""

    def __init__(
        self,
        service: Service,
        request: DeliveryRequest,
        message: Message,
        deadline: Waiting,
        log: MailLog,
        *,
        age: float | None,
        by_hand: bool,
        verbose: bool,
        problem: str = "",
    ) -> None:
        """`age`: seconds since the message arrived, None if that is not sure.
        `by_hand`: who reads the answer sees every outcome. Then several recipients
        need no ledger; and transcripts are not mailed. `problem`: what is wrong with
        the state directory, if there is to be one."""
        self.service = service
        self.settings = service.settings
        self.request = request
        self.message = message
        self.deadline = deadline
        self.log = log
        self.age = age or 0.0
        self.by_hand = by_hand
        self.verbose = verbose
        self.report: Report | None = None
        # Positions of recipients that had the message before this attempt.
        self.sent_before: frozenset[int] = frozenset()
        # Of this attempt, so far.
        self.outcomes: tuple[Outcome, ...] = ()
        self._state = service.state
        self._problem = problem
        # What became of recipients is remembered, and the one answer follows from that.
        self._ledgered = False
        self._started = time.monotonic()

    def note(self, text: str) -> None:
        """Log something about this request."""
        self.log.write(f"{self.request.queue_id or 'NOQUEUE'}: {text}")

    def deliver(self) -> Exit:
        """Deliver, and say how it ended."""
        end = self._with_ledger()
        if end is not None:
            return end
        return pipe8.result(self.attempt(self.request, self.on_outcomes).outcomes)

    def age_now(self) -> float:
        """Seconds since the message arrived."""
        return self.age + time.monotonic() - self._started

    # --- one attempt

    def attempt(self, request: DeliveryRequest, on_outcomes: Ended) -> Report:
        """Try the recipients of the request, unless the destination is in trouble."""
        self.report = self.service.deliver(
            request,
            self.message,
            Caller(
                time_left=self.deadline.time_left,
                note=self.note,
                on_outcomes=on_outcomes,
                on_final_dot=self.deadline.on_final_dot,
                abandoned=self._abandoned,
                mail_notices=not self.by_hand,
                verbose=self.verbose,
            ),
        )
        return self.report

    def _abandoned(self) -> bool:
        """Asked before the end of the message: does anybody wait for the answer?

        If not, Postfix has deferred the mail, and will give it to us again.
        """
        if self.deadline.abandoned():
            self.note("nobody waits for the answer: the message is not sent")
            self.deadline.abandon()
        return False

    def on_outcomes(self, outcomes: tuple[Outcome, ...]) -> None:
        """Recipients are finished. Those that are known already are no more."""
        self.outcomes += tuple(x for x in outcomes if x not in self.outcomes)
        if self.settled:
            self.deadline.settled()

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
        must not get it again, and the rest is deferred. None if the ledger knows more
        than can be told here."""
        if self._by_ledger and not (self.outcomes and self.settled):
            return None
        done = {outcome.recipient.position for outcome in self.outcomes}
        done |= self.sent_before
        rest = [x for x in self.request.recipients if x.position not in done]
        known = (*self.outcomes, *deferred(rest, why))
        found = sorted(known, key=lambda end: end.recipient.position)
        self.report = Report(self.request, tuple(found))
        return self.report

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
        from postfix_trouble.policy import multi_recipient

        named = bool(self.request.queue_id)
        if self._state is None:
            why = multi_recipient.refusal(count, problem=self._problem)
            free = self.by_hand and not (named and self._problem)
            return None if free or why is None else self._refuse(why)
        if not named:
            # The same text once more may be another message: nobody's mail may be
            # taken for delivered because of that.
            free = self.by_hand or count == 1
            return None if free else self._refuse(multi_recipient.NO_NAME)
        from postfix_trouble.pipe.ledgered import LedgeredRequest

        ledgered = LedgeredRequest(self, self._state)
        trouble = ledgered.open()
        if trouble is None:
            self._ledgered = True
            return ledgered.deliver()
        if trouble is multi_recipient.IN_PROGRESS or count > 1:
            return self._refuse(trouble)
        return None

    def _refuse(self, why: DSN) -> Exit:
        self.note(why.reason)
        return pipe8.answer(why)
