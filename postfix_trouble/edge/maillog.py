"""The log: syslog's mail facility as Postfix uses it, or a file.

Best effort: a record that can't be written is lost, and the delivery goes on. Not the
logging module: it costs 7 ms, and says so on stderr, which pipe(8) reads, when there is
no syslog.
"""

from __future__ import annotations

import os
import time


class MailLog:
    """Where records go. `tag` is syslog_name."""

    def __init__(self, tag: str, file: str = "") -> None:
        self._tag = tag
        self._file = file
        self._open = False

    def write(self, text: str) -> None:
        """Write one record, one line."""
        line = text
        if not text.isprintable():
            line = "".join(c if c.isprintable() else "?" for c in text)
        try:
            if self._file:
                self._to_file(line)
            else:
                self._to_syslog(line)
        except (OSError, ValueError):
            # A full disk or a missing socket is no reason to put mail off.
            pass

    def _to_syslog(self, line: str) -> None:
        import syslog

        if not self._open:
            syslog.openlog(self._tag, syslog.LOG_PID, syslog.LOG_MAIL)
            self._open = True
        syslog.syslog(syslog.LOG_INFO, line.encode("utf-8", "replace").decode("utf-8"))

    def _to_file(self, line: str) -> None:
        now = time.strftime("%b %e %H:%M:%S")
        host = os.uname().nodename.partition(".")[0]
        record = f"{now} {host} {self._tag}[{os.getpid()}]: {line}\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._file, flags, 0o600)
        try:
            os.write(file, record.encode("utf-8", "replace"))
        finally:
            os.close(file)
