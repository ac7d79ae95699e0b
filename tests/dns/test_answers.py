"""What a name server's reply means, in Postfix's words."""

from __future__ import annotations

import pytest

from postfix_trouble.core.reply import Lost
from postfix_trouble.dns.answers import (
    FORMAT_ERROR,
    NEXT_SERVER,
    Alias,
    endless,
    filtered,
    interpret,
    is_odd,
    unreachable,
    unspeakable,
)
from postfix_trouble.dns.lookup import Answer, Packet, Record, Result

SERVICE = "Name service error for name={} type={}: {}"
NOT_FOUND = "Host or domain name not found. " + SERVICE
UNEXPECTED = "Malformed or unexpected name server reply"


def read(
    kind: str, *records: Record, rcode: int = 0, total: int = 1, damaged: bool = False
) -> tuple[Answer | Alias, list[str]]:
    """What a reply says about d.test, and what is logged."""
    notes: list[str] = []
    packet = Packet(rcode, False, records, total, damaged)
    return interpret(packet, "d.test", kind, notes.append), notes


def mx(data: str, owner: str = "d.test", kind: str = "MX") -> Record:
    return Record(owner, kind, data)


def cname(owner: str, data: str) -> Record:
    return Record(owner, "CNAME", data)


@pytest.mark.parametrize(
    ("rcode", "result", "words"),
    [
        (FORMAT_ERROR, Result.FAIL, "Non-recoverable error"),
        (1, Result.FAIL, "Non-recoverable error"),
        (2, Result.RETRY, "Host not found, try again"),
        (3, Result.NOT_FOUND, "Host not found"),
        (4, Result.RETRY, "Host not found, try again"),
        (5, Result.RETRY, "Host not found, try again"),
        (6, Result.FAIL, "Non-recoverable error"),
    ],
)
def test_codes(rcode: int, result: Result, words: str) -> None:
    found, _ = read("MX", mx("a.test"), rcode=rcode)
    assert found == Answer(result, NOT_FOUND.format("d.test", "MX", words))
    assert (rcode in NEXT_SERVER) == (result is Result.RETRY)


def test_a_name_without_such_records() -> None:
    words = "Host found but no data record of requested type"
    found, _ = read("AAAA", total=0)
    assert found == Answer(Result.NOT_FOUND, NOT_FOUND.format("d.test", "AAAA", words))


@pytest.mark.parametrize("authentic", [True, False])
def test_records_are_handed_on(authentic: bool) -> None:
    records = (mx("a.test"), mx("b.test", "D.TEST"))
    packet = Packet(0, authentic, (*records, mx("c.test", "e.test")), 3)
    found = interpret(packet, "d.test", "MX", lambda _: None)
    assert found == Answer(Result.FOUND, "", records, authentic)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("MX", "Domain d.test does not accept mail (nullMX)"),
        ("SRV", "Domain d.test does not support SRV requests"),
    ],
)
def test_domains_that_want_no_mail(kind: str, reason: str) -> None:
    for others in ((), (mx("a.test", kind=kind),)):
        found, _ = read(kind, mx("", kind=kind), *others)
        assert found == Answer(Result.NULL, reason)


def test_an_empty_certificate_is_no_refusal() -> None:
    found, _ = read("TLSA", mx("", kind="TLSA"))
    assert isinstance(found, Answer)
    assert found.result is Result.FOUND


@pytest.mark.parametrize("kind", ["MX", "SRV"])
def test_hosts_that_are_no_names(kind: str) -> None:
    about = f"domain name in resource data of {kind} record for d.test:"
    long = "x" * 63 + "." + "y" * 63
    found, notes = read(kind, mx(f"{long}!", kind=kind))
    assert found == Answer(Result.INVALID, SERVICE.format("d.test", kind, UNEXPECTED))
    assert notes == [
        f"warning: valid_hostname: invalid character 33(decimal): {long[:100]}",
        f"warning: malformed {about} {long[:100]}",
    ]
    # The good ones count.
    found, notes = read(kind, mx("-", kind=kind), mx("a.test", kind=kind))
    assert isinstance(found, Answer)
    assert [x.data for x in found.records] == ["a.test"]
    assert len(notes) == 2
    # Against the rules, but it works elsewhere.
    found, notes = read(kind, mx("192.0.2.1", kind=kind))
    assert isinstance(found, Answer)
    assert [x.data for x in found.records] == ["192.0.2.1"]
    assert notes == [f"warning: numeric {about} 192.0.2.1"]


@pytest.mark.parametrize(
    ("address", "usable"),
    [
        ("0.0.0.0", False),
        ("0.0.0.1", False),
        ("1.0.0.0", True),
        ("127.0.0.1", True),
        ("223.255.255.255", True),
        ("224.0.0.1", False),
        ("239.255.255.255", False),
        ("240.0.0.1", True),
        ("255.255.255.254", True),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", True),
        ("::ffff:192.0.2.1", False),
        ("2001:db8::1", True),
        ("ff02::1", False),
        ("ff::1", True),
        ("fff::1", True),
        ("fe80::1", True),
    ],
)
def test_addresses_at_which_nobody_can_be(address: str, usable: bool) -> None:
    kind = "AAAA" if ":" in address else "A"
    found, notes = read(kind, Record("d.test", kind, address))
    assert isinstance(found, Answer)
    if usable:
        assert (found.result, notes) == (Result.FOUND, [])
        return
    assert found == Answer(Result.RETRY, SERVICE.format("d.test", kind, UNEXPECTED))
    said = f"ignoring address {address} of d.test: nobody can be there"
    assert notes == [f"warning: {said}"]


@pytest.mark.parametrize(
    ("records", "damaged", "result"),
    [
        ((), False, Result.NOT_FOUND),
        ((), True, Result.RETRY),
        ((mx("a.test", "bank.test"),), False, Result.NOT_FOUND),
        ((mx("a.test", "bank.test"),), True, Result.RETRY),
    ],
)
def test_answers_to_something_else(
    records: tuple[Record, ...], damaged: bool, result: Result
) -> None:
    found, _ = read("MX", *records, damaged=damaged)
    assert found == Answer(result, SERVICE.format("d.test", "MX", UNEXPECTED))


def test_aliases() -> None:
    chain = (cname("D.test", "B.test"), cname("b.test", "c.test"))
    found, _ = read("MX", *chain)
    assert isinstance(found, Alias)
    assert found == "c.test"
    found, _ = read("MX", mx("a.test", "C.test"), *chain)
    assert isinstance(found, Answer)
    assert [x.data for x in found.records] == ["a.test"]
    found, _ = read("MX", *chain, damaged=True)
    assert isinstance(found, Answer)
    assert found.result is Result.RETRY


def test_what_is_no_alias() -> None:
    found, _ = read("A", mx("a.test"))
    assert found == Answer(Result.NOT_FOUND, SERVICE.format("d.test", "A", UNEXPECTED))
    # Against the rules, but there it is.
    found, _ = read("MX", cname("d.test", "b.test"), mx("a.test"))
    assert isinstance(found, Answer)
    assert [x.data for x in found.records] == ["a.test"]


def test_aliases_in_a_ring() -> None:
    ring = (cname("d.test", "b.test"), cname("b.test", "d.test"))
    assert read("MX", *ring)[0] == endless("d.test")
    assert endless("d.test") == Answer(Result.NOT_FOUND, "Name server loop for d.test")


@pytest.mark.parametrize(
    ("records", "odd"),
    [
        ((cname("d.test", "b.test"), mx("a.test", "B.test")), False),
        ((cname("d.test", "b.test"), cname("D.test", "B.test")), False),
        ((cname("d.test", "b.test"), cname("D.test", "c.test")), True),
        ((mx("a.test", "bank.test"),), True),
        ((mx("a.test"), mx("a.test", "bank.test")), True),
        ((mx("a.test", "bank.test", "A"),), False),
        ((), False),
    ],
)
def test_odd_replies(records: tuple[Record, ...], odd: bool) -> None:
    assert is_odd(Packet(0, False, records, 1), "d.test", "MX") is odd


def test_several_aliases() -> None:
    two = (cname("d.test", "b.test"), cname("d.test", "c.test"))
    for owner in ("b.test", "C.test"):
        found, _ = read("MX", *two, mx("a.test", owner))
        assert isinstance(found, Answer)
        assert [x.data for x in found.records] == ["a.test"]
    assert read("MX", *two)[0] == "c.test"


def test_an_alias_of_itself() -> None:
    loop = Answer(Result.NOT_FOUND, "Name server loop for d.test")
    assert read("MX", cname("D.test", "d.TEST"))[0] == loop
    # Not if it is somebody else's.
    found, _ = read("MX", cname("a.test", "a.test"))
    assert found == Answer(Result.NOT_FOUND, SERVICE.format("d.test", "MX", UNEXPECTED))


def test_an_alias_that_is_no_name() -> None:
    found, notes = read("A", cname("d.test", "b!.test"))
    assert found == Answer(Result.INVALID, SERVICE.format("d.test", "A", UNEXPECTED))
    about = "in resource data of CNAME record for d.test: b!.test"
    assert notes == [f"warning: malformed domain name {about}"]


def test_no_server_answers() -> None:
    words = NOT_FOUND.format("d.test", "MX", "Host not found, try again")
    assert unreachable("d.test", "MX") == Answer(Result.RETRY, words)


@pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::1", "b!.test", "a..test"])
def test_names_that_nobody_can_ask_for(name: str) -> None:
    words = f"Name service error for {name}: invalid host or domain name"
    assert unspeakable(name, "MX") == Answer(Result.NOT_FOUND, words)


def test_names_that_are_too_long_for_a_packet() -> None:
    name = ".".join(["x" * 63] * 3 + ["y" * 61])
    assert unspeakable(name, "MX") is None
    words = NOT_FOUND.format(f"{name}y", "MX", "Non-recoverable error")
    assert unspeakable(f"{name}y", "MX") == Answer(Result.FAIL, words)


# --- smtp_dns_reply_filter ----------------------------------------------------------

A, B = mx("a.test"), mx("b.test")
BOTH = Answer(Result.FOUND, "", (A, B), True)
FILTER = "Error looking up name=d.test type=MX: "
SYNTAX = Answer(Result.RETRY, FILTER + "Invalid DNS reply filter syntax")


@pytest.mark.parametrize(
    ("actions", "answer", "notes"),
    [
        ({}, BOTH, []),
        (
            {str(A): " Ignore "},
            BOTH._replace(records=(B,)),
            [f"ignoring DNS RR: {A}"],
        ),
        (
            {str(A): "ignore", str(B): "IGNORE"},
            Answer(Result.POLICY, FILTER + "DNS reply filter drops all results"),
            [f"ignoring DNS RR: {A}", f"ignoring DNS RR: {B}"],
        ),
        (
            {str(B): "drop it" * 20},
            SYNTAX,
            [f'warning: unknown DNS filter action: "{("drop it" * 20)[:100]}"'],
        ),
        ({str(A): Lost.DATA}, SYNTAX, []),
    ],
)
def test_reply_filter(
    actions: dict[str, str | Lost], answer: Answer, notes: list[str]
) -> None:
    said: list[str] = []
    found = filtered(BOTH, "d.test", "MX", actions.get, said.append)
    assert (found, said) == (answer, notes)


def test_a_filter_makes_nothing_of_nothing() -> None:
    nothing = Answer(Result.NOT_FOUND, "no")
    assert filtered(nothing, "d.test", "MX", lambda _: None, print) == nothing
