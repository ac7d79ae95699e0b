"""`deliver` and log-ins: what is remembered of them, and what stops one beforehand."""

from __future__ import annotations

import base64
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfix_trouble.config.parameters import TABLE
from scripted_server import ScriptedServer

MESSAGE = b"Subject: hello\n\nhow are you\n"
OFFER = ("AUTH PLAIN LOGIN XOAUTH2", "STARTTLS")
REFUSES = {"keywords": OFFER, "stages": {"auth": "535 5.7.8 no"}}
REFUSED = "SASL authentication failed; server 127.0.0.1[127.0.0.1] said: 535 5.7.8 no"
CACHED = "SASL [CACHED] authentication failed; server 127.0.0.1 said: 535 5.7.8 no"
SASL = {
    "smtp_sasl_auth_enable": "yes",
    "smtp_sasl_security_options": "noanonymous",
    # Else the second mail is deferred without any attempt.
    "trouble_destination_retry_time": "0",
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def refusing() -> Iterator[ScriptedServer]:
    with ScriptedServer(REFUSES) as server:
        yield server


class Sender:
    """Delivers to one server with one configuration."""

    def __init__(self, tmp_path: Path, program: str, server: ScriptedServer) -> None:
        self.place = f"[127.0.0.1]:{server.port}"
        self.settings = dict(SASL)
        self.options: list[str] = []
        self._program = program
        self._directory = tmp_path
        self._sent = 0
        self.passwords("user:secret")

    def passwords(self, text: str, mode: int = 0o600) -> Path:
        """Write the password table."""
        path = self._directory / "sasl_passwd"
        path.write_text(f"{self.place} {text}\n")
        path.chmod(mode)
        self.settings["smtp_sasl_password_maps"] = f"texthash:{path}"
        return path

    def __call__(self) -> str:
        """Deliver a message; returns the status line, which must agree to the code."""
        # Another message each time: one that was delivered is not sent again.
        self._sent += 1
        settings = [f"-o{name}={value}" for name, value in self.settings.items()]
        done = subprocess.run(
            [
                *(self._program, "deliver", *settings, *self.options),
                *("--log-file", f"{self._directory}/log", "--nexthop", self.place),
                *(
                    "--queue-id",
                    f"Q{self._sent}",
                    "--sender",
                    "s@d.test",
                    "--",
                    "r@d.test",
                ),
            ],
            input=MESSAGE,
            capture_output=True,
            check=False,
        )
        answer = done.stdout.decode()
        assert done.returncode == {"2": 0, "4": 75}[answer[0]], answer
        return answer

    def log(self) -> str:
        """What was logged."""
        return (self._directory / "log").read_text()


@pytest.fixture
def send(tmp_path: Path, program: str, refusing: ScriptedServer) -> Sender:
    return Sender(tmp_path, program, refusing)


def log_ins(server: ScriptedServer) -> list[str]:
    return [c for x in server.connections for c in x.commands if c.startswith("AUTH")]


# --- what is remembered -------------------------------------------------------------


class TestRefusedLogIn:
    """smtp_sasl_auth_cache_name: who was refused is not sent again for a while."""

    @pytest.fixture(autouse=True)
    def remembering(self, send: Sender, state: Path) -> None:
        send.settings["smtp_sasl_auth_cache_name"] = "proxy:btree:anywhere"
        send.options = ["--state-directory", str(state)]

    def test_is_not_tried_again(self, send: Sender, refusing: ScriptedServer) -> None:
        assert send() == f"4.7.8 {REFUSED}"
        assert send() == f"4.7.8 {CACHED}"
        assert len(log_ins(refusing)) == 1
        assert not any("MAIL" in c for x in refusing.connections for c in x.commands)

    def test_with_another_password_is(
        self, send: Sender, refusing: ScriptedServer
    ) -> None:
        send()
        send.passwords("user:other")
        assert send() == f"4.7.8 {REFUSED}"
        assert len(log_ins(refusing)) == 2

    def test_is_forgotten(self, send: Sender, refusing: ScriptedServer) -> None:
        send.settings["smtp_sasl_auth_cache_time"] = "0s"
        send()
        assert send() == f"4.7.8 {REFUSED}"

    @pytest.mark.parametrize("missing", ["name", "directory"])
    def test_only_if_asked_for(
        self, send: Sender, refusing: ScriptedServer, missing: str
    ) -> None:
        if missing == "name":
            del send.settings["smtp_sasl_auth_cache_name"]
        else:
            send.options = []
        send()
        assert send() == f"4.7.8 {REFUSED}"
        assert len(log_ins(refusing)) == 2


class TestTokens:
    """A token that says how long it lasts is fetched once."""

    @pytest.fixture
    def runs(self, tmp_path: Path, send: Sender) -> Path:
        """One line for each run of the command."""
        runs = tmp_path / "runs"
        code = tmp_path / "token.py"
        code.write_text(
            "import json, sys\n"
            f"open({str(runs)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            "print(json.dumps({'access_token': 'secret-token', 'expires_in': 3600}))\n"
        )
        command = f"{sys.executable} -I -S {code} {{username}} {{host}}"
        send.settings["trouble_sasl_token_command"] = command
        return runs

    @pytest.fixture
    def taking(self, send: Sender) -> Iterator[ScriptedServer]:
        with ScriptedServer({"keywords": OFFER}) as server:
            send.place = f"[127.0.0.1]:{server.port}"
            send.passwords("user@example.com:not used")
            yield server

    def test_kept(
        self, send: Sender, runs: Path, state: Path, taking: ScriptedServer
    ) -> None:
        send.options = ["--state-directory", str(state)]
        assert "250 2.0.0 Ok" in send()
        assert "250 2.0.0 Ok" in send()
        assert runs.read_text() == "user@example.com 127.0.0.1\n"
        said = base64.b64encode(
            b"user=user@example.com\1auth=Bearer secret-token\1\1"
        ).decode()
        assert log_ins(taking) == [f"AUTH XOAUTH2 {said}"] * 2
        modes = [stat.S_IMODE(path.stat().st_mode) for path in state.rglob("*")]
        assert modes
        assert not any(mode & 0o077 for mode in modes)

    def test_not_kept_without_a_state_directory(
        self, send: Sender, runs: Path, taking: ScriptedServer
    ) -> None:
        send()
        send()
        assert len(runs.read_text().splitlines()) == 2

    def test_dropped_when_refused(
        self, send: Sender, runs: Path, state: Path, refusing: ScriptedServer
    ) -> None:
        send.options = ["--state-directory", str(state)]
        assert send() == f"4.7.8 {REFUSED}"
        assert send() == f"4.7.8 {REFUSED}"
        assert len(runs.read_text().splitlines()) == 2

    @pytest.mark.parametrize("command", ["false", "/nonexistent", "echo two words"])
    def test_none_no_mail(
        self, send: Sender, command: str, refusing: ScriptedServer
    ) -> None:
        send.settings["trouble_sasl_token_command"] = command
        assert send().startswith("4.7.0 ")
        assert send().endswith(": no access token")
        assert not any("MAIL" in c for x in refusing.connections for c in x.commands)
        assert "trouble_sasl_token_command: " in send.log()


# --- what stops a log-in ------------------------------------------------------------


class TestUnready:
    """What is wrong here puts the mail off, before any server is bothered with it."""

    def test_passwords_that_everybody_can_read(
        self, send: Sender, refusing: ScriptedServer
    ) -> None:
        path = send.passwords("user:secret", 0o644)
        answer = send()
        assert answer.startswith(f"4.3.5 {path} holds secrets")
        assert answer.endswith(f": chmod o-rwx {path}")
        assert not refusing.connections

    def test_no_table(self, send: Sender, refusing: ScriptedServer) -> None:
        del send.settings["smtp_sasl_password_maps"]
        answer = send()
        assert answer.startswith("4.3.5 ")
        assert "smtp_sasl_password_maps" in answer
        assert not refusing.connections

    @pytest.mark.parametrize("kind", ["texthash", "hash", "pcre"])
    def test_a_table_that_is_not_there(
        self, send: Sender, refusing: ScriptedServer, kind: str
    ) -> None:
        """Never without logging in; what is missing is in the log."""
        send.settings["smtp_sasl_password_maps"] = f"{kind}:/nonexistent/sasl_passwd"
        assert send().startswith("4.3.0 ")
        assert "/nonexistent/sasl_passwd" in send.log()
        assert not any("MAIL" in c for x in refusing.connections for c in x.commands)

    def test_a_key_that_everybody_can_read(
        self, send: Sender, refusing: ScriptedServer, certificates: Path, tmp_path: Path
    ) -> None:
        key = tmp_path / "key.pem"
        key.write_bytes((certificates / "good-key.pem").read_bytes())
        key.chmod(0o644)
        send.settings |= {
            "smtp_tls_security_level": "may",
            "smtp_tls_cert_file": str(certificates / "good.pem"),
            "smtp_tls_key_file": str(key),
        }
        assert send().endswith(f": chmod o-rwx {key}")
        key.unlink()
        assert send() == f"4.3.5 smtp_tls_key_file = {key}: No such file or directory"
        assert not refusing.connections

    def test_authorities_that_are_not_there(
        self, send: Sender, refusing: ScriptedServer
    ) -> None:
        send.settings |= {
            "smtp_tls_security_level": "secure",
            "smtp_tls_CAfile": "/nonexistent/ca.pem",
        }
        missing = "smtp_tls_CAfile = /nonexistent/ca.pem: No such file or directory"
        assert send() == f"4.7.5 {missing}"
        assert not refusing.connections


# --- the manual ---------------------------------------------------------------------


def test_the_manual_names_parameters_that_there_are() -> None:
    manual = Path(__file__).parents[2] / "docs/authentication.md"
    named = set(re.findall(r"\b(?:smtp|trouble|tls)_[a-z_A-Z]+\b", manual.read_text()))
    assert named
    assert {x for x in named if not x.endswith("_") and x not in TABLE} == set()
