"""Where connections come from: descriptor 0, listening sockets, or systemd.

Knows nothing of what is spoken on them.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.value import Value

# sd_listen_fds(3): SD_LISTEN_FDS_START.
_FIRST_OF_SYSTEMD = 3
# Connections that wait to be accepted, if the kernel lets so many (somaxconn). A client
# of the engine that finds no room would deliver by itself, with a Python of its own.
_BACKLOG = 1000
# Seconds to wait when no connection can be accepted: no descriptors, no memory.
_BREATH = 0.5


class Listener(Value):
    """A socket on which connections are accepted."""

    socket: socket.socket
    # File that was made for it, with its device and inode; to be removed at the end.
    path: str = ""
    identity: tuple[int, int] = (0, 0)
    # What systemd calls it (FileDescriptorName=).
    name: str = ""

    def close(self) -> None:
        """Accept no more; remove the file, unless it is another's by now."""
        self.socket.close()
        if self.path and _identity(self.path) == self.identity:
            os.unlink(self.path)


class Stop:
    """Told once, by a signal or a test, and seen by every poll that has it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._set = False

    def set(self) -> None:
        """End the service when the running transactions are over."""
        if not self._set:
            self._set = True
            # Nobody reads it: readable for all who look, and for ever.
            os.write(self._write, b"!")

    def is_set(self) -> bool:
        """Whether it was told, the signal's Python half not having run yet included."""
        if not self._set:
            poll = select.poll()
            poll.register(self._read, select.POLLIN)
            self._set = bool(poll.poll(0))
        return self._set

    def fileno(self) -> int:
        """Descriptor that becomes readable."""
        return self._read

    def follow(self) -> None:
        """In a process that was forked: see it set, or its owner gone; no signals."""
        # They go to whole groups of processes, and the owner knows what to do. They are
        # caught and not ignored: what is started from here would inherit that.
        signal.set_wakeup_fd(-1)
        os.close(self._write)

    def on_signals(self, *numbers: int) -> None:
        """Let signals set it (from the main thread); SIGTERM and SIGINT by default.

        The interpreter writes to the pipe as soon as a signal arrives. A Python
        function alone might run too late: a signal just before poll(2) begins, or in
        another thread, would be looked at only when poll(2) has returned.
        """
        for number in numbers or (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)


def take_descriptor_0() -> socket.socket:
    """The connection that spawn(8) left on descriptor 0, out of harm's way.

    spawn(8) leaves it on 1 and 2 too, where a warning of the interpreter would become
    part of the dialogue. Those that are the connection go to /dev/null; another one
    (a log) stays. Raises OSError if descriptor 0 is no socket. Call it first of all.
    """
    taken = os.fstat(0)
    if not stat.S_ISSOCK(taken.st_mode):
        raise OSError(errno.ENOTSOCK, "descriptor 0 is no connection")
    connection = socket.socket(fileno=os.dup(0))
    os.set_inheritable(connection.fileno(), False)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        try:
            ours = os.path.samestat(os.fstat(number), taken)
        except OSError:
            ours = True  # not open: whatever is opened next would get it
        if ours:
            os.dup2(null, number)
    if null > 2:
        os.close(null)
    return connection


def listen(where: str, mode: int | None = None, group: int = -1) -> Listener:
    """Listen on `unix:PATH` or `inet:HOST:PORT` (`inet:PORT`: loopback).

    Whoever reaches the socket may send mail. The file gets the permissions that the
    umask leaves, or `mode`, and the group with the number `group`; lmtp(8) runs as the
    user postfix and needs to write. A file that a dead process left is replaced.
    Raises OSError.
    """
    kind, _, rest = where.partition(":")
    if kind == "unix" and rest:
        return _listen_unix(rest, mode, group)
    host, _, port = rest.rpartition(":")
    if kind != "inet" or not (port.isascii() and port.isdigit()):
        raise OSError(errno.EINVAL, "neither unix:PATH nor inet:HOST:PORT", where)
    host = host.removeprefix("[").removesuffix("]")
    family, _, _, _, address = _addresses(host, int(port))[0]
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(_BACKLOG)
    except OSError:
        server.close()
        raise
    return Listener(server)


def _addresses(host: str, port: int) -> list[Any]:
    """What getaddrinfo(3) finds; loopback needs no /etc/hosts. Raises OSError."""
    try:
        return socket.getaddrinfo(
            host or "localhost", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror:
        if host:
            raise
        return socket.getaddrinfo(None, port, type=socket.SOCK_STREAM)


def _listen_unix(path: str, mode: int | None, group: int) -> Listener:
    _remove_stale(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound = False
    # By the umask and not by chmod: nobody gets in between bind and chmod.
    before = None if mode is None else os.umask(~mode & 0o777)
    try:
        server.bind(path)
        bound = True
        # Nobody can connect before listen().
        os.chown(path, -1, group)
        server.listen(_BACKLOG)
    except OSError:
        server.close()
        if bound:
            os.unlink(path)
        raise
    finally:
        if before is not None:
            os.umask(before)
    return Listener(server, path, _identity(path))


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on. Another file stays, and bind fails."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.lstat(path)
    except OSError:
        return (-1, -1)
    return found.st_dev, found.st_ino


def inherited(environ: MutableMapping[str, str]) -> list[Listener]:
    """Sockets that systemd listens on for us (sd_listen_fds(3)); none: an empty list.

    Takes the variables out of the environment: children must not believe them.
    """
    meant = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if meant != str(os.getpid()) or not count.isdigit():
        return []
    listeners = []
    for place in range(int(count)):
        number = _FIRST_OF_SYSTEMD + place
        try:
            server = socket.socket(fileno=number)
            accepting = server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            continue
        if accepting:
            os.set_inheritable(number, False)
            name = names[place] if place < len(names) else ""
            listeners.append(Listener(server, name=name))
        else:
            server.detach()
    return listeners


def accept_all(
    listeners: Sequence[Listener],
    serve: Callable[[socket.socket], None],
    stop: Stop,
    *,
    most: int = 100,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Serve connections, each in a thread, at most so many at once, until stopped.

    More wait in the kernel. Closes the listeners as soon as it is told to stop, and
    returns when the last connection has ended. An exception in `serve` is noted.
    """
    slots = threading.Semaphore(most)
    running: set[threading.Thread] = set()

    def serve_one(connection: socket.socket) -> None:
        try:
            serve(connection)
        except Exception as bug:  # noqa: BLE001
            warn(note, "connection ended", bug)
        finally:
            connection.close()
            running.discard(threading.current_thread())
            slots.release()

    try:
        while _slot(slots, stop):
            connection = _next_connection(listeners, stop, note)
            if connection is None:
                slots.release()
                continue
            thread = threading.Thread(target=serve_one, args=(connection,))
            running.add(thread)
            try:
                thread.start()
            except RuntimeError as problem:
                # The client sees the end of the connection, and tries again later.
                note(f"no thread for a connection: {problem}")
                running.discard(thread)
                connection.close()
                slots.release()
                _wait_for([], stop)
    finally:
        for listener in listeners:
            listener.close()
    for thread in list(running):
        thread.join()


def _slot(slots: threading.Semaphore, stop: Stop) -> bool:
    """Wait until one more connection may be served; False if told to stop."""
    while not stop.is_set():
        if slots.acquire(timeout=_BREATH):
            return True
    return False


def _next_connection(
    listeners: Sequence[Listener], stop: Stop, note: Callable[[str], None]
) -> socket.socket | None:
    for number in _wait_for([each.socket for each in listeners], stop):
        for listener in listeners:
            if listener.socket.fileno() != number:
                continue
            # Another process may share the socket and be faster.
            listener.socket.setblocking(False)
            try:
                connection, _ = listener.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as problem:
                note(f"can't accept a connection: {problem}")
                _wait_for([], stop)
                continue
            return connection
    return None


def _wait_for(servers: list[socket.socket], stop: Stop) -> list[int]:
    """Descriptors with a connection waiting; without any, a short rest."""
    poll = select.poll()
    poll.register(stop.fileno(), select.POLLIN)
    for server in servers:
        poll.register(server, select.POLLIN)
    ready = poll.poll(None if servers else _BREATH * 1000)
    return [number for number, _ in ready if number != stop.fileno()]
