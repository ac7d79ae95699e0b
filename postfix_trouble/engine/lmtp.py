"""lmtp(8) served by the engine, on a socket of its own.

Its mail goes by the same delivery services: with the options of a `deliver` entry it
shares its connections, sessions, replies of name servers and state directory.
"""

from __future__ import annotations

import os
import signal
import threading

from postfix_trouble.config.settings import ConfigError
from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.lmtp import listener
from postfix_trouble.lmtp.command import client_of
from postfix_trouble.lmtp.delivery import LmtpService
from postfix_trouble.pipe.options import UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from postfix_trouble.engine.delivery import Services
    from postfix_trouble.pipe.options import CommandLine


class LmtpSide:
    """Serves clients in threads of its own."""

    def __init__(
        self,
        listeners: list[listener.Listener],
        services: Services,
        line: CommandLine,
        *,
        most: int,
        note: Callable[[str], None],
    ) -> None:
        """`line`: the options that say how to deliver. `most`: clients at once."""
        self._listeners = listeners
        self._services = services
        self._line = line
        self._most = most
        self._note = note
        # As long as the options mean the same.
        self._last: LmtpService | None = None
        self._stop = listener.Stop()
        self._thread = threading.Thread(target=self._run)

    def service(self) -> LmtpService:
        """The service of now. Raises ConfigError, UsageError."""
        log, service = self._services.entry(self._line)
        found = self._last
        if found is None or found.service is not service:
            settings = service.settings
            settings.refuse_unusable()
            nexthop = self._line.value("--nexthop")
            found = LmtpService(settings, log, nexthop=nexthop, service=service)
            self._last = found
        return found

    def start(self) -> None:
        """Begin to accept."""
        where = self._line.value("--lmtp-listen") or "a socket of the service manager"
        self._note(f"engine: lmtp(8) is served on {where}")
        self._thread.start()

    def drain(self) -> None:
        """Accept no more; what is under way ends."""
        self._stop.set()

    def join(self) -> None:
        """Wait until all clients have gone, after drain()."""
        self._thread.join()

    def _run(self) -> None:
        try:
            listener.accept_all(
                self._listeners,
                self._serve,
                self._stop,
                most=self._most,
                note=self._note,
            )
        except Exception as bug:  # noqa: BLE001  half an engine is none
            warn(self._note, "LMTP", bug)
            os.kill(os.getpid(), signal.SIGTERM)

    def _serve(self, client: socket.socket) -> None:
        try:
            self.service()
        except (ConfigError, UsageError) as problem:
            self._note(f"fatal: {problem}")
            client.sendall(b"421 4.3.5 Mail system configuration error\r\n")
            return
        client_of(self.service, self._stop)(client)
