"""Servers that never end, drip, flood, or speak before it is their turn."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from one_delivery import deliver

from scripted_server import ScriptedServer

# Two megabytes: more than any reply may have.
FLOODS = {
    "continued": ("{}-AAAA\r\n", 200_000),
    "one line": ("{}-AAAAAAAAAA", 200_000),
    "garbage": ("nothing\r\n", 200_000),
    "empty lines": ("\r\n", 1_000_000),
}
STAGES = {"banner": "220", "ehlo": "250", "rcpt": "250", "eod": "250", "quit": "221"}


@pytest.mark.attack("replies: endless, by stage; 256 MiB")
@pytest.mark.parametrize(
    ("stage", "flood"),
    [
        pytest.param(
            *(stage, flood),
            marks=[pytest.mark.long] * (stage != "rcpt" and flood != "continued"),
        )
        for stage in STAGES
        for flood in FLOODS
    ],
)
def test_endless_reply(tmp_path: Path, stage: str, flood: str) -> None:
    text, times = FLOODS[flood]
    action = {"repeat": text.format(STAGES[stage]), "times": times, "then": "hang"}
    with ScriptedServer({"stages": {stage: action}, "keywords": []}) as server:
        done = deliver(server, tmp_path)
    if stage == "quit":
        assert done.code == 0, done.output
    else:
        assert done.code == 75
        assert done.output.startswith("4.4.2 lost connection with "), done.output
        assert len(done.output) < 4000
    assert done.seconds < 60
    assert len(done.log) < 20_000


@pytest.mark.attack("replies: 50,000 and 100,000 EHLO keywords")
@pytest.mark.parametrize(
    ("count", "code"),
    [pytest.param(50_000, 0, id="50000"), pytest.param(100_000, 75, id="100000")],
)
def test_many_ehlo_keywords(tmp_path: Path, count: int, code: int) -> None:
    """A megabyte is read at most. What stands beyond line_length_limit is not kept."""
    keywords = ["PIPELINING", *(f"X{number:05}" for number in range(count))]
    with ScriptedServer({"keywords": keywords}) as server:
        done = deliver(server, tmp_path)
    assert done.code == code, done.output
    assert done.seconds < 60
    assert len(done.log) < 20_000


@pytest.mark.attack("replies: EHLO lines of 60 kbytes")
def test_many_mechanisms_and_words(tmp_path: Path) -> None:
    """One line of everything, as long as lines are kept."""
    keywords = [f"AUTH {'X' * 60_000}", "SIZE " + "9" * 60_000, "XFORWARD " + "A " * 99]
    with ScriptedServer({"keywords": keywords}) as server:
        done = deliver(server, tmp_path, "-o", "smtp_send_xforward_command=yes")
    assert done.code == 0, done.output


@pytest.mark.more
@pytest.mark.attack("deadlines: a byte in time, again and again")
@pytest.mark.parametrize("stage", ["banner", "mail", "eod"])
def test_a_server_that_drips(tmp_path: Path, stage: str) -> None:
    """Each byte comes in time, and the whole never: our own deadline ends that."""
    drip = {"repeat": f"{STAGES.get(stage, '250')}-", "times": 3000, "drip": 0.02}
    with ScriptedServer({"stages": {stage: drip}, "keywords": []}) as server:
        done = deliver(server, tmp_path, "-o", "trouble_deadline=10s")
        server.stop(0.1)
    assert done.code == 75
    assert "timed out while" in done.output
    assert done.seconds < 40


@pytest.mark.attack("deadlines: the same in a TLS handshake")
@pytest.mark.parametrize("stage", ["connect", "starttls"])
def test_tls_that_drips(tmp_path: Path, certificates: Path, stage: str) -> None:
    """The same below TLS: a record of a handshake that never becomes whole."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        peer = listener.accept()[0]
        if stage == "starttls":
            peer.sendall(b"220 me\r\n")
            peer.recv(1000)
            peer.sendall(b"250-me\r\n250 STARTTLS\r\n")
            peer.recv(1000)
            peer.sendall(b"220 go\r\n")
        peer.recv(10)
        record = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(16000)
        while not over.wait(0.02) and record:
            try:
                peer.send(record[:1])
            except OSError:
                break
            record = record[1:]
        peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    more = ["-o", "trouble_deadline=1s", "-o", "smtp_tls_security_level=encrypt"]
    if stage == "connect":
        more += ["-o", "smtp_tls_wrappermode=yes"]
    done = deliver(listener.getsockname()[1], tmp_path, *more)
    over.set()
    thread.join(60)
    listener.close()
    assert done.code == 75
    assert done.output.startswith("4.")
    assert done.seconds < 60


# --- words before their time --------------------------------------------------------


def secrets(directory: Path, port: int) -> list[str]:
    passwords = directory / "passwords"
    passwords.write_text(f"[127.0.0.1]:{port} user:canary-3141\n")
    passwords.chmod(0o600)
    return [
        *("-o", "smtp_sasl_auth_enable=yes"),
        *("-o", f"smtp_sasl_password_maps=texthash:{passwords}"),
        *("-o", "smtp_sasl_security_options="),
    ]


@pytest.mark.attack("STARTTLS: replies behind its own, in one segment")
def test_what_comes_with_the_reply_to_starttls_is_forgotten(
    tmp_path: Path, certificates: Path
) -> None:
    """In one segment: neither reply nor offer of the clear counts under TLS."""
    evil = "220 go\r\n250-evil\r\n250-AUTH PLAIN\r\n250 SIZE 1\r\n535 no\r\n250 x\r\n"
    script: dict[str, Any] = {
        "stages": {"starttls": {"raw": evil}, "eod": "250 2.0.0 real"},
        "keywords": ["STARTTLS"],
        "keywords_after_tls": [],
    }
    with ScriptedServer(script, certificates=str(certificates)) as server:
        level = ("-o", "smtp_tls_security_level=encrypt")
        done = deliver(server, tmp_path, *level, *secrets(tmp_path, server.port))
    (connection,) = server.connections
    assert (done.code, done.output) == (0, "250 2.0.0 real")
    verbs = [line.split()[0] for line in connection.commands if line[0] != "<"]
    assert verbs == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    assert not any("AUTH" in line for line in connection.commands)


@pytest.mark.attack("STARTTLS: replies behind its own, in two segments")
@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_words_in_the_clear_after_the_reply_to_starttls(
    tmp_path: Path, level: str
) -> None:
    """In two segments: no TLS comes of it, and nothing goes out in the clear."""
    heard: list[bytes] = []

    def serve(peer: socket.socket) -> None:
        for answer in (b"220 me\r\n", b"250-me\r\n250 STARTTLS\r\n", b"220 go\r\n"):
            peer.sendall(answer)
            heard.append(peer.recv(10000))
        peer.sendall(b"250-evil\r\n250 AUTH PLAIN\r\n250 ok\r\n250 ok\r\n354 go\r\n")
        while octets := peer.recv(10000):
            heard.append(octets)

    with accepting(serve) as port:
        done = deliver(port, tmp_path, "-o", f"smtp_tls_security_level={level}")
    assert done.code == 75
    # The handshake is a record, and nothing of the dialogue comes after it.
    assert [each[:4] for each in heard[:2]] == [b"EHLO", b"STAR"]
    rest = b"".join(heard[2:])
    assert rest[:2] == b"\x16\x03"
    assert b"MAIL" not in rest
    assert b"how are you" not in rest


class accepting:
    """A listener whose one connection is served by a function."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_exc: object) -> None:
        self._thread.join(60)
        self._listener.close()

    def _run(self) -> None:
        with self._listener.accept()[0] as peer:
            peer.settimeout(20)
            try:
                self._serve(peer)
            except OSError:
                pass


# --- memory -------------------------------------------------------------------------


def dots(megabytes: int, directory: Path, **how: Any) -> None:
    """Deliver a message of dots; each line has one more on the wire."""
    lines = megabytes << 19
    received = [0]

    def serve(peer: socket.socket) -> None:
        for answer in (b"220 me\r\n", b"250 me\r\n", b"250 a\r\n", b"250 b\r\n"):
            peer.sendall(answer)
            peer.recv(10000)
        peer.sendall(b"354 go\r\n")
        tail = b""
        while not tail.endswith(b"..\r\n.\r\n"):
            octets = peer.recv(1 << 20)
            assert octets
            received[0] += len(octets)
            tail = (tail + octets)[-20:]
        peer.sendall(b"250 2.0.0 all of it\r\n")
        peer.recv(100)

    with accepting(serve) as port:
        done = deliver(port, directory, message=b"\n" + b".\n" * lines, **how)
    assert (done.code, done.output) == (0, "250 2.0.0 all of it")
    assert received[0] == len("\r\n") + lines * len("..\r\n") + len(".\r\n")


@pytest.mark.attack("memory: 10 MiB of dots")
def test_ten_megabytes_of_dots(tmp_path: Path) -> None:
    """As many as Postfix takes by default."""
    dots(10, tmp_path)


@pytest.mark.attack("memory: 50 MiB of dots")
@pytest.mark.long
def test_fifty_megabytes_of_dots_in_little_memory(tmp_path: Path) -> None:
    dots(50, tmp_path)
