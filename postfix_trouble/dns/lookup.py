"""What a name service says."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Ordered
from postfix_trouble.core.value import Value


class Record(Value):
    """One resource record of an answer."""

    # As in the answer; for an alias, the name that it stands for.
    owner: str
    # "MX", "A", "AAAA", "SRV", "TLSA", "CNAME", "TXT".
    kind: str
    # Host name (empty: the root), address, hexadecimal digits, or text.
    data: str
    ttl: int = 0
    # MX preference or SRV priority.
    preference: int = 0
    weight: int = 0
    port: int = 0
    # TLSA: usage, selector, matching type.
    parameters: tuple[int, int, int] = (0, 0, 0)

    def __str__(self) -> str:
        """As master files have it, for smtp_dns_reply_filter (dns_strrecord)."""
        numbers: tuple[int, ...] = ()
        if self.kind == "MX":
            numbers = (self.preference,)
        elif self.kind == "SRV":
            numbers = (self.preference, self.weight, self.port)
        elif self.kind == "TLSA":
            numbers = self.parameters
        dot = "." if self.kind in ("MX", "SRV", "CNAME") else ""
        data = self.data + dot
        if self.kind == "TXT":
            data = "".join(x if x.isprintable() else "?" for x in data)
        words = (f"{self.owner}.", self.ttl, "IN", self.kind, *numbers, data)
        return " ".join(map(str, words))


class Packet(Value):
    """A reply of a name server: what matters of it."""

    rcode: int
    # The server says that DNSSEC proves the answer.
    authentic: bool = False
    # The answer section, records of other kinds left out.
    records: tuple[Record, ...] = ()
    # How many records the answer section has.
    total: int = 0
    # Something is in there that can't be read.
    damaged: bool = False
    # Seconds that others may be told the same; 0: each has to ask.
    ttl: int = 0
    # It says that there is nothing, by a SOA record (RFC 2308).
    nothing: bool = False


class Result(Ordered):
    """How a look-up ended.

    In order of importance: where several names or kinds were asked for in vain, the
    greatest is what is reported.
    """

    FOUND = 0
    NOT_FOUND = 1
    FAIL = 2
    INVALID = 3
    RETRY = 4
    POLICY = 5
    # A null MX (RFC 7505) or a null SRV (RFC 2782).
    NULL = 6


class Answer(Value):
    """The answer to one question."""

    result: Result
    # Why there is none, in Postfix's words; empty if there is one.
    reason: str = ""
    records: tuple[Record, ...] = ()
    # DNSSEC vouches for all of it, aliases included.
    authentic: bool = False


class NativeAnswer(Value):
    """The answer of the system's own name service (getaddrinfo)."""

    addresses: tuple[str, ...] = ()
    # Why there is none: the system's text.
    error: str = ""
    # Worth another try later.
    soft: bool = False
    # It was the name, not the machinery.
    unknown_name: bool = False
