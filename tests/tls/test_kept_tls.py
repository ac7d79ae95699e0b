"""What a process that stays keeps of TLS, as servers see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import needs
from certificates import make_certificates
from postfix_trouble.client.connection_cache import Connections
from postfix_trouble.client.service import Caller, Service
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import Disposition, Report
from postfix_trouble.message.message import Message
from postfix_trouble.tls.kept import KeptTls
from scripted_server import KEYWORDS, Script, ScriptedServer

RESUME: dict[str, Any] = {"resume": True}


class Sender:
    """A delivery service that stays."""

    def __init__(self, **values: str) -> None:
        values.setdefault("smtp_tls_security_level", "encrypt")
        settings = Settings({"smtp_address_preference": "ipv4", **values})
        self.log: list[str] = []
        self.connections = Connections(settings)
        self.service = Service(settings, self.log.append, connections=self.connections)

    def deliver(self, server: ScriptedServer, host: str = "127.0.0.1") -> Report:
        return self.service.deliver(
            DeliveryRequest(
                "s@a.test", (Recipient("r@b.test"),), f"[{host}]:{server.port}"
            ),
            Message.from_bytes(b"Subject: x\n\nx\n"),
            Caller(time_left=lambda: 20.0),
        )

    def sends(self, server: ScriptedServer) -> None:
        found = self.deliver(server).outcomes[0]
        assert found.disposition is Disposition.SENT, found


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Certificates of this test's own, which it may change."""
    make_certificates(tmp_path)
    return tmp_path


def server(certificates: Path, *tls: dict[str, Any]) -> ScriptedServer:
    words = (*KEYWORDS, "STARTTLS")
    scripts: list[Script] = [{"keywords": words, "tls": each} for each in tls]
    return ScriptedServer(*scripts, certificates=str(certificates))


def handshakes(server: ScriptedServer) -> list[str]:
    lines = [line for each in server.connections for line in each.commands]
    return [line for line in lines if line.startswith("<TLS")]


FULL, SHORT = "<TLS>", "<TLS resumed>"


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_sessions_are_resumed(certificates: Path, version: str) -> None:
    with server(certificates, {**RESUME, "max_version": version}) as at:
        sender = Sender()
        for _ in range(3):
            sender.sends(at)
        assert handshakes(at) == [FULL, SHORT, SHORT]


def test_a_process_that_goes_resumes_nothing(certificates: Path) -> None:
    with server(certificates, RESUME) as at:
        for _ in range(2):
            Sender().sends(at)
        assert handshakes(at) == [FULL, FULL]


def test_not_at_all(certificates: Path) -> None:
    with server(certificates, RESUME) as at:
        sender = Sender(smtp_tls_session_cache_timeout="0")
        for _ in range(2):
            sender.sends(at)
        assert handshakes(at) == [FULL, FULL]


def test_not_for_longer_than_the_timeout(certificates: Path) -> None:
    now = [0.0]
    with server(certificates, RESUME) as at:
        sender = Sender()
        sender.connections.tls = KeptTls(100, lambda: now[0])
        for now[0] in (0, 99, 200):
            sender.sends(at)
        assert handshakes(at) == [FULL, SHORT, FULL]


def test_not_with_another_name(certificates: Path) -> None:
    """The same address and port, but another next hop."""
    needs.localhost()
    with server(certificates, RESUME) as at:
        sender = Sender(smtp_host_lookup="native")
        sender.sends(at)
        found = sender.deliver(at, "localhost").outcomes[0]
        assert found.disposition is Disposition.SENT
        assert handshakes(at) == [FULL, FULL]


def test_not_under_another_policy(certificates: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.cf"
    with server(certificates, {**RESUME, "sni": True}) as at:
        policy.write_text("/^/ encrypt servername=one.test\n")
        sender = Sender(smtp_tls_policy_maps=f"regexp:{policy}")
        sender.sends(at)
        sender.sends(at)
        policy.write_text("/^/ encrypt servername=two.test\n")
        sender.sends(at)
        # A session that is resumed by TLS 1.3 names the server once more.
        assert handshakes(at) == [
            "<TLS one.test>",
            "<TLS one.test resumed>",
            "<TLS two.test>",
        ]


def verifying(certificates: Path) -> Sender:
    return Sender(
        smtp_tls_security_level="secure",
        smtp_tls_secure_cert_match="secure.test",
        smtp_tls_CAfile=str(certificates / "ca.pem"),
    )


def test_who_it_is_is_known_of_a_resumed_session(certificates: Path) -> None:
    with server(certificates, RESUME) as at:
        sender = verifying(certificates)
        for _ in range(2):
            sender.sends(at)
        assert handshakes(at) == [FULL, SHORT]


def test_a_session_with_the_wrong_server_is_not_kept(certificates: Path) -> None:
    with server(certificates, {**RESUME, "cert": "wrongname"}) as at:
        sender = verifying(certificates)
        for _ in range(2):
            found = sender.deliver(at).outcomes[0]
            assert found.disposition is Disposition.DEFERRED
            assert "Server certificate not verified" in found.dsn.reason
        assert handshakes(at) == [FULL, FULL]


def test_a_resumed_session_is_judged_by_the_authorities_of_now(files: Path) -> None:
    trusted = files / "trusted.pem"
    trusted.write_bytes((files / "ca.pem").read_bytes())
    with server(files, RESUME) as at:
        sender = Sender(
            smtp_tls_security_level="secure",
            smtp_tls_secure_cert_match="secure.test",
            smtp_tls_CAfile=str(trusted),
        )
        sender.sends(at)
        trusted.write_bytes((files / "otherca.pem").read_bytes())
        found = sender.deliver(at).outcomes[0]
        assert found.disposition is Disposition.DEFERRED
        trusted.write_bytes((files / "ca.pem").read_bytes())
        sender.sends(at)


def test_after_a_handshake_that_failed_the_next_one_is_full(
    certificates: Path,
) -> None:
    with server(
        certificates, RESUME, {**RESUME, "handshake": "close"}, RESUME, RESUME
    ) as at:
        sender = Sender()
        sender.sends(at)
        assert sender.deliver(at).outcomes[0].disposition is Disposition.DEFERRED
        sender.sends(at)
        sender.sends(at)
        assert handshakes(at) == [FULL, FULL, SHORT]


def test_a_renewed_certificate_is_used_at_once(files: Path) -> None:
    """And the session of the old one no more."""
    ours, key = files / "ours.pem", files / "ours-key.pem"

    def renew(name: str) -> None:
        for path, source in ((ours, f"{name}.pem"), (key, f"{name}-key.pem")):
            part = path.with_suffix(".part")
            part.touch(0o600)
            part.write_bytes((files / source).read_bytes())
            part.replace(path)

    renew("good")
    shown: list[bytes | None] = []
    with server(files, {**RESUME, "ask": True}) as at:
        sender = Sender(smtp_tls_cert_file=str(ours), smtp_tls_key_file=str(key))
        sender.sends(at)
        sender.sends(at)
        renew("wrongname")
        sender.sends(at)
        shown = [each.shown for each in at.connections]
        assert handshakes(at) == [FULL, SHORT, FULL]
    assert shown[0] == shown[1]
    assert shown[2] not in (None, shown[0])


def test_a_certificate_that_is_gone_defers(files: Path) -> None:
    with server(files, RESUME) as at:
        sender = Sender(
            smtp_tls_cert_file=str(files / "good.pem"),
            smtp_tls_key_file=str(files / "good-key.pem"),
        )
        sender.sends(at)
        (files / "good-key.pem").rename(files / "away")
        found = sender.deliver(at).outcomes[0]
        assert found.disposition is Disposition.DEFERRED
        assert "smtp_tls_key_file" in found.dsn.reason
        (files / "away").rename(files / "good-key.pem")
        sender.sends(at)
