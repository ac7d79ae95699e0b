"""One answer for a request with several recipients.

pipe(8) takes one result for all recipients of a request. What follows is how
different outcomes are told to it without a recipient lost, served twice, or wrongly
reported as undeliverable:

- Who is refused while others are not is reported to the sender by us, with the attempt
  that refused, whatever becomes of the others. The ledger has it before (bounced) and
  after (reported): who is killed between the two reports once more, never not at all.
- While any recipient is deferred, the request is deferred, with the text of the
  first of those. The finished ones are remembered and not tried again.
- When all are sent, or all are bounced for one and the same reason and nobody was
  reported, that is the answer, and Postfix does the rest.
- Else the answer is "sent", with what became of how many: pipe(8) logs that once for
  each recipient, those that bounced included.
- If our report can't be submitted, the request is deferred (Postfix: `bounce or trace
  service failure`); what was bounced stays so, and only the report is tried again.
- A queue manager that gives up a message reports every recipient that we deferred,
  the delivered ones too. So once a request is old, its deferred recipients are
  reported by us, if any other one is finished. If none is, what the queue manager
  is going to report is true, and better (it knows NOTIFY).

A null sender is never sent a report, nor is one sent about a recipient whose NOTIFY
does not have FAILURE (RFC 3461 4.1).
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN, Disposition, Outcome
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import Value

# A recipient in a request: the address, and how many times it came before.
Place = tuple[str, int]

# Another process is still busy with a recipient of this request.
IN_PROGRESS = DSN(EnhancedStatus("4.3.0"), "delivery in progress")
# Postfix bounce(3), when the bounce service can't be used.
_NO_BOUNCE = DSN(EnhancedStatus("4.3.0"), "bounce or trace service failure")
_NO_DIRECTORY = DSN(
    EnhancedStatus("4.3.5"),
    "mail system configuration error: several recipients in one request need"
    " a state directory, or a recipient limit of 1",
)
# Without a name a second message is not told from a second attempt.
NO_NAME = DSN(
    EnhancedStatus("4.3.5"),
    "mail system configuration error: several recipients in one request need"
    " --queue-id",
)
_NO_OUTCOME = DSN(EnhancedStatus("4.3.0"), "internal error: no outcome")
# Codes that are named on success: pipe(8) logs 100 bytes of it.
_CODES = 3


class Finished(Value):
    """What is remembered of a recipient for whom nothing is left to try."""

    # SENT or BOUNCED.
    disposition: Disposition
    dsn: DSN
    # The sender was told that it bounced, or must not be told.
    reported: bool = False


class Settlement(Value):
    """What is said about the request as a whole, and what must be done before."""

    disposition: Disposition
    dsn: DSN
    # To be reported to the sender first. Only if that is accepted does the
    # disposition hold; otherwise see bounce_failed().
    bounce: tuple[Outcome, ...] = ()
    # Undeliverable, but the sender must not be told: for the log.
    silent: tuple[Outcome, ...] = ()


def places(recipients: Iterable[Recipient]) -> tuple[Place, ...]:
    """Name every recipient of a request, also those that stand there twice."""
    seen: dict[str, int] = defaultdict(int)
    found = []
    for recipient in recipients:
        found.append((recipient.address, seen[recipient.address]))
        seen[recipient.address] += 1
    return tuple(found)


def unfinished(
    recipients: Sequence[Recipient], finished: Mapping[Place, Finished]
) -> tuple[Recipient, ...]:
    """The recipients that are still to be tried, in their order."""
    named = zip(recipients, places(recipients), strict=True)
    return tuple(recipient for recipient, place in named if place not in finished)


def no_ledger(problem: str) -> DSN:
    """Why recipients are deferred that nothing can be remembered of."""
    return DSN(EnhancedStatus("4.3.0"), f"ledger unavailable: {problem}")


def refusal(count: int, *, problem: str) -> DSN | None:
    """Why a request with so many recipients can't be accepted without a ledger.

    `problem`: what is wrong with the state directory, empty if there is none.
    """
    if count <= 1:
        return None
    return no_ledger(problem) if problem else _NO_DIRECTORY


def bounce_failed() -> Settlement:
    """The settlement when the sender could not be told (Postfix bounce(3))."""
    return Settlement(Disposition.DEFERRED, _NO_BOUNCE)


def settle(
    request: DeliveryRequest,
    outcomes: Sequence[Outcome],
    finished: Mapping[Place, Finished],
    *,
    age: float,
    give_up_age: float,
    log: str,
) -> Settlement:
    """Decide the one answer.

    `request` has all recipients, `outcomes` those of this attempt, `finished` what
    the ledger knew before it. Ages are seconds; `age` is that of the message now,
    after the attempt. `log`: under which name the log has this attempt.
    """
    told, untold = _fates(request, outcomes, finished)
    deferred = _having(untold, Disposition.DEFERRED)
    bounced = _having(untold, Disposition.BOUNCED)
    sent = _having(untold, Disposition.SENT)
    if not (sent or told or deferred) and _one_answer(request, bounced):
        return Settlement(Disposition.BOUNCED, bounced[0].dsn)
    if deferred and not (age >= give_up_age and (told or bounced or sent)):
        # Of whom the sender must not be told it is decided in the end: if all bounce,
        # Postfix knows who else is to be told.
        due = tuple(fate for fate in bounced if _reportable(request, fate.recipient))
        return Settlement(Disposition.DEFERRED, deferred[0].dsn, due)
    failed = [fate for fate in untold if fate.disposition is not Disposition.SENT]
    wanted: list[Outcome] = []
    silent: list[Outcome] = []
    for fate in failed:
        told_now = _reportable(request, fate.recipient)
        (wanted if told_now else silent).append(fate)
    answer = _mixed(len(sent), [*told, *failed], log) if told or failed else sent[0].dsn
    return Settlement(Disposition.SENT, answer, tuple(wanted), tuple(silent))


def _mixed(sent: int, failed: Sequence[Outcome], log: str) -> DSN:
    """The answer for recipients of whom some failed: how many, and where to look.

    `status=expired` is what the queue manager logs when it gives up.
    """
    parts = [f"{sent} sent"] if sent else []
    for word, digit in (("bounced", "5"), ("expired", "4")):
        found = [end.dsn.status for end in failed if end.dsn.status.startswith(digit)]
        codes: list[str] = list(dict.fromkeys(found))
        more = ["..."] if len(codes) > _CODES else []
        shown = ", ".join([*codes[:_CODES], *more])
        parts += [f"{len(found)} {word} ({shown})"] if found else []
    return DSN(EnhancedStatus("2.0.0"), f"{', '.join(parts)}: see {log}")


def _fates(
    request: DeliveryRequest,
    outcomes: Sequence[Outcome],
    finished: Mapping[Place, Finished],
) -> tuple[list[Outcome], list[Outcome]]:
    """Who was reported as undeliverable before, and what became of the others."""
    now = defaultdict(list)
    for outcome in outcomes:
        now[outcome.recipient].append(outcome)
    told: list[Outcome] = []
    untold: list[Outcome] = []
    for recipient, place in zip(
        request.recipients, places(request.recipients), strict=True
    ):
        before = finished.get(place)
        if before is not None:
            where = told if before.reported else untold
            where.append(Outcome(recipient, before.disposition, before.dsn))
        elif now[recipient]:
            untold.append(now[recipient].pop(0))
        else:
            # Can't happen; if it does, the recipient is not lost.
            untold.append(Outcome(recipient, Disposition.DEFERRED, _NO_OUTCOME))
    return told, untold


def _having(outcomes: Iterable[Outcome], disposition: Disposition) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.disposition == disposition]


def _one_answer(request: DeliveryRequest, bounced: Sequence[Outcome]) -> bool:
    """Whether Postfix can report all of these itself, in the words of the first.

    A bounce of the null sender is Postfix's business in any words: it knows who is
    to have a copy (2bounce_notice_recipient), we don't.
    """
    answers = {(outcome.dsn.status, outcome.dsn.reason) for outcome in bounced}
    return len(answers) == 1 or not request.sender


def _reportable(request: DeliveryRequest, recipient: Recipient) -> bool:
    if not request.sender:
        return False
    words = recipient.notify.upper().replace(",", " ").split()
    return not words or "FAILURE" in words
