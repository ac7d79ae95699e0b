"""`deliver --engine=PATH` without a compiler: hands a request to the engine, and waits.

launcher/postfix-trouble.c does the same, byte for byte, in a tenth of the time. This
one is for machines on which nobody could compile it. Only modules written in C are
loaded: ten milliseconds of each mail hang on that.
"""

from __future__ import annotations

import os
import select
import sys
import time

from postfix_trouble.core.sysexits import EX_TEMPFAIL
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.engine import protocol

if TYPE_CHECKING:
    import signal
    import socket
else:
    # The halves that are written in C: the others make enumerations, for 13 ms.
    import _signal as signal
    import _socket as socket

_PIECE = 65536
# Seconds between two looks whether the launcher is still there.
_LOOK = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TERMINATED = "4.3.0 terminated by signal"
_LOST = "4.3.0 lost connection with the engine"
_IN_DOUBT = f"{_LOST} -- message may be sent more than once"
_NOBODY = "4.3.0 nobody waits for an answer"
#: Why there is no engine, where it is somebody else's.
OTHER_ACCOUNT = "it runs as another account"


class NoEngine(Exception):
    """Nobody took the request; nothing of the message was read. Says why."""


class Ended(Exception):
    """The request is over: a deferral of our own. Caught in this module."""


def deliver(path: str, argv: list[str], parent: int) -> int | None:
    """Have the engine at a path deliver. Returns the exit code; None: there is none.

    `argv`: what follows `--engine=`. The text for pipe(8) is written. Without an engine
    the log says so, once a minute, and it is for the caller to deliver. `parent`: the
    process that waits for this one; without it the request is given up. Raises nothing.
    """
    try:
        request = _Request(path, parent)
    except NoEngine as problem:
        warn(path, str(problem))
        return None
    except Ended as end:
        _say(str(end).encode())
        return EX_TEMPFAIL
    try:
        code, text = request.run([os.fsencode(word) for word in argv])
    except Ended as end:
        code, text = EX_TEMPFAIL, str(end).encode("ascii", "replace")
    _say(text)
    return code


def _say(text: bytes) -> None:
    """One write, and the rest only if that took a part of it."""
    try:
        while text:
            try:
                text = text[os.write(1, text) :]
            except BlockingIOError:
                if not select.select([], [1], [], 10)[1]:
                    return
    except OSError:
        # Nobody reads; the exit code says the same.
        pass


class _Request:
    """One request, on one connection."""

    def __init__(self, path: str, parent: int) -> None:
        """Connect and be greeted. Raises NoEngine, Ended."""
        self._caught = 0
        self._parent = parent
        # The engine has all of the message, and may deliver it.
        self._whole = False
        # Nothing can be sent any more.
        self._gone = False
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._catch)
        signal.set_wakeup_fd(wake)
        self._sock = _connected(path)
        sources = [self._sock.fileno(), self._wake]
        select.select(sources, [], [], protocol.GREETED_WITHIN)
        if self._caught:
            raise Ended(_TERMINATED)
        seconds, _ = _greeted(self._sock)
        self._end = time.monotonic() + seconds + protocol.AFTER

    def _catch(self, number: int, _frame: object) -> None:
        self._caught = number

    def run(self, argv: list[bytes]) -> tuple[int, bytes]:
        """Send the request, and wait. Exit code and text. Raises Ended."""
        options = argv[: argv.index(b"--")] if b"--" in argv else argv
        json = b"--json" in options
        # A message of usual size goes out as one piece, with all before and after it:
        # each piece wakes the engine.
        data = protocol.arguments(argv)
        while not self._gone and self._wait(read=self._sock, also=0) == 0:
            try:
                piece = os.read(0, _PIECE)
            except BlockingIOError:
                continue
            except OSError as problem:
                text = os.strerror(problem.errno or 0)
                raise Ended(f"4.3.0 cannot read the message: {text}") from None
            if not piece:
                break
            data += protocol.frame(protocol.PIECE, piece)
            if len(data) > _PIECE // 2:
                self._send(data)
                data = b""
        else:
            # It does not want the message.
            return self._answer(json)
        # Where pipe(8) has been killed, this is not the end of the message.
        self._wait(write=self._sock)
        self._send(data + protocol.frame(protocol.END))
        self._whole = True
        return self._answer(json)

    def _answer(self, json: bool) -> tuple[int, bytes]:
        data = b""
        wanted = protocol.HEAD
        while True:
            if self._wait(read=self._sock, signals=True) < 0:
                number, self._caught = self._caught, 0
                self._send(protocol.frame(protocol.SIGNAL, b"%d" % number))
                # Nor for an engine that hangs is there more time than this.
                self._end = min(self._end, time.monotonic() + protocol.AFTER)
                continue
            try:
                got = self._sock.recv(_PIECE)
            except BlockingIOError:
                continue
            except OSError:
                got = b""
            if not got:
                raise Ended(_IN_DOUBT if self._whole else _LOST)
            data += got
            if len(data) >= protocol.HEAD and wanted == protocol.HEAD:
                length = int.from_bytes(data[1:5], "big")
                if (
                    data[:1] != protocol.ANSWER
                    or not 0 < length <= protocol.MOST_ANSWER
                ):
                    break
                wanted += length
            if wanted > protocol.HEAD and len(data) >= wanted:
                status, text = data[5], data[6:wanted]
                if not protocol.sound(status, text, json):
                    break
                return 0 if status == protocol.SUCCESS else status, text
        raise Ended("4.3.0 the engine gave no answer that makes sense")

    def _send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._sock.send(data, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                self._wait(write=self._sock)
            except OSError:
                # It may have said why.
                self._gone = True
                return

    def _wait(
        self,
        *,
        read: socket.socket | None = None,
        write: socket.socket | None = None,
        also: int = -1,
        signals: bool = False,
    ) -> int:
        """Wait for the socket (returns 1) or for the descriptor `also` (returns 0).

        A signal is an end of the request, or -1 if `signals` are asked for. Raises
        Ended, also when time is over or pipe(8) has gone.
        """
        poll = select.poll()
        sock = read or write
        assert sock is not None
        poll.register(sock.fileno(), select.POLLIN if read else select.POLLOUT)
        poll.register(self._wake, select.POLLIN)
        poll.register(1, 0)
        if also >= 0:
            poll.register(also, select.POLLIN)
        while True:
            left = self._end - time.monotonic()
            if left <= 0:
                raise Ended("4.4.2 no answer from the engine in time")
            ready = [] if self._caught else poll.poll(min(left, _LOOK) * 1000)
            if self._caught:
                os.read(self._wake, 100)
                if signals:
                    return -1
                raise Ended(_TERMINATED)
            places = dict(ready)
            if places.get(1, 0) & select.POLLERR or os.getppid() != self._parent:
                raise Ended(_NOBODY)
            if sock.fileno() in places:
                return 1
            if also in places:
                return 0


def _connected(path: str, *, whoever: bool = False) -> socket.socket:
    """A connection to an engine of this account, or of root. Raises NoEngine."""
    if not path.startswith("/") or len(os.fsencode(path)) >= 108:
        raise NoEngine("the path is not absolute, or too long")
    sock = None
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect(path)
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except OSError as problem:
        if sock is not None:
            sock.close()
        raise NoEngine(os.strerror(problem.errno or 0)) from None
    account = int.from_bytes(peer[4:8], sys.byteorder)
    if not whoever and account not in (os.geteuid(), 0):
        sock.close()
        raise NoEngine(OTHER_ACCOUNT)
    return sock


def _greeted(sock: socket.socket) -> tuple[int, int]:
    """Read the greeting, which comes in one piece and always has the same length: the
    seconds that a request may take, deliveries at once. Raises NoEngine."""
    try:
        line = sock.recv(len(protocol.greeting(0, 0)))
    except OSError:
        line = b""
    if not line:
        raise NoEngine("no greeting")
    found = protocol.greeted(line)
    if found is None:
        raise NoEngine("it is of another version")
    return found


def look(path: str) -> tuple[int, int]:
    """Be greeted, and leave: seconds that a request may take, deliveries at once. Root
    may ask the engine of any account. Raises NoEngine."""
    sock = _connected(path, whoever=os.geteuid() == 0)
    try:
        select.select([sock.fileno()], [], [], protocol.GREETED_WITHIN)
        return _greeted(sock)
    finally:
        sock.close()


def warn(path: str, why: str) -> None:
    """Tell the log that there is no engine, at most once a minute for an account."""
    import fcntl

    from postfix_trouble.report.maillog import MailLog

    # Who else makes that file first makes us warn more often, and no more.
    mark = f"/tmp/postfix-trouble.{os.geteuid()}.warned"  # nosec B108
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(mark, flags, 0o600)
        found = os.fstat(file)
        if found.st_uid == os.geteuid() and found.st_nlink == 1:
            # Who does not get the lock comes while another one warns.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            last, now = os.fstat(file), time.time()
            if last.st_size and now - 60 < last.st_mtime <= now:
                return
            os.pwrite(file, b"\n", 0)
    except BlockingIOError:
        return
    except OSError:
        # Better once too often.
        pass
    log = MailLog("postfix-trouble")
    log.write(f"warning: no engine at {path} ({why}): one process a mail")
    log.close()
