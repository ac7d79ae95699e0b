"""DNS messages: what we send is well-formed, what comes back may be anything."""

from __future__ import annotations

import ipaddress
import socket
import time

import dnslib
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postfix_trouble.dns.lookup import Record
from postfix_trouble.dns.packet import MAX_RECORDS, answers, question, read, truncated

ASKED = question(0x1234, "d.test", "MX")


def reply(*records: str, asked: bytes = ASKED) -> bytes:
    packet = dnslib.DNSRecord.parse(asked).reply()
    for text in records:
        packet.add_answer(*dnslib.RR.fromZone(text))
    return bytes(packet.pack())


@pytest.mark.parametrize("kind", ["A", "AAAA", "MX", "SRV", "TLSA", "CNAME"])
def test_a_question_is_understood(kind: str) -> None:
    packet = dnslib.DNSRecord.parse(question(7, "_25._tcp.a.test", kind))
    assert packet.header.id == 7
    assert packet.header.rd == 1
    assert str(packet.q.qname) == "_25._tcp.a.test."
    assert dnslib.QTYPE[packet.q.qtype] == kind
    assert packet.ar == []


def test_a_question_with_extensions() -> None:
    plain = dnslib.DNSRecord.parse(question(7, "a.test", "A", edns=True))
    secure = dnslib.DNSRecord.parse(question(7, "a.test", "A", dnssec=True))
    assert [x.ar[0].edns_len for x in (plain, secure)] == [1232, 1232]
    assert [x.ar[0].edns_do for x in (plain, secure)] == [0, 1]
    assert [x.header.ad for x in (plain, secure)] == [0, 1]


RECORDS = {
    "d.test. 60 IN MX 10 mx.test.": Record(
        "d.test", "MX", "mx.test", 60, preference=10
    ),
    "d.test. 60 IN MX 0 .": Record("d.test", "MX", "", 60),
    "d.test. 60 IN A 198.51.100.1": Record("d.test", "A", "198.51.100.1", 60),
    "d.test. 60 IN AAAA 2001:db8:0:1::1": Record(
        "d.test", "AAAA", "2001:db8:0:1::1", 60
    ),
    "d.test. 60 IN SRV 1 2 3 h.test.": Record(
        "d.test", "SRV", "h.test", 60, preference=1, weight=2, port=3
    ),
    "d.test. 60 IN TLSA 3 1 1 00ABFF": Record(
        "d.test", "TLSA", "00ABFF", 60, parameters=(3, 1, 1)
    ),
    "d.test. 60 IN CNAME e.test.": Record("d.test", "CNAME", "e.test", 60),
    "d.test. 60 IN TXT two": Record("d.test", "TXT", "two", 60),
}


@pytest.mark.parametrize("text", RECORDS)
def test_records(text: str) -> None:
    packet = reply(text)
    assert answers(packet, ASKED)
    assert read(packet).records == (RECORDS[text],)
    assert not read(packet).damaged
    if not text.endswith(" ."):
        assert str(RECORDS[text]).split()[4:] == text.split()[4:]


def test_other_kinds_are_counted_only() -> None:
    packet = read(reply("d.test. 60 IN PTR e.test.", "d.test. 60 IN MX 10 mx.test."))
    assert packet.total == 2
    assert [x.kind for x in packet.records] == ["MX"]


def test_strings_of_a_text_are_joined() -> None:
    packet = reply('d.test. 60 IN TXT "v=STSv1;" " id=1" "" "\u00fc"')
    assert read(packet).records[0].data == "v=STSv1; id=1\\xc3\\xbc"


def test_text_in_the_log_is_printable() -> None:
    packet = reply("d.test. 60 IN TXT two").replace(b"two", b"t\0\n")
    assert str(read(packet).records[0]) == "d.test. 60 IN TXT t??"


def test_text_that_ends_in_the_middle_of_a_string() -> None:
    packet = reply("d.test. 60 IN TXT two").replace(b"\3two", b"\4two")
    assert read(packet).damaged
    assert not read(packet).records


def test_one_odd_record_does_not_spoil_the_others() -> None:
    packet = reply("d.test. 60 IN MX 1 a.test.", "d.test. 60 IN A 1.2.3.4")
    short = packet.replace(b"\0\4\1\2\3\4", b"\0\3\1\2\3")
    assert [x.data for x in read(short).records] == ["a.test"]
    assert read(short).damaged


def test_no_more_than_a_hundred() -> None:
    packet = reply(*(f"d.test. 60 IN MX {x} a.test." for x in range(300)))
    assert len(read(packet).records) == MAX_RECORDS


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        ASKED,  # a question
        reply()[:11],
        b"\x12\x35" + reply()[2:],  # another identity
        reply(asked=question(0x1234, "e.test", "MX")),
        reply(asked=question(0x1234, "d.test", "A")),
        ASKED[:2] + b"\x81\x80" + bytes(8),  # no question, no error
        ASKED[:2] + b"\xa9\x83" + ASKED[4:],  # another operation
    ],
)
def test_what_does_not_answer(packet: bytes) -> None:
    assert not answers(packet, ASKED)


def test_what_does() -> None:
    assert answers(reply(), ASKED)
    assert answers(reply().replace(b"\1d\4test", b"\1D\4TEST"), ASKED)
    # A server that could not read the question does not repeat it.
    assert answers(ASKED[:2] + b"\x81\x81" + bytes(8), ASKED)


def test_truncated() -> None:
    packet = reply()
    assert not truncated(packet)
    assert truncated(packet[:2] + bytes([packet[2] | 2]) + packet[3:])


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (b"a.b", "a\\.b"),
        (b"a\x08b", "a\\008b"),
        (b" \x00", "\\032\\000"),
        (b"\xc3\xbc", "\\195\\188"),
        (b"a\\b", "a\\\\b"),
        (b"a\n", "a\\010"),
        (b"a!", "a!"),
    ],
)
def test_labels_are_text(label: bytes, text: str) -> None:
    good = reply("d.test. 60 IN CNAME xxxx.")
    size = bytes((len(label),))
    packet = good.replace(b"\0\x06\x04xxxx\0", b"\0" + bytes((len(label) + 2,))
                          + size + label + b"\0")  # fmt: skip
    assert [x.data for x in read(packet).records] == [text]


def one_alias(data: bytes) -> bytes:
    """A reply with one CNAME record, its data as given."""
    head = ASKED[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + ASKED[12:]
    return head + b"\xc0\x0c\0\5\0\1" + bytes(4) + len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize(
    ("data", "damaged"),
    [
        (b"\1a\0", False),
        (b"\1a\xc0\x0c", False),
        (b"\xc0\x26", True),  # onwards
        (b"\1a", True),
        (b"", True),
        (b"\x80a\0", True),
        (b"\x3f" + b"x" * 63 + b"\0", False),
        ((b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"y" * 61 + b"\0", False),
        ((b"\x3f" + b"x" * 63) * 3 + b"\x3e" + b"y" * 62 + b"\0", True),
    ],
)
def test_names(data: bytes, damaged: bool) -> None:
    packet = read(one_alias(data) + b"\1a\0\0\0\0")
    assert packet.damaged is damaged
    assert bool(packet.records) is not damaged


def test_pointers_end() -> None:
    """A packet full of chains of pointers must not keep us busy."""
    head = ASKED[:2] + b"\x81\x80\0\1\x17\0\0\0\0\0" + ASKED[12:]
    first = len(head) + 12
    chain = b"\xc0\x0c" + b"".join(
        (0xC000 | (first + 2 * x)).to_bytes(2, "big") for x in range(8000)
    )
    packet = (
        head + b"\xc0\x0c\0\x10\0\1\0\0\0\0" + len(chain).to_bytes(2, "big") + chain
    )
    record = (0xC000 | (first + 15000)).to_bytes(2, "big") + b"\0\x10\0\1" + bytes(6)
    packet += record * ((65535 - len(packet)) // len(record))
    start = time.process_time()
    assert read(packet).damaged
    assert time.process_time() - start < 0.2


@given(st.ip_addresses(v=6))
@example(ipaddress.IPv6Address("::"))
@example(ipaddress.IPv6Address("::1"))
@example(ipaddress.IPv6Address("::1:2:3"))
@example(ipaddress.IPv6Address("::192.0.2.1"))
@example(ipaddress.IPv6Address("::192.0.0.0"))
@example(ipaddress.IPv6Address("::ffff:0.0.0.0"))
@example(ipaddress.IPv6Address("::ffff:0.0.2.1"))
@example(ipaddress.IPv6Address("::ffff:192.0.2.1"))
@example(ipaddress.IPv6Address("::fffe:192.0.2.1"))
@example(ipaddress.IPv6Address("64:ff9b::192.0.2.1"))
def test_ipv6_is_written_as_usual(address: ipaddress.IPv6Address) -> None:
    """As inet_ntop(3) does, which Postfix asks."""
    good = reply("d.test. 60 IN AAAA 2001:db8::1")
    plain = ipaddress.ip_address("2001:db8::1").packed
    written = read(good.replace(plain, address.packed)).records[0].data
    assert written == socket.inet_ntop(socket.AF_INET6, address.packed)


@given(st.binary(max_size=80), st.integers(0, 80))
def test_anything_can_be_read(noise: bytes, place: int) -> None:
    packet = reply("d.test. 60 IN MX 1 a.test.", "d.test. 60 IN AAAA ::1")
    spoiled = packet[:place] + noise + packet[place + len(noise) :]
    if answers(spoiled, ASKED):
        for record in read(spoiled).records:
            assert str(record).isascii()
            assert str(record).isprintable()


@given(st.binary(max_size=100))
def test_any_answer_section_can_be_read(noise: bytes) -> None:
    packet = ASKED[:2] + b"\x81\x80\0\1\0\3\0\0\0\0" + ASKED[12:] + noise
    assert answers(packet, ASKED)
    assert read(packet).total == 3
