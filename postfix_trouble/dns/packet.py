"""DNS messages (RFC 1035, 2782, 6698, 6891): questions out, answers in.

Our own code, since start-up forbids the libraries: a name look-up is on the path of
nearly every mail. CPU for one MX, one A and one AAAA query in a fresh CPython 3.11,
beyond what is loaded anyway: dnspython 72 ms, pycares 15 ms (and it does not tell the
AD bit), dnslib 11 ms (and one odd label makes it give up the whole reply), this 2.4 ms.
What we need is small: seven record types, of the answer section only.

Everything in a reply is hostile: sizes are checked before use, compression pointers
only lead backwards, names end at 255 bytes.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.dns.lookup import Packet, Record

KINDS = {
    "A": 1, "CNAME": 5, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "TLSA": 52,
}  # fmt: skip
_NAMES = {number: kind for kind, number in KINDS.items()}
_IN = 1
_SOA = 6
# Return codes of answers: there is something, or no such name.
_KNOWN = (0, 3)
# A time to live has 31 bits; more counts as none (RFC 2181 8).
_FOREVER = 0x7FFFFFFF
_OPT = 41
_RESPONSE = 0x8000
_TRUNCATED = 0x0200
_RECURSION_DESIRED = 0x0100
_AUTHENTIC = 0x0020
_DNSSEC_OK = 0x8000
# What fits into any path's packets (DNS flag day 2020).
_UDP_SIZE = 1232
# More than a sane zone has; what is beyond is not looked at (Postfix 3.7.12's limit).
MAX_RECORDS = 100
# A name has 127 labels at most, and nobody compresses more than this.
_MAX_JUMPS = 16

# What dn_expand(3) puts a backslash before.
_SPECIAL = frozenset(b'".;\\()@$')


class _DamagedError(ValueError):
    pass


def question(
    identity: int, name: str, kind: str, *, edns: bool = False, dnssec: bool = False
) -> bytes:
    """A query packet. The name must be a valid host name in A-label form."""
    flags = _RECURSION_DESIRED | (_AUTHENTIC if dnssec else 0)
    extended = edns or dnssec
    labels = b"".join(bytes((len(x),)) + x for x in name.encode("ascii").split(b"."))
    packet = _words(identity, flags, 1, 0, 0, int(extended))
    packet += labels + b"\0" + _words(KINDS[kind], _IN)
    if extended:
        do = _DNSSEC_OK if dnssec else 0
        packet += b"\0" + _words(_OPT, _UDP_SIZE, 0, do, 0)
    return packet


def answers(packet: bytes, asked: bytes) -> bool:
    """Whether a packet is the reply to a question: identity, and what was asked.

    Anything else is somebody's attempt to forge an answer, or comes too late.
    """
    if len(packet) < 12 or packet[:2] != asked[:2]:
        return False
    if not packet[2] & 0x80 or packet[2] & 0x78:
        return False
    end = asked.index(b"\0", 12) + 5
    # Servers that refuse or can't read a question may leave it out.
    if packet[4:6] == b"\0\0":
        return packet[6:8] == b"\0\0" and packet[3] & 0x0F != 0
    return packet[4:6] == b"\0\1" and packet[12:end].lower() == asked[12:end].lower()


def truncated(packet: bytes) -> bool:
    """Whether the server had more to say than a UDP packet holds."""
    return bool(_word(packet, 2) & _TRUNCATED)


def read(packet: bytes) -> Packet:
    """Take a reply apart; `answers` has seen it."""
    flags = _word(packet, 2)
    total = _word(packet, 6)
    records: list[Record] = []
    ttl = _FOREVER
    damaged = False
    place = 12
    try:
        for _ in range(_word(packet, 4)):
            place = _name(packet, place)[1] + 4
        for _ in range(total):
            if len(records) >= MAX_RECORDS:
                break
            empty, start, end = _record(packet, place)
            place = end
            ttl = min(ttl, empty.ttl)
            if empty.kind:
                try:
                    records.append(_data(packet, start, end, empty))
                except _DamagedError:
                    # The others are not to blame.
                    damaged = True
    except _DamagedError:
        damaged, records = True, []
    authentic, rcode = bool(flags & _AUTHENTIC), flags & 15
    nothing = _nothing(packet, place, ttl) if rcode or not records else 0
    if nothing:
        ttl = nothing
    if damaged or rcode not in _KNOWN or (not nothing and (rcode or not records)):
        ttl = 0
    known = Packet(rcode, authentic, tuple(records), total, damaged)
    return known._replace(ttl=ttl, nothing=bool(nothing))


def _nothing(packet: bytes, place: int, most: int) -> int:
    """For how many seconds there is nothing, by the SOA record behind the answers at a
    place (RFC 2308 5); 0 if that is not said."""
    try:
        for _ in range(_word(packet, 8)):
            start = _name(packet, place)[1]
            record, _, place = _record(packet, place)
            if _word(packet, start) == _SOA and place >= start + 30:
                minimum = int.from_bytes(packet[place - 4 : place], "big")
                return min(most, record.ttl, minimum)
    except _DamagedError:
        pass
    return 0


def _record(packet: bytes, place: int) -> tuple[Record, int, int]:
    """The record at a place without its data, and from where to where those are."""
    owner, place = _name(packet, place)
    kind = _NAMES.get(_word(packet, place), "")
    if _word(packet, place + 2) != _IN:
        # An OPT record has no place here, and another class no meaning.
        raise _DamagedError
    ttl = _word(packet, place + 4) << 16 | _word(packet, place + 6)
    ttl = ttl if ttl <= _FOREVER else 0
    start = place + 10
    end = start + _word(packet, place + 8)
    if end > len(packet):
        raise _DamagedError
    return Record(owner, kind, "", ttl), start, end


def _data(packet: bytes, start: int, end: int, record: Record) -> Record:
    """Fill in what a record says."""
    size = end - start
    data = packet[start:end]
    match record.kind:
        case "A" if size == 4:
            return record._replace(data=".".join(map(str, data)))
        case "AAAA" if size == 16:
            return record._replace(data=_ipv6(data))
        case "CNAME":
            return record._replace(data=_name(packet, start, end)[0])
        case "MX" if size > 2:
            host = _name(packet, start + 2, end)[0]
            return record._replace(data=host, preference=_word(data, 0))
        case "SRV" if size > 6:
            host = _name(packet, start + 6, end)[0]
            order, weight, port = (_word(data, x) for x in (0, 2, 4))
            return record._replace(
                data=host, preference=order, weight=weight, port=port
            )
        case "TXT":
            return record._replace(data=_strings(data))
        case "TLSA" if size >= 3:
            return record._replace(
                data=data[3:].hex().upper(), parameters=(data[0], data[1], data[2])
            )
    raise _DamagedError


def _strings(data: bytes) -> str:
    """The strings of a TXT record, joined; what is not ASCII is escaped."""
    joined, place = b"", 0
    while place < len(data):
        end = place + 1 + data[place]
        if end > len(data):
            raise _DamagedError
        joined += data[place + 1 : end]
        place = end
    return joined.decode("ascii", "backslashreplace")


def _name(packet: bytes, place: int, end: int = 0) -> tuple[str, int]:
    """The name at a place, without its last dot, and what follows it.

    `end`: where it must end, if that is known.
    """
    labels: list[str] = []
    follows = 0
    bound = place
    total = 0
    jumps = 0
    while True:
        size = _byte(packet, place)
        if size & 0xC0 == 0xC0:
            follows = follows or place + 2
            place = _word(packet, place) & 0x3FFF
            # Strictly backwards, so it comes to an end; and soon.
            jumps += 1
            if place >= bound or jumps > _MAX_JUMPS:
                raise _DamagedError
            bound = place
            continue
        if size & 0xC0 or place + size >= len(packet):
            raise _DamagedError
        place += 1
        if not size:
            break
        total += size + 1
        if total > 254:
            raise _DamagedError
        labels.append(_label(packet[place : place + size]))
        place += size
    follows = follows or place
    if end and follows > end:
        raise _DamagedError
    return ".".join(labels), follows


def _label(label: bytes) -> str:
    """A label as text, so that no byte of it can be taken for something else."""
    if label.isalnum():
        return label.decode("ascii")
    return "".join(
        f"\\{chr(x)}" if x in _SPECIAL else chr(x) if 32 < x < 127 else f"\\{x:03d}"
        for x in label
    )


def _ipv6(data: bytes) -> str:
    """RFC 5952, as inet_ntop(3) does it, which pure code does not have."""
    groups = [f"{_word(data, x):x}" for x in range(0, 16, 2)]
    best_start, best_size = 0, 1
    start = 0
    for place, group in enumerate([*groups, ""]):
        if group != "0":
            if place - start > best_size:
                best_start, best_size = start, place - start
            start = place + 1
    if best_size == 1:
        return ":".join(groups)
    # IPv4 addresses in IPv6 are dotted: mapped ones, and those after 96 zero bits.
    if best_start == 0 and (best_size == 6 or (best_size == 5 and groups[5] == "ffff")):
        return f"::{'ffff:' * (6 - best_size)}{'.'.join(str(x) for x in data[12:])}"
    head, tail = groups[:best_start], groups[best_start + best_size :]
    return ":".join(head) + "::" + ":".join(tail)


def _byte(data: bytes, place: int) -> int:
    if place >= len(data):
        raise _DamagedError
    return data[place]


def _word(data: bytes, place: int) -> int:
    if place + 2 > len(data):
        raise _DamagedError
    return data[place] << 8 | data[place + 1]


def _words(*numbers: int) -> bytes:
    return b"".join(x.to_bytes(2, "big") for x in numbers)
