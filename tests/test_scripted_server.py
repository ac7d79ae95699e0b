"""What the scripted server tells has all that its clients have done."""

from __future__ import annotations

import socket
import threading
from functools import partial

import pytest

from scripted_server import ScriptedServer


@pytest.mark.parametrize("last", [b"QUIT\r\n", b""])
def test_what_a_client_says_last_is_told(last: bytes) -> None:
    wanted = (["QUIT"], "quit") if last else ([], "client-close")
    with ScriptedServer() as server:
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(last)
            connection = server.connections[-1]
            assert (connection.commands, connection.end) == wanted
        assert len(server.connections) == 200


def test_nobody_waits_for_a_server_that_waits() -> None:
    """For the client, or for the test."""
    both = threading.Barrier(2)
    script = {"stages": {"noop": {"delay": partial(both.wait, 30), "reply": "250 ok"}}}
    with ScriptedServer(script) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            assert server.connections[0].end == ""
            client.sendall(b"NOOP\r\n")
            assert server.connections[0].commands == ["NOOP"]
            both.wait(30)
            reader = client.makefile("rb")
            assert reader.readline() == b"220 mx.fake.test ESMTP\r\n"
            assert reader.readline() == b"250 ok\r\n"
            reader.close()
        assert server.connections[0].end == "client-close"
