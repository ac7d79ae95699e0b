"""A session with a server that does one thing wrong, played without a network.

The real scripts (handshake, transaction) and with them the real policy, against a
server that says yes to everything but at one stage. What Postfix would do about a
reply is found out by doing it; there is no second copy of the rules to go stale.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Mapping

from postfix_trouble.config.parameters import lmtp_name
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN, Outcome, Situation, Verdict
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.steps import (
    Authenticate,
    AuthFailed,
    HandshakeFailed,
    Phase,
    Read,
    SendBody,
    StartTls,
)
from postfix_trouble.core.tls import TlsFacts, TlsLevel, TlsPolicy
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.dns.routing import Servers
from postfix_trouble.policy import trouble
from postfix_trouble.smtp.handshake import handshake
from postfix_trouble.smtp.recipients import RecipientState
from postfix_trouble.smtp.replies import ReplyReader
from postfix_trouble.smtp.session import Session
from postfix_trouble.smtp.transaction import transaction
from postfix_trouble.tls.level import security_level

if TYPE_CHECKING:
    from postfix_trouble.core.steps import Answer, Step
    from postfix_trouble.smtp.session import Script

EXAMPLE = Relay("mx.example.com", "192.0.2.1", 25)

# Stages at which something can happen, in the order of a session, and the words for
# them. All but four have the name of their Phase.
STAGES = {
    "lookup": "finding a server",
    "connect": "connecting",
    "greeting": "greeting",
    "ehlo": "EHLO",
    "helo": "HELO",
    "lhlo": "LHLO",
    "starttls": "STARTTLS",
    "handshake": "TLS handshake",
    "auth": "AUTH",
    "xforward_name": "XFORWARD name/address",
    "xforward_helo": "XFORWARD helo/protocol",
    "mail": "MAIL FROM",
    "rcpt": "RCPT TO",
    "data": "DATA",
    "body": "message text",
    "dot": "end of data",
}

_TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, matched=True)
# Nobody has this name: with the client's own it would be mail that loops.
_OFFER = "250-server.invalid\n250-AUTH PLAIN\n250-XFORWARD NAME HELO\n250 STARTTLS"
# What the server says that agrees to everything, and "250" to all else.
_YES = {
    Phase.GREETING: "220 server.invalid ESMTP",
    Phase.EHLO: _OFFER,
    Phase.LHLO: _OFFER,
    Phase.STARTTLS: "220",
    Phase.DATA: "354",
    Phase.DOT: "250 2.0.0 Ok: queued as SAMPLE",
}


class Setting(Value):
    """The circumstances of a simulated session."""

    # Parameters by their main.cf names, where they differ from the default.
    values: Mapping[str, str] = {}
    final_server: bool = False
    lmtp: bool = False
    relay: Relay = EXAMPLE
    # Seconds that the message has been in the queue.
    age: float = 0.0


class OwnDecision(Value):
    """The client itself gives up a session: TLS is missing, a message is too large."""

    # site_fail or mesg_fail.
    entry: str
    status: str
    reason: str


class NotOffered(Value):
    """The server does not offer TLS."""


# What goes wrong: a reply, no reply, a failed handshake, a certificate of somebody
# else, no TLS to be had, a decision of our own, or no connection at all.
Happening = Reply | Lost | HandshakeFailed | TlsFacts | NotOffered | OwnDecision | DSN


class Ending(Value):
    """How a simulated session ended for its one recipient."""

    # Entry point of policy/trouble.py that decided; empty: nothing failed.
    entry: str = ""
    verdict: Verdict | None = None
    # None: the recipient is kept for another host.
    outcome: Outcome | None = None
    skipped: tuple[str, ...] = ()
    throttled: bool = False
    # Classes of errors that the postmaster may hear of.
    errors: tuple[str, ...] = ()
    # The same host gets another try at once, without TLS.
    retry_plaintext: bool = False
    # The stage was come to at all.
    reached: bool = True


def read_reply(text: str) -> Reply | None:
    """What a server wrote, as the real reader of replies takes it; None if nothing."""
    reader = ReplyReader()
    reader.feed(text.encode("utf-8", "surrogateescape") + b"\n")
    return reader.next()


def simulate(stage: str, happening: Happening, setting: Setting) -> Ending:
    """Play a session in which something happens at a stage, and see what follows."""
    settings = settings_for(stage, setting)
    request = DeliveryRequest(
        "sender@example.org",
        (Recipient("user@example.com"),),
        "example.com",
        age=setting.age,
        attributes=dict.fromkeys(("log_client_name", "log_helo_name"), "client"),
        lmtp=setting.lmtp,
    )
    rules = trouble.OutcomeRules(settings.flag("soft_bounce"))
    attempt = RecipientState(request, rules, lambda: 0.0, _nobody, _nobody)
    if isinstance(happening, DSN):
        return _no_session(attempt, happening, setting)
    relay = setting.relay
    session = Session(
        attempt,
        settings,
        Destination(request.nexthop, relay.host, relay.port),
        relay,
        tls_policy(stage, settings),
        final_server=lambda: setting.final_server,
        has_password=lambda: False,
        rewrite=lambda address: address,
    )
    wire = _Wire(stage, happening)
    if isinstance(happening, OwnDecision):
        decide = getattr(session, happening.entry)
        decide(Reply.local(happening.status), happening.reason)
        wire.reached = True
    elif wire.play_all(handshake(session)):
        wire.play_all(transaction(session))
    attempt.end_session()
    last = attempt.verdicts[-1] if attempt.verdicts else None
    return Ending(
        last.entry if last else "",
        last,
        attempt.outcomes[0] if attempt.outcomes else None,
        tuple(attempt.skipped),
        attempt.throttled is not None,
        tuple(sorted(session.errors)),
        session.retry_plaintext,
        wire.reached,
    )


# Stages that are come to only if a parameter says yes.
_NEEDED = {
    "auth": "smtp_sasl_auth_enable",
    "xforward_name": "smtp_send_xforward_command",
    "xforward_helo": "smtp_send_xforward_command",
}


def settings_for(stage: str, setting: Setting) -> Settings:
    """The settings, with what a session needs in order to come to this stage."""
    values = dict(setting.values)
    if stage in _NEEDED:
        name = _NEEDED[stage]
        values[lmtp_name(name) if setting.lmtp else name] = "yes"
    return Settings(values, lmtp=setting.lmtp, system_hostname="client.example.org")


def tls_policy(stage: str, settings: Settings) -> TlsPolicy:
    """The level that is set; where TLS is the subject and there is none, encrypt."""
    level = security_level(settings)
    if level is TlsLevel.NONE and stage in ("starttls", "handshake"):
        level = TlsLevel.ENCRYPT
    return TlsPolicy(level)


def _no_session(attempt: RecipientState, why: DSN, setting: Setting) -> Ending:
    """No server could be reached, or none was found: delivery.py, before and after."""
    # After mail that loops no other destination is tried.
    if not (setting.final_server or Servers(failure=why).last_resort):
        attempt.skip(why.reason)
        return Ending(skipped=tuple(attempt.skipped))
    left, _ = trouble.left_over(why, fallback=False, relayhost=False)
    verdict = trouble.sess_fail(Situation(final_server=True), left)
    attempt.fail_all(verdict, None)
    return Ending(
        "sess_fail",
        verdict,
        attempt.outcomes[0],
        throttled=attempt.throttled is not None,
    )


def _nobody(_told: object) -> None:
    """No-op callback: nothing is recorded."""


class _Wire:
    """The server: agrees to everything until the stage comes."""

    def __init__(self, stage: str, happening: Happening) -> None:
        self._stage = stage
        self._happening = happening
        self._gone = False
        self.reached = False

    def play_all(self, script: Script[bool] | Script[None]) -> bool:
        """Carry out a script; what it returns."""
        answer = None
        try:
            while True:
                answer = self._play(script.send(answer))
        except StopIteration as end:
            return bool(end.value)

    def _play(self, step: Step) -> Answer:
        if isinstance(step, Read):
            return self._read(step.phase)
        if isinstance(step, StartTls):
            return self._happens() if self._stage == "handshake" else _TLS
        if isinstance(step, Authenticate):
            return self._auth() if self._stage == "auth" else None
        if isinstance(step, SendBody):
            return self._happens() if self._stage == "body" else None
        return None

    def _read(self, phase: Phase) -> Answer:
        if self._gone:
            return Lost.EOF
        if phase.name.lower() == self._stage:
            return self._happens()
        if self._stage == "helo" and phase is Phase.EHLO:
            return read_reply("502")
        if isinstance(self._happening, NotOffered) and _YES.get(phase) is _OFFER:
            self.reached = True
            return read_reply("250")
        return read_reply(_YES.get(phase, "250"))

    def _happens(self) -> Answer:
        self.reached = True
        assert not isinstance(self._happening, DSN | OwnDecision | NotOffered)
        self._gone = isinstance(self._happening, Lost)
        return self._happening

    def _auth(self) -> Answer:
        answer = self._happens()
        if isinstance(answer, Reply):
            return None if answer.klass == 2 else AuthFailed(answer)
        return answer
