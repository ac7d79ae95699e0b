"""A request with several recipients, and the ledger that makes one result enough.

The order of things is what keeps recipients from being lost or served twice: lock,
read what is finished, write a row for what is to be tried (a full disk shows before
MAIL), deliver, write down each end as it comes, report to the sender, answer.
"""

from __future__ import annotations

import time

from postfix_trouble.edge.state import Lock, StateProblem, request_key
from postfix_trouble.model.status import EnhancedStatus
from postfix_trouble.model.value import TYPE_CHECKING
from postfix_trouble.model.verdict import DSN, Disposition
from postfix_trouble.policy import mixed
from postfix_trouble.policy.mixed import Finished
from postfix_trouble.reports import pipe8

if TYPE_CHECKING:
    from postfix_trouble.edge.state import State
    from postfix_trouble.frontends.pipe_request import PipeRequest
    from postfix_trouble.model.verdict import Outcome
    from postfix_trouble.policy.mixed import Place, Settlement
    from postfix_trouble.reports.pipe8 import Exit

_NO_BOOKS = DSN(EnhancedStatus("4.3.0"), "ledger unavailable")


class LedgeredRequest:
    """A request whose finished recipients are remembered."""

    def __init__(self, owner: PipeRequest, state: State) -> None:
        self._owner = owner
        self._ledger = state.ledger
        self._request = owner.request
        self._places = mixed.places(self._request.recipients)
        self._key = request_key(
            self._request.queue_id, self._request.sender, owner.message.digest()
        )
        self._known: dict[Place, Finished] = {}

    def open(self) -> DSN | None:
        """Make sure that the books can be kept; the report of a refusal if not."""
        lock = self._ledger.lock(self._key, self._places)
        if lock is Lock.BUSY:
            return mixed.IN_PROGRESS
        known = self._ledger.finished(self._key)
        probe = self._ledger.probe(self._key, self._places)
        for found in (lock, known, probe):
            if isinstance(found, StateProblem):
                self._owner.note(f"warning: {found.text}")
                return _NO_BOOKS
        assert isinstance(known, dict)
        self._known = known
        return None

    def deliver(self) -> Exit:
        """Try who is left, and give one answer for all."""
        outcomes: tuple[Outcome, ...] = ()
        left = mixed.unfinished(self._request.recipients, self._known)
        if left:
            part = self._request._replace(recipients=left)
            outcomes = self._owner.attempt(part, self._ended).outcomes
        settlement = self._settle(outcomes)
        if settlement.disposition is not Disposition.BOUNCED:
            # Else Postfix is told now. It may put that off (soft_bounce in its own
            # main.cf), and must not hear of it from here for ever then.
            self._record(outcomes, Disposition.BOUNCED)
        for outcome in settlement.silent:
            address, reason = outcome.recipient.address, outcome.dsn.reason
            self._owner.note(f"to=<{address}>: sender is not to be told: {reason}")
        told = settlement.bounce + settlement.silent
        if settlement.bounce and not self._report(settlement.bounce):
            settlement = mixed.bounce_failed()
        else:
            self._record(told, Disposition.BOUNCED, reported=True)
        if settlement.disposition is not Disposition.DEFERRED:
            self._ledger.settled(self._key)
        return pipe8.answer(settlement.dsn)

    def _settle(self, outcomes: tuple[Outcome, ...]) -> Settlement:
        null = not self._request.sender
        return mixed.settle(
            self._request,
            outcomes,
            self._known,
            own_bounces=True,
            age=self._owner.age_now(),
            give_up_age=self._owner.settings.give_up_age(null),
        )

    def _ended(self, outcomes: tuple[Outcome, ...]) -> None:
        """What was delivered is written down before anything else happens."""
        self._record(outcomes, Disposition.SENT)
        self._owner.ended(outcomes)

    def _record(
        self,
        outcomes: tuple[Outcome, ...],
        disposition: Disposition,
        *,
        reported: bool = False,
    ) -> None:
        """Remember those of the outcomes that are of a kind, or all if reported."""
        rows = {
            self._places[end.recipient.position]: Finished(
                disposition, end.dsn, reported
            )
            for end in outcomes
            if reported or end.disposition is disposition
        }
        problem = self._ledger.record(self._key, rows) if rows else None
        if problem is not None:
            # Too late to put the mail off: it may be delivered twice, never lost.
            self._owner.note(f"warning: ledger: {problem.text}")

    def _report(self, failed: tuple[Outcome, ...]) -> bool:
        """Tell the sender, and remember that. False if the report was not accepted."""
        from postfix_trouble.edge.sendmail import submit
        from postfix_trouble.frontends.postmaster import mail_system
        from postfix_trouble.reports import bounce

        owner, settings, now = self._owner, self._owner.settings, time.time()
        report = bounce.build(
            self._request,
            failed,
            owner.message.chunks(),
            mail_system(settings),
            now=now,
            arrival=now - owner.age_now(),
            size_limit=settings.integer("bounce_size_limit"),
            threaded=settings.flag("enable_threaded_bounces"),
        )
        problem = submit(
            report,
            "",
            [self._request.sender],
            sendmail_path=settings.text("sendmail_path"),
            note=owner.note,
        )
        if problem:
            return False
        owner.note("sender non-delivery notification submitted")
        return True
