"""DANE with real servers: chains of every kind, and what TLSA records say of them."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from certificates import ALWAYS, PAST
from dns_server import Zone, serving
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.relay import Destination, Exchange, Relay
from postfix_trouble.core.tls import Tlsa, TlsFacts, TlsLevel, TlsPolicy
from postfix_trouble.dns.resolver import Resolver
from postfix_trouble.tls import dane
from postfix_trouble.tls import handshake as tls_handshake

HOST = "mx.example.test"
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
INFO = serialization.PublicFormat.SubjectPublicKeyInfo
POLICY = TlsPolicy(
    TlsLevel.DANE,
    (HOST, "example.test"),
    ">=TLSv1",
    "medium",
    "aNULL",
    servername=f"{HOST}.",
)
UNMATCHED = "no matching DANE TLSA records"

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class Party(NamedTuple):
    """Somebody with a certificate."""

    certificate: x509.Certificate
    key: _Key

    def tlsa(self, usage: int, selector: int, digest: str = "sha256") -> Tlsa:
        """A record about the certificate or key."""
        whole = self.certificate.public_bytes(DER)
        if selector:
            whole = self.certificate.public_key().public_bytes(DER, INFO)
        data = hashlib.new(digest, whole).digest() if digest else whole
        return Tlsa(usage, selector, digest, data)


def party(
    name: str,
    issuer: Party | None = None,
    *,
    authority: bool = False,
    valid: tuple[datetime, datetime] = ALWAYS,
    key: _Key | None = None,
) -> Party:
    """Somebody who is called `name`, by the word of `issuer` or by himself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    if authority:
        ca = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(ca, critical=True)
    else:
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(names, critical=False)
    signer = issuer.key if issuer else key
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Party(builder.sign(signer, digest), key)


ROOT = party("Root", authority=True)
BETWEEN = party("Between", ROOT, authority=True)
LEAF = party(HOST, BETWEEN)
OTHER = party("Other", authority=True)
ALIEN = party("mx.other.test", BETWEEN)
EXPIRED = party(HOST, BETWEEN, valid=PAST)
STALE = party("Stale", ROOT, authority=True, valid=PAST)
BELOW_STALE = party(HOST, STALE)
NO_AUTHORITY = party("plain.test", BETWEEN)
BELOW_LEAF = party(HOST, NO_AUTHORITY)
ALONE = party(HOST)
OF_DOMAIN = party("example.test", BETWEEN)
RSA = party(HOST, BETWEEN, key=rsa.generate_private_key(65537, 2048))
EDWARDS = party(HOST, BETWEEN, key=ed25519.Ed25519PrivateKey.generate())


@contextmanager
def shown(directory: Path, chain: Iterable[Party]) -> Iterator[tuple[int, list[str]]]:
    """A server with these certificates: its port, and the names that are asked for."""
    mine, *others = chain
    file = directory / "chain.pem"
    private = mine.key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    parts = [x.certificate.public_bytes(PEM) for x in (mine, *others)]
    file.write_bytes(private + b"".join(parts))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    asked: list[str] = []
    context.sni_callback = lambda _session, name, _context: asked.append(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            peer.settimeout(60)
            with (
                suppress(OSError),
                peer,
                context.wrap_socket(peer, server_side=True) as session,
            ):
                session.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join(60)


def judged(
    directory: Path,
    chain: Iterable[Party],
    records: Iterable[Tlsa],
    policy: TlsPolicy = POLICY,
) -> TlsFacts:
    """What is found out about a server."""
    with shown(directory, chain) as (port, asked):
        found = tls_handshake.handshake(
            socket.create_connection(("127.0.0.1", port)),
            policy._replace(tlsa=tuple(records)),
            Destination("example.test", "example.test", 25),
            Relay(HOST, "127.0.0.1", port),
            Settings(),
            3.0,
        )
        session, facts = found
        assert not isinstance(session, str), found
        assert not isinstance(facts, str), found
        session.close()
    assert asked == [HOST]
    return facts


CHAIN = (LEAF, BETWEEN)
CASES: list[tuple[str, tuple[Party, ...], list[Tlsa], str]] = [
    ("EE", CHAIN, [LEAF.tlsa(3, 1)], ""),
    ("EE, expired", (EXPIRED,), [EXPIRED.tlsa(3, 0)], ""),
    ("EE, another name", (ALIEN,), [ALIEN.tlsa(3, 1)], ""),
    ("EE, self-signed", (ALONE,), [ALONE.tlsa(3, 1)], ""),
    ("EE, RSA", (RSA,), [RSA.tlsa(3, 1, "")], ""),
    ("EE, Ed25519", (EDWARDS,), [EDWARDS.tlsa(3, 0, "")], ""),
    ("EE, of an issuer", CHAIN, [BETWEEN.tlsa(3, 1)], UNMATCHED),
    ("EE, of another", CHAIN, [OTHER.tlsa(3, 1)], UNMATCHED),
    ("no record", CHAIN, [], UNMATCHED),
    ("TA", CHAIN, [BETWEEN.tlsa(2, 0)], ""),
    ("TA, key", CHAIN, [BETWEEN.tlsa(2, 1, "sha512")], ""),
    ("TA, root shown", (*CHAIN, ROOT), [ROOT.tlsa(2, 0)], ""),
    ("TA, root not shown", CHAIN, [ROOT.tlsa(2, 0)], UNMATCHED),
    ("TA, root as a whole", CHAIN, [ROOT.tlsa(2, 0, "")], ""),
    ("TA, key of root as a whole", CHAIN, [ROOT.tlsa(2, 1, "")], ""),
    ("TA, any order", (LEAF, ROOT, OTHER, BETWEEN), [ROOT.tlsa(2, 0)], ""),
    ("TA, gap", (LEAF, ROOT), [ROOT.tlsa(2, 0)], "issuer"),
    ("TA, gap filled", (LEAF,), [BETWEEN.tlsa(2, 1, "")], ""),
    ("TA, RSA", (RSA, BETWEEN), [BETWEEN.tlsa(2, 0)], ""),
    ("TA, Ed25519", (EDWARDS, BETWEEN), [BETWEEN.tlsa(2, 0)], ""),
    ("TA, stranger", (*CHAIN, OTHER), [OTHER.tlsa(2, 0)], "issuer"),
    ("TA, stranger as a whole", CHAIN, [OTHER.tlsa(2, 0, "")], "issuer"),
    ("TA, key of a stranger", CHAIN, [OTHER.tlsa(2, 1, "")], "issuer|signature"),
    ("TA, another name", (ALIEN, BETWEEN), [BETWEEN.tlsa(2, 0)], "hostname mismatch"),
    ("TA, the domain's", (OF_DOMAIN, BETWEEN), [BETWEEN.tlsa(2, 0)], ""),
    ("TA, expired", (EXPIRED, BETWEEN), [BETWEEN.tlsa(2, 0)], "expired"),
    ("TA, expired itself", (BELOW_STALE, STALE), [STALE.tlsa(2, 0)], "expired"),
    ("TA, leaf", CHAIN, [LEAF.tlsa(2, 0)], UNMATCHED),
    ("TA, leaf as a whole", CHAIN, [LEAF.tlsa(2, 0, "")], UNMATCHED),
    ("TA, leaf's key as a whole", CHAIN, [LEAF.tlsa(2, 1, "")], "issuer|signature"),
    ("TA, self-signed", (ALONE,), [ALONE.tlsa(2, 0)], UNMATCHED),
    ("TA, self-signed as a whole", (ALONE,), [ALONE.tlsa(2, 0, "")], UNMATCHED),
    ("TA, self-signed, key", (ALONE,), [ALONE.tlsa(2, 1, "")], ""),
    ("TA, no authority", (BELOW_LEAF, NO_AUTHORITY), [NO_AUTHORITY.tlsa(2, 0)], "CA"),
    ("TA or EE", (ALIEN, BETWEEN), [BETWEEN.tlsa(2, 0), ALIEN.tlsa(3, 1)], ""),
    ("TA and a wrong EE", CHAIN, [BETWEEN.tlsa(2, 0), OTHER.tlsa(3, 1)], ""),
    ("a TA in pieces", CHAIN, [Tlsa(2, 0, "", b"\0" * 9), BETWEEN.tlsa(2, 1)], ""),
    ("a key in pieces", CHAIN, [Tlsa(2, 1, "", b"\0" * 9), LEAF.tlsa(3, 1)], ""),
]


@pytest.mark.parametrize(
    ("chain", "records", "problem"), [x[1:] for x in CASES], ids=[x[0] for x in CASES]
)
def test_who_is_vouched_for(
    chain: tuple[Party, ...], records: list[Tlsa], problem: str, tmp_path: Path
) -> None:
    facts = judged(tmp_path, chain, records)
    said = dict(facts.details).get("problem", "")
    assert (facts.matched, facts.trusted) == (not problem, not problem), said
    assert any(x in said for x in problem.split("|")), said


def test_dane_only_without_usable_records(tmp_path: Path) -> None:
    policy = POLICY._replace(level=TlsLevel.DANE_ONLY)
    assert not judged(tmp_path, CHAIN, [], policy).matched


def test_system_authorities_do_not_count(tmp_path: Path) -> None:
    """Nor does smtp_tls_CAfile: nobody but DNSSEC says who is to be trusted."""
    policy = POLICY._replace(trust_anchors=("/no/such/file",))
    assert judged(tmp_path, CHAIN, [BETWEEN.tlsa(2, 0)], policy).matched


@pytest.mark.parametrize(
    ("level", "authentic", "word"),
    [
        (TlsLevel.DANE, True, "Verified"),
        (TlsLevel.DANE, False, "Trusted"),
        (TlsLevel.DANE_ONLY, True, "Verified"),
        (TlsLevel.SECURE, False, "Verified"),
    ],
)
def test_the_log_line(level: TlsLevel, authentic: bool, word: str) -> None:
    exchange = Exchange(("example.test",), authentic)
    facts = TlsFacts("TLSv1.3", "X", 256, trusted=True, matched=True)
    relay = Relay(HOST, "192.0.2.1", 25, exchange=exchange)
    assert tls_handshake.tls_summary(facts, relay, level).startswith(
        f"{word} TLS connection"
    )


# --- by real name service -----------------------------------------------------------


def record(tlsa: Tlsa) -> str:
    number = {"": 0, "sha256": 1, "sha512": 2}[tlsa.digest]
    return f"{tlsa.usage} {tlsa.selector} {number} {tlsa.data.hex()}"


DOMAIN = {"example.test": {"MX": [f"10 {HOST}."], "ad": True}}
ADDRESS = {HOST: {"A": ["192.0.2.1"], "ad": True}}
ALIAS = {
    HOST: {"CNAME": ["real.test."], "ad": True},
    "real.test": {"A": ["192.0.2.1"], "ad": True},
}
UNSIGNED: dict[str, Mapping[str, object]] = {**ALIAS, "real.test": {"A": ["192.0.2.1"]}}
GOOD = {"TLSA": [record(LEAF.tlsa(3, 1))], "ad": True}
LONG = {"TLSA": [record(RSA.tlsa(2, 0, "")) for _ in range(3)], "ad": True}
OWN, TARGET = f"_25._tcp.{HOST}", "_25._tcp.real.test"
BY_NAME: list[tuple[str, Mapping[str, Mapping[str, object]], str]] = [
    ("records", {**ADDRESS, OWN: GOOD}, f"dane {HOST}"),
    ("truncated", {**ADDRESS, OWN: {**LONG, "truncate": True}}, f"dane {HOST}"),
    ("none", ADDRESS, "may"),
    ("not authentic", {**ADDRESS, OWN: {**GOOD, "ad": False}}, "may"),
    ("SERVFAIL", {**ADDRESS, OWN: {"rcode": "SERVFAIL"}}, "TLSA lookup error"),
    ("FORMERR", {**ADDRESS, OWN: {"rcode": "FORMERR"}}, "TLSA lookup error"),
    ("alias, target", {**ALIAS, TARGET: GOOD}, "dane real.test"),
    ("alias, own", {**ALIAS, OWN: GOOD}, f"dane {HOST}"),
    ("alias, target unsigned", {**UNSIGNED, OWN: GOOD}, f"dane {HOST}"),
    ("alias of records", {**ADDRESS, OWN: {"CNAME": ["k.test."], "ad": True}}, "may"),
    (
        "alias to records",
        {**ADDRESS, OWN: {"CNAME": ["k.test."], "ad": True}, "k.test": GOOD},
        f"dane {HOST}",
    ),
    (
        "alias to unsigned records",
        {**ADDRESS, OWN: {"CNAME": ["k.test."]}, "k.test": GOOD},
        "may",
    ),
]


@pytest.mark.parametrize(
    ("zone", "expected"), [x[1:] for x in BY_NAME], ids=[x[0] for x in BY_NAME]
)
def test_what_the_name_service_says(zone: Zone, expected: str) -> None:
    with serving({**DOMAIN, **zone}) as dns:
        values = {
            "smtp_tls_security_level": "dane",
            "smtp_dns_support_level": "dnssec",
            "inet_protocols": "ipv4",
            "inet_interfaces": "127.0.0.1",
            "trouble_nameserver": dns.address,
        }
        settings = Settings(values)
        resolver = Resolver(
            settings, lambda: 5.0, lambda text: None, resolv_conf="/nonexistent"
        )
        domain = Destination("example.test", "example.test", 25, service="smtp")
        relay = resolver.route(domain).next()
        assert relay is not None
        found = dane.pinned(
            TlsLevel.DANE,
            relay,
            settings,
            resolver.query,
            lambda text: None,
            destination="example.test",
            lmtp=False,
        )
    if isinstance(found, dane.Pinned):
        text = " ".join((found.level.word, *found.names[:1]))
        assert text == expected
    else:
        assert found.reason.startswith(expected)


def test_records_can_be_asked_for_without_a_route() -> None:
    """For an address that is known without queries."""
    with serving({OWN: GOOD}) as dns:
        settings = Settings({"trouble_nameserver": dns.address})
        resolver = Resolver(
            settings, lambda: 5.0, lambda text: None, resolv_conf="/nonexistent"
        )
        assert resolver.query(OWN, "TLSA").records
