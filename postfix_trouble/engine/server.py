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
import signal
import socket
import struct
import threading
import time
from typing import IO, TYPE_CHECKING

from postfix_trouble.core.sysexits import EX_TEMPFAIL
from postfix_trouble.engine import protocol
from postfix_trouble.engine.arrival import Client
from postfix_trouble.engine.request import AFTER, Abandoned
from postfix_trouble.engine.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from postfix_trouble.engine.request import RequestDeadline
    from postfix_trouble.lmtp.listener import Listener

    #: Delivers: arguments, the message, who waits. Answers by the last one.
    Deliver = Callable[[list[str], IO[bytes], RequestDeadline], None]

# Bytes that are read at once.
_PIECE = 1 << 18
# Seconds to wait where there are no descriptors left.
_BREATH = 0.05
# Seconds that workers get to put things away when the engine ends.
_LINGER = 2.0

_BUSY = b"4.3.2 all deliveries that the engine makes at once are busy"

_BUG = b"4.3.0 internal error, see the log"


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
        self._listeners = {each.socket.fileno(): each for each in listeners}
        self._deliver = deliver
        self._reload = reload
        self._tell_drain = drain
        self._told = told
        self._stopping = False
        self._seconds = seconds
        self._most = most
        self._note = note
        self._clients: dict[int, Client] = {}
        self._schedule: Schedule[Client] = Schedule(most, self._start_worker)
        self._workers: list[threading.Thread] = []
        self._room = memoryview(bytearray(_PIECE))
        self._epoll = select.epoll()
        # When one of the clients has to be looked at.
        self._look = 0.0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Serve until a signal says to stop; what has been taken is finished."""
        for number, each in self._listeners.items():
            each.socket.setblocking(False)
            self._epoll.register(number, select.EPOLLIN)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        while not self._stopping or any(self._watched()):
            self._step()
        self._schedule.close()
        # All are answered. Who still waits for a server sends it no message any more.
        end = time.monotonic() + _LINGER
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))
        for client in [*self._clients.values()]:
            self._forget(client)
        signal.set_wakeup_fd(-1)
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _watched(self) -> Iterator[Client]:
        """Those that are not answered."""
        return (each for each in [*self._clients.values()] if not each.deadline.over)

    def waiting(self) -> int:
        """Clients whose requests wait for a worker."""
        return sum(client.ended and not client.begun for client in self._watched())

    def running(self) -> int:
        """Clients whose requests are delivered."""
        return sum(client.begun for client in self._watched())

    # --- the thread that watches

    def _step(self) -> None:
        for number, _ in self._epoll.poll(max(0.0, self._look - time.monotonic())):
            if number in self._clients:
                self._heard(self._clients[number])
            elif number in self._listeners:
                self._accept(self._listeners[number])
            elif number == self._wake_read:
                # All others were closed by what was looked at before them.
                self._woken(os.read(self._wake_read, 4096))
        now = time.monotonic()
        if now >= self._look:
            self._look = now + 60
            for client in [*self._clients.values()]:
                if client.due <= now:
                    self._late(client)
                self._look = min(self._look, client.due)

    def on_signals(self) -> None:
        """SIGTERM and SIGINT end the engine, SIGHUP reloads (from the main thread).

        The interpreter writes their numbers to the pipe as soon as they come.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _woken(self, numbers: bytes) -> None:
        """Do what signals ask for. A zero: one whom nothing more is to be heard of is
        answered, or the last one."""
        for client in [*self._clients.values()]:
            if client.heard_out and client.deadline.over:
                self._forget(client)
        if signal.SIGHUP in numbers:
            self._reload()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._drain()

    def _drain(self) -> None:
        """No more clients; those that are there are served as far as time allows."""
        if self._stopping:
            return
        self._stopping = True
        self._tell_drain()
        for number, each in self._listeners.items():
            self._epoll.unregister(number)
            each.close()
        self._listeners = {}

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
            sock.send(protocol.greeting(self._seconds, self._most), socket.MSG_DONTWAIT)
        except OSError:
            sock.close()
            return
        client = Client(sock, self._answered, self._told)
        client.due = client.end = time.monotonic() + self._seconds + AFTER
        self._look = min(self._look, client.due)
        self._clients[sock.fileno()] = client
        self._epoll.register(sock, select.EPOLLIN)

    def _heard(self, client: Client) -> None:
        if client.deadline.over:
            self._forget(client)
            return
        ended = client.ended
        try:
            sound = client.receive(self._room)
        except OSError as problem:
            # No room for the message.
            self._note(f"warning: cannot keep a message: {problem}")
            client.deadline.answer(EX_TEMPFAIL, b"4.3.1 no room for the message")
            return
        if not sound:
            client.deadline.client_gone()
            # Nothing more is to be heard from it.
            self._epoll.unregister(client.sock)
            client.heard_out = True
            if client.deadline.over:
                self._forget(client)
            # Else it is closed when its worker has ended.
        elif client.ended and not ended:
            client.due = min(
                client.due, time.monotonic() + self._seconds * protocol.PATIENCE
            )
            self._schedule.put(client)
        self._look = min(self._look, client.due)

    def _late(self, client: Client) -> None:
        if client.deadline.over:
            # It was answered, and does not close.
            self._forget(client)
        elif client.ended and not client.begun:
            client.deadline.answer(EX_TEMPFAIL, _BUSY)
        elif client.due < client.end:
            # It has been waiting for a worker, and has one.
            client.due = client.end
        else:
            client.interrupt(client.alarm)

    def _forget(self, client: Client) -> None:
        del self._clients[client.sock.fileno()]
        if not client.heard_out:
            # Closing is not enough: a process that a worker starts may have it, too.
            self._epoll.unregister(client.sock)
        client.sock.close()
        if not client.ended:
            client.message.close()

    # --- the threads that deliver

    def _answered(self, client: Client) -> None:
        """Its end wakes the thread that watches, where no client's hanging up does: if
        nothing more is heard of it, or the engine stops."""
        if self._stopping or client.heard_out:
            try:
                os.write(self._wake_write, b"\0")
            except BlockingIOError:
                # It will wake anyway.
                pass

    def _start_worker(self) -> None:
        worker = threading.Thread(target=self._work, daemon=True)
        worker.start()
        self._workers.append(worker)

    def _work(self) -> None:
        while (client := self._schedule.next()) is not None:
            client.begun = True
            try:
                if not client.deadline.over:
                    self._deliver(client.arguments, client.message, client.deadline)
            except Abandoned:
                pass
            except BaseException as problem:  # noqa: BLE001  nobody else will
                self._note(f"internal error: {type(problem).__name__}: {problem}")
            finally:
                client.message.close()
                # Where it is not answered, something of ours has failed.
                client.deadline.answer(EX_TEMPFAIL, _BUG)
                self._schedule.done(client, client.status != EX_TEMPFAIL)
            # Until the next one comes, nothing of this one is kept.
            del client
