"""The recipients of one delivery request: who is left, who is finished, and why.

After Postfix SMTP_STATE and smtp_rcpt.c. Every recipient is marked exactly once in
each session: KEEP (offered to the next host) or finished with an Outcome. Marking
twice, or ending a session with somebody unmarked, is a bug and raises; mail is deferred
by failsafe.py then, never lost.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.failure import TableError
from postfix_trouble.core.outcome import DSN, Action, Disposition, Outcome, deferred
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.tls import TlsStatus
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.policy import trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.core.envelope import DeliveryRequest, Recipient
    from postfix_trouble.core.outcome import Verdict
    from postfix_trouble.core.relay import Relay
    from postfix_trouble.core.reply import Reply


class Panic(Exception):
    """A recipient was marked twice or not at all. Not to be caught but at the top."""


class RecipientState:
    """State of a delivery request over all its sessions."""

    def __init__(
        self,
        request: DeliveryRequest,
        rules: trouble.OutcomeRules,
        clock: Callable[[], float],
        on_outcomes: Callable[[tuple[Outcome, ...]], None],
        note: Callable[[str], None],
    ) -> None:
        self.request = request
        self.clock = clock
        self._rules = rules
        self._on_outcomes = on_outcomes
        self.note = note
        now = clock()
        self.stamps = trouble.Stamps(now - request.age, now)
        # Recipients without a mark, in the order of the request.
        self.unmarked = list(request.recipients)
        self._kept: list[Recipient] = []
        self.outcomes: list[Outcome] = []
        # So many of them were passed on.
        self._told = 0
        self.skipped: list[str] = []
        self.verdicts: list[Verdict] = []
        # The report that counts if nobody takes the mail. Last writer wins.
        self.why = DSN()
        # Some session ran its transaction to the end.
        self.complete = False
        # Why the destination is to be suspended (hop status).
        self.throttled: DSN | None = None
        # Messages over the connection of the transaction, this one included.
        self.connection_use = 1
        # With the server that is tried, or was tried last.
        self.tls = TlsStatus()

    def skip(self, reason: str) -> None:
        """Log why a host or recipient is skipped in favour of another host."""
        self.skipped.append(reason)
        self.note(reason)

    def fail_all(self, verdict: Verdict, relay: Relay | None) -> None:
        """Apply a verdict to everybody who is not marked yet."""
        self.verdicts.append(verdict)
        self.why = verdict.dsn
        if verdict.action is Action.KEEP:
            self.skip(verdict.dsn.reason)
            self._kept += self.unmarked
            self.unmarked = []
            return
        self.stamps.bulk_failed(self.clock())
        finished = [self._failed(each, verdict, relay) for each in self.unmarked]
        self.unmarked = []
        deferred = self._end(finished)
        # What leaves nobody in the queue throttles nothing.
        if verdict.throttle and deferred and self.throttled is None:
            self.throttled = verdict.dsn

    def fail_one(self, recipient: Recipient, verdict: Verdict, relay: Relay) -> None:
        """Apply a verdict to one recipient."""
        self._mark(recipient)
        self.verdicts.append(verdict)
        self.why = verdict.dsn
        if verdict.action is Action.KEEP:
            self.skip(verdict.dsn.reason)
            self._kept.append(recipient)
        else:
            self._end([self._failed(recipient, verdict, relay)])

    def succeed(
        self, recipients: tuple[Recipient, ...], reply: Reply, relay: Relay, action: str
    ) -> None:
        """The server took the mail for these recipients."""
        finished = []
        for recipient in recipients:
            self._mark(recipient)
            finished.append(trouble.sent(self._rules, recipient, relay, reply, action))
        self._end(finished)

    def taken(
        self,
        recipients: tuple[Recipient, ...],
        reply: Reply,
        relay: Relay,
        action: str,
        bug: Exception,
    ) -> None:
        """The same, when succeed() has failed: that does not take the mail back.

        In the server's words then, whatever smtp_delivery_status_filter says.
        """
        warn(self.note, f"after {reply.code} to end of DATA", bug)
        ended = [outcome.recipient for outcome in self.outcomes]
        text = " ".join(reply.text.split("\n"))
        why = DSN(reply.status, text, relay.host, "smtp", text)
        for each in recipients:
            if each in self.unmarked:
                self.unmarked.remove(each)
            if each not in ended:
                self.outcomes.append(
                    Outcome(
                        each,
                        Disposition.SENT,
                        why,
                        relay.namaddrport,
                        action=action,
                        connection_use=self.connection_use,
                        tls=self.tls.text,
                    )
                )
        try:
            self._pass_on()
        except Exception as again:  # noqa: BLE001  nobody could be told
            warn(self.note, "outcomes", again)

    def break_off(self, problem: Exception) -> None:
        """Something of ours went wrong: who has ended stays so, the rest is deferred.

        Not a try at another server: it may be one that has the message already.
        """
        if isinstance(problem, TableError):
            text = f"table look-up error: {problem}"
            self.note(text)
        else:
            text = "internal error, see the log"
            warn(self.note, "delivery broken off", problem)
        self.defer_rest(EnhancedStatus("4.3.0"), text)

    def defer_rest(self, status: EnhancedStatus, text: str) -> None:
        """Nothing more is tried now: whoever has no outcome is deferred."""
        ended = [outcome.recipient for outcome in self.outcomes]
        left = [each for each in self.request.recipients if each not in ended]
        self.outcomes += deferred(left, DSN(status, text))
        self.unmarked, self._kept = [], []
        try:
            self._pass_on()
        except Exception as problem:  # noqa: BLE001  as above
            warn(self.note, "outcomes", problem)

    def end_session(self) -> None:
        """Offer who was kept to the next host (Postfix smtp_rcpt_cleanup)."""
        if self.unmarked:
            raise Panic(f"{len(self.unmarked)} recipients without a mark")
        self.unmarked = sorted(self._kept, key=lambda rcpt: rcpt.position)
        self._kept = []
        self.stamps.forget_session()
        self.connection_use = 1

    def _mark(self, recipient: Recipient) -> None:
        try:
            self.unmarked.remove(recipient)
        except ValueError:
            raise Panic(f"recipient {recipient.position} is marked already") from None

    def _failed(
        self, recipient: Recipient, verdict: Verdict, relay: Relay | None
    ) -> Outcome:
        """How a recipient ends by a verdict other than KEEP."""
        append = (
            trouble.defer_append
            if verdict.action is Action.DEFER
            else trouble.bounce_append
        )
        outcome = append(self._rules, recipient, verdict.dsn)
        where = relay.namaddrport if relay else "none"
        return outcome._replace(relay=where, verdict=verdict)

    def _end(self, finished: list[Outcome]) -> bool:
        """Record outcomes. True if any of these recipients stays in the queue."""
        delays = self.stamps.delays(self.clock())
        outcomes = tuple(
            outcome._replace(
                delays=delays, connection_use=self.connection_use, tls=self.tls.text
            )
            for outcome in finished
        )
        self.outcomes += outcomes
        self._pass_on()
        return any(outcome.action == "delayed" for outcome in outcomes)

    def _pass_on(self) -> None:
        """Pass on the outcomes that were not passed on yet."""
        new = tuple(self.outcomes[self._told :])
        if new:
            self._on_outcomes(new)
        self._told = len(self.outcomes)
