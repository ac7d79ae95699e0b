"""What the reply of a name server means (Postfix dns_lookup(3))."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.hostname import address_family, hostname_problem
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.dns.lookup import Answer, Packet, Record, Result

if TYPE_CHECKING:
    from collections.abc import Callable

_NOERROR = 0
FORMAT_ERROR = 1
_SERVFAIL = 2
_NXDOMAIN = 3
_NOTIMP = 4
_REFUSED = 5

# A packet holds no longer one (RFC 1035: 255 bytes with all lengths).
_MAX_NAME = 253

# Another server may know better: res_send(3) goes on to it.
NEXT_SERVER = frozenset((_SERVFAIL, _NOTIMP, _REFUSED))


class Alias(str):
    """The name to ask for next: the reply had an alias, and nothing else."""

    __slots__ = ()


def unreachable(name: str, kind: str) -> Answer:
    """No server answered, or all were busy."""
    return _because(Result.RETRY, name, kind, "Host not found, try again")


def unspeakable(name: str, kind: str) -> Answer | None:
    """The answer to a question that can't be asked: the name is none."""
    # An address is no host name, either.
    if hostname_problem(name):
        reason = f"Name service error for {name}: invalid host or domain name"
        return Answer(Result.NOT_FOUND, reason)
    if len(name) > _MAX_NAME:
        return _because(Result.FAIL, name, kind, "Non-recoverable error")
    return None


def endless(name: str) -> Answer:
    """One alias after the other."""
    return Answer(Result.NOT_FOUND, f"Name server loop for {name}")


def interpret(
    packet: Packet, name: str, kind: str, note: Callable[[str], None]
) -> Answer | Alias:
    """What a reply says about a name (valid, A-label form) and a kind of record.

    `note` gets warnings about names that are no host names.
    """
    if packet.rcode == _NXDOMAIN:
        return _because(Result.NOT_FOUND, name, kind, "Host not found")
    if packet.rcode in NEXT_SERVER:
        return unreachable(name, kind)
    if packet.rcode != _NOERROR:
        return _because(Result.FAIL, name, kind, "Non-recoverable error")
    if not packet.total:
        return _because(
            Result.NOT_FOUND,
            name,
            kind,
            "Host found but no data record of requested type",
        )
    owner, records = _of(packet, name, kind)
    if any(not x.data for x in records) and kind in ("MX", "SRV"):
        return _null(name, kind)
    usable = tuple(x for x in records if _usable(x, name, note))
    if usable:
        return Answer(Result.FOUND, "", usable, packet.authentic)
    if records and kind in ("MX", "SRV"):
        return _malformed(Result.INVALID, name, kind)
    if packet.damaged or records:
        return _malformed(Result.RETRY, name, kind)
    if owner.lower() == name.lower():
        if _is_alias(packet, name):
            return endless(name)
        # An answer, but to something else.
        return _malformed(Result.NOT_FOUND, name, kind)
    if hostname_problem(owner):
        note(f"warning: {_gripe('malformed', 'CNAME', name, owner)}")
        return _malformed(Result.INVALID, name, kind)
    return Alias(owner)


def is_odd(packet: Packet, name: str, kind: str) -> bool:
    """Whether a reply has several aliases for one name, or records of other names.

    Then the intention is unknown, and that something was not found is no reason to
    return mail. (Postfix believes the last alias, and takes the records.)
    """
    aliases = _aliases(packet)
    names = _reached(name, aliases)
    several = any(len(set(map(str.lower, x))) > 1 for x in aliases.values())
    return several or any(
        x.kind == kind and x.owner.lower() not in names for x in packet.records
    )


def _is_alias(packet: Packet, name: str) -> bool:
    return any(
        x.kind == "CNAME" and x.owner.lower() == name.lower() for x in packet.records
    )


def _of(packet: Packet, name: str, kind: str) -> tuple[str, list[Record]]:
    """The records that a name's aliases in a reply lead to, or where to ask on.

    Several aliases for one name are against the rules (RFC 2181 10.1), but there: all
    are followed, and the last one is asked for where none leads to a record. Records of
    other names are not looked at: a server could forge anything there. (Postfix takes
    them.)
    """
    aliases = _aliases(packet)
    names = _reached(name, aliases)
    found = [x for x in packet.records if x.kind == kind and x.owner.lower() in names]
    for _ in range(len(aliases)):
        if found or name.lower() not in aliases:
            break
        name = aliases[name.lower()][-1]
    return name, found


def _aliases(packet: Packet) -> dict[str, list[str]]:
    """The names that each alias in a reply stands for; the alias in lower case."""
    aliases: dict[str, list[str]] = {}
    for record in packet.records:
        if record.kind == "CNAME":
            aliases.setdefault(record.owner.lower(), []).append(record.data)
    return aliases


def _reached(name: str, aliases: dict[str, list[str]]) -> set[str]:
    """A name and all that it is an alias of, in lower case."""
    names = {name.lower()}
    more = [name.lower()]
    while more:
        targets = {x.lower() for x in aliases.get(more.pop(), ())} - names
        names |= targets
        more += targets
    return names


def _usable(record: Record, name: str, note: Callable[[str], None]) -> bool:
    """Whether a record names something to connect to (valid_rr_name)."""
    if record.kind in ("A", "AAAA"):
        if not _is_nowhere(record.data):
            return True
        note(f"warning: ignoring address {record.data} of {name}: nobody can be there")
        return False
    if record.kind not in ("MX", "SRV"):
        return True
    if address_family(record.data):
        # Against the rules, but it works elsewhere.
        note(f"warning: {_gripe('numeric', record.kind, name, record.data)}")
        return True
    problem = hostname_problem(record.data)
    if problem:
        note(f"warning: valid_hostname: {problem}")
        note(f"warning: {_gripe('malformed', record.kind, name, record.data)}")
    return not problem


def _is_nowhere(address: str) -> bool:
    """Nobody can be reached there, or only we ourselves. (Postfix would try.)"""
    if ":" in address:
        multicast = address.startswith("ff") and address.find(":") == 4
        return multicast or address == "::" or address.startswith("::ffff:")
    first = int(address.partition(".")[0])
    return first == 0 or 224 <= first < 240 or address == "255.255.255.255"


def _gripe(what: str, kind: str, name: str, data: str) -> str:
    where = f"in resource data of {kind} record for {name}"
    return f"{what} domain name {where}: {data[:100]}"


def _null(name: str, kind: str) -> Answer:
    if kind == "MX":
        return Answer(Result.NULL, f"Domain {name} does not accept mail (nullMX)")
    return Answer(Result.NULL, f"Domain {name} does not support SRV requests")


def _because(result: Result, name: str, kind: str, error: str) -> Answer:
    return Answer(
        result,
        "Host or domain name not found. "
        f"Name service error for name={name} type={kind}: {error}",
    )


def _malformed(result: Result, name: str, kind: str) -> Answer:
    return Answer(
        result,
        f"Name service error for name={name} type={kind}: "
        "Malformed or unexpected name server reply",
    )


def filtered(
    answer: Answer,
    name: str,
    kind: str,
    search: Callable[[str], str | Lost | None],
    note: Callable[[str], None],
) -> Answer:
    """Apply smtp_dns_reply_filter (dns_rr_filter_execute) to an answer.

    `search` finds a record's text in the filter; Lost if the filter can't be searched.
    """
    kept = []
    for record in answer.records:
        action = search(str(record))
        if action is None:
            kept.append(record)
        elif not isinstance(action, Lost) and action.strip().lower() == "ignore":
            note(f"ignoring DNS RR: {record}")
        else:
            if not isinstance(action, Lost):
                note(f'warning: unknown DNS filter action: "{action[:100]}"')
            return _dropped(Result.RETRY, name, kind, "Invalid DNS reply filter syntax")
    if answer.records and not kept:
        return _dropped(Result.POLICY, name, kind, "DNS reply filter drops all results")
    return answer._replace(records=tuple(kept))


def _dropped(result: Result, name: str, kind: str, why: str) -> Answer:
    return Answer(result, f"Error looking up name={name} type={kind}: {why}")
