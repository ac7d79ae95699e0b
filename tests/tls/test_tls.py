"""Handshakes with real servers, good ones and bad ones."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certificates import ALWAYS, fingerprint
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.steps import HandshakeFailed
from postfix_trouble.core.tls import TlsFacts, TlsLevel, TlsPolicy
from postfix_trouble.tls import handshake as tls_handshake

MAY = TlsPolicy(TlsLevel.MAY, protocols=">=TLSv1", ciphers="medium")
NAMED = MAY._replace(level=TlsLevel.SECURE, match=("mx.secure.test",), exclude="aNULL")
PEM = serialization.Encoding.PEM
Context = ssl.SSLContext


def server_context(certificates: Path, name: str) -> Context:
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        certificates / f"{name}.pem", certificates / f"{name}-key.pem"
    )
    return context


class Seen:
    """What the server saw of the client."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.certificate: bytes | None = None
        self.heard = b""


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server for one connection, in a thread; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            peer, _ = listener.accept()
            peer.settimeout(60)
            with peer, suppress(OSError):
                serve(peer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(60)
        assert not thread.is_alive()


def shake_hands(
    port: int,
    policy: TlsPolicy = MAY,
    values: dict[str, str] | None = None,
    *,
    nexthop: str = "secure.test",
    timeout: float = 60.0,
    say: bytes = b"QUIT\r\n",
) -> TlsFacts | HandshakeFailed:
    sock = socket.create_connection(("127.0.0.1", port))
    found = tls_handshake.handshake(
        sock,
        policy,
        Destination(nexthop, nexthop, 25),
        Relay("mx.secure.test", "127.0.0.1", port),
        Settings(values or {}),
        timeout,
    )
    if isinstance(found, HandshakeFailed):
        assert sock.fileno() == -1
        return found
    secured, facts = found
    with secured:
        secured.sendall(say)
        assert secured.recv(10) == b"221"
    return facts


def meet(
    context: Context,
    policy: TlsPolicy = MAY,
    values: dict[str, str] | None = None,
    *,
    nexthop: str = "secure.test",
) -> tuple[TlsFacts | HandshakeFailed, Seen]:
    """Meet a server that answers one command, over TLS."""
    seen = Seen()

    def note_name(session: object, name: str | None, context: object) -> None:
        seen.name = name

    context.sni_callback = note_name

    def serve(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as session:
            seen.certificate = session.getpeercert(binary_form=True)
            seen.heard = session.recv(100)
            session.sendall(b"221")

    with serving(serve) as port:
        found = shake_hands(port, policy, values, nexthop=nexthop)
    return found, seen


def facts_of(
    certificates: Path, name: str, policy: TlsPolicy, values: dict[str, str]
) -> TlsFacts:
    """What is found out about a server. Whatever it is, QUIT arrives over TLS."""
    found, seen = meet(server_context(certificates, name), policy, values)
    assert isinstance(found, TlsFacts), found
    assert seen.heard == b"QUIT\r\n"
    return found


# --- who is it ----------------------------------------------------------------------

# Certificate, trusted, matched, problem.
JUDGED = [
    ("good", True, True, ""),
    ("wrongname", True, False, "hostname mismatch"),
    ("expired", False, False, "certificate has expired"),
    ("untrusted", False, False, "unable to get local issuer certificate"),
    ("selfsigned", False, False, "self-signed certificate"),
]


@pytest.mark.parametrize(("name", "trusted", "matched", "problem"), JUDGED)
@pytest.mark.parametrize("level", [TlsLevel.VERIFY, TlsLevel.SECURE])
def test_certificates_are_judged(
    certificates: Path,
    name: str,
    trusted: bool,
    matched: bool,
    problem: str,
    level: TlsLevel,
) -> None:
    values = {"smtp_tls_CAfile": f"{certificates}/ca.pem"}
    found = facts_of(certificates, name, NAMED._replace(level=level), values)
    assert (found.trusted, found.matched) == (trusted, matched)
    assert (
        dict(found.details).get("problem", "").replace(" signed", "-signed") == problem
    )


@pytest.mark.parametrize("name", [row[0] for row in JUDGED])
@pytest.mark.parametrize("level", [TlsLevel.MAY, TlsLevel.ENCRYPT])
def test_below_verify_everybody_will_do(
    certificates: Path, name: str, level: TlsLevel
) -> None:
    # No authorities are read: the file need not even be there.
    values = {"smtp_tls_CAfile": "/nonexistent"}
    found = facts_of(certificates, name, MAY._replace(level=level), values)
    assert (found.trusted, found.matched, found.certificate) == (False, False, True)
    assert "problem" not in dict(found.details)


SUMMARIES = [
    ("good", NAMED, "Verified"),
    ("wrongname", NAMED, "Untrusted"),
    ("expired", NAMED, "Untrusted"),
    ("wrongname", MAY, "Trusted"),
    ("expired", MAY, "Untrusted"),
    ("untrusted", MAY, "Untrusted"),
]


@pytest.mark.parametrize(("name", "policy", "word"), SUMMARIES)
def test_the_log_line(
    certificates: Path, name: str, policy: TlsPolicy, word: str
) -> None:
    values = {"smtp_tls_CAfile": f"{certificates}/ca.pem", "smtp_tls_loglevel": "1"}
    found = facts_of(certificates, name, policy, values)
    relay = Relay("mx.test", "192.0.2.1", 25)
    assert tls_handshake.tls_summary(found, relay, policy.level) == (
        f"{word} TLS connection established to mx.test[192.0.2.1]:25: TLSv1.3 "
        "with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
    )


def test_who_is_who_is_told(certificates: Path) -> None:
    found = facts_of(certificates, "good", MAY, {})
    assert dict(found.details) == {
        "subject": "mx.secure.test",
        "issuer": "Sample Test CA",
        "names": "mx.secure.test secure.test *.wild.test",
        "expires": "21200101000000Z",
    }


MATCHES = [
    ("nexthop", True),
    ("dot-nexthop", True),
    ("hostname", True),
    ("other.test", False),
    ("a.wild.test", True),
    ("a.b.wild.test", False),
    (".wild.test", True),
    (".other.test", False),
]


@pytest.mark.parametrize(("strategy", "matched"), MATCHES)
def test_match_strategies(certificates: Path, strategy: str, matched: bool) -> None:
    values = {"smtp_tls_CAfile": f"{certificates}/ca.pem"}
    policy = NAMED._replace(match=(strategy,))
    assert facts_of(certificates, "good", policy, values).matched is matched


def test_without_authorities_nobody_is_trusted(certificates: Path) -> None:
    found = facts_of(certificates, "good", NAMED, {})
    assert (found.trusted, found.matched) == (False, False)


def test_authorities_by_directory(certificates: Path, tmp_path: Path) -> None:
    authority = (certificates / "ca.pem").read_text()
    (tmp_path / "ca.pem").write_text(authority)
    subprocess.run(["openssl", "rehash", tmp_path], check=True, capture_output=True)
    values = {"smtp_tls_CApath": str(tmp_path)}
    assert facts_of(certificates, "good", NAMED, values).matched
    assert not facts_of(certificates, "untrusted", NAMED, values).trusted


def test_authorities_of_the_system_only_if_asked_for(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text((certificates / "ca.pem").read_text())
    subprocess.run(["openssl", "rehash", tmp_path], check=True, capture_output=True)
    for variable, path in (
        ("SSL_CERT_DIR", tmp_path),
        ("SSL_CERT_FILE", certificates / "ca.pem"),
    ):
        monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")
        monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
        monkeypatch.setenv(variable, str(path))
        for flag in ("no", "yes"):
            found = facts_of(
                certificates, "good", NAMED, {"tls_append_default_CA": flag}
            )
            assert found.trusted is (flag == "yes")


# --- chains and keys of all kinds ---------------------------------------------------

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KEYS: dict[str, Callable[[], Key]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ecdsa": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def issue(
    title: str,
    kind: str,
    issuer: tuple[x509.Certificate, Key] | None = None,
    *,
    authority: bool = False,
) -> tuple[x509.Certificate, Key]:
    """A certificate and its key."""
    key = KEYS[kind]()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, title)])
    issued_by, signer = (issuer[0].subject, issuer[1]) if issuer else (name, key)
    builder = x509.CertificateBuilder(
        issued_by, name, key.public_key(), x509.random_serial_number(), *ALWAYS
    )
    builder = builder.add_extension(x509.BasicConstraints(authority, None), True)
    plain = isinstance(signer, ed25519.Ed25519PrivateKey)
    return builder.sign(signer, None if plain else hashes.SHA256()), key


def write(directory: Path, name: str, key: Key, *shown: x509.Certificate) -> None:
    pems = [one.public_bytes(PEM) for one in shown]
    (directory / f"{name}.pem").write_bytes(b"".join(pems))
    private = key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / f"{name}-key.pem").write_bytes(private)


@pytest.mark.parametrize("kind", KEYS)
def test_chains(tmp_path: Path, kind: str) -> None:
    root, root_key = issue("Root", kind, authority=True)
    middle, middle_key = issue("Middle", "ecdsa", (root, root_key), authority=True)
    leaf, leaf_key = issue("mx.secure.test", kind, (middle, middle_key))
    write(tmp_path, "whole", leaf_key, leaf, middle)
    write(tmp_path, "short", leaf_key, leaf)
    write(tmp_path, "root", root_key, root)
    values = {"smtp_tls_CAfile": f"{tmp_path}/root.pem"}
    assert facts_of(tmp_path, "whole", NAMED, values).matched
    assert not facts_of(tmp_path, "short", NAMED, values).trusted


def test_weak_chains_will_do_only_where_nobody_is_checked(tmp_path: Path) -> None:
    for name in ("root", "leaf"):
        made, key = issue(name, "ecdsa", authority=True)
        write(tmp_path, name, key, made)
    # The library for the other certificates doesn't sign with SHA-1 any more.
    request = "openssl req -new -key leaf-key.pem -subj /CN=mx.secure.test"
    sign = "openssl x509 -req -sha1 -CA root.pem -CAkey root-key.pem -set_serial 7"
    script = f"{request} | {sign} -days 99 -out leaf.pem"
    subprocess.run(script, shell=True, cwd=tmp_path, check=True, capture_output=True)
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "leaf-key.pem")
    values = {"smtp_tls_CAfile": f"{tmp_path}/root.pem", "smtp_tls_loglevel": "1"}
    for policy, trusted in ((MAY, True), (NAMED, False)):
        found, _ = meet(context, policy, values)
        assert isinstance(found, TlsFacts)
        assert found.trusted is trusted


# --- trust anchors ------------------------------------------------------------------


def public_key(certificate: Path) -> bytes:
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    return read.public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


# Certificate, anchor, name wanted, matched.
ANCHORS = [
    ("good", "ca", "mx.secure.test", True),
    ("good", "ca key", "mx.secure.test", True),
    ("good", "otherca", "mx.secure.test", False),
    ("good", "otherca key", "mx.secure.test", False),
    ("good", "good", "mx.secure.test", True),
    ("good", "good key", "mx.secure.test", True),
    ("good", "good", "mx.other.test", False),
    ("good", "ca", "mx.other.test", False),
    ("expired", "ca", "mx.secure.test", False),
    ("expired", "ca key", "mx.secure.test", False),
    ("expired", "expired", "mx.secure.test", True),
    ("selfsigned", "ca", "mx.secure.test", False),
    ("selfsigned", "selfsigned", "mx.secure.test", True),
    ("untrusted", "ca key", "mx.secure.test", False),
]


@pytest.mark.parametrize(("name", "anchor", "wanted", "matched"), ANCHORS)
def test_trust_anchors(
    certificates: Path,
    tmp_path: Path,
    name: str,
    anchor: str,
    wanted: str,
    matched: bool,
) -> None:
    which, _, key = anchor.partition(" ")
    source = certificates / f"{which}.pem"
    file = tmp_path / "anchor.pem"
    file.write_bytes(public_key(source) if key else source.read_bytes())
    policy = NAMED._replace(trust_anchors=(str(file),), match=(wanted,))
    # They are trusted in place of the authorities.
    values = {"smtp_tls_CAfile": f"{certificates}/ca.pem"}
    assert tls_handshake.unready(policy, Settings(values)) is None
    assert facts_of(certificates, name, policy, values).matched is matched


# --- fingerprints -------------------------------------------------------------------


def test_fingerprints(certificates: Path) -> None:
    armoured = public_key(certificates / "selfsigned.pem").decode()
    body = ssl.PEM_cert_to_DER_cert(armoured.replace("PUBLIC KEY", "CERTIFICATE"))
    listed = {
        "sha256": (
            fingerprint(certificates / "expired.pem").replace(":", "").lower(),
            hashlib.sha256(body).hexdigest(),
        ),
        "sha512": (hashlib.sha512(body).hexdigest(),),
        "nonsense": (),
        "shake_128": (),
    }
    for digest, match in listed.items():
        values = {"smtp_tls_fingerprint_digest": digest}
        policy = NAMED._replace(level=TlsLevel.FINGERPRINT, match=match)
        for name in ("expired", "selfsigned", "good"):
            found = facts_of(certificates, name, policy, values)
            known = name == "selfsigned" or (name == "expired" and digest == "sha256")
            assert found.matched is (known and bool(match))
            assert ("problem" in dict(found.details)) is not found.matched


# --- what is offered ----------------------------------------------------------------


def old_server(certificates: Path, version: ssl.TLSVersion) -> Context:
    context = server_context(certificates, "good")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = version
        context.maximum_version = version
    return context


VERSIONS = [
    (ssl.TLSVersion.TLSv1, ">=TLSv1", "TLSv1"),
    (ssl.TLSVersion.TLSv1_1, ">=TLSv1", "TLSv1.1"),
    (ssl.TLSVersion.TLSv1_2, ">=TLSv1", "TLSv1.2"),
    (ssl.TLSVersion.TLSv1_3, "", "TLSv1.3"),
    (ssl.TLSVersion.TLSv1_1, ">=TLSv1.2", ""),
    (ssl.TLSVersion.TLSv1_2, ">=TLSv1.3", ""),
    (ssl.TLSVersion.TLSv1_3, "<=TLSv1.2", ""),
    (ssl.TLSVersion.TLSv1_1, "!TLSv1.1", ""),
    (ssl.TLSVersion.TLSv1_2, "TLSv1.1, TLSv1.2", "TLSv1.2"),
    # OpenSSL takes the lower part of a range with a hole in it.
    (ssl.TLSVersion.TLSv1, "TLSv1, TLSv1.2", "TLSv1"),
    (ssl.TLSVersion.TLSv1_2, "TLSv9", ""),
    (ssl.TLSVersion.TLSv1_2, "SSLv3", ""),
]


@pytest.mark.parametrize(("version", "listed", "spoken"), VERSIONS)
def test_protocols(
    certificates: Path,
    version: ssl.TLSVersion,
    listed: str,
    spoken: str,
    recwarn: pytest.WarningsRecorder,
) -> None:
    context = old_server(certificates, version)
    recwarn.clear()
    found, _ = meet(context, MAY._replace(protocols=listed))
    assert not recwarn.list
    if spoken:
        assert isinstance(found, TlsFacts)
        assert found.protocol == spoken
    else:
        assert isinstance(found, HandshakeFailed)


def test_a_server_without_a_certificate() -> None:
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    found, _ = meet(context, MAY)
    assert isinstance(found, TlsFacts)
    assert (found.certificate, found.trusted, found.matched) == (False, False, False)
    relay = Relay("mx.test", "192.0.2.1", 25)
    summary = tls_handshake.tls_summary(found, relay, TlsLevel.MAY)
    assert summary.startswith("Anonymous TLS connection established to mx.test")
    refused, _ = meet(context, NAMED)
    assert isinstance(refused, HandshakeFailed)


@pytest.mark.parametrize(
    ("ciphers", "exclude"), [("great", ""), ("high", "!x"), ("high", "ALL:a")]
)
def test_ciphers_that_make_no_sense(
    certificates: Path, ciphers: str, exclude: str
) -> None:
    policy = MAY._replace(ciphers=ciphers, exclude=exclude)
    found, _ = meet(server_context(certificates, "good"), policy)
    assert isinstance(found, HandshakeFailed)
    assert found.reason.endswith("aborting TLS session")


# --- the name we ask for ------------------------------------------------------------

NAMES = [
    ("", "secure.test", None),
    ("hostname", "secure.test", "mx.secure.test"),
    ("nexthop", "secure.test", "secure.test"),
    ("Literal.test", "secure.test", "Literal.test"),
    ("nexthop", "192.0.2.1", None),
    ("nexthop", "2001:db8::1", None),
    ("nexthop", "bücher.test", "xn--bcher-kva.test"),
]


@pytest.mark.parametrize(("setting", "nexthop", "name"), NAMES)
def test_server_names(
    certificates: Path, setting: str, nexthop: str, name: str | None
) -> None:
    context = server_context(certificates, "good")
    policy = MAY._replace(servername=setting)
    found, seen = meet(context, policy, nexthop=nexthop)
    assert isinstance(found, TlsFacts)
    assert seen.name == name


# --- our own certificate ------------------------------------------------------------


@pytest.mark.parametrize("form", ["two files", "one file", "chain"])
def test_client_certificates(certificates: Path, tmp_path: Path, form: str) -> None:
    own, key = issue("client.test", "ecdsa")
    write(tmp_path, "own", key, own)
    certificate, secret = tmp_path / "own.pem", tmp_path / "own-key.pem"
    both = tmp_path / "both.pem"
    both.write_bytes(secret.read_bytes() + certificate.read_bytes())
    both.chmod(0o640)
    secret.chmod(0o600)
    values = {
        "two files": {
            "smtp_tls_cert_file": str(certificate),
            "smtp_tls_key_file": str(secret),
        },
        "one file": {"smtp_tls_cert_file": str(both)},
        "chain": {
            "smtp_tls_chain_files": str(both),
            "smtp_tls_cert_file": "/nonexistent",
        },
    }[form]
    assert tls_handshake.unready(MAY, Settings(values)) is None
    context = server_context(certificates, "good")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    found, seen = meet(context, MAY, values)
    assert isinstance(found, TlsFacts)
    assert seen.certificate == own.public_bytes(serialization.Encoding.DER)


def test_a_key_with_a_pass_phrase_asks_nobody(
    certificates: Path, tmp_path: Path
) -> None:
    key = serialization.load_pem_private_key(
        (certificates / "good-key.pem").read_bytes(), None
    )
    secret = key.private_bytes(
        PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"canary"),
    )
    (tmp_path / "key.pem").write_bytes(secret)
    values = {
        "smtp_tls_cert_file": f"{certificates}/good.pem",
        "smtp_tls_key_file": f"{tmp_path}/key.pem",
    }
    found, _ = meet(server_context(certificates, "good"), MAY, values)
    assert isinstance(found, HandshakeFailed)
    assert found.setting.startswith(f"smtp_tls_key_file = {tmp_path}/key.pem: ")
    assert "canary" not in found.reason


def test_files_are_looked_at_before_connecting(
    certificates: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes((certificates / "good-key.pem").read_bytes())
    key.chmod(0o644)
    settings = {
        "smtp_tls_cert_file": f"{certificates}/good.pem",
        "smtp_tls_key_file": str(key),
    }
    found = tls_handshake.unready(MAY, Settings(settings))
    assert found is not None
    assert (found.status, found.reason) == (
        "4.3.5",
        f"smtp_tls_key_file: {key} holds secrets and is open to everybody:"
        f" chmod o-rwx {key}",
    )
    assert tls_handshake.unready(TlsPolicy(), Settings(settings)) is None
    key.unlink()
    found = tls_handshake.unready(MAY, Settings(settings))
    assert found is not None
    assert found.reason == f"smtp_tls_key_file = {key}: No such file or directory"
    for anchor in ("/nonexistent", "/dev/null", str(certificates / "good-key.pem")):
        policy = NAMED._replace(trust_anchors=(anchor,))
        found = tls_handshake.unready(policy, Settings())
        assert found is not None
        assert (found.status, found.reason) == (
            "4.7.5",
            "client TLS configuration problem",
        )
    found = tls_handshake.unready(NAMED, Settings({"smtp_tls_CAfile": "/nonexistent"}))
    assert found is not None
    assert found.status == "4.7.5"
    assert (
        tls_handshake.unready(MAY, Settings({"smtp_tls_CAfile": "/nonexistent"}))
        is None
    )


# --- handshakes that fail -----------------------------------------------------------


def close(peer: socket.socket) -> None:
    peer.recv(10000)


def reset(peer: socket.socket) -> None:
    peer.recv(10)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def garbage(peer: socket.socket) -> None:
    peer.sendall(b"502 5.5.1 what?\r\n")
    peer.recv(10000)


def silence(peer: socket.socket) -> None:
    while peer.recv(10000):
        pass


def drip(peer: socket.socket) -> None:
    """One byte at a time, each well within the limit: a record that never ends."""
    peer.settimeout(0.05)
    peer.sendall(b"\x16\x03\x03\x40\x00")
    while True:
        peer.sendall(b"\x02")
        with suppress(TimeoutError):
            if not peer.recv(10000):
                return


FAILURES = [
    (close, "lost connection"),
    (reset, "Connection reset by peer"),
    (garbage, "wrong version number"),
    (silence, "Connection timed out"),
    (drip, "Connection timed out"),
]


@pytest.mark.parametrize(
    ("server", "reason"), FAILURES, ids=[row[0].__name__ for row in FAILURES]
)
def test_failures(server: Callable[[socket.socket], None], reason: str) -> None:
    with serving(server) as port:
        patience = 1 if reason.endswith("timed out") else 60
        assert shake_hands(port, timeout=patience) == HandshakeFailed(reason)
