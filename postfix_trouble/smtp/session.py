"""One session with one server: what the handshake and the transaction share.

A session is a generator. It yields steps (core/steps.py) and is sent the answers, so
the dialogue reads from top to bottom and is tested without a socket:

    reply = yield Read(Phase.GREETING)

What a failure means is asked of policy/trouble.py; whom it hits is written down in the
RecipientState. SMTP and LMTP share the script.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.outcome import Situation
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.steps import Hangup, Note, Phase, Read, Send
from postfix_trouble.core.tls import RequireTls
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.policy import trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeAlias, TypeVar

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.outcome import DSN, Verdict
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.steps import Step
    from postfix_trouble.core.tls import TlsFacts, TlsPolicy
    from postfix_trouble.smtp.capabilities import Capabilities
    from postfix_trouble.smtp.recipients import RecipientState

    T = TypeVar("T")
    Script: TypeAlias = Generator[Step, Any, T]


class Kept(Value):
    """What is remembered of a session whose connection stays open."""

    capabilities: Capabilities
    tls: TlsFacts | None
    # Messages that went over it.
    use: int


class Session:
    """State of one session (Postfix SMTP_SESSION)."""

    def __init__(
        self,
        attempt: RecipientState,
        settings: Settings,
        destination: Destination,
        relay: Relay,
        tls_policy: TlsPolicy,
        *,
        final_server: Callable[[], bool],
        has_password: Callable[[], bool],
        rewrite: Callable[[str], str],
    ) -> None:
        self.attempt = attempt
        self.request = attempt.request
        self.settings = settings
        self.destination = destination
        self.relay = relay
        self.tls_policy = tls_policy
        # Both may cost look-ups, and matter only once something has failed.
        self._final_server = final_server
        self._has_password = has_password
        # smtp_generic_maps.
        self.rewrite = rewrite
        # Of the last EHLO, LHLO or HELO; nobody asks before.
        self.capabilities: Capabilities
        self.tls: TlsFacts | None = None
        self.lmtp = self.request.lmtp
        # The reply to EHLO or HELO in the clear; nobody asks for it over TLS.
        self.hello = ""
        # Of the last reply: its time limit and words apply while we log in.
        self.phase: Phase
        # The connection is of no more use, not even for QUIT.
        self.broken = False
        # The server, or a table of ours, gave cause for a notice to the postmaster.
        self.errors: set[str] = set()
        self.reusable = True
        # The server is in trouble: others may stand for the nexthop.
        self.failed = False
        self.retry_plaintext = False
        # What a firewall in between makes us leave out (Postfix smtp_pix_workarounds).
        self.pix_workarounds: frozenset[str] = frozenset()
        # Messages over this connection, this one included.
        self.use = 1
        # The connection is to stay open for another message, unless it fails.
        self.keeping = False

    @property
    def requiretls(self) -> bool:
        """The server offers REQUIRETLS, and does so in TLS."""
        return self.tls is not None and self.capabilities.requiretls

    # --- talking

    def ask(self, line: bytes, phase: Phase) -> Script[Reply | Lost]:
        """Send one command and read the reply."""
        yield Send((line,))
        return (yield from self.read(phase))

    def read(self, phase: Phase) -> Script[Reply | Lost]:
        """Read one reply, and notice if the server stumbled on its way to it."""
        self.phase = phase
        answer: Reply | Lost = yield Read(phase)
        if isinstance(answer, Reply):
            self.heard(answer)
        return answer

    def heard(self, reply: Reply) -> None:
        """What a reply tells of the server, whatever it says."""
        if reply.garbled:
            self.errors.add("protocol")
            self.reusable = False

    def warn(self, text: str) -> Script[None]:
        """Put a warning into the log."""
        yield Note(text, warning=True)

    def quit(self) -> Script[bool]:
        """Say goodbye, if the connection can still carry it. False if it broke."""
        if self.broken:
            yield Hangup()
            return False
        yield Send((b"QUIT",))
        return (yield from self.goodbye())

    def leave(self) -> Script[bool]:
        """The transaction is over: keep the connection if it is worth it, else QUIT.

        One that was to be kept, and on which the server then stumbled, is closed
        without a word.
        """
        if not self.keeping:
            return (yield from self.quit())
        if not self.reusable:
            yield Hangup()
        return True

    def resume(self, kept: Kept) -> None:
        """Go on with a connection that was kept. The size limit is not remembered."""
        self.capabilities = kept.capabilities._replace(size_limit=0)
        self.tls = kept.tls
        self.use = kept.use + 1

    def goodbye(self) -> Script[bool]:
        """Read the reply to QUIT if it is to be waited for. False if none came."""
        if self.settings.flag("smtp_skip_quit_response"):
            return True
        reply = yield from self.read(Phase.QUIT)
        return isinstance(reply, Reply)

    # --- failing

    def requirement_failed(self, why: DSN) -> None:
        """The server lacks what the message needs; another one may have it."""
        flags = trouble.Fail.DONT_CACHE | trouble.Fail.SOFT_NON_FINAL
        self.misc_fail(flags, Reply.local(why.status), why.reason)

    def situation(self) -> Situation:
        """All that the policy needs to know about the moment of a failure."""
        return Situation(
            self.relay,
            self._final_server(),
            self.settings.flag("soft_bounce"),
            self.attempt.complete,
        )

    def site_fail(self, reply: Reply, reason: str) -> None:
        """The host won't talk to us, or we won't talk to it."""
        self._apply(trouble.site_fail(self.situation(), reply, reason))

    def mesg_fail(self, reply: Reply, reason: str) -> None:
        """The sender or the message was refused."""
        self._apply(trouble.mesg_fail(self.situation(), reply, reason))

    def misc_fail(self, flags: trouble.Fail, reply: Reply, reason: str) -> None:
        """Something else failed, with side effects of its own."""
        self._apply(trouble.misc_fail(self.situation(), flags, reply, reason))

    def sess_fail(self, why: DSN) -> None:
        """The session failed for a reason that is worded already."""
        self._apply(trouble.sess_fail(self.situation(), why))

    def handshake_failed(self, flags: trouble.Fail, reply: Reply, reason: str) -> None:
        """The TLS handshake failed: maybe once more without TLS, and not final then."""
        now = self.situation()
        self.broken = True
        if self._plaintext_fallback():
            now = now._replace(final_server=False)
            self.retry_plaintext = True
        self._apply(trouble.misc_fail(now, flags, reply, reason))

    def stream_except(self, lost: Lost, phase: Phase) -> None:
        """The conversation can't go on."""
        fallback = (
            self.tls is not None
            and bool(self.attempt.unmarked)
            and self._plaintext_fallback()
        )
        now = self.situation()._replace(plaintext_fallback=fallback)
        if lost is Lost.DATA:
            self.errors.add("data")
        else:
            self.broken = True
        verdict = trouble.stream_except(now, lost, phase.doing)
        self.retry_plaintext = verdict.retry_plaintext
        self._apply(verdict)

    def note_verdict(self, verdict: Verdict) -> None:
        """The side effects of a verdict on the session itself."""
        self.reusable &= verdict.reusable
        self.failed |= verdict.server_failed
        if verdict.protocol_error:
            self.errors.add("protocol")

    def _apply(self, verdict: Verdict) -> None:
        self.note_verdict(verdict)
        self.attempt.fail_all(verdict, self.relay)

    def _plaintext_fallback(self) -> bool:
        """Postfix's conditions for another try without TLS (PLAINTEXT_FALLBACK_OK...).

        Never above opportunistic TLS, never for mail that has only just arrived, and
        never with a password that would then be missing or in the clear.
        """
        from postfix_trouble.tls.level import plaintext_fallback

        if self.tls_policy.requiretls >= RequireTls.OPPORTUNISTIC_STARTTLS:
            return False
        level, age = self.tls_policy.level, self.request.age
        backoff = self.settings.seconds("minimal_backoff_time")
        # The password may cost a look-up, so it is asked for last.
        return plaintext_fallback(level, age, backoff, False) and (
            not self._has_password()
        )
