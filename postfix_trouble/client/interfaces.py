"""What a connection and a log-in ask of the delivery that they serve.

Protocols, for type checkers: DeliveryContext is that delivery.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.envelope import DeliveryRequest
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.steps import TlsResult
from postfix_trouble.core.tls import TlsPolicy
from postfix_trouble.message.message import Message
from postfix_trouble.message.stages import Stages
from postfix_trouble.sasl.choose import Credentials
from postfix_trouble.smtp.interfaces import Route, Wire
from postfix_trouble.state import State
from postfix_trouble.tls.kept import KeptTls


class RunningDelivery(Protocol):
    """One delivery request under way."""

    settings: Settings
    request: DeliveryRequest
    message: Message
    #: Seconds that are left for all of it.
    time_left: Callable[[], float]
    #: Takes log records about the request.
    note: Callable[[str], None]
    #: Is told whether the final dot is out, and what comes of it not written down.
    on_final_dot: Callable[[bool], None]
    #: Asked right before the dot: whether nobody waits for the outcome.
    abandoned: Callable[[], bool]
    state: State | None
    #: Who is told what became of TLS; None: nobody.
    tls_reports: TlsReporter | None

    @property
    def kept_tls(self) -> KeptTls | None:
        """What a process that stays keeps of TLS."""

    def find(self, parameter: str, key: str, fold: bool = False) -> str | None:
        """Search the tables that a parameter names. Raises TableError."""

    def find_credentials(
        self, destination: Destination, relay: Relay
    ) -> Credentials | None:
        """The user name and password for a server. Raises TableError."""

    def stages(self, seven_bit: bool) -> Stages | None:
        """What is to be done to the message on its way; None if nothing is."""


class TlsReporter(Protocol):
    """Is told what became of TLS, for those who want to know (tls_reports.py)."""

    def prepare(self, destination: Destination) -> None:
        """A connection to one of its servers is to be made."""

    def tell(
        self,
        destination: Destination,
        relay: Relay,
        policy: TlsPolicy,
        result: TlsResult,
        our_address: str,
    ) -> None:
        """A connection has come to a result. Raises nothing."""


class Trace(Protocol):
    """Is told what happens in a delivery, and decides nothing."""

    def on_line(self, direction: str, line: str) -> None:
        """A line of the dialogue came or went, secrets masked."""

    def route(
        self, destination: Destination, find: Callable[[Destination], Route]
    ) -> Route:
        """Have the servers of a destination found."""

    def connect(self, relay: Relay, connect: Callable[[], Wire | DSN]) -> Wire | DSN:
        """Have a connection made."""
