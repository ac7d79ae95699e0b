"""Certificates for the tests, made when they run.

good        mx.secure.test, secure.test, *.wild.test, 127.0.0.1; signed by ca
wrongname   wrong.example.test; signed by ca
expired     as good, ended in 2011
untrusted   mx.secure.test; signed by otherca
selfsigned  mx.secure.test; by itself
"""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ALWAYS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC))
PAST = (datetime(2010, 1, 1, tzinfo=UTC), datetime(2011, 1, 1, tzinfo=UTC))
SECURE = ("mx.secure.test", "secure.test")
LEAVES = {
    "good": ("ca", (*SECURE, "*.wild.test", "127.0.0.1"), ALWAYS),
    "wrongname": ("ca", ("wrong.example.test",), ALWAYS),
    "expired": ("ca", SECURE, PAST),
    "untrusted": ("otherca", SECURE, ALWAYS),
    "selfsigned": ("", ("mx.secure.test",), ALWAYS),
}
AUTHORITIES = {"ca": "Sample Test CA", "otherca": "Sample Other CA"}

_Key = ec.EllipticCurvePrivateKey


def make_certificates(directory: Path) -> None:
    """Write NAME.pem and NAME-key.pem for each of the names."""
    issuers: dict[str, tuple[str, _Key]] = {}
    for name, common_name in AUTHORITIES.items():
        key = ec.generate_private_key(ec.SECP256R1())
        issuers[name] = (common_name, key)
        builder = _builder(common_name, common_name, key, ALWAYS)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        _write(directory / name, builder.sign(key, hashes.SHA256()), key)
    for name, (issuer, names, valid) in LEAVES.items():
        key = ec.generate_private_key(ec.SECP256R1())
        issued_by, signer = issuers.get(issuer, (names[0], key))
        builder = _builder(names[0], issued_by, key, valid)
        builder = builder.add_extension(_alternatives(names), critical=False)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        _write(directory / name, builder.sign(signer, hashes.SHA256()), key)


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate as Postfix writes it."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    return hashlib.sha256(der).digest().hex(":").upper()


def key_digest(certificate: Path) -> str:
    """SHA-256 of a certificate's public key, in hexadecimal digits."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    info = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(info).hexdigest()


def tlsa_data(certificate: Path, selector: int, matching: int) -> str:
    """The last field of a TLSA record (RFC 6698), in hexadecimal digits."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    encoding = serialization.Encoding.DER
    if selector == 1:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        data = found.public_key().public_bytes(encoding, form)
    else:
        data = found.public_bytes(encoding)
    name = {1: "sha256", 2: "sha512"}.get(matching)
    return (hashlib.new(name, data).digest() if name else data).hex()


def _builder(
    subject: str, issuer: str, key: _Key, valid: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternatives(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        x509.IPAddress(ip_address(n)) if n[0].isdigit() else x509.DNSName(n)
        for n in names
    )


def _write(path: Path, certificate: x509.Certificate, key: _Key) -> None:
    pem = serialization.Encoding.PEM
    path.with_suffix(".pem").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret = path.with_name(f"{path.name}-key.pem")
    secret.touch(0o600)
    secret.write_bytes(private)
