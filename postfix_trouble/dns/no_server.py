"""A domain without a server: what each kind of look-up failure leads to."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination
from postfix_trouble.dns.lookup import Answer, Result
from postfix_trouble.dns.routing import find_servers
from postfix_trouble.dns.routing_rules import Rules

_DOMAIN = "example.com"


def without_server(result: Result) -> DSN:
    """Why a domain has no server, if all its look-ups end like this."""
    answer = Answer(result, result.name)
    # Whom the name services know nothing of is not asked after elsewhere.
    unlucky: Any = SimpleNamespace(query=lambda name, kind: answer)
    destination = Destination(_DOMAIN, _DOMAIN, 25)
    failure: DSN = find_servers(destination, Rules(), unlucky).failure
    return failure
