"""Settings of ours by which no TLS session comes about: named, not the server."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from test_tls import MAY, NAMED, issue, meet, server_context

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.steps import HandshakeFailed
from postfix_trouble.core.tls import TlsFacts, TlsLevel, TlsPolicy
from postfix_trouble.tls import handshake as tls_handshake

PEM = serialization.Encoding.PEM


def pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(PEM, form, serialization.NoEncryption())


@pytest.mark.parametrize("memfd", [True, False], ids=["memory", "disk"])
@pytest.mark.parametrize("form", ["one file", "two files", "two chains"])
def test_chain_files_are_read_as_one(
    certificates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    memfd: bool,
) -> None:
    if not memfd:
        monkeypatch.delattr(os, "memfd_create")
    own, key = issue("client.test", "ecdsa")
    other, other_key = issue("client.test", "rsa")
    parts = [pem(key), own.public_bytes(PEM)]
    if form == "one file":
        parts = [b"".join(parts)]
    elif form == "two chains":
        parts += [pem(other_key), other.public_bytes(PEM)]
    paths = []
    for number, part in enumerate(parts):
        path = tmp_path / f"{number}.pem"
        path.write_bytes(part)
        # What has no key in it may be open to everybody.
        path.chmod(0o600 if b"PRIVATE" in part else 0o644)
        paths.append(str(path))
    values = {"smtp_tls_chain_files": ", ".join(paths)}
    assert tls_handshake.unready(MAY, Settings(values)) is None
    context = server_context(certificates, "good")
    context.verify_mode = ssl.CERT_REQUIRED
    known = {x.public_bytes(serialization.Encoding.DER) for x in (own, other)}
    context.load_verify_locations(cadata=b"".join(known))
    found, seen = meet(context, MAY, values)
    assert isinstance(found, TlsFacts)
    assert seen.certificate in known


def write(path: Path, *parts: Path) -> str:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("lmtp", [False, True])
def test_client_certificates_that_are_of_no_use(
    certificates: Path, tmp_path: Path, lmtp: bool
) -> None:
    good, key = certificates / "good.pem", certificates / "good-key.pem"
    secret = write(tmp_path / "key.pem", key)
    other = write(tmp_path / "other.pem", certificates / "wrongname-key.pem")
    open_key = tmp_path / "open.pem"
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    prefix = "lmtp" if lmtp else "smtp"
    cases = {
        f"chain_files = {good}": "begins with a certificate; its key comes first",
        f"chain_files = {secret}": "no certificate follows the key",
        f"chain_files = {secret} /dev/null": "neither key nor certificate",
        f"chain_files = {other}, {good}": "key values mismatch",
        f"chain_files = {open_key}, {good}": "open to everybody: chmod o-rwx",
        f"chain_files = {secret}, /nonexistent": "/nonexistent: No such file",
        "cert_file = /nonexistent": "No such file",
        "cert_file = /dev/null": "",
    }
    for setting, problem in cases.items():
        name, _, value = f"{prefix}_tls_{setting}".partition(" = ")
        found = tls_handshake.unready(MAY, Settings({name: value}, lmtp=lmtp))
        assert found is not None, setting
        assert found.status == "4.3.5"
        assert re.match(f"{name}( = {re.escape(value)})?: ", found.reason)
        assert problem in found.reason


@pytest.mark.parametrize(
    ("policy", "values", "named"),
    [
        (
            MAY._replace(protocols="TLSv9"),
            {"smtp_tls_protocols": "TLSv9"},
            'smtp_tls_protocols = TLSv9: unknown protocol "TLSv9"',
        ),
        (
            MAY._replace(exclude="ALL"),
            {"smtp_tls_exclude_ciphers": "ALL"},
            "smtp_tls_ciphers = medium, smtp_tls_exclude_ciphers = ALL:"
            " no cipher is left",
        ),
        (
            MAY._replace(level=TlsLevel.ENCRYPT, exclude="!RC4 eNULL"),
            {},
            'smtp_tls_policy_maps: exclude=!RC4: "!RC4" begins with !',
        ),
        (NAMED, {"smtp_tls_CAfile": "/dev/null"}, "smtp_tls_CAfile = /dev/null: "),
    ],
)
def test_what_makes_a_handshake_fail_is_named(
    certificates: Path, policy: TlsPolicy, values: dict[str, str], named: str
) -> None:
    found, _ = meet(server_context(certificates, "good"), policy, values)
    assert isinstance(found, HandshakeFailed)
    assert found.setting.startswith(named)


def test_what_the_server_does_is_not_our_setting(certificates: Path) -> None:
    context = server_context(certificates, "good")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    found, _ = meet(context, MAY._replace(protocols="<=TLSv1.2"))
    assert isinstance(found, HandshakeFailed)
    assert not found.setting


@pytest.mark.parametrize(
    ("level", "values", "named"),
    [
        (
            TlsLevel.FINGERPRINT,
            {"smtp_tls_fingerprint_digest": "md7"},
            "smtp_tls_fingerprint_digest = md7: there is no such digest",
        ),
        (
            TlsLevel.SECURE,
            {"smtp_tls_CAfile": "/nonexistent"},
            "smtp_tls_CAfile = /nonexistent: No such file or directory",
        ),
        (
            TlsLevel.VERIFY,
            {"smtp_tls_CApath": "/nonexistent"},
            "smtp_tls_CApath = /nonexistent: no directory",
        ),
    ],
)
def test_what_a_level_needs(
    level: TlsLevel, values: dict[str, str], named: str
) -> None:
    found = tls_handshake.unready(MAY._replace(level=level), Settings(values))
    assert found is not None
    assert (found.status, found.reason) == ("4.7.5", named)
    assert tls_handshake.unready(MAY, Settings(values)) is None
