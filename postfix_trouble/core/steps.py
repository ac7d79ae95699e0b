"""What a session asks of the wire, step by step, and the phases it goes through."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.tls import TlsFacts
from postfix_trouble.core.value import Value


class Phase(Choice):
    """Where in the dialogue we are: (while ..., in reply to ...).

    The words are those of Postfix's log (smtp_proto.c), so that tools and people
    that read it find what they know.
    """

    GREETING = ("receiving the initial server greeting", "")
    EHLO = ("performing the EHLO handshake", "EHLO command")
    HELO = ("performing the HELO handshake", "HELO command")
    LHLO = ("performing the LHLO handshake", "LHLO command")
    STARTTLS = ("receiving the STARTTLS response", "STARTTLS command")
    XFORWARD_NAME = (
        "sending XFORWARD name/address",
        "XFORWARD name/address command",
    )
    XFORWARD_HELO = (
        "sending XFORWARD protocol/helo_name",
        "XFORWARD helo/protocol command",
    )
    MAIL = ("sending MAIL FROM", "MAIL FROM command")
    RCPT = ("sending RCPT TO", "RCPT TO command")
    DATA = ("sending DATA command", "DATA command")
    BODY = ("sending message body", "")
    # The one moment in which the truth can't be known.
    DOT = (
        "sending end of data -- message may be sent more than once",
        "end of DATA command",
    )
    RSET = ("sending final RSET", "final RSET command")
    PROBE = ("sending RSET probe", "RSET probe")
    QUIT = ("sending QUIT", "QUIT command")

    @property
    def doing(self) -> str:
        """What we were doing, for "lost connection while ..."."""
        return self.value[0]

    @property
    def command(self) -> str:
        """What the server replied to."""
        return self.value[1]


class Send(Value):
    """Queue command lines; they leave at the next Read.

    Answer: None, or Unsendable instead of the final dot: nobody waits for the outcome.
    """

    lines: tuple[bytes, ...]


class Read(Value):
    """Flush what is queued, and read one reply. Answer: Reply or Lost."""

    phase: Phase


class StartTls(Value):
    """Shake hands now. Answer: TlsFacts, or HandshakeFailed."""


class Authenticate(Value):
    """Log in with the credentials for this server, if there are any.

    Answer: None (no credentials: go on without), Authenticated, AuthFailed or Lost.
    """

    # Mechanisms that the server offers, upper case, in its order.
    mechanisms: tuple[str, ...]
    tls: TlsFacts | None
    # Phase whose words and limit apply if the connection breaks meanwhile.
    phase: Phase


class SendBody(Value):
    """Write the message, without the final dot; its end may stay queued.

    Answer: None, Unsendable or Lost.
    """

    # Convert 8-bit MIME parts: the server can't take them.
    seven_bit: bool


class LookUp(Value):
    """Search the table(s) that a parameter names. Answer: text, None or Lost.DATA."""

    parameter: str
    key: str


class Pause(Value):
    """Flush, and wait so many seconds (PIX firewalls). Answer: None or Lost."""

    seconds: float


class TlsResult(Value):
    """What became of TLS on this connection, for TLSRPT. Answer: None."""

    # A result type of RFC 8460 4.3; empty: success.
    failure: str = ""
    # More about it.
    reason: str = ""
    # The server's reply to EHLO or HELO in the clear.
    hello: str = ""
    # The TLS session was one of before.
    resumed: bool = False


class Pending(Value):
    """Has the server said something that nobody asked for? Answer: bool."""


class Hangup(Value):
    """Drop the connection at once; what is queued is not sent. Answer: None."""


class Note(Value):
    """Something for the log. Answer: None."""

    text: str
    warning: bool = False


class HandshakeFailed(Value):
    """No TLS session came of it. The reason is for the log only."""

    reason: str
    # Which setting of ours is to blame, and why; empty: none.
    setting: str = ""


class Authenticated(Value):
    """The server knows who we are."""

    mechanism: str


class AuthFailed(Value):
    """It does not: the server's last reply, or what went wrong before one."""

    reply: Reply | None
    # Without a reply: status, text after "SASL authentication failed", diagnostic.
    status: str = ""
    text: str = ""
    diagnostic: str = ""


class Unsendable(Value):
    """The message can't be sent as it is (Postfix MIME state errors)."""

    status: str
    reason: str


Step = (
    Send
    | Read
    | StartTls
    | Authenticate
    | SendBody
    | LookUp
    | Pause
    | TlsResult
    | Pending
    | Hangup
    | Note
)
Answer = (
    Reply
    | Lost
    | TlsFacts
    | HandshakeFailed
    | Authenticated
    | AuthFailed
    | Unsendable
    | str
    | bool
    | None
)
