"""The table of parameters: every main.cf name that is known here, in one place.

Names, units and defaults are those of Postfix; trouble_postfix_version says of which.
Two defaults differ on purpose:
compatibility_level is what a new main.cf says (3.6); a main.cf without it has 0.
syslog_name is ours, so that log analysers don't count a mail twice.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.rows_client import DIALOGUE, REUSE, SASL, TIMEOUTS
from postfix_trouble.config.rows_general import BOUNCES, GENERAL, OURS, ROUTING
from postfix_trouble.config.rows_tls import TLS
from postfix_trouble.config.types import Parameter
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


# Those of SMTP only, so that there is no lmtp_ form.
SMTP_ONLY = frozenset({"smtp_always_send_ehlo", "smtp_never_send_ehlo"})

# All others are called lmtp_ in place of smtp_.
LMTP_NAMES = {
    "smtp_helo_name": "lmtp_lhlo_name",
    "smtp_helo_timeout": "lmtp_lhlo_timeout",
    "smtp_discard_ehlo_keywords": "lmtp_discard_lhlo_keywords",
    "smtp_discard_ehlo_keyword_address_maps": "lmtp_discard_lhlo_keyword_address_maps",
}

# All others have the default of the smtp_ form.
_LMTP_DEFAULTS = {
    "lmtp_connect_timeout": "0s",
    "lmtp_fallback_relay": "",
    "lmtp_requiretls_policy": "opportunistic",
    "lmtp_skip_quit_response": "no",
    "lmtp_tcp_port": "24",
    "lmtp_tls_secure_cert_match": "nexthop",
    "lmtp_tls_security_level": "",
}

SECTIONS = {
    "General": GENERAL,
    "Routing": ROUTING,
    "Dialogue": DIALOGUE,
    "Timeouts": TIMEOUTS,
    "Reuse of connections": REUSE,
    "Authentication": SASL,
    "TLS": TLS,
    "Bounces and queue": BOUNCES,
    "Ours": OURS,
}


def lmtp_name(name: str) -> str:
    """The parameter that takes the place of a smtp_ one when LMTP is spoken."""
    if not name.startswith("smtp_") or name in SMTP_ONLY:
        return name
    return LMTP_NAMES.get(name) or "lmtp_" + name.removeprefix("smtp_")


def _lmtp_forms(rows: dict[str, Parameter]) -> Iterator[tuple[str, Parameter]]:
    for name, row in rows.items():
        if (other := lmtp_name(name)) != name:
            default = row.default
            if "$" in default:
                default = default.replace("smtp_", "lmtp_")
            default = _LMTP_DEFAULTS.get(other, default)
            yield (
                other,
                row if default == row.default else row._replace(default=default),
            )


def _table() -> dict[str, Parameter]:
    table: dict[str, Parameter] = {}
    for rows in SECTIONS.values():
        table.update(rows)
        table.update(_lmtp_forms(rows))
    return table


TABLE: dict[str, Parameter] = _table()


def supported() -> Iterator[tuple[str, str, str, Parameter]]:
    """All parameters in the order of the manual: section, name, lmtp_ form or "", row.

    Those whose row has a text in `unsupported` are known, but not honoured.
    """
    for section, rows in SECTIONS.items():
        for name, parameter in rows.items():
            other = lmtp_name(name)
            yield section, name, other if other != name else "", parameter
