"""What the policy decides, and what becomes of a recipient."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.tls import StsPolicy, TlsFacts, TlsStatus
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterable


class DSN(Value):
    """Why a recipient ends as it does (Postfix DSN_BUF, `why`)."""

    status: EnhancedStatus = EnhancedStatus("")
    reason: str = ""
    # Host name of the server that decided, empty if we did.
    remote_mta: str = ""
    # "smtp", "lmtp" or "x-sasl"; empty together with the diagnostic.
    diagnostic_type: str = ""
    diagnostic: str = ""


class Skipped(Value):
    """Why a server is not asked at all: its TLS policy."""

    # Without a status it leaves no trace in the report: what an earlier server left
    # there stands.
    why: DSN
    # What is known of the policy.
    tls: TlsStatus = TlsStatus("unknown?")
    # What the log was told.
    said: str = ""
    # What MTA-STS says of the destination, if somebody asked.
    sts: StsPolicy | None = None


class Situation(Value):
    """All that the policy looks at besides the failure itself."""

    # None: no session exists (name service, connection refused).
    relay: Relay | None = None
    # No further host will be tried for this request.
    final_server: bool = False
    soft_bounce: bool = False
    # An earlier session of this request ran its transaction to the end.
    complete: bool = False
    # A connection that breaks now may be tried again without TLS.
    plaintext_fallback: bool = False


class Action(Choice):
    """What is done about a recipient now."""

    KEEP = "keep"  # may be tried at a later host
    DEFER = "defer"  # finished for this request, to be tried again later
    BOUNCE = "bounce"  # finished for ever


class Verdict(Value):
    """A decision of the policy: what happens now. How it ended is in an Outcome."""

    action: Action
    dsn: DSN
    # The destination as a whole is in trouble, if this leads to a deferral.
    throttle: bool = False
    # The session may be used for another message.
    reusable: bool = True
    # The server as such is in trouble, whatever becomes of the mail.
    server_failed: bool = False
    # The server broke the protocol: the postmaster may want a transcript.
    protocol_error: bool = False
    # Same address again at once, without TLS.
    retry_plaintext: bool = False
    # Which entry point decided, and what it looked at besides the failure.
    entry: str = ""
    now: Situation | None = None


class Disposition(Choice):
    """The word after `status=` in the log."""

    SENT = "sent"
    DEFERRED = "deferred"
    BOUNCED = "bounced"


class Delays(Value):
    """Seconds: before the queue manager, in it, connection set-up, transmission."""

    before_queue_manager: float = 0.0
    in_queue_manager: float = 0.0
    connection_setup: float = 0.0
    transmission: float = 0.0

    @property
    def total(self) -> float:
        """Seconds from arrival to the end of this delivery attempt."""
        return sum(self)


class Outcome(Value):
    """How one recipient ended. Final: there is exactly one for each."""

    recipient: Recipient
    disposition: Disposition
    dsn: DSN
    # `host[address]:port`, or "none" where no session existed.
    relay: str = "none"
    delays: Delays = Delays()
    # relayed, delivered, delayed or failed (RFC 3464 Action).
    action: str = ""
    # Deferred only because soft_bounce turned a bounce into that.
    soft_bounce: bool = False
    # Deliveries over this connection, this one included.
    connection_use: int = 1
    # The decision that led to this; None: sent, or nothing was tried.
    verdict: Verdict | None = None
    # What became of TLS with the server that was tried last (TlsStatus).
    tls: str = ""


def deferred(recipients: Iterable[Recipient], why: DSN) -> tuple[Outcome, ...]:
    """The outcomes of recipients that are not tried, or no further."""
    return tuple(
        Outcome(recipient, Disposition.DEFERRED, why, action="delayed")
        for recipient in recipients
    )


class ServerRecord(Value):
    """One session: with whom, and what was said."""

    relay: Relay
    tls: TlsFacts | None = None
    reused: bool = False
    # Pairs of direction ("In: ", "Out:", "Replaced-by:") and line, secrets masked.
    transcript: tuple[tuple[str, str], ...] = ()
    # Classes of errors that the postmaster may want to hear of: "protocol", "data".
    errors: tuple[str, ...] = ()


class Report(Value):
    """All that came of a delivery request."""

    request: DeliveryRequest
    outcomes: tuple[Outcome, ...]
    # Why hosts or recipients were skipped in favour of another host, in order.
    skipped: tuple[str, ...] = ()
    # Why the destination is to be suspended (Postfix: hop status).
    throttled: DSN | None = None
    servers: tuple[ServerRecord, ...] = ()
    # Nothing was tried: the destination is suspended.
    suspended: bool = False
    # All decisions of the policy, in order, those that kept a recipient included.
    verdicts: tuple[Verdict, ...] = ()
    # The class of each notice that the postmaster wants.
    notices: tuple[str, ...] = ()
