"""send and probe in the hands of a person: asked for is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from by_hand import LOCAL, output

from scripted_server import ScriptedServer

TO = ("--to", "you@example.com")


@pytest.fixture
def log_in(tmp_path: Path) -> list[str]:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return ["--auth-user", "joe", "--auth-password-file", str(path)]


def _server(server: ScriptedServer) -> list[str]:
    return ["--server", f"{LOCAL}:{server.port}"]


# --- logging in ---------------------------------------------------------------------


@pytest.mark.parametrize("command", ["send", "probe"])
@pytest.mark.parametrize("keywords", [("8BITMIME",), ("STARTTLS", "8BITMIME")])
def test_log_in_that_is_not_offered_is_a_failure(
    command: str, keywords: tuple[str, ...], log_in: list[str], certificates: Path
) -> None:
    script = {"keywords": keywords}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        done = output(command, *TO, *log_in, *_server(server), "--tls", "none")
    assert done.returncode == 75
    shown = " ".join(done.stdout.split())
    assert "AUTH was asked for, but was not offered by host" in shown
    assert ("it offers STARTTLS" in shown) is ("STARTTLS" in keywords)
    assert not server.connections[0].messages
    assert not any(x.startswith("MAIL") for x in server.connections[0].commands)


def test_probe_that_goes_less_far_needs_no_log_in(log_in: list[str]) -> None:
    with ScriptedServer({}) as server:
        argv = ["probe", *log_in, *_server(server), "--tls", "none"]
        done = output(*argv, "--quit-after", "ehlo")
    assert done.returncode == 0


@pytest.mark.parametrize("command", ["send", "probe"])
def test_password_goes_only_to_a_server_that_is_verified(
    command: str, log_in: list[str], certificates: Path
) -> None:
    script = {"keywords": ("STARTTLS", "AUTH PLAIN")}
    with ScriptedServer(script, certificates=str(certificates)) as server:
        argv = [command, *TO, *log_in, *_server(server)]
        done = output(*argv)
        assert done.returncode == 75
        assert "--tls encrypt" in done.stderr
        assert not any(
            x.startswith("AUTH") for one in server.connections for x in one.commands
        )
        assert output(*argv, "--tls", "encrypt").returncode == 0
        own = output(*argv, "-o", "smtp_tls_security_level=encrypt")
        assert own.returncode == 0


# --- the server that was named ------------------------------------------------------


@pytest.mark.parametrize("command", ["send", "probe"])
def test_name_in_etc_hosts(command: str) -> None:
    with ScriptedServer({}) as server:
        argv = [command, *TO, "--server", f"localhost:{server.port}", "-4"]
        done = output(*argv)
    assert done.returncode == 0, done.stdout


def test_server_may_be_this_machine() -> None:
    """Whether or not somebody listens on port 25 here, it is no loop."""
    argv = ["probe", "--server", "127.0.0.9", "-o", "inet_interfaces=127.0.0.9"]
    done = output(*argv, "-v", "--quit-after", "connect")
    assert "127.0.0.9 is this machine" in done.stdout
    assert "5.4.6" not in done.stdout
    assert done.returncode in (0, 75)
    # A nexthop, as a transport table has it, is what Postfix would be asked for.
    loop = output("probe", "[127.0.0.9]", "-o", "inet_interfaces=127.0.0.9")
    assert "5.4.6" in loop.stdout


@pytest.mark.parametrize("lmtp", [False, True])
def test_wait_ends_when_the_user_says(lmtp: bool) -> None:
    with ScriptedServer({"stages": {"mail": {"then": "hang"}}}) as server:
        argv = ["send", *TO, *_server(server), "--timeout", "1"]
        done = output(*argv, *(["--lmtp"] if lmtp else []))
    assert done.returncode == 75
    assert "timed out while sending MAIL FROM" in " ".join(done.stdout.split())


def test_family_of_addresses() -> None:
    with ScriptedServer({}) as server:
        done = output("send", *TO, *_server(server), "-6")
    assert done.returncode != 0
    assert not server.connections
