"""What a server answers, and the ways in which no answer comes."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Choice
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import Value


class Reply(Value):
    """A reply of the server, or a decision of our own in the shape of one.

    The class of the status always follows the reply code; what the server wrote
    as its enhanced status is believed only where both agree (RFC 2034, Postfix
    smtp_chat_resp).
    """

    code: int
    status: EnhancedStatus
    # All lines with their "ddd-" prefixes, joined by newline, unprintables as "?".
    text: str = ""
    # False: nobody said this, we decided it (Postfix: SMTP_RESP_FAKE, no MTA name).
    remote: bool = True
    # A line that is no reply came before it and was skipped (and is in the text).
    garbled: bool = False

    @classmethod
    def local(cls, status: str) -> Reply:
        """Our own decision: no server is blamed for it."""
        return cls(0, EnhancedStatus(status), remote=False)

    @property
    def klass(self) -> int:
        """First digit of the reply code."""
        return self.code // 100

    @property
    def oneline(self) -> str:
        """The text as it is quoted in reasons and diagnostics."""
        return self.text.replace("\n", " ")


class Lost(Choice):
    """No reply, and there won't be one."""

    EOF = "lost connection with {} while {}"
    TIME = "conversation with {} timed out while {}"
    # A table that we need for this session can't be searched.
    DATA = "local data error while talking to {}"
