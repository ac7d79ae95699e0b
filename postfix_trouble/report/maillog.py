"""The log: syslog's mail facility as Postfix uses it, or a file.

Best effort: a record that can't be written is lost, and the delivery goes on. Not the
logging module: it costs 7 ms, and says so on stderr, which pipe(8) reads, when there is
no syslog.
"""

from __future__ import annotations

import os
import select
import time

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from postfix_trouble.config.settings import Settings
else:
    # As in connecting.py.
    import _socket as socket

SYSLOG = "/dev/log"
# Facility and level: mail, info.
_PRIORITY = 2 << 3 | 6
# Seconds to wait for a syslog daemon that does not read. Once; then records are lost.
_PATIENCE = 1.0


class MailLog:
    """Where records go. `tag` is syslog_name."""

    def __init__(self, tag: str, file: str = "", *, json: bool = False) -> None:
        """`json`: records are JSON objects."""
        self._tag = tag
        self._file = file
        self._json = json
        self._host = os.uname().nodename
        self._socket: socket.socket | None = None
        self._patience = _PATIENCE

    @classmethod
    def of(cls, settings: Settings, file: str) -> MailLog:
        """As settings say; `file` is that of the command line. Raises ConfigError."""
        return cls(
            settings.text("syslog_name"),
            file or settings.text("trouble_log_file"),
            json=settings.text("trouble_log_format") == "json",
        )

    @property
    def name(self) -> str:
        """What stands before the records of this process."""
        return f"{self._tag}[{os.getpid()}]"

    def write(self, text: str) -> None:
        """Write one record, one line."""
        line = self._as_json(text) if self._json else text
        if not line.isprintable():
            line = "".join(c if c.isprintable() else "?" for c in line)
        try:
            if self._file:
                self._to_file(line)
            else:
                self._to_syslog(line)
        except (OSError, ValueError):
            # A full disk or a missing socket is no reason to defer mail.
            pass

    def _as_json(self, text: str) -> str:
        from datetime import datetime

        from postfix_trouble.report.json_log import rendered

        origin = {
            "time": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "host": os.uname().nodename,
            "name": self._tag,
            "pid": os.getpid(),
        }
        return rendered(text, origin)

    def close(self) -> None:
        """Let go of the daemon; the next record finds it again."""
        daemon, self._socket = self._socket, None
        if daemon is not None:
            daemon.close()

    def _to_syslog(self, line: str) -> None:
        """Not by way of syslog(3), which waits for the daemon for ever.

        Threads share the socket: each has its own name for it, since another one may
        let go of it at any moment, and it is connected before others see it.
        """
        now = time.strftime("%b %e %H:%M:%S")
        record = f"<{_PRIORITY}>{now} {self.name}: {line}"
        daemon = self._socket
        try:
            if daemon is None:
                daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                daemon.connect(SYSLOG)
                self._socket = daemon
            data = record.encode("utf-8", "replace")
            try:
                # There nearly always is room: no other system call for a record.
                daemon.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                room = select.poll()
                room.register(daemon, select.POLLOUT)
                room.poll(self._patience * 1000)
                daemon.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._patience = 0.0
        except OSError:
            # Perhaps there is another daemon the next time.
            self.close()
            if daemon is not None:
                daemon.close()

    def _to_file(self, line: str) -> None:
        record = f"{line}\n"
        if not self._json:
            now = time.strftime("%b %e %H:%M:%S")
            host = self._host.partition(".")[0]
            record = f"{now} {host} {self.name}: {record}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._file, flags, 0o600)
        try:
            os.write(file, record.encode("utf-8", "replace"))
        finally:
            os.close(file)
