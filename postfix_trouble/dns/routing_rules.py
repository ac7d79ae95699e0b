"""The settings that routing goes by."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.hostname import IPV4, IPV6
from postfix_trouble.core.value import Value


class Rules(Value):
    """The settings that decide where mail goes."""

    myhostname: str = "localhost"
    # Of an LMTP client: no MX look-up, no loop detection.
    lmtp: bool = False
    # Whether a host that is ourselves is a mistake.
    loop_detection: bool = True
    # IPV4, IPV6 or both.
    families: tuple[int, ...] = (IPV4, IPV6)
    # Ask the DNS at all (smtp_dns_support_level).
    dns: bool = True
    # Where host names are looked up (smtp_host_lookup).
    dns_hosts: bool = True
    native_hosts: bool = False
    ignore_mx_lookup_error: bool = False
    # smtp_defer_if_no_mx_address_found
    defer_if_no_mx_address: bool = False
    randomize: bool = True
    # IPV4, IPV6, or 0 for any.
    preferred_family: int = 0
    balance: bool = True
    # smtp_mx_address_limit; 0: none.
    address_limit: int = 5
    # use_srv_lookup
    srv_services: tuple[str, ...] = ()
    allow_srv_fallback: bool = False
    ignore_srv_error: bool = False
    # smtp_cname_overrides_servername
    cname_overrides: bool = False
