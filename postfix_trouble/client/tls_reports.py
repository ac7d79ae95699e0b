"""Results of TLS for those domains that ask for reports (TLSRPT, RFC 8460).

Loaded where smtp_tlsrpt_enable says so. A reporter (tlsrpt-collectd) reads the socket
that Postfix 3.10 writes to. What goes wrong here is a line in the log, and no more: a
datagram is sent without waiting, long before the message.
"""

from __future__ import annotations

import os
import socket
import time

from postfix_trouble.core.hostname import hostname_problem, idn_to_ascii
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.dns.lookup import Result
from postfix_trouble.tls import tlsrpt

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.steps import TlsResult
    from postfix_trouble.core.tls import TlsPolicy
    from postfix_trouble.dns.resolver import Resolver

# Seconds for the TXT record, at most. The mail can't wait for long.
_MOST_SECONDS = 5.0


class TlsReports:
    """What one delivery request has to tell; each domain is asked once."""

    def __init__(
        self,
        settings: Settings,
        resolver: Callable[[Callable[[], float]], Resolver],
        *,
        time_left: Callable[[], float],
        note: Callable[[str], None],
    ) -> None:
        """What belongs to the request.

        `resolver`: makes one that keeps to a limit, so that the time for finding
        servers stays what it is.
        """
        self._settings = settings
        self._resolver = resolver
        self._time_left = time_left
        self._note = note
        # By domain; empty: nobody asks for reports.
        self._records: dict[str, str] = {}

    def prepare(self, destination: Destination) -> None:
        """Find out whether a domain asks for reports, before we connect for it."""
        domain = self._domain(destination)
        if domain and domain not in self._records:
            try:
                self._records[domain] = self._record(domain)
            except Exception as problem:  # noqa: BLE001  the mail goes on
                self._records[domain] = ""
                self._failed(problem)

    def tell(
        self,
        destination: Destination,
        relay: Relay,
        policy: TlsPolicy,
        result: TlsResult,
        our_address: str,
    ) -> None:
        """Tell what became of TLS on a connection, if somebody wants to know."""
        try:
            domain = self._domain(destination)
            if self._skipped(result) or not (record := self._records.get(domain)):
                return
            session = tlsrpt.Session(domain, record, relay, our_address)
            self._note(tlsrpt.log_record(session, result))
            self._send(tlsrpt.datagram(session, policy, result))
        except Exception as problem:  # noqa: BLE001  as above
            self._failed(problem)

    def _skipped(self, result: TlsResult) -> bool:
        skip = "smtp_tlsrpt_skip_reused_handshakes"
        return result.resumed and self._settings.flag(skip)

    def _domain(self, destination: Destination) -> str:
        """Who may want reports, in A-label form; empty: nobody."""
        domain = idn_to_ascii(destination.host).lower().removesuffix(".")
        return "" if not domain or hostname_problem(domain) else domain

    def _record(self, domain: str) -> str:
        end = time.monotonic() + min(_MOST_SECONDS, self._time_left() / 4)
        resolver = self._resolver(lambda: end - time.monotonic())
        answer = resolver.query(f"_smtp._tls.{domain}", "TXT")
        if answer.result in (Result.NOT_FOUND, Result.POLICY):
            return ""
        problem = answer.reason
        record = ""
        if answer.result is Result.FOUND:
            record, problem = tlsrpt.record_of(x.data for x in answer.records)
        if problem:
            self._note(f"warning: TLSRPT support: {domain}: {problem}")
        return record

    def _send(self, datagram: bytes) -> None:
        """One datagram, at once or not at all."""
        path = os.path.join(
            self._settings.text("queue_directory"),
            self._settings.text("smtp_tlsrpt_socket_name"),
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(datagram, path)

    def _failed(self, problem: Exception) -> None:
        why = getattr(problem, "strerror", None) or str(problem)
        self._note(f"warning: could not report TLS result to TLSRPT: {why}")
