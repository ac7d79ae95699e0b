"""Certificates taken apart, and the names in them. Matches as smtp(8) was seen to."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from postfix_trouble.core.hostname import address_family
from postfix_trouble.tls import certificate

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def alternative(name: str) -> x509.GeneralName:
    if address_family(name):
        return x509.IPAddress(ip_address(name))
    return x509.DNSName(name)


def made(names: tuple[str, ...], alternatives: tuple[str, ...] = ()) -> bytes:
    """A certificate with these common names and alternative names."""
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, n) for n in names]
    # What else is in a name is not a host.
    city = x509.NameAttribute(NameOID.LOCALITY_NAME, "a.test")
    subject = x509.Name([city, *parts])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CÅ")]))
        .public_key(KEY.public_key())
        .serial_number(5)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2049, 12, 31, tzinfo=UTC))
    )
    if alternatives:
        listed = x509.SubjectAlternativeName(map(alternative, alternatives))
        builder = builder.add_extension(listed, False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def test_parts() -> None:
    der = made(("a", "b\n"), ("mx.test", "192.0.2.1", "2001:db8::1"))
    found = certificate.parse(der)
    assert found is not None
    assert (found.der, found.public_key) == (der, PUBLIC)
    assert (found.subject, found.issuer) == (("a", "b\n"), ("CÅ",))
    assert found.dns_names == ("mx.test",)
    assert found.addresses == (
        ip_address("192.0.2.1").packed,
        ip_address("2001:db8::1").packed,
    )
    assert found.details == (
        ("subject", "a, b?"),
        ("issuer", "CÅ"),
        ("names", "mx.test"),
        ("expires", "20491231000000Z"),
    )


def tlv(tag: int, *parts: bytes) -> bytes:
    """An element of ASN.1."""
    content = b"".join(parts)
    size = len(content).to_bytes(2, "big")
    return (
        bytes((tag,)) + (b"\x82" + size if len(content) > 127 else size[1:]) + content
    )


COMMON_NAME, UTC_TIME = b"\x55\x04\x03", 0x17


def bare(
    common: bytes = tlv(0x0C, b"a"),
    expires: bytes = tlv(UTC_TIME, b"491231000000Z"),
    *rest: bytes,
) -> bytes:
    """As far as a certificate is read, with what no decent authority would sign."""
    name = tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x06, COMMON_NAME), common)))
    validity = tlv(0x30, tlv(UTC_TIME, b"200101000000Z"), expires)
    number, algorithm = tlv(0x02, b"\x05"), tlv(0x30)
    return tlv(0x30, tlv(0x30, number, algorithm, name, validity, name, PUBLIC, *rest))


def extension(last: int, *names: bytes) -> bytes:
    """Alternative names of the subject (17) or of the issuer (18)."""
    listed = tlv(0x30, *(tlv(0x82, name) for name in names))
    identifier = tlv(0x06, bytes((0x55, 0x1D, last)))
    return tlv(0x30, identifier, tlv(0x04, listed))


def extensions(*listed: bytes) -> bytes:
    return tlv(0xA3, tlv(0x30, *listed))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (tlv(0x0C, "\u00fc".encode()), "\u00fc"),
        (tlv(0x1E, b"\0\xfc"), "\u00fc"),
        (tlv(0x0C, b"\xfc"), "\ufffd"),
    ],
    ids=["UTF8String", "BMPString", "damaged"],
)
def test_common_names_are_readable(value: bytes, text: str) -> None:
    found = certificate.parse(bare(value))
    assert found is not None
    assert found.subject == found.issuer == (text,)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (tlv(UTC_TIME, b"491231235959Z"), "20491231235959Z"),
        (tlv(UTC_TIME, b"500101000000Z"), "19500101000000Z"),
        (tlv(0x18, b"20500101000000Z"), "20500101000000Z"),
        (tlv(0x18, b"\xfc"), "\ufffd"),
    ],
)
def test_the_last_day(value: bytes, text: str) -> None:
    found = certificate.parse(bare(tlv(0x0C, b"a"), value))
    assert found is not None
    assert found.expires == text


def test_only_alternative_names_of_the_subject_are_its_own() -> None:
    unique = tlv(0x81, b"\0\x05")
    mine = extension(17, b"mx.test", b"m\xfcnchen.test")
    der = bare(
        tlv(0x0C, b"a"),
        tlv(UTC_TIME, b"491231000000Z"),
        unique,
        extensions(extension(18, b"ca.test"), mine),
    )
    found = certificate.parse(der)
    assert found is not None
    assert found.dns_names == ("mx.test", "m\ufffdnchen.test")


NOBODY = certificate.Certificate(b"", b"", b"", b"", (), (), (), (), "")


def test_details_are_short_and_never_empty() -> None:
    assert NOBODY.details == ()
    several = NOBODY._replace(
        subject=("a", "b"), issuer=("c", "d"), dns_names=("e", "f" * 300)
    )
    assert several.details == (
        ("subject", "a, b"),
        ("issuer", "c, d"),
        ("names", "e " + "f" * 254),
    )


def test_the_top_of_a_chain() -> None:
    def issued(by: bytes, to: bytes) -> certificate.Certificate:
        return NOBODY._replace(issued_by=by, issued_to=to)

    leaf, between, root = issued(b"I", b"L"), issued(b"R", b"I"), issued(b"R", b"R")
    stranger = issued(b"S", b"S")
    assert certificate.top([leaf, stranger]) == leaf
    assert certificate.top([leaf, root, stranger, between]) == root
    # Two who issued each other.
    assert certificate.top([leaf, issued(b"J", b"I"), issued(b"I", b"J")]) == issued(
        b"I", b"J"
    )


def test_an_authority_of_any_size_can_be_read() -> None:
    for size in range(300):
        key = tlv(0x30, bytes(size))
        found = certificate.parse(certificate.authority(tlv(0x30), key))
        assert found is not None, size
        assert found.public_key == key


SAMPLE = made(("a",), ("mx.test",))


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255), st.integers(0, 9))
@example(0, 0, 0)
def test_damage_is_no_exception(place: int, value: int, cut: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[place] = value
    certificate.parse(bytes(damaged[: len(damaged) - cut]))


@given(st.binary(max_size=60))
def test_garbage_is_none(garbage: bytes) -> None:
    assert certificate.parse(garbage) is None


# Common names, alternative names, wanted, whether that is a match.
NAMES = [
    ("mx.a.test", "", "mx.a.test", True),
    ("mx.a.test", "other.test", "mx.a.test", False),
    ("mx.a.test", "127.0.0.1", "mx.a.test", True),
    ("x mx.a.test", "", "mx.a.test", True),
    ("*.a.test", "", "mx.a.test", True),
    ("x", "MX.Wild.Test", "mx.wild.test", True),
    ("x", "*.wild.test", "a.wild.test", True),
    ("x", "*.wild.test", "a.b.wild.test", False),
    ("x", "*.wild.test", "wild.test", False),
    ("x", "*.wild.test", "*.Wild.test", True),
    ("x", "*.wild.test", "*.*.wild.test", False),
    ("x", "*.wild.test", "w*.wild.test", False),
    ("x", "*.wild.test", "*.wild.test.", False),
    ("x", "a.wild.test", "*.wild.test", False),
    ("x", "*.wild.test", "a_b.wild.test", False),
    ("x", "*.w_d.test", "a.w_d.test", False),
    ("x", "a_b.wild.test", "a_b.wild.test", True),
    ("x", "*.test", "wild.test", False),
    ("x", "m*.wild.test", "mx.wild.test", False),
    ("x", "*x.wild.test", "mx.wild.test", False),
    ("x", "*.wild.test", ".wild.test", True),
    ("x", "*.a.b.test", ".b.test", True),
    ("x", "mx.wild.test", ".wild.test", True),
    ("x", "a.mx.wild.test", ".wild.test", True),
    ("x", "wild.test", ".wild.test", False),
    ("x", "notwild.test", ".wild.test", False),
    ("x", "a.test", ".", False),
    ("x", "a.test.", ".", False),
    ("x", "mx.b", ".b", True),
    ("x", "mx.a.test.", "mx.a.test", False),
    ("x", "mx.a.test", "mx.a.test.", False),
    ("x", "xn--mnchen-3ya.test", "münchen.test", True),
    ("x", "*.xn--mnchen-3ya.test", "a.münchen.test", True),
    ("x", "127.0.0.1", "127.0.0.1", True),
    ("x", "2001:db8::1", "2001:0db8::0001", True),
    ("127.0.0.1", "", "127.0.0.1", False),
    ("x", "mx.a.test 127.0.0.1", "127.0.0.1 mx.a.test", True),
    ("x", "mx.a.test", "127.0.0.1 mx.a.test", False),
    ("x", "127.0.0.1", "127.0.0.1 mx.a.test", False),
    ("x", "b.test", "a.test b.test", True),
    ("", "", "a.test", False),
    ("a.test", "", "", False),
    ("münchen.test", "", "a.test", False),
]


@pytest.mark.parametrize(("common", "alternative", "wanted", "expected"), NAMES)
def test_names(common: str, alternative: str, wanted: str, expected: bool) -> None:
    found = certificate.parse(made(tuple(common.split()), tuple(alternative.split())))
    assert found is not None
    names = certificate.references(wanted.split(), "nexthop.test", "host.test")
    assert certificate.names_match(found, names) is expected


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ("", ""),
        # Where the authority looked at another end of the name than we.
        ("evil.test\0.wild.test", ".wild.test"),
        ("b\ufffdcher.wild.test", ".wild.test"),
    ],
)
def test_what_is_no_host_name_names_no_host(shown: str, wanted: str) -> None:
    named = NOBODY._replace(dns_names=(shown,))
    assert not certificate.names_match(named, (wanted,))


REFERENCES = [
    ("nexthop", "münchen.test"),
    ("hostname", "mx.test"),
    ("Dot-Nexthop", ".xn--mnchen-3ya.test"),
    (".Other.test", ".Other.test"),
    ("nexthop.test", "nexthop.test"),
    # No A-label is that long: it stays what it is, and matches nothing.
    ("\u00fc" * 70 + ".test", "\u00fc" * 70 + ".test"),
]


@pytest.mark.parametrize(("strategy", "name"), REFERENCES)
def test_match_strategies(strategy: str, name: str) -> None:
    name = name.replace("münchen", "xn--mnchen-3ya")
    assert certificate.references((strategy,), "münchen.test", "mx.test") == (name,)


def test_a_nexthop_that_is_an_address_never_matches_the_default() -> None:
    found = certificate.parse(made(("x",), ("192.0.2.1",)))
    assert found is not None
    for words, expected in ((("nexthop", "dot-nexthop"), False), (("nexthop",), True)):
        names = certificate.references(words, "192.0.2.1", "mx.test")
        assert certificate.names_match(found, names) is expected


def test_an_authority_for_a_key_is_a_certificate() -> None:
    issuer = certificate.parse(SAMPLE)
    assert issuer is not None
    der = certificate.authority(issuer.issued_by, PUBLIC)
    read = x509.load_der_x509_certificate(der)
    assert read.subject == read.issuer
    assert read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    own = certificate.parse(der)
    assert own is not None
    assert (own.subject, own.public_key) == (("CÅ",), PUBLIC)


def test_a_long_chain_takes_several_records() -> None:
    flight = certificate.server_flight([bytes(20000)], b"\xc0\x2f")
    sizes = []
    while flight:
        assert flight[:3] == b"\x16\x03\x03"
        size = int.from_bytes(flight[3:5], "big")
        sizes.append(size)
        flight = flight[5 + size :]
    assert max(sizes) == 0x4000
    # Hello, 4 + 45 bytes, then 4 + 3 + 3 bytes before the certificate.
    assert sum(sizes) == 4 + 45 + 4 + 3 + 3 + 20000


def test_pem_blocks(tmp_path: Path) -> None:
    text = "noise\n" + ssl.DER_cert_to_PEM_cert(SAMPLE) + "more\n"
    key = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    found = list(certificate.pem_blocks(text + key.decode()))
    assert found == [("CERTIFICATE", SAMPLE), ("PUBLIC KEY", PUBLIC)]
    assert list(certificate.pem_blocks("nothing")) == []
