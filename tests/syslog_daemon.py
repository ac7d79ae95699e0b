"""A syslog daemon of a test's own, in a /dev of its own."""

from __future__ import annotations

import socket
from pathlib import Path

# Puts a /dev with another /dev/log, or none, in place of the machine's.
OTHER_DEV = """\
cd "$0"
for name in null zero full random urandom tty; do
    >$name; mount --bind /dev/$name $name
done
mount --rbind "$0" /dev; cd /; exec "$@"
"""


class SyslogDaemon:
    """Takes the records of what is run with `around` in front of it."""

    def __init__(self, place: Path) -> None:
        self._dev = place / "dev"
        self._dev.mkdir()
        self._dev.chmod(0o755)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._dev / "log"))
        (self._dev / "log").chmod(0o666)
        self._socket.setblocking(False)
        self.around = ("unshare", "-m", "sh", "-ec", OTHER_DEV, str(self._dev))

    def __enter__(self) -> SyslogDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def records(self) -> list[str]:
        """Those that have come since the last time."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return found
