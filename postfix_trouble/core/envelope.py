"""What Postfix asks for: one delivery request."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Mapping


class Recipient(Value):
    """One recipient. Addresses are in internal form (not quoted)."""

    address: str
    # Before aliasing and rewriting; empty when not known.
    original: str = ""
    # RFC 3461 `type;address`, as received; empty when not known.
    orcpt: str = ""
    # RFC 3461 NOTIFY, upper-case words joined by comma; empty when not given.
    notify: str = ""
    # Place in the request: two recipients with one address are still two.
    position: int = 0


class DeliveryRequest(Value):
    """Envelope of one delivery request (Postfix DELIVER_REQUEST)."""

    # Empty: the null sender.
    sender: str
    recipients: tuple[Recipient, ...]
    nexthop: str
    queue_id: str = ""
    # Bytes, as the queue manager counts them; shown in SIZE=.
    size: int = 0
    envid: str = ""
    # "full", "hdrs" or empty.
    ret: str = ""
    # "7bit", "8bit" or empty: body encoding of the queue file.
    encoding: str = ""
    # The sender asked for SMTPUTF8 (whether it is needed is another question).
    smtputf8: bool = False
    # The message has non-ASCII bytes in a header.
    utf8_header: bool = False
    # The sender asked for REQUIRETLS (RFC 8689).
    requiretls: bool = False
    # Seconds since the message arrived.
    age: float = 0.0
    # Client attributes for XFORWARD, by Postfix's names (log_client_name, ...).
    attributes: Mapping[str, str] = {}
    lmtp: bool = False
    # A person asked to log in: no mail goes to a server without.
    auth_required: bool = False
    # A person named the server, so it may be this machine: mail can't loop.
    server_named: bool = False

    @property
    def needs_smtputf8(self) -> bool:
        """The sender asked for SMTPUTF8, and something in the message needs it."""
        return self.smtputf8 and (
            self.utf8_header
            or not self.sender.isascii()
            or any(not rcpt.address.isascii() for rcpt in self.recipients)
        )
