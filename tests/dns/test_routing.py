"""The order of servers, and decisions that a zone can't show."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.core.hostname import IPV4, IPV6
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination, Exchange, Relay
from postfix_trouble.dns.answers import Alias, interpret
from postfix_trouble.dns.lookup import Answer, NativeAnswer, Packet, Record, Result
from postfix_trouble.dns.nexthop import destinations
from postfix_trouble.dns.ordering import (
    balanced,
    by_family,
    by_weight,
    in_groups,
    shuffled,
)
from postfix_trouble.dns.routing import Rules, Servers, find_servers


def relays(families: str) -> list[Relay]:
    """4 and 6, in order: one server each."""
    return [
        Relay(f"h{n}", f"198.51.100.{n}" if x == "4" else f"2001:db8::{n}", 25)
        for n, x in enumerate(families)
    ]


@pytest.mark.parametrize(
    ("before", "limit", "kept"),
    [
        # families in order; places of those that stay
        ("4444444", 5, "0123456"),
        ("6666666", 5, "0123456"),
        ("44466", 5, "01234"),
        ("444466", 5, "01245"),  # few IPv6: all of them
        ("664444", 5, "01234"),
        ("466666", 5, "01234"),  # few IPv4: all of them
        ("66664444", 5, "01245"),
        ("44446666", 5, "01245"),  # starts with IPv4: three of it
        ("66644", 4, "0134"),
        ("6666444", 5, "01245"),
        ("46", 1, "0"),
        ("64", 1, "0"),
        ("4466", 2, "02"),
        ("6644", 2, "02"),
        ("4646464646", 4, "0123"),
        ("4" * 90 + "6" * 90, 200, None),
    ],
)
def test_balancing(before: str, limit: int, kept: str | None) -> None:
    found = balanced(relays(before), limit)
    if kept is None:
        assert len(found) == 100
        assert Counter(":" in x.address for x in found) == {False: 50, True: 50}
    else:
        assert found == [relays(before)[int(x)] for x in kept]


@given(st.text("46", max_size=30), st.integers(1, 12))
def test_balancing_keeps_the_head_and_the_order(families: str, limit: int) -> None:
    before = relays(families)
    after = balanced(before, limit)
    assert after[:1] == before[:1]
    assert [x for x in before if x in after] == after
    if len(set(families)) == 2 and len(before) > limit:
        assert len(after) == limit


@pytest.mark.parametrize(
    ("preferred", "order"), [(0, "0123"), (IPV4, "0213"), (IPV6, "1302")]
)
def test_family_preference(preferred: int, order: str) -> None:
    before = relays("4646")
    assert by_family(before, preferred) == [before[int(x)] for x in order]


def srv(priority: int, weight: int, data: str = "h") -> Record:
    return Record("d", "SRV", data, preference=priority, weight=weight)


def test_srv_priorities_are_kept() -> None:
    records = [srv(20, 9), srv(10, 0), srv(20, 1), srv(0, 5)]
    below = random.Random(1).randrange
    assert [x.preference for x in by_weight(records, below)] == [0, 10, 20, 20]


@pytest.mark.parametrize(
    ("weights", "low", "high"),
    [
        ((1, 3), 0.63, 0.78),
        ((0, 0), 0.45, 0.55),
        ((5, 5), 0.45, 0.55),
        ((0, 9), 0.9, 1),
    ],
)
def test_srv_weights(weights: tuple[int, int], low: float, high: float) -> None:
    """How often the second comes first. Weight 1 of 4 gets a little more, as there."""
    below = random.Random(1).randrange
    records = [srv(1, weights[0], "a"), srv(1, weights[1], "b")]
    firsts = Counter(by_weight(records, below)[0].data for _ in range(3000))
    assert low <= firsts["b"] / 3000 <= high


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 65535)), max_size=12))
def test_srv_order_loses_nobody(rows: list[tuple[int, int]]) -> None:
    records = [srv(p, w, str(n)) for n, (p, w) in enumerate(rows)]
    found = by_weight(records, random.Random(2).randrange)
    assert sorted(found) == sorted(records)
    assert [x.preference for x in found] == sorted(x.preference for x in records)


def test_shuffling_is_fair() -> None:
    below = random.Random(3).randrange
    orders = Counter(tuple(shuffled("abc", below)) for _ in range(6000))
    assert len(orders) == 6
    assert all(800 < x < 1200 for x in orders.values())


def test_groups() -> None:
    records = [srv(2, 0, "a"), srv(1, 0, "b"), srv(2, 0, "c")]
    assert [[x.data for x in g] for g in in_groups(records)] == [["b"], ["a", "c"]]


class Zone:
    """A name service that knows everything at once, and counts."""

    def __init__(self, answers: dict[tuple[str, str], Answer], own: str = "") -> None:
        self.answers = answers
        self.own_address = own
        self.asked: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.system = NativeAnswer((), "nobody knows", unknown_name=True)
        self.below = random.Random(4).randrange

    def query(self, name: str, kind: str) -> Answer:
        self.asked.append((name, kind))
        missing = Answer(Result.NOT_FOUND, f"no {kind} of {name}")
        return self.answers.get((name, kind), missing)

    def native(self, host: str) -> NativeAnswer:
        return self.system

    def own(self, address: str) -> bool:
        return address == self.own_address

    def address_text(self, address: str) -> str:
        return address

    def note(self, text: str) -> None:
        self.notes.append(text)


D = Destination("d", "d", 25, service="smtp")


def everything(route: Servers) -> list[Relay]:
    found = []
    while relay := route.next():
        found.append(relay)
    return found


def found(kind: str, *records: Record) -> Answer:
    assert {x.kind for x in records} == {kind}
    return Answer(Result.FOUND, "", records)


def exchangers(*hosts: tuple[int, str, str], own: str = "") -> Zone:
    """(preference, host, families of its addresses), in order."""
    answers: dict[tuple[str, str], Answer] = {}
    records = [Record("d", "MX", host, preference=p) for p, host, _ in hosts]
    answers["d", "MX"] = found("MX", *records)
    number = 0
    for _, host, families in hosts:
        for kind, family in (("A", "4"), ("AAAA", "6")):
            mine = []
            for _ in range(families.count(family)):
                number += 1
                net = "198.51.100." if kind == "A" else "2001:db8::"
                mine.append(Record(host, kind, f"{net}{number}"))
            if mine:
                answers[host, kind] = found(kind, *mine)
    return Zone(answers, own)


@st.composite
def exchanger_sets(draw: st.DrawFn) -> Zone:
    count = draw(st.integers(1, 5))
    hosts = [
        (draw(st.integers(1, 3)), f"h{n}", draw(st.text("46", max_size=4)))
        for n in range(count)
    ]
    return exchangers(*hosts, own=draw(st.sampled_from(["", "198.51.100.2"])))


@given(
    exchanger_sets(),
    st.sampled_from([0, IPV4, IPV6]),
    st.sampled_from([0, 1, 3, 5]),
)
def test_lazy_is_the_same_as_whole(zone: Zone, preferred: int, limit: int) -> None:
    """Against the algorithm on the whole list, without shuffling."""
    rules = Rules(randomize=False, preferred_family=preferred, address_limit=limit)
    route = find_servers(D, rules, zone)
    servers = everything(route)
    assert all(x.exchange == Exchange(("d",)) for x in servers)
    assert [x._replace(exchange=None) for x in servers] == whole(zone, rules)
    cut = any(
        x.data == zone.own_address
        for (_, kind), answer in zone.answers.items()
        for x in answer.records
        if kind == "A"
    )
    assert route.last_resort == cut


def whole(zone: Zone, rules: Rules) -> list[Relay]:
    """Postfix smtp_domain_addr, word by word."""
    cap = max(5, rules.address_limit or 100)
    found = [
        Relay(mx.data, x.data, 25, mx.preference)
        for mx in sorted(zone.answers["d", "MX"].records, key=lambda x: x.preference)
        for kind in ("A", "AAAA")
        for x in zone.answers.get((mx.data, kind), Answer(Result.FOUND)).records[:cap]
    ]
    own = [x.preference for x in found if x.address == zone.own_address]
    if own:
        found = [x for x in found if x.preference < own[0]]
    want = rules.preferred_family
    six = [":" in x.address for x in found]
    keys = [
        (x.preference, bool(want) and v6 != (want == IPV6))
        for x, v6 in zip(found, six, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda n: keys[n])
    found = [found[n] for n in order]
    if rules.address_limit:
        found = balanced(found, rules.address_limit)
    best = found[0].preference if found else 0
    return [x._replace(best=x.preference == best) for x in found]


def test_a_hostile_zone_is_not_asked_for_all_it_names() -> None:
    """A hundred addresses are enough, even where there is no limit (0)."""
    rules = Rules(families=(IPV4,), address_limit=0)
    for hosts in (
        [(10, "a", "4" * 120), (10, "b", "4")],
        [(5, "z", "4"), (10, "a", "4" * 120), (20, "b", "4")],
        [(5, "z", "4"), (10, "a", "4" * 99), (20, "b", "4")],
    ):
        zone = exchangers(*hosts)
        assert len(everything(find_servers(D, rules, zone))) >= 100
        assert ("b", "A") not in zone.asked


def test_of_many_addresses_each_can_be_tried() -> None:
    zone = exchangers((10, "a", "4" * 9))
    rules = Rules(families=(IPV4,), address_limit=5)
    tried = {
        x.address for _ in range(90) for x in everything(find_servers(D, rules, zone))
    }
    assert len(tried) == 9
    ordered = Rules(families=(IPV4,), address_limit=5, randomize=False)
    first = [x.address for x in everything(find_servers(D, ordered, zone))]
    assert first == [f"198.51.100.{n}" for n in range(1, 6)]


def test_balance_can_be_turned_off() -> None:
    zone = exchangers((1, "a", "4466"))
    for balance, count in ((True, 2), (False, 4)):
        rules = Rules(address_limit=2, balance=balance)
        assert len(everything(find_servers(D, rules, zone))) == count


HOST = Destination("[a]", "a", 25, no_mx=True, service="smtp")


def test_addresses_of_one_host_are_shuffled_unless_told_not_to() -> None:
    zone = exchangers((1, "a", "444"))
    for randomize, count in ((True, 6), (False, 1)):
        rules = Rules(randomize=randomize)
        orders = Counter(
            tuple(x.address for x in everything(find_servers(HOST, rules, zone)))
            for _ in range(60)
        )
        assert len(orders) == count


def services(*hosts: tuple[int, str, str]) -> Zone:
    """(weight, host, families of its addresses), of one priority."""
    zone = exchangers(*hosts)
    records = [srv(1, weight, host)._replace(port=26) for weight, host, _ in hosts]
    zone.answers["_smtp._tcp.d", "SRV"] = found("SRV", *records)
    return zone


BY_SRV = Rules(srv_services=("smtp",), families=(IPV4,))


def test_weights_of_services_are_not_shuffled_away() -> None:
    zone = services((0, "light", "4"), (65535, "heavy", "4"))
    firsts = [find_servers(D, BY_SRV, zone).next() for _ in range(30)]
    assert {x and (x.host, x.port) for x in firsts} == {("heavy", 26)}


def test_addresses_of_a_service_stay_in_order() -> None:
    zone = services((0, "a", "44444"))
    for _ in range(30):
        addresses = [x.address for x in everything(find_servers(D, BY_SRV, zone))]
        assert addresses == [f"198.51.100.{n}" for n in range(1, 6)]


def test_services_without_addresses_are_told_of() -> None:
    zone = services((0, "a", ""))
    route = find_servers(D, BY_SRV, zone)
    assert route.failure == DSN("5.4.4", "no A of a")  # type: ignore[arg-type]
    assert zone.notes == [
        "warning: no SRV host for _smtp._tcp.d has a valid address record"
    ]


def test_without_dns_no_service_is_asked_for() -> None:
    zone = services((0, "a", "4"))
    find_servers(D, BY_SRV._replace(dns=False), zone)
    assert zone.asked == []


def test_trouble_with_services_is_forgotten_where_they_are_not_needed() -> None:
    """A soft error of theirs does not make the exchangers' hard one soft."""
    zone = exchangers((1, "a", ""))
    zone.answers["_smtp._tcp.d", "SRV"] = Answer(Result.RETRY, "later")
    rules = BY_SRV._replace(allow_srv_fallback=True)
    assert find_servers(D, rules, zone).failure.status == "5.4.4"


def test_shuffling_leaves_preferences_alone() -> None:
    zone = exchangers((2, "c", "44"), (1, "a", "44"), (1, "b", "4"))
    rules = Rules(families=(IPV4,))
    orders = [tuple(everything(find_servers(D, rules, zone))) for _ in range(60)]
    for order in orders:
        assert [x.preference for x in order] == [1, 1, 1, 2, 2]
        assert [x.best for x in order] == [True, True, True, False, False]
    assert len({x[0].address for x in orders}) == 3


def test_looking_ahead_costs_nothing_until_it_is_asked_for() -> None:
    zone = exchangers((1, "a", "4"), (2, "b", "4"), (3, "c", "4"))
    route = find_servers(D, Rules(), zone)
    assert route.more()
    assert route.next()
    assert zone.asked == [("d", "MX"), ("a", "A"), ("a", "AAAA")]
    assert route.more()
    assert len(zone.asked) == 7


def test_a_loop_hides_nothing_from_a_look_beyond() -> None:
    """Hosts after ourselves are of no use, so nobody asks for them."""
    zone = exchangers((1, "a", "4"), (2, "b", "4"), (3, "c", "4"), own="198.51.100.2")
    route = find_servers(D, Rules(), zone)
    assert [x.host for x in everything(route)] == ["a"]
    assert route.last_resort
    assert ("c", "A") not in zone.asked


NATIVE = [
    (NativeAnswer((), "again", soft=True, unknown_name=True), "4.4.4"),
    (NativeAnswer((), "out of memory", soft=True), "4.3.0"),
    (NativeAnswer((), "unknown", unknown_name=True), "5.4.4"),
    (NativeAnswer((), "bad flags"), "5.3.0"),
]


@pytest.mark.parametrize(("answer", "status"), NATIVE, ids=lambda x: str(x)[:30])
def test_the_system_fails(answer: NativeAnswer, status: str) -> None:
    zone = Zone({})
    zone.system = answer
    rules = Rules(dns_hosts=False, native_hosts=True)
    failure = find_servers(D._replace(text="[d]", no_mx=True), rules, zone).failure
    assert failure == DSN(status, f"unable to look up host d: {answer.error}")  # type: ignore[arg-type]


def test_the_system_has_no_usable_address() -> None:
    zone = Zone({})
    zone.system = NativeAnswer()
    rules = Rules(dns_hosts=False, native_hosts=True)
    failure = find_servers(D._replace(text="[d]", no_mx=True), rules, zone).failure
    assert failure == DSN("5.4.4", "d: host not found")  # type: ignore[arg-type]


def test_a_soft_error_before_dominates_the_system() -> None:
    zone = exchangers((1, "a", ""), (2, "b", ""))
    zone.answers["a", "A"] = Answer(Result.RETRY, "later")
    for answer, status in (NATIVE[2][0], "4.4.4"), (NATIVE[3][0], "4.3.0"):
        zone.system = answer
        rules = Rules(native_hosts=True)
        assert find_servers(D, rules, zone).failure.status == status
    zone.system = NativeAnswer()
    assert find_servers(D, Rules(native_hosts=True), zone).failure.status == "4.4.4"


def test_no_protocols() -> None:
    failure = find_servers(D, Rules(families=()), Zone({})).failure
    assert failure == DSN("4.4.4", "all network protocols are disabled")  # type: ignore[arg-type]


def test_a_destination_that_is_none() -> None:
    found = destinations("[a]:1 b:0", default_port="25", service_port=lambda _: None)
    assert not isinstance(found, DSN)
    route = find_servers(found[1], Rules(), Zone({}))
    assert route.next() is None
    problem = "bad network port: 0 for destination: b:0"
    assert route.failure == DSN("4.3.5", problem)  # type: ignore[arg-type]
    assert route.last_resort


def test_a_numeric_host_is_not_asked_for() -> None:
    zone = Zone({})
    host = "198.51.100.1"
    literal = Destination(f"[{host}]", host, 25, no_mx=True, service="smtp")
    assert everything(find_servers(literal, Rules(), zone)) == [Relay(host, host, 25)]
    assert zone.asked == []


def test_a_numeric_host_of_ours() -> None:
    zone = Zone({}, own="198.51.100.1")
    host = "198.51.100.1"
    literal = Destination(f"[{host}]", host, 25, no_mx=True, service="smtp")
    failure = find_servers(literal, Rules(), zone).failure
    assert failure == DSN("5.4.6", f"mail for {host} loops back to myself")  # type: ignore[arg-type]


# What a reply means

MX = Record("d", "MX", "a", preference=1)


@pytest.mark.parametrize(
    ("packet", "result"),
    [
        (Packet(0, records=(MX,), total=1), Result.FOUND),
        (Packet(0, records=(MX,), total=2, damaged=True), Result.FOUND),
        (Packet(0, total=1, damaged=True), Result.RETRY),
        (Packet(0, total=1), Result.NOT_FOUND),
        (Packet(0), Result.NOT_FOUND),
        (Packet(0, records=(MX._replace(owner="e"),), total=1), Result.NOT_FOUND),
        (Packet(0, records=(MX._replace(data=""),), total=1), Result.NULL),
        (Packet(0, records=(MX._replace(data="-"), MX), total=2), Result.FOUND),
        (Packet(0, records=(MX._replace(data="-"),), total=1), Result.INVALID),
        (Packet(1), Result.FAIL),
        (Packet(2), Result.RETRY),
        (Packet(3, records=(MX,), total=1), Result.NOT_FOUND),
        (Packet(4), Result.RETRY),
        (Packet(5), Result.RETRY),
        (Packet(9), Result.FAIL),
    ],
)
def test_replies(packet: Packet, result: Result) -> None:
    answer = interpret(packet, "d", "MX", lambda _: None)
    assert isinstance(answer, Answer)
    assert answer.result is result
    assert bool(answer.records) == (result is Result.FOUND)


def test_aliases_in_any_order() -> None:
    chain = (
        Record("c", "A", "198.51.100.1"),
        Record("B", "CNAME", "c"),
        Record("d", "CNAME", "b"),
    )
    answer = interpret(Packet(0, True, chain, 3), "D", "A", lambda _: None)
    assert isinstance(answer, Answer)
    assert [x.owner for x in answer.records] == ["c"]
    rest = interpret(Packet(0, True, chain[1:], 2), "D", "A", lambda _: None)
    assert isinstance(rest, Alias)
    assert rest == "c"
