"""What an LMTP client may say next, and what it is told (RFC 2033, RFC 5321).

The client is Postfix's lmtp(8): a command that is refused with 5xx bounces mail. So
parameters that we don't know or can't read are ignored with a note, since mail
without them is better than no mail. Only an address that can't be handed on is
refused for ever, and a message above a size limit that the administrator has set.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Callable

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.value import Value
from postfix_trouble.lmtp import syntax as lmtp_syntax

# Lines of one reply, without line ends.
Lines = tuple[bytes, ...]

BUG: Lines = (b"451 4.3.0 Internal error, the message is deferred",)
STORAGE_FULL: Lines = (b"452 4.3.1 Insufficient system storage",)
STOPPING: Lines = (b"421 4.3.2 Service is shutting down",)
IDLE: Lines = (b"421 4.4.2 Timeout exceeded",)

# XFORWARD words, and the names by which Postfix keeps their values (smtp_proto.c).
XFORWARD = {
    "NAME": "log_client_name",
    "ADDR": "log_client_address",
    "PORT": "log_client_port",
    "PROTO": "log_protocol_name",
    "HELO": "log_helo_name",
    "IDENT": "log_ident",
    "SOURCE": "rewrite_context",
}
_UNKNOWN_VALUES = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_NOTIFY = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
_BODY = {b"8BITMIME": "8bit", b"7BIT": "7bit"}
_EMPTY = DeliveryRequest("", (), "")
_CONTROLS = dict.fromkeys((*range(32), 127), "?")


class Limits(Value):
    """What one client may ask of us."""

    # Bytes of a command line: an ORCPT in xtext is up to three times its address.
    line: int = 12288
    # Recipients of one message.
    recipients: int = 1000
    # Bytes of a message; 0: no limit. Postfix has one of its own.
    message: int = 0
    # REQUIRETLS is announced, and passed on to servers.
    requiretls: bool = False
    # Commands in a row that make no sense.
    bad_commands: int = 20
    # Seconds that we wait for a command, or for more of the message.
    idle: float = 300.0
    # Seconds for all of the message's data.
    data: float = 1800.0
    # Seconds that a transaction may still take once we are told to stop.
    grace: float = 30.0


DEFAULT_LIMITS = Limits()


class Then(Choice):
    """What follows a reply."""

    COMMAND = "another command"
    DATA = "the message"
    CLOSE = "nothing"


class Dialogue:
    """One client's commands and our replies, without sockets.

    After Then.DATA the caller reads the message, takes `request`, replies once per
    recipient and calls reset().
    """

    def __init__(
        self,
        hostname: str,
        limits: Limits = DEFAULT_LIMITS,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._hostname = hostname.encode("ascii", "replace")
        self._limits = limits
        self._note = note
        self._greeted = False
        self._bad = 0
        self.reset()

    def reset(self) -> None:
        """Forget the transaction."""
        self._mail: DeliveryRequest | None = None
        self._recipients: list[Recipient] = []
        self._attributes: dict[str, str] = {}

    @property
    def busy(self) -> bool:
        """A transaction has begun."""
        return self._mail is not None

    @property
    def request(self) -> DeliveryRequest:
        """The envelope so far; nexthop, age and the like are not LMTP's to tell."""
        return (self._mail or _EMPTY)._replace(
            recipients=tuple(self._recipients),
            queue_id=self._attributes.get("log_ident", ""),
            attributes=dict(self._attributes),
        )

    def greeting(self) -> Lines:
        """What is said first."""
        return (b"220 " + self._hostname + b" LMTP postfix-trouble",)

    def too_long(self) -> tuple[Lines, Then]:
        """Answer a line that is longer than the limit."""
        return self._bad_command(b"500 5.5.2 Line too long")

    def answer(self, line: bytes) -> tuple[Lines, Then]:
        """Answer one command line, given without its CR LF. Never raises."""
        verb, _, argument = line.strip(b" \t").partition(b" ")
        match verb.upper():
            case b"LHLO":
                return self._lhlo(argument)
            case b"MAIL" | b"RCPT" | b"DATA" | b"XFORWARD" if not self._greeted:
                return self._bad_command(b"503 5.5.1 Send LHLO first")
            case b"XFORWARD":
                return self._xforward(argument)
            case b"MAIL":
                return self._mail_from(argument)
            case b"RCPT":
                return self._rcpt_to(argument)
            case b"DATA":
                return self._data()
            case b"RSET":
                self.reset()
                return _go_on(b"250 2.0.0 Ok")
            case b"NOOP":
                return _go_on(b"250 2.0.0 Ok")
            case b"VRFY":
                return _go_on(b"252 2.0.0 Send the message and you will know")
            case b"HELP":
                return _go_on(b"214 2.0.0 See RFC 2033 and postfix-trouble(1)")
            case b"QUIT":
                return (b"221 2.0.0 Bye",), Then.CLOSE
            case b"EHLO" | b"HELO":
                return self._bad_command(b"500 5.5.1 This is LMTP: send LHLO")
        return self._bad_command(b"502 5.5.2 Command not recognized")

    def _bad_command(self, reply: bytes) -> tuple[Lines, Then]:
        """Count it. What only follows from a refusal before is not counted: lmtp(8)
        pipelines RCPT and DATA behind a MAIL that may fail."""
        self._bad += 1
        if self._bad > self._limits.bad_commands:
            return (b"421 4.7.0 Too many errors",), Then.CLOSE
        return _go_on(reply)

    def _lhlo(self, argument: bytes) -> tuple[Lines, Then]:
        if not argument.strip():
            return self._bad_command(b"501 5.5.4 Syntax: LHLO hostname")
        self._greeted = True
        self.reset()
        size = b"SIZE %d" % self._limits.message if self._limits.message else b"SIZE"
        words: tuple[bytes, ...] = (
            self._hostname,
            b"PIPELINING",
            b"ENHANCEDSTATUSCODES",
            b"8BITMIME",
            size,
            b"SMTPUTF8",
            b"DSN",
            b"XFORWARD " + " ".join(XFORWARD).encode(),
        )
        if self._limits.requiretls:
            words = (*words, b"REQUIRETLS")
        *first, last = words
        return (*(b"250-" + word for word in first), b"250 " + last), Then.COMMAND

    def _xforward(self, argument: bytes) -> tuple[Lines, Then]:
        """Client attributes of the next message. A refusal is a warning to lmtp(8)."""
        if self.busy:
            return _go_on(b"503 5.5.1 XFORWARD after MAIL")
        for word, raw in lmtp_syntax.parameters(argument):
            value = lmtp_syntax.from_xtext(raw)
            if word not in XFORWARD or value is None:
                return _go_on(b"501 5.5.4 Bad XFORWARD attribute")
            if word == "SOURCE":
                value = value.lower()
            if value.upper() in _UNKNOWN_VALUES:
                value = ""
            self._attributes[XFORWARD[word]] = _clean(value)
        return _go_on(b"250 2.0.0 Ok")

    def _mail_from(self, argument: bytes) -> tuple[Lines, Then]:
        if self.busy:
            return _go_on(b"503 5.5.1 Nested MAIL command")
        found = _address_after(b"FROM:", argument)
        if found is None:
            return _go_on(b"501 5.1.7 Bad sender address syntax")
        sender, rest = found
        mail = self._with_parameters(_EMPTY._replace(sender=sender), rest)
        if 0 < self._limits.message < mail.size:
            return too_big(self._limits.message), Then.COMMAND
        self._mail = mail
        return _go_on(b"250 2.1.0 Ok")

    def _with_parameters(self, mail: DeliveryRequest, rest: bytes) -> DeliveryRequest:
        """What MAIL says besides the sender."""
        for key, value in lmtp_syntax.parameters(rest):
            match key:
                case "SIZE" if value.isdigit() and len(value) <= 18:
                    mail = mail._replace(size=int(value))
                case "BODY" if value.upper() in _BODY:
                    mail = mail._replace(encoding=_BODY[value.upper()])
                case "RET" if value.upper() in (b"FULL", b"HDRS"):
                    mail = mail._replace(ret=lmtp_syntax.text(value).lower())
                case "ENVID" if envid := lmtp_syntax.from_xtext(value):
                    mail = mail._replace(envid=_clean(envid))
                case "SMTPUTF8" if not value:
                    mail = mail._replace(smtputf8=True)
                case "REQUIRETLS" if not value and self._limits.requiretls:
                    mail = mail._replace(requiretls=True)
                case "AUTH":
                    # Postfix sends a dummy, if it is told to.
                    pass
                case _:
                    self._passed_over("MAIL", key, value)
        return mail

    def _rcpt_to(self, argument: bytes) -> tuple[Lines, Then]:
        if not self.busy:
            return _go_on(b"503 5.5.1 Need MAIL command")
        found = _address_after(b"TO:", argument)
        if found is None or not found[0]:
            return _go_on(b"501 5.1.3 Bad recipient address syntax")
        if len(self._recipients) >= self._limits.recipients:
            return _go_on(b"452 4.5.3 Too many recipients")
        address, rest = found
        recipient = Recipient(address, position=len(self._recipients))
        for key, value in lmtp_syntax.parameters(rest):
            match key:
                case "NOTIFY" if words := _notify(value):
                    recipient = recipient._replace(notify=words)
                case "ORCPT" if original := lmtp_syntax.original_recipient(value):
                    recipient = recipient._replace(orcpt=original)
                case _:
                    self._passed_over("RCPT", key, value)
        self._recipients.append(recipient)
        return _go_on(b"250 2.1.5 Ok")

    def _data(self) -> tuple[Lines, Then]:
        if not self.busy:
            return _go_on(b"503 5.5.1 Need MAIL command")
        if not self._recipients:
            return _go_on(b"503 5.5.1 No valid recipients")
        self._bad = 0
        return (b"354 End data with <CR><LF>.<CR><LF>",), Then.DATA

    def _passed_over(self, command: str, key: str, value: bytes) -> None:
        shown = _clean(f"{key}={lmtp_syntax.text(value)}" if value else key)
        self._note(f"{command} parameter ignored: {shown[:200]}")


def too_big(limit: int) -> Lines:
    """The message is larger than the administrator allows (RFC 1870 section 6)."""
    return (b"552 5.3.4 Message size exceeds limit of %d bytes" % limit,)


def _go_on(reply: bytes) -> tuple[Lines, Then]:
    return (reply,), Then.COMMAND


def _address_after(word: bytes, argument: bytes) -> tuple[str, bytes] | None:
    """The address in internal form, and the parameters; None if malformed."""
    argument = argument.lstrip(b" \t")
    if argument[: len(word)].upper() != word:
        return None
    found = lmtp_syntax.path(argument[len(word) :])
    if found is None:
        return None
    address = lmtp_syntax.internal_form(found[0])
    return None if address is None else (address, found[1])


def _notify(value: bytes) -> str:
    """NOTIFY words in upper case; empty if they make no sense (RFC 3461 4.1)."""
    words = lmtp_syntax.text(value).upper().split(",")
    if set(words) - set(_NOTIFY) or ("NEVER" in words and len(set(words)) > 1):
        return ""
    return ",".join(word for word in _NOTIFY if word in words)


def _clean(value: str) -> str:
    """For the log and for commands of our own: control characters as `?`."""
    return value.translate(_CONTROLS)
