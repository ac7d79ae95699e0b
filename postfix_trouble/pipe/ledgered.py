"""A request with several recipients, and the ledger that makes one result enough.

The order of things is what keeps recipients from being lost or served twice: lock,
read what is finished, write a row for what is to be tried (a full disk shows before
MAIL), deliver, write down who was sent the message as it comes and who was refused
after that, report those to the sender, write that down, answer.
"""

from __future__ import annotations

import time

from postfix_trouble.core.outcome import Disposition, Outcome, Report
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.policy import multi_recipient
from postfix_trouble.policy.multi_recipient import Finished
from postfix_trouble.report import pipe8
from postfix_trouble.state import Lock, StateProblem, request_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.envelope import DeliveryRequest
    from postfix_trouble.core.outcome import DSN
    from postfix_trouble.message.message import Message
    from postfix_trouble.policy.multi_recipient import Place, Settlement
    from postfix_trouble.report.maillog import MailLog
    from postfix_trouble.report.pipe8 import Exit
    from postfix_trouble.state import State

    class Attempts(Protocol):
        """The request whose recipients are tried (pipe/request.py)."""

        request: DeliveryRequest
        message: Message
        settings: Settings
        log: MailLog
        report: Report | None
        #: Positions of recipients who had the message before.
        sent_before: frozenset[int]

        def note(self, text: str) -> None:
            """Log something about the request."""

        def age_now(self) -> float:
            """Seconds since the message arrived."""

        def attempt(
            self,
            request: DeliveryRequest,
            on_outcomes: Callable[[tuple[Outcome, ...]], None],
        ) -> Report:
            """Try recipients; `on_outcomes` is told of outcomes as they come."""

        def on_outcomes(self, outcomes: tuple[Outcome, ...]) -> None:
            """Recipients are finished."""


class LedgeredRequest:
    """A request whose finished recipients are remembered."""

    def __init__(self, owner: Attempts, state: State) -> None:
        self._owner = owner
        self._ledger = state.new_ledger()
        self._request = owner.request
        self._places = multi_recipient.places(self._request.recipients)
        self._key = request_key(
            self._request.queue_id, self._request.sender, owner.message.digest()
        )
        self._known: dict[Place, Finished] = {}

    def open(self) -> DSN | None:
        """Make sure that the ledger can be written; the report of a refusal if not."""
        lock = self._ledger.lock(self._key, self._places)
        if lock is Lock.BUSY:
            return multi_recipient.IN_PROGRESS
        known = self._ledger.finished(self._key)
        probe = self._ledger.probe(self._key, self._places, known=bool(known))
        for found in (lock, known, probe):
            if isinstance(found, StateProblem):
                self._owner.note(f"warning: {found.text}")
                return multi_recipient.no_ledger(found.text)
        assert isinstance(known, dict)
        self._known = known
        self._owner.sent_before = frozenset(
            position
            for position, place in enumerate(self._places)
            if place in known and known[place].disposition is Disposition.SENT
        )
        return None

    def deliver(self) -> Exit:
        """Try who is left, and give one answer for all."""
        try:
            return self._deliver()
        finally:
            self._ledger.unlock()

    def _deliver(self) -> Exit:
        outcomes: tuple[Outcome, ...] = ()
        left = multi_recipient.unfinished(self._request.recipients, self._known)
        if left:
            part = self._request._replace(recipients=left)
            outcomes = self._owner.attempt(part, self._ended).outcomes
        settlement = self._carried_out(self._settle(outcomes), outcomes)
        if settlement.disposition is not Disposition.DEFERRED:
            self._ledger.settled(self._key)
        self._owner.report = self._whole(outcomes, settlement)
        return pipe8.answer(settlement.dsn)

    def _carried_out(
        self, settlement: Settlement, outcomes: tuple[Outcome, ...]
    ) -> Settlement:
        """Report what has to be reported. The settlement that holds after that."""
        if settlement.disposition is Disposition.BOUNCED:
            # Postfix is told now. It may defer that (soft_bounce in its own main.cf),
            # and must not hear of it from here for ever then.
            return settlement
        owner = self._owner
        remembered = self._record(outcomes, Disposition.BOUNCED)
        if settlement.disposition is Disposition.DEFERRED and not remembered:
            # Nothing is lost if they are tried again; but a report that nobody
            # remembers would go out at every attempt.
            return settlement._replace(bounce=())
        for outcome in settlement.silent:
            address, reason = outcome.recipient.address, outcome.dsn.reason
            owner.note(f"to=<{address}>: sender is not to be told: {reason}")
        told = settlement.bounce + settlement.silent
        if settlement.bounce and not self._report(settlement.bounce):
            return multi_recipient.bounce_failed()
        self._record(told, Disposition.BOUNCED, reported=True)
        if settlement.disposition is Disposition.SENT:
            # The answer names this attempt: what its records don't have is said here.
            for place in self._places:
                end = self._known.get(place)
                if end is not None and end.disposition is Disposition.BOUNCED:
                    owner.note(f"to=<{place[0]}>: bounced before: {end.dsn.reason}")
        return settlement

    def _whole(self, outcomes: tuple[Outcome, ...], settlement: Settlement) -> Report:
        """The report with everybody in it: --json shows what became of whom."""
        ends = {outcome.recipient.position: outcome for outcome in outcomes}
        if settlement.disposition is Disposition.SENT:
            for each in settlement.bounce + settlement.silent:
                # Given up, if it was deferred.
                end = each._replace(disposition=Disposition.BOUNCED, action="failed")
                ends[each.recipient.position] = end
        for recipient in self._request.recipients:
            before = self._known.get(self._places[recipient.position])
            if before is not None:
                sent = before.disposition is Disposition.SENT
                action = "relayed" if sent else "failed"
                ends[recipient.position] = Outcome(
                    recipient, before.disposition, before.dsn, action=action
                )
        report = self._owner.report or Report(self._request, ())
        found = tuple(ends[position] for position in sorted(ends))
        return report._replace(request=self._request, outcomes=found)

    def _settle(self, outcomes: tuple[Outcome, ...]) -> Settlement:
        null = not self._request.sender
        return multi_recipient.settle(
            self._request,
            outcomes,
            self._known,
            age=self._owner.age_now(),
            give_up_age=self._owner.settings.give_up_age(null),
            log=self._owner.log.name,
        )

    def _ended(self, outcomes: tuple[Outcome, ...]) -> None:
        """What was delivered is written down before anything else happens."""
        self._record(outcomes, Disposition.SENT)
        self._owner.on_outcomes(outcomes)

    def _record(
        self,
        outcomes: tuple[Outcome, ...],
        disposition: Disposition,
        *,
        reported: bool = False,
    ) -> bool:
        """Remember those of the outcomes that are of a kind, or all if reported.
        False if they can't be."""
        rows = {
            self._places[end.recipient.position]: Finished(
                disposition, end.dsn, reported
            )
            for end in outcomes
            if reported or end.disposition is disposition
        }
        problem = self._ledger.record(self._key, rows) if rows else None
        if problem is not None:
            # What is not written down is delivered again: it is worth a second try.
            problem = self._ledger.record(self._key, rows)
        if problem is not None:
            # Too late to defer the mail: it may be delivered twice, never lost.
            self._owner.note(f"warning: ledger: {problem.text}")
        return problem is None

    def _report(self, failed: tuple[Outcome, ...]) -> bool:
        """Tell the sender, and remember that. False if the report was not accepted."""
        from postfix_trouble.report import bounce
        from postfix_trouble.report.postmaster import mail_system
        from postfix_trouble.report.sendmail import submit

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
