"""Servers by SRV records."""

from __future__ import annotations

import pytest

from dns_scene import cases, names, relay_names, scene

SRV = {"use_srv_lookup": "submission"}
QUERY = "_submission._tcp.d"
Q = f"{QUERY}.test"
H1 = "h1 A 1; h2 A 2; h3 A 3"
FOUND = {
    "one": ("0 0 2525 h1", "h1[1]:2525"),
    "in order": ("20 0 26 h2, 10 0 25 h1", "h1[1] h2[2]:26"),
    "two ports of a host": ("10 0 26 h1, 20 0 27 h1", "h1[1]:26 h1[1]:27"),
    "the first is missing": ("10 0 0 no, 20 0 27 h1", "h1[1]:27"),
}


@pytest.mark.parametrize("case", FOUND)
@pytest.mark.parametrize("fallback", ["no", "yes"])
def test_srv(case: str, fallback: str) -> None:
    records, expected = FOUND[case]
    values = {**SRV, "allow_srv_lookup_fallback": fallback}
    with scene(f"{QUERY} SRV {records}; {H1}", values) as here:
        assert here.servers("d.test:submission") == relay_names(expected)


@pytest.mark.parametrize(
    ("nexthop", "services", "asked"),
    [
        ("d.test:submission", "smtps, submission", [Q]),
        ("d.test:submission", "smtp", []),
        ("d.test:587", "submission", []),
        ("d.test:587", "587", ["_587._tcp.d.test"]),
        ("[d.test]:submission", "submission", []),
        ("d.test", "smtp", ["_smtp._tcp.d.test"]),
    ],
)
def test_when_srv_is_asked_for(nexthop: str, services: str, asked: list[str]) -> None:
    with scene("", {"use_srv_lookup": services}) as here:
        here.route(nexthop)
        assert here.dns.asked("SRV") == asked


# Those that end with ! are failures that can be ignored.
SRV_FAILED = cases(
    """
NXDOMAIN
    ; to _ -> 5.4.4 _submission._tcp.d SRV: Host not found
no data
    QUERY TXT x to _ -> 5.4.4 _submission._tcp.d SRV: Host found but no data record of
    requested type
SERVFAIL!
    QUERY rcode SERVFAIL to _ -> 4.4.3 _submission._tcp.d SRV: Host not found, try again
FORMERR!
    QUERY rcode FORMERR to _ -> 5.4.3 _submission._tcp.d SRV: Non-recoverable error
bad name!
    QUERY SRV 0 0 25 -bad- to _ -> 5.4.4 _submission._tcp.d SRV: malformed
null
    QUERY SRV 0 0 0 . to _ -> 5.1.0 Domain _submission._tcp.d.test does not support SRV
    requests
null and another
    QUERY SRV 0 0 25 h1, 0 0 0 . to _ -> 5.1.0 Domain _submission._tcp.d.test does not
    support SRV requests
no address
    QUERY SRV 0 0 25 no to _ -> 5.4.4 no A: Host not found
""".replace("QUERY", QUERY).replace(" _ ", " d.test:submission ")
)


@pytest.mark.parametrize("case", SRV_FAILED)
def test_srv_failures(case: str) -> None:
    records, _, nexthop, _ = SRV_FAILED[case]
    failure = SRV_FAILED[case].failure
    records = f"{H1}; {records}; d MX 10 h3"
    other = ["h3.test[198.51.100.3]:587"]
    with scene(records, SRV) as here:
        assert here.failure(nexthop) == failure
    with scene(records, {**SRV, "ignore_srv_lookup_error": "yes"}) as here:
        assert here.servers(nexthop) == (other if case.endswith("!") else [])
    with scene(records, {**SRV, "allow_srv_lookup_fallback": "yes"}) as here:
        assert here.servers(nexthop) == other
        assert here.notes[-1] == f"skipping SRV lookup for {Q}: {failure[1]}"


def test_srv_loops() -> None:
    records = f"""
        _smtp._tcp.d SRV 10 0 2525 h1, 20 0 25 me; me A 127.0.0.1; {H1};
        _smtp._tcp.e SRV 10 0 2525 no, 20 0 25 me; _smtp._tcp.f SRV 10 0 2525 me
    """
    with scene(records, {"use_srv_lookup": "smtp"}) as here:
        route = here.route("d.test")
        assert list(names(route)) == ["h1.test[198.51.100.1]:2525"]
        assert route.last_resort
        missing = "unable to find primary relay for _smtp._tcp.e.test"
        assert here.failure("e.test") == ("4.4.4", missing)
        loops = "mail for _smtp._tcp.f.test loops back to myself"
        assert here.failure("f.test") == ("5.4.6", loops)


def test_lmtp_by_srv_falls_back_to_the_address() -> None:
    records = f"d A 1; d MX 10 h3; {H1}"
    values = {"use_srv_lookup": "lmtp", "allow_srv_lookup_fallback": "yes"}
    with scene(records, values, lmtp=True) as here:
        route = here.resolver.route(here.destination("d.test:lmtp", lmtp=True))
        assert list(names(route)) == ["d.test[198.51.100.1]:24"]
