"""The engine: takes requests of `deliver --engine=PATH`, and has workers deliver them.

One thread reads what clients send, watches those that wait, and keeps the time; the
workers are threads that deliver, at most so many at once. So a client that is killed, a
signal or a deadline is seen while a worker hangs, and a thousand clients that send
slowly cost no worker. A request that finds no worker in time is deferred long before
pipe(8) loses its patience.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
import socket
import struct
import threading
import time
from io import BytesIO
from typing import IO, TYPE_CHECKING

from postfix_trouble.core.sysexits import EX_TEMPFAIL
from postfix_trouble.engine import protocol
from postfix_trouble.engine.request import AFTER, Abandoned, Watch
from postfix_trouble.engine.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from postfix_trouble.lmtp.listener import Listener

    #: Delivers: arguments, the message, who waits. Answers by the last one.
    Deliver = Callable[[list[str], IO[bytes], Watch], None]

#: Bytes of a message that are kept in memory.
IN_MEMORY = 1 << 20
#: Bytes of all arguments; Linux gives a program no more than some megabytes.
_MOST_ARGUMENTS = 8 << 20
_PIECE = 1 << 18
# Seconds to wait where there are no descriptors left.
_BREATH = 0.05
# Seconds that workers get to put things away when the engine ends.
_LINGER = 2.0

_BUSY = b"4.3.2 all deliveries that the engine makes at once are busy"

_BUG = b"4.3.0 internal error, see the log"


def _write(file: IO[bytes], data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


class _Client:
    """One connection, and the request that comes over it."""

    def __init__(
        self,
        sock: socket.socket,
        answered: Callable[[], None],
        told: Callable[[int, bytes], None],
    ) -> None:
        self.sock = sock
        self._told = told
        self.watch = Watch(self._send_answer, answered, self._left)
        self.arguments: list[str] = []
        # In memory, or a file without a name.
        self.message: IO[bytes] = BytesIO()
        self.ended = False
        # When somebody has to look at it, and what is to be done then.
        self.due = 0.0
        self.end = 0.0
        self.alarm: Callable[[], float | None] = self.watch.expired
        # Its answer.
        self.status = EX_TEMPFAIL
        # A worker has begun with it.
        self.begun = False
        # The client has closed, or what it says makes no sense.
        self.heard_out = False
        self._size = 0
        self._buffer = b""

    @property
    def nexthop(self) -> str:
        """As the client names it; only requests with the same one share it."""
        for place, word in enumerate(self.arguments):
            if word == "--nexthop" and place + 1 < len(self.arguments):
                return self.arguments[place + 1]
            if word.startswith("--nexthop="):
                return word.partition("=")[2]
        return ""

    def _send_answer(self, status: int, text: bytes) -> None:
        self.status = status
        try:
            # It goes into the buffer of the socket, but for JSON objects of some size.
            self.sock.settimeout(10)
            self.sock.sendall(protocol.answer(status, text))
        except OSError:
            # It has gone; pipe(8) has deferred the mail.
            return
        self._told(status, text)

    def _left(self) -> bool:
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    def receive(self, room: memoryview) -> bool:
        """Read what has come, by way of `room`, which all clients share. False: the
        client has gone, or talks nonsense."""
        try:
            count = self.sock.recv_into(room)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not count:
            return False
        self._buffer += room[:count]
        at = 0
        while len(self._buffer) - at >= protocol.HEAD:
            length = int.from_bytes(self._buffer[at + 1 : at + 5], "big")
            if length > _PIECE:
                return False
            end = at + protocol.HEAD + length
            if len(self._buffer) < end:
                break
            kind = self._buffer[at : at + 1]
            if not self._take(kind, self._buffer[at + protocol.HEAD : end]):
                return False
            at = end
        self._buffer = self._buffer[at:]
        return True

    def _take(self, kind: bytes, data: bytes) -> bool:
        if kind == protocol.SIGNAL and self.ended:
            self.interrupt(self.watch.signalled)
        elif self.ended:
            return False
        elif kind == protocol.ARGUMENT and self._size < _MOST_ARGUMENTS:
            self._size += len(data) + 1
            self.arguments.append(os.fsdecode(data))
        elif kind == protocol.PIECE:
            self._keep(data)
        elif kind == protocol.END:
            self.ended = True
        else:
            return False
        return True

    def _keep(self, piece: bytes) -> None:
        """Add to the message. Raises OSError if there is no room on the disk."""
        if isinstance(self.message, BytesIO):
            before = self.message.getbuffer()
            if len(before) + len(piece) > IN_MEMORY:
                from tempfile import TemporaryFile

                # Without a buffer: what does not fit is to show here, not at the end.
                self.message = TemporaryFile(buffering=0)  # noqa: SIM115  closed later
                _write(self.message, before)
            del before
        _write(self.message, piece)

    def interrupt(self, how: Callable[[], float | None]) -> None:
        """The client, or the clock, wants an end."""
        grace = how()
        if grace is not None:
            self.due = self.end = time.monotonic() + grace
            self.alarm = self._give_up

    def _give_up(self) -> None:
        self.watch.given_up()


class Engine:
    """Listens, and has requests delivered until it is told to stop."""

    def __init__(
        self,
        listeners: Iterable[Listener],
        deliver: Deliver,
        *,
        most: int,
        seconds: float,
        note: Callable[[str], None],
        reload: Callable[[], None],
        drain: Callable[[], None] = lambda: None,
        told: Callable[[int, bytes], None] = lambda status, text: None,
    ) -> None:
        """`most`: deliveries at once. `seconds`: what a request may take, from the
        moment that its client was greeted; it is told, and must be below pipe(8)'s
        limit. `note`: writes to the log. `reload`: what SIGHUP asks for. `drain` is
        called when it is told to end, `told` for each answer that has gone out."""
        self._listeners = list(listeners)
        self._deliver = deliver
        self._reload = reload
        self._tell_drain = drain
        self._told = told
        self._stopping = False
        self._seconds = seconds
        self._most = most
        self._note = note
        self._clients: set[_Client] = set()
        self._schedule: Schedule[_Client] = Schedule(most, self._start_worker)
        self._workers: list[threading.Thread] = []
        self._room = memoryview(bytearray(_PIECE))
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Serve until a signal says to stop; what has been taken is finished."""
        for each in self._listeners:
            each.socket.setblocking(False)
            self._selector.register(each.socket, selectors.EVENT_READ, each)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        while not self._stopping or self._clients:
            self._step()
        self._schedule.close()
        # All are answered. Who still waits for a server sends it no message any more.
        end = time.monotonic() + _LINGER
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))
        signal.set_wakeup_fd(-1)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def waiting(self) -> int:
        """Clients whose requests wait for a worker."""
        return sum(client.ended and not client.begun for client in [*self._clients])

    def running(self) -> int:
        """Clients whose requests are delivered."""
        return sum(client.begun for client in [*self._clients])

    # --- the thread that watches

    def _step(self) -> None:
        now = time.monotonic()
        due = min((client.due for client in self._clients), default=now + 60)
        for key, _ in self._selector.select(max(0.0, due - now)):
            if isinstance(key.data, _Client):
                self._heard(key.data)
            elif key.fileobj == self._wake_read:
                self._signalled(os.read(self._wake_read, 4096))
            else:
                self._accept(key.data)
        now = time.monotonic()
        for client in [*self._clients]:
            if client.watch.over:
                self._forget(client)
            elif client.due <= now:
                self._late(client)

    def on_signals(self) -> None:
        """SIGTERM and SIGINT end the engine, SIGHUP reloads (from the main thread).

        The interpreter writes their numbers to the pipe as soon as they come.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _signalled(self, numbers: bytes) -> None:
        """Do what signals ask for; a zero only wakes this thread."""
        if signal.SIGHUP in numbers:
            self._reload()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._drain()

    def _drain(self) -> None:
        """No more clients; who has not said all by now is deferred by others."""
        if self._stopping:
            return
        self._stopping = True
        self._tell_drain()
        for each in self._listeners:
            self._selector.unregister(each.socket)
            each.close()

    def _accept(self, listener: Listener) -> None:
        try:
            sock, _ = listener.socket.accept()
        except OSError as problem:
            if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                # It waits until somebody else has ended.
                time.sleep(_BREATH)
            return
        size = struct.calcsize("3i")
        try:
            peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            if struct.unpack("3i", peer)[1] not in (os.geteuid(), 0):
                raise PermissionError
            sock.setblocking(False)
            sock.send(protocol.greeting(self._seconds, self._most))
        except OSError:
            sock.close()
            return
        client = _Client(sock, self._wake, self._told)
        client.due = client.end = time.monotonic() + self._seconds + AFTER
        self._clients.add(client)
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _heard(self, client: _Client) -> None:
        ended = client.ended
        try:
            sound = client.receive(self._room)
        except OSError as problem:
            # No room for the message.
            self._note(f"warning: cannot keep a message: {problem}")
            client.watch.answer(EX_TEMPFAIL, b"4.3.1 no room for the message")
            return
        if not sound:
            client.watch.client_gone()
            # Closed when its worker has ended: nothing more is to be heard from it.
            self._selector.unregister(client.sock)
            client.heard_out = True
        elif client.ended and not ended:
            self._enqueue(client)

    def _late(self, client: _Client) -> None:
        if client.ended and not client.begun:
            client.watch.answer(EX_TEMPFAIL, _BUSY)
        elif client.due < client.end:
            # It has been waiting for a worker, and has one.
            client.due = client.end
        else:
            client.interrupt(client.alarm)

    def _forget(self, client: _Client) -> None:
        self._clients.discard(client)
        if not client.heard_out:
            self._selector.unregister(client.sock)
        client.sock.close()
        if not client.ended:
            client.message.close()

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            # It will wake anyway.
            pass

    # --- the threads that deliver

    def _enqueue(self, client: _Client) -> None:
        client.message.seek(0)
        client.due = min(
            client.due, time.monotonic() + self._seconds * protocol.PATIENCE
        )
        self._schedule.put(client)

    def _start_worker(self) -> None:
        worker = threading.Thread(target=self._work, daemon=True)
        worker.start()
        self._workers.append(worker)

    def _work(self) -> None:
        while (client := self._schedule.next()) is not None:
            client.begun = True
            try:
                if not client.watch.over:
                    self._deliver(client.arguments, client.message, client.watch)
            except Abandoned:
                pass
            except BaseException as problem:  # noqa: BLE001  nobody else will
                self._note(f"internal error: {type(problem).__name__}: {problem}")
            finally:
                client.message.close()
                # Where it is not answered, something of ours has failed.
                client.watch.answer(EX_TEMPFAIL, _BUG)
                self._schedule.done(client, client.status != EX_TEMPFAIL)
            # Until the next one comes, nothing of this one is kept.
            del client
