"""Doubts about an address that a person typed, by email-validator.

A hint and never a gate: it refuses addresses that Postfix delivers to every day (two
dots in a row, an underscore in a host name), so nobody asks it about mail in a queue.
"""

from __future__ import annotations

from typing import Any


def doubt(
    address: str,
    *,
    everywhere: bool = True,
    deliverable: bool = False,
    nameserver: str = "",
    seconds: float = 15.0,
) -> str:
    """What may be wrong with an address in external form; empty: nothing.

    `everywhere`: it is to be delivered by the domain's own mail exchangers, so its
    domain has to be one of the global DNS. `deliverable`: ask the DNS for these,
    within `seconds`; `nameserver`: as in trouble_nameserver, empty: the
    system's.
    """
    try:
        import email_validator
    except ImportError:
        return "not checked: email-validator is not installed"
    if not everywhere:
        # Its own way to allow .test, .local and the like; for the whole process.
        email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
    try:
        email_validator.validate_email(
            address,
            allow_smtputf8=True,
            allow_quoted_local=True,
            allow_domain_literal=True,
            globally_deliverable=everywhere,
            check_deliverability=deliverable,
            dns_resolver=_resolver(nameserver, seconds) if deliverable else None,
        )
    except email_validator.EmailNotValidError as problem:
        return str(problem)
    return ""


def _resolver(nameserver: str, seconds: float) -> Any:
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=not nameserver)
    resolver.lifetime = seconds
    if nameserver:
        from postfix_trouble.dns.nameservers import address_and_port

        servers = [address_and_port(x) for x in nameserver.replace(",", " ").split()]
        resolver.nameservers = [address for address, _ in servers]
        # There is room for one port only.
        resolver.port = servers[0][1]
    return resolver
