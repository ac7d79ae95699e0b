"""Destinations for which there is nothing to look up."""

from __future__ import annotations

import pytest

from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.dns.address_literal import find_server

SOCKET = Destination("/run/lmtp", "", 0, no_mx=True, socket="/run/lmtp")


@pytest.mark.parametrize(
    ("destination", "server"),
    [
        (
            Destination("[192.0.2.1]:26", "192.0.2.1", 26, no_mx=True),
            Relay("192.0.2.1", "192.0.2.1", 26),
        ),
        # A server on a socket goes by our own name, as in Postfix's log.
        (SOCKET, Relay("mail.example.org", "/run/lmtp", 0)),
    ],
)
def test_one_server_and_no_other(destination: Destination, server: Relay) -> None:
    route = find_server(destination, "mail.example.org")
    assert route is not None
    assert route.more()
    assert route.next() == server
    assert not route.more()
    assert route.next() is None
    # A fallback relay comes next, if there is one.
    assert not route.last_resort
    assert not route.failure.reason


@pytest.mark.parametrize(
    "destination",
    [
        # On port 25 it may be ourselves.
        Destination("[192.0.2.1]", "192.0.2.1", 25, no_mx=True),
        # Without brackets Postfix asks for MX records first.
        Destination("192.0.2.1:26", "192.0.2.1", 26),
        Destination("[mx.test]:26", "mx.test", 26, no_mx=True),
        # Whether IPv6 is enabled has to be seen.
        Destination("[ipv6:2001:db8::1]:26", "2001:db8::1", 26, no_mx=True),
    ],
    ids=lambda each: each.text,
)
def test_others_are_left_to_routing(destination: Destination) -> None:
    assert find_server(destination, "mail.example.org") is None
