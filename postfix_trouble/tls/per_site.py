"""smtp_tls_per_site: tables of Postfix 2.2, before there were policy tables."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.failure import TableError
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tls.policy_entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.core.relay import Destination, Relay

_ORDER = ("may", "none", "must_nopeermatch", "must")
_LEVELS = (TlsLevel.NONE, TlsLevel.ENCRYPT, TlsLevel.VERIFY)
_CONFIGURATION = DSN(EnhancedStatus("4.7.5"), "client TLS configuration problem")
_LOOK_UP = DSN(EnhancedStatus("4.3.0"), "Temporary lookup error")


def by_site(
    common: TlsLevel,
    destination: Destination,
    relay: Relay,
    find: Callable[[str], str | None],
    note: Callable[[str], None],
    title: str,
) -> Entry | DSN | None:
    """tls_site_lookup: destination, then host; None if there is an entry for neither.

    MUST beats MUST_NOPEERMATCH beats NONE beats MAY; a MAY of the table yields to a
    stronger common level. `title`: the parameter, for the log.
    """
    found: list[int] = []
    keys = [("next-hop destination", destination.text)]
    if relay.host.lower() != destination.text.lower():
        keys.append(("server hostname", relay.host))
    for klass, key in keys:
        try:
            value = find(key)
        except TableError:
            note(f'{title}: {klass} "{key}": per-site table lookup error')
            return _LOOK_UP
        if value is not None and value.lower() not in _ORDER:
            note(f"{title}: unknown TLS policy '{value}' for {klass} {key}")
            return _CONFIGURATION
        if value is not None:
            found.append(_ORDER.index(value.lower()))
    if any(found):
        return Entry(_LEVELS[max(found) - 1])
    return Entry(max(TlsLevel.MAY, common)) if found else None
