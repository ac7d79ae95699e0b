"""Descriptor 0, listening sockets, systemd, and the end of it all."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postfix_trouble.lmtp.listener import Listener, Stop, accept_all, inherited, listen

PATIENCE = 60.0


def connect(where: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(where)
    return client


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lmtp")


@pytest.mark.parametrize(
    ("mode", "permissions"), [(None, 0o700), (0o660, 0o660), (0o666, 0o666)]
)
def test_permissions_of_the_socket(
    path: str, mode: int | None, permissions: int
) -> None:
    before = os.umask(0o077)
    try:
        listener = listen(f"unix:{path}", mode)
    finally:
        assert os.umask(before) == 0o077
    assert stat.S_IMODE(os.stat(path).st_mode) == permissions
    listener.close()
    assert not os.path.exists(path)


def test_a_dead_socket_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    listener = listen(f"unix:{path}")
    connect(path).close()
    listener.close()


def test_a_live_socket_is_not_replaced(path: str) -> None:
    first = listen(f"unix:{path}")
    with pytest.raises(OSError, match="in use"):
        listen(f"unix:{path}")
    connect(path).close()
    first.close()


def test_another_file_is_not_removed(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listen(f"unix:{path}")
    assert Path(path).read_text() == "precious"


def test_the_socket_of_a_successor_stays(path: str) -> None:
    first = listen(f"unix:{path}")
    os.unlink(path)
    second = listen(f"unix:{path}")
    first.close()
    connect(path).close()
    second.close()


@pytest.mark.parametrize("where", ["inet:127.0.0.1:0", "inet:0"])
def test_loopback(where: str) -> None:
    listener = listen(where)
    host, port = listener.socket.getsockname()[:2]
    assert host in ("127.0.0.1", "::1")
    socket.create_connection((host, port), PATIENCE).close()
    listener.close()


@pytest.mark.parametrize(
    "where", ["", "unix:", "/path", "inet:", "inet:host:", "inet:host:smtp", "tcp:1"]
)
def test_what_is_not_understood(where: str) -> None:
    with pytest.raises(OSError, match="neither") as caught:
        listen(where)
    assert caught.value.errno == errno.EINVAL


class Service:
    """accept_all in a thread; each connection waits for a line, and says it back."""

    def __init__(self, listeners: list[Listener], most: int = 10) -> None:
        self.stop = Stop()
        self.notes: list[str] = []
        self.thread = threading.Thread(
            target=accept_all,
            args=(listeners, self.serve, self.stop),
            kwargs={"most": most, "note": self.notes.append},
            daemon=True,
        )
        self.thread.start()

    def serve(self, connection: socket.socket) -> None:
        connection.sendall(b"+")
        line = connection.recv(100)
        if line == b"bug":
            raise RuntimeError("oops")
        connection.sendall(line)

    def ended(self) -> bool:
        self.stop.set()
        self.thread.join(PATIENCE)
        return not self.thread.is_alive()


@pytest.fixture
def service(path: str) -> Iterator[Service]:
    service = Service([listen(f"unix:{path}")])
    yield service
    assert service.ended()


def test_several_clients_at_once(service: Service, path: str) -> None:
    with connect(path) as one, connect(path) as two:
        assert one.recv(1) == two.recv(1) == b"+"
        two.sendall(b"2")
        assert two.recv(1) == b"2"
        one.sendall(b"1")
        assert one.recv(1) == b"1"


def test_several_listeners(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    service = Service([listen(f"unix:{path}") for path in paths])
    for path in paths:
        with connect(path) as client:
            assert client.recv(1) == b"+"
    assert service.ended()


def test_more_clients_wait_their_turn(path: str) -> None:
    service = Service([listen(f"unix:{path}")], most=1)
    with connect(path) as one, connect(path) as two:
        assert one.recv(1) == b"+"
        two.setblocking(False)
        with pytest.raises(BlockingIOError):
            two.recv(1)
        two.settimeout(PATIENCE)
        one.sendall(b"1")
        assert two.recv(1) == b"+"
    assert service.ended()


@pytest.mark.fault("LMTP a bug outside of transactions")
def test_a_bug_costs_one_connection(service: Service, path: str) -> None:
    with connect(path) as client:
        client.sendall(b"bug")
        assert client.recv(10) == b"+"
        assert client.recv(10) == b""
    with connect(path) as client:
        client.sendall(b"x")
        with client.makefile("rb") as replies:
            assert replies.read() == b"+x"
    (note,) = service.notes
    assert note.startswith("warning: connection ended: internal error: RuntimeError: ")


def test_stop_accepts_no_more_and_waits_for_the_rest(path: str) -> None:
    service = Service([listen(f"unix:{path}")])
    with connect(path) as client:
        assert client.recv(1) == b"+"
        service.stop.set()
        while os.path.exists(path):
            pass
        assert service.thread.is_alive()
        client.sendall(b"last")
        assert client.recv(10) == b"last"
    assert service.ended()


def test_without_descriptors_it_goes_on_later(path: str) -> None:
    """A listener that can't accept is not asked again and again without rest."""
    listener = listen(f"unix:{path}")

    class Exhausted(socket.socket):
        calls = 0

        def accept(self) -> tuple[socket.socket, object]:
            Exhausted.calls += 1
            if Exhausted.calls == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    broken = Exhausted(fileno=listener.socket.detach())
    service = Service([listener._replace(socket=broken)])
    with connect(path) as client:
        assert client.recv(1) == b"+"
    assert Exhausted.calls == 2
    assert "Too many open files" in service.notes[0]
    assert service.ended()


SERVER = """
import os, sys
from postfix_trouble.lmtp.listener import Stop, accept_all, inherited, take_descriptor_0
from postfix_trouble.lmtp.server import serve

def deliver(transaction, gone):
    print("noise on stdout", flush=True)
    print("noise on stderr", file=sys.stderr, flush=True)
    os.system("echo noise of a child; echo noise >&2; cat")
    return [(b"250 2.0.0 Ok",) for _ in transaction.request.recipients]
"""
ON_DESCRIPTOR_0 = (
    SERVER
    + """
stop = Stop()
connection = take_descriptor_0()
stop.on_signals()
serve(connection, deliver, stop=stop)
"""
)
ACTIVATED = (
    SERVER
    + """
stop = Stop()
stop.on_signals()
listeners = inherited(os.environ)
assert "LISTEN_FDS" not in os.environ
accept_all(listeners, lambda connection: serve(connection, deliver, stop=stop), stop)
print(len(listeners))
"""
)
# Descriptor 4 is no listening socket: it is to be ignored.
LIKE_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(os.open(os.devnull, os.O_RDONLY), 4)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""
DIALOGUE = (
    b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@d>\r\nDATA\r\nx\r\n.\r\nNOOP\r\nQUIT\r\n"
)


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start Python; it is ended whatever happens."""
    children = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", *arguments], **options)
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


Run = Callable[..., subprocess.Popen[bytes]]


def run_on_descriptor_0(
    run: Run, error: int = 0
) -> tuple[bytes, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = theirs.fileno()
        child = run(
            ON_DESCRIPTOR_0, stdin=number, stdout=number, stderr=error or number
        )
        theirs.close()
        ours.settimeout(PATIENCE)
        ours.sendall(DIALOGUE)
        with ours.makefile("rb") as replies:
            return replies.read(), child


@pytest.mark.fault("spawn noise on 1 and 2")
def test_nothing_but_replies_enters_the_dialogue(run: Run) -> None:
    """As under spawn(8): 0, 1 and 2 are the connection."""
    said, child = run_on_descriptor_0(run)
    assert child.wait(PATIENCE) == 0
    assert b"noise" not in said
    assert said.endswith(b"\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n")


def test_a_log_on_descriptor_2_stays(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as error:
        said, child = run_on_descriptor_0(run, error.fileno())
    assert child.wait(PATIENCE) == 0
    assert b"noise" not in said
    assert "noise on stderr" in log.read_text()


@pytest.mark.fault("4, spawn SIGTERM between two messages")
def test_sigterm_on_descriptor_0(run: Run) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = run(ON_DESCRIPTOR_0, stdin=theirs)
        theirs.close()
        ours.settimeout(PATIENCE)
        with ours.makefile("rb") as replies:
            assert replies.readline().startswith(b"220 ")
            child.send_signal(signal.SIGTERM)
            assert replies.read() == b"421 4.3.2 Service is shutting down\r\n"
        assert child.wait(PATIENCE) == 0


def test_a_signal_that_another_thread_got() -> None:
    """poll is not interrupted then, and what Python does about it has to wait."""
    stop, usual = Stop(), signal.getsignal(signal.SIGUSR1)
    stop.on_signals(signal.SIGUSR1)
    thread = threading.Thread(
        target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    )
    try:
        assert not stop.is_set()
        thread.start()
        poll = select.poll()
        poll.register(stop, select.POLLIN)
        assert poll.poll(PATIENCE * 1000)
        assert stop.is_set()
    finally:
        thread.join(PATIENCE)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGUSR1, usual)


def test_no_connection_on_descriptor_0() -> None:
    child = subprocess.run(
        [sys.executable, "-c", ON_DESCRIPTOR_0],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert child.returncode != 0
    assert b"OSError" in child.stderr


def test_socket_activation(run: Run, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        number = server.fileno()
        child = run(
            LIKE_SYSTEMD,
            str(number),
            ACTIVATED,
            pass_fds=[number],
            stdout=subprocess.PIPE,
        )
    with connect(path) as client:
        client.sendall(DIALOGUE)
        with client.makefile("rb") as replies:
            assert replies.read().endswith(b"221 2.0.0 Bye\r\n")
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=PATIENCE)
    assert output.splitlines()[-1] == b"1"
    assert os.path.exists(path), "the socket is systemd's"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"},
    ],
    ids=["none", "for-another-process", "for-nobody", "not-a-number"],
)
def test_sockets_meant_for_others(environ: dict[str, str]) -> None:
    environ = dict(environ)
    assert inherited(environ) == []
    assert environ == {}
