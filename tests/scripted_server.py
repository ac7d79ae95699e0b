"""A mail server that does what a script says, for every kind of trouble.

    with ScriptedServer({"stages": {"rcpt": "450 4.2.0 greylisted"}}) as server:
        ... deliver to [127.0.0.1]:server.port ...
    assert server.connections[0].commands[-1] == "QUIT"

One script is played per connection, the last one again and again. A script is a dict:

    host                name in the greeting and in the reply to EHLO
    keywords            of the EHLO reply; keywords_after_tls: those after STARTTLS
    tls                 cert (see certificates.py), chain (more of them, sent along),
                        handshake (close, reset, hang or garbage), wrapper, max_version,
                        sni (record the name asked for), resume (sessions may be
                        resumed: <TLS resumed>), ask (for a certificate signed by ca)
    stages              what happens at a stage; success where nothing is said
    stall_seconds       how long "stall" lasts
    line_end            where lines end, as this server sees it (bytes); what came is
                        in `octets`
    socketmap           no mail server, but a look-up table: request to reply, or to
                        what happens; anything else is not found

Stages: connect (before the greeting), banner, ehlo, helo, lhlo, ehlo-after-tls,
helo-after-tls, starttls, auth, mail, rcpt, rcpt#N (the N-th of the transaction),
rcpt:ADDRESS, data, body (after the first bytes of the message), eod (LMTP: also eod#N,
eod:ADDRESS), rset, noop, quit, other verbs in lower case, unknown.

What happens is a reply (text; LF becomes CRLF, the last one is added), a list with one
entry for each time, or a dict: one of reply, raw (exact text), hex, or repeat with
times; delay (seconds before it, or a function that waits), drip (seconds between
bytes); then (or action) how it ends: close (orderly), reset, hang (no more answers),
stall (no more reading). For auth also {"challenge": True, "final": REPLY}: the dialogue
of the mechanism comes first.
"""

from __future__ import annotations

import socket
import ssl

from servers.dialogue import KEYWORDS, Connection, Script
from servers.listener import Listener

__all__ = ["KEYWORDS", "Connection", "Script", "ScriptedServer"]


class ScriptedServer(Listener):
    """Plays its scripts, and tells what its clients did."""

    def __init__(
        self,
        *scripts: Script,
        listen: str = "127.0.0.1:0",
        lmtp: bool = False,
        certificates: str = "",
    ) -> None:
        super().__init__(listen)
        self.scripts = scripts or ({},)
        self.lmtp = lmtp
        self.certificates = certificates
        self._connections: list[Connection] = []
        self._contexts: dict[str, ssl.SSLContext] = {}

    @property
    def connections(self) -> list[Connection]:
        """All that were made."""
        self._turn.settle()
        return self._connections

    def stop(self, patience: float = 3.0) -> list[Connection]:
        """No more connections; seconds for those that are left to end by themselves."""
        super().stop(patience)
        return self._connections

    def begin(self, peer: socket.socket) -> Connection:
        """The next script, or the last one again."""
        script = self.scripts[min(len(self._connections), len(self.scripts) - 1)]
        connection = Connection(
            script, peer, self.lmtp, self.certificates, self._contexts
        )
        self._connections.append(connection)
        return connection
