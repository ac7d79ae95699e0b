"""DANE: what TLSA records leave of a TLS level, and whether a certificate has one.

RFC 7672, after dane_init and tls_dane_resolve of Postfix and dane_tlsa_add of OpenSSL.
All of it rests on DNSSEC, so on the word of a name server that we trust.

    nothing to compare with, or nothing that DNSSEC vouches for
                            dane: may; dane-only: deferred
    records for other uses  dane: encrypt; dane-only: deferred
    look-up failed          deferred: somebody might be hiding the records
    usable records          one of them has to match

Nothing here opens a file or a socket.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.tls import Tlsa, TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.dns.lookup import Answer, Result
from postfix_trouble.tls import certificate as tls_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.relay import Relay
    from postfix_trouble.dns.lookup import Record

    # Name, "TLSA".
    Query = Callable[[str, str], Answer]
    Note = Callable[[str], None]

AUTHORITY, SERVER = 2, 3
_PRIVATE_USE = 255
# More of a record is of no use in a log line.
_LONG = 80
# With anything else, there may be records that somebody hides from us.
_CERTAIN = (Result.FOUND, Result.NOT_FOUND)
_CERTIFICATE, _PUBLIC_KEY = 0, 1
_WHOLE = 0
# Matching types (RFC 6698 2.1.3).
_NUMBERS = {"sha256": 1, "sha512": 2}

_CONFIGURATION = DSN(EnhancedStatus("4.7.5"), "client TLS configuration problem")


class Pinned(Value):
    """What is left of the level for one host."""

    level: TlsLevel
    records: tuple[Tlsa, ...] = ()
    # Names that a certificate may have; the first is where the records were found.
    names: tuple[str, ...] = ()
    # All of the records, as text, in the order in which Postfix reports them.
    texts: tuple[str, ...] = ()
    # What the log calls it, if that is another name than the level has.
    name: str = ""


# --- the level for a host -----------------------------------------------------------


def pinned(
    level: TlsLevel,
    relay: Relay,
    settings: Settings,
    query: Query,
    note: Note,
    *,
    destination: str,
    lmtp: bool,
) -> Pinned | DSN:
    """What DANE or DANE_ONLY comes to for a server, or why it is skipped.

    `note` takes warnings for the log, `destination` is named in them.
    """
    only = level is TlsLevel.DANE_ONLY
    if not relay.port:
        note(
            f'warning: {destination}: the "{level.word}" security level is invalid '
            "for delivery via unix-domain sockets"
        )
        return _CONFIGURATION
    problem = no_dane(level, settings, lmtp=lmtp)
    if problem:
        note(f"warning: {destination}: {problem}")
        return _CONFIGURATION if only else Pinned(TlsLevel.MAY)
    insecure_mx = relay.exchange is not None and not relay.exchange.authentic
    insecure_level = settings.text("smtp_tls_dane_insecure_mx_policy")
    if insecure_mx and (only or insecure_level == "may"):
        return _less(only, "non DNSSEC destination", TlsLevel.MAY)
    digests = _digests(settings.text("tls_dane_digests"), note)
    if not digests:
        # Nothing would match, and Postfix would do without.
        return _CONFIGURATION
    found = _look_up(relay, settings, query, note)
    if found is None:
        return _deferred(f"TLSA lookup error for {relay.host}:{relay.port}")
    base, records = found
    if not records:
        return _less(only, "no TLSA records found", TlsLevel.MAY)
    records = tuple(x for x in records if _for_us(x, note))
    if not records:
        return _less(only, "TLSA records unusable", TlsLevel.ENCRYPT)
    if insecure_mx and insecure_level == "encrypt":
        return Pinned(TlsLevel.ENCRYPT)
    usable = _comparable(records, digests, relay, note)
    # Anybody could have named that server.
    name = "halfdane" if insecure_mx else level.word
    texts = tuple(" ".join((*map(str, x.parameters), x.data)) for x in records[::-1])
    if not usable and not only:
        note(
            f"warning: {relay.namaddrport}: all TLSA records unusable, "
            "fallback to unauthenticated TLS"
        )
        return Pinned(TlsLevel.ENCRYPT, (), (base,), texts, name)
    # The destination's name is as good as the host's, even where nothing but the
    # administrator's word leads from one to the other.
    more = relay.exchange.names[::-1] if relay.exchange else ()
    return Pinned(level, usable, tuple(dict.fromkeys((base, *more))), texts, name)


def no_dane(level: TlsLevel, settings: Settings, *, lmtp: bool) -> str:
    """What in the settings leaves nothing of DANE, empty if nothing does."""
    hosts = settings.words("smtp_host_lookup")
    if "dns" not in hosts or settings.text("smtp_dns_support_level") != "dnssec":
        return f"{level.word} configured with dnssec lookups disabled"
    if not lmtp and settings.flag("ignore_mx_lookup_error"):
        return f"{level.word} configured with MX lookup errors ignored"
    if settings.words("smtp_dns_resolver_options"):
        # The name that was found may be another one than was meant.
        return f"dns resolver options incompatible with {level.word} TLS"
    return ""


def _less(only: bool, reason: str, level: TlsLevel) -> Pinned | DSN:
    return _deferred(reason) if only else Pinned(level)


def _deferred(reason: str) -> DSN:
    return DSN(EnhancedStatus("4.7.5"), reason)


# --- records ------------------------------------------------------------------------


def _look_up(
    relay: Relay, settings: Settings, query: Query, note: Note
) -> tuple[str, tuple[Record, ...]] | None:
    """A name, and the records there that DNSSEC vouches for; None: can't be known."""
    names = _names(relay, settings, query, note)
    for name in names or ():
        answer = query(f"_{relay.port}._tcp.{name}", "TLSA")
        if answer.result not in _CERTAIN:
            note(f"warning: DANE TLSA lookup problem: {answer.reason}")
            return None
        if answer.records and answer.authentic:
            return name, answer.records
    return None if names is None else ("", ())


def _names(
    relay: Relay, settings: Settings, query: Query, note: Note
) -> tuple[str, ...] | None:
    """Whose records to look for, in order; None: can't be known.

    Without DNSSEC for the address the host's zone has none, so there is nothing to ask
    for; an alias that DNSSEC vouches for may have records by its own name, whatever it
    leads to.
    """
    asked, *target = (x.lower() for x in relay.alias or (relay.host,))
    if relay.authentic:
        return (*target, asked)
    if settings.flag("smtp_tls_force_insecure_host_tlsa_lookup"):
        return (asked,)
    if not target:
        return ()
    answer = query(asked, "CNAME")
    if answer.result not in _CERTAIN:
        note(f"warning: DNSSEC status lookup error for {asked}: {answer.reason}")
        return None
    return (asked,) if answer.authentic else ()


def _for_us(record: Record, note: Note) -> bool:
    """Whether mail servers may be told by such a record (RFC 7672 3.1)."""
    usage, _, matching = record.parameters
    if usage not in (AUTHORITY, SERVER):
        problem = "unsupported TLSA certificate usage"
    elif matching == _PRIVATE_USE:
        problem = "reserved private-use matching type"
    elif not record.data:
        problem = "empty association data"
    else:
        return True
    note(f"warning: {record.owner} {problem}: {_text(record)}")
    return False


def _text(record: Record) -> str:
    data = record.data if len(record.data) <= _LONG else record.data[:_LONG] + "..."
    return " ".join((*map(str, record.parameters), data))


def _digests(text: str, note: Note) -> dict[int, str]:
    """tls_dane_digests: names by matching type, best first."""
    import hashlib

    found: dict[int, str] = {}
    for word in text.replace(",", " ").lower().split():
        name, equals, digits = word.partition("=")
        number = _NUMBERS.get(name, 0)
        if equals:
            number = int(digits) if digits.isascii() and digits.isdigit() else 0
        known = name in hashlib.algorithms_available and not name.startswith("shake")
        foreign = number in _NUMBERS.values() and _NUMBERS.get(name) != number
        if not known or foreign or not 0 < number < _PRIVATE_USE:
            note(f"warning: tls_dane_digests: {word} can't be used")
        else:
            found.setdefault(number, name)
    return found


def _comparable(
    records: Iterable[Record], digests: Mapping[int, str], relay: Relay, note: Note
) -> tuple[Tlsa, ...]:
    """Those that can be compared with a certificate.

    Of several digests only the best one counts (RFC 7671 section 9), for each usage and
    selector.
    """
    order = (_WHOLE, *digests)
    best: dict[tuple[int, int], int] = {}
    usable: list[tuple[int, Tlsa]] = []
    for record in records:
        usage, selector, matching = record.parameters
        digest = digests.get(matching, "")
        one = Tlsa(usage, selector, digest, bytes.fromhex(record.data))
        if matching not in order or not _has_form(one):
            note(f"warning: {relay.namaddrport}: unusable TLSA RR: {_text(record)}")
            continue
        place = order.index(matching)
        usable.append((place, one))
        if place:
            kind = usage, selector
            best[kind] = min(place, best.get(kind, place))
    return tuple(
        one
        for place, one in usable
        if place in (0, best.get((one.usage, one.selector)))
    )


def _has_form(record: Tlsa) -> bool:
    """Whether the data can be what the record says they are."""
    if record.selector not in (_CERTIFICATE, _PUBLIC_KEY):
        return False
    if record.digest:
        import hashlib

        empty = hashlib.new(record.digest, usedforsecurity=False)
        return len(record.data) == empty.digest_size
    if record.selector == _PUBLIC_KEY:
        return tls_certificate.is_public_key(record.data)
    return tls_certificate.parse(record.data) is not None


# --- certificates -------------------------------------------------------------------


def matches(
    certificate: tls_certificate.Certificate, records: Iterable[Tlsa], usage: int
) -> bool:
    """Whether one of the records with this usage is about a certificate."""
    return any(_is_of(x, certificate) for x in records if x.usage == usage)


def _is_of(record: Tlsa, certificate: tls_certificate.Certificate) -> bool:
    whole = certificate.public_key if record.selector else certificate.der
    if not record.digest:
        return record.data == whole
    import hashlib

    return hashlib.new(record.digest, whole, usedforsecurity=False).digest() == (
        record.data
    )


def anchors(
    shown: Sequence[tls_certificate.Certificate], records: Iterable[Tlsa]
) -> set[bytes]:
    """Certificates (DER) that the records make authorities for the first of these.

    It is not its own authority, even if it signed itself, but by a record with all of
    its key: so has it OpenSSL. A record with all of a certificate or key does not need
    the server to show it.
    """
    records = tuple(records)
    mine, *others = shown
    trusted = {x.der for x in others if matches(x, records, AUTHORITY)}
    whole = [x for x in records if x.usage == AUTHORITY and not x.digest]
    trusted.update(x.data for x in whole if x.selector == _CERTIFICATE)
    trusted.discard(mine.der)
    issuer = tls_certificate.top(shown).issued_by
    for key in (x.data for x in whole if x.selector == _PUBLIC_KEY):
        trusted.add(tls_certificate.authority(issuer, key))
        if mine.self_issued and mine.public_key == key:
            trusted.add(mine.der)
    return trusted
