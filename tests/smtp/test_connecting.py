"""Connecting over real sockets, or why that does not come about."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Relay
from postfix_trouble.smtp import connect

RELAY = Relay("mx.test", "127.0.0.1", 25)


def test_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = RELAY._replace(port=listener.getsockname()[1])
        sock = connect.connect(relay, timeout=60.0, bind_address="127.0.0.2")
        assert isinstance(sock, socket.SocketType)
        assert sock.getsockname()[0] == "127.0.0.2"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = RELAY._replace(port=listener.getsockname()[1])
    why = connect.connect(relay, timeout=60.0)
    assert isinstance(why, DSN)
    assert why == DSN(
        why.status, f"connect to mx.test[127.0.0.1]:{relay.port}: Connection refused"
    )
    assert why.status == "4.4.1"


def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        relay = RELAY._replace(port=listener.getsockname()[1])
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        why = connect.connect(relay, timeout=0.2)
        for filler in fillers:
            filler.close()
    assert isinstance(why, DSN)
    assert why.status == "4.4.1"
    assert why.reason.endswith("Connection timed out")


@pytest.mark.parametrize("enforce", [False, True])
def test_source_address_that_is_not_ours(enforce: bool) -> None:
    notes: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = RELAY._replace(port=listener.getsockname()[1])
        sock = connect.connect(
            relay,
            timeout=60.0,
            bind_address="192.0.2.1",
            bind_enforce=enforce,
            note=notes.append,
        )
    assert notes == ["bind 192.0.2.1: Cannot assign requested address"]
    if enforce:
        assert isinstance(sock, DSN)
        assert (sock.status, sock.reason) == ("4.4.0", "server configuration error")
    else:
        assert isinstance(sock, socket.SocketType)
        sock.close()


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/nowhere/at/all", "4.4.1", "No such file or directory"),
        ("/" + "x" * 200, "4.3.5", "Server configuration error"),
    ],
)
def test_socket_that_is_not_there(path: str, status: str, reason: str) -> None:
    why = connect.connect(Relay("me.test", path, 0), timeout=60.0)
    assert isinstance(why, DSN)
    assert why.status == status
    assert why.reason.endswith(reason)


def test_unix_domain_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        sock = connect.connect(Relay("me.test", path, 0), timeout=60.0)
        assert isinstance(sock, socket.SocketType)
        sock.close()
