"""The outside of one delivery request."""

from __future__ import annotations

import time

from postfix_trouble.client.smtp_connection import SmtpConnection
from postfix_trouble.client.tables import Tables
from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.hostname import IPV4, IPV6, address_family
from postfix_trouble.core.outcome import DSN, Skipped
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.tls import TlsPolicy
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.dns import nexthop
from postfix_trouble.dns.address_literal import find_server
from postfix_trouble.smtp import connect as smtp_connect
from postfix_trouble.smtp import connection as smtp_connection
from postfix_trouble.smtp import delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.client.connection_cache import Lease
    from postfix_trouble.client.interfaces import TlsReporter, Trace
    from postfix_trouble.client.tls_policy import TlsPolicies
    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.envelope import DeliveryRequest
    from postfix_trouble.core.outcome import Outcome, Report
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.tls import StsPolicy
    from postfix_trouble.dns.lookup import Answer
    from postfix_trouble.dns.resolver import Resolver
    from postfix_trouble.message.message import Message
    from postfix_trouble.message.stages import Stages
    from postfix_trouble.sasl.choose import Credentials
    from postfix_trouble.smtp.interfaces import Route, Wire
    from postfix_trouble.smtp.session import Kept
    from postfix_trouble.state import State
    from postfix_trouble.tls.kept import KeptTls

# Parameters that change the text of a message; the checks in the order of Tables.
_STAGE_TABLES = (
    "smtp_header_checks",
    "smtp_mime_header_checks",
    "smtp_nested_header_checks",
    "smtp_body_checks",
    "smtp_generic_maps",
)

_IPV4 = frozenset(("all", "ipv4"))
# inet_interfaces that name no address to send from.
_NO_SOURCE = (("all",), ("loopback-only",), ("localhost",), ("127.0.0.1",))

# Parameters that ask for TLS. Those that are on or off say "no" where they are off.
_TLS_TEXTS = ("smtp_tls_security_level", "smtp_tls_policy_maps", "smtp_tls_per_site")
_TLS_FLAGS = (
    "smtp_tls_wrappermode",
    "smtp_use_tls",
    "smtp_enforce_tls",
    "trouble_mta_sts",
)


class DeliveryContext(Tables):
    """The outside of one delivery request (smtp/interfaces.py)."""

    def __init__(
        self,
        settings: Settings,
        request: DeliveryRequest,
        message: Message,
        *,
        time_left: Callable[[], float],
        note: Callable[[str], None],
        on_outcomes: Callable[[tuple[Outcome, ...]], None] = lambda outcomes: None,
        on_final_dot: Callable[[bool], None] = lambda begun: None,
        state: State | None = None,
        abandoned: Callable[[], bool] = lambda: False,
        trace: Trace | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """What belongs to the request.

        `time_left`: seconds for all that is still to be done. `on_final_dot`: called
        with True once the final dot is out, with False once its outcome is recorded.
        `state`: where rejected log-ins and tokens are remembered. `abandoned`: the
        caller has gone, so the final dot must not be sent. `trace`: sees the dialogue.
        `credentials`: entered by a person, for any server.
        """
        super().__init__(settings, note)
        self.request = request
        self.message = message
        self.clock = time.time
        self.time_left = time_left
        self._on_outcomes = on_outcomes
        self.on_final_dot = on_final_dot
        self.state = state
        self.abandoned = abandoned
        #: Its MTA-STS policies are read, and that is all.
        self.policies_of: State | None = None
        # Connections that others left open, in a process that stays.
        self.lease: Lease | None = None
        self._trace = trace
        self._credentials = credentials
        self._resolver: Resolver | None = None
        self._tls_policies: TlsPolicies | None = None
        #: Who is told what becomes of TLS; None: nobody.
        self.tls_reports: TlsReporter | None = None

    def on_outcomes(self, outcomes: tuple[Outcome, ...]) -> None:
        """Recipients are finished, and that is known to whoever must know it."""
        self._on_outcomes(outcomes)

    # --- the message

    def stages(self, seven_bit: bool) -> Stages | None:
        """What is to be done to the message on its way; None if nothing is."""
        text = self.settings.text
        if not seven_bit and not any(map(text, _STAGE_TABLES)):
            return None
        from postfix_trouble.message.checks import Tables
        from postfix_trouble.message.stages import Stages

        def table(parameter: str) -> Callable[[str], str | None] | None:
            if not text(parameter):
                return None
            return lambda key: self.find(parameter, key)

        return Stages(
            Tables(*map(table, _STAGE_TABLES[:4])),
            self.rewrite if text("smtp_generic_maps") else None,
            seven_bit,
            self.settings.integer("mime_nesting_limit"),
            self.settings.integer("header_size_limit"),
            "lmtp" if self.request.lmtp else "smtp",
        )

    # --- finding servers

    def route(self, destination: Destination) -> Route:
        """Find the servers of a destination."""
        if not _IPV4.isdisjoint(self.settings.words("inet_protocols")):
            found = find_server(destination, self.settings.text("myhostname"))
            if found is not None:
                return found
        if self._trace is None:
            return self._name_service().route(destination)
        return self._trace.route(destination, self._name_service().route)

    def _name_service(self) -> Resolver:
        if self._resolver is None:
            self._resolver = self.new_resolver(self.time_left)
        return self._resolver

    def new_resolver(self, time_left: Callable[[], float]) -> Resolver:
        """One with a limit of its own, in seconds."""
        from postfix_trouble.dns.resolver import Resolver

        wanted = self.settings.text("smtp_dns_reply_filter")
        return Resolver(
            self.settings,
            time_left,
            self.note,
            lmtp=self.request.lmtp,
            loop_detection=not self.request.server_named,
            search_filter=self.filter_record if wanted else None,
            kept=None if self.lease is None else self.lease.replies,
        )

    def _query(self, name: str, kind: str) -> Answer:
        """Ask the DNS for more than the way to a server."""
        return self._name_service().query(name, kind)

    def tls_policy(self, destination: Destination, relay: Relay) -> TlsPolicy | Skipped:
        """The TLS policy for a server, or why it must be skipped."""
        if self._tls_policies is None:
            text, flag = self.settings.text, self.settings.flag
            wanted = any(map(text, _TLS_TEXTS)) or any(map(flag, _TLS_FLAGS))
            if not (wanted or self.request.requiretls):
                # Nobody asks for TLS: nothing of it is loaded.
                return TlsPolicy()
            from postfix_trouble.client.tls_policy import TlsPolicies

            self._tls_policies = TlsPolicies(
                self,
                self.request,
                self.message,
                query=self._query,
                sts=self._sts_policies() if flag("trouble_mta_sts") else None,
                kept=self.kept_tls,
                wanted=wanted,
            )
        return self._tls_policies.policy(destination, relay)

    def _sts_policies(self) -> Callable[[str], StsPolicy]:
        """Finds MTA-STS policies, and keeps them for others where there is a place."""
        from postfix_trouble.client import mta_sts

        memory: mta_sts.Memory = mta_sts.ProcessMemory()
        if self.policies_of:
            memory = mta_sts.ReadMemory(self.policies_of.sts_policies)
        elif self.state:
            memory = self.state.sts_policies
        elif self.lease is not None:
            memory = self.lease.sts
        return mta_sts.Policies(
            self.settings,
            memory,
            self.new_resolver,
            time_left=self.time_left,
            note=self.note,
        ).of

    def credentials(self, destination: Destination, relay: Relay) -> bool:
        """Whether a user name and password are known for this server."""
        return self.find_credentials(destination, relay) is not None

    @property
    def kept_tls(self) -> KeptTls | None:
        """What a process that stays keeps of TLS."""
        return None if self.lease is None else self.lease.tls

    def find_credentials(
        self, destination: Destination, relay: Relay
    ) -> Credentials | None:
        """The user name and password for a server. Raises TableError."""
        if self._credentials is not None:
            return self._credentials
        if not self.settings.flag("smtp_sasl_auth_enable"):
            return None
        from postfix_trouble.sasl import choose

        return choose.credentials(
            self.settings,
            destination,
            relay,
            self.request.sender,
            self.find,
            find_sender=self.find_sender,
        )

    def keeps(self, destination: Destination, relay: Relay, use: int) -> bool:
        """Whether the connection stays open after this use of it."""
        return self.lease is not None and self.lease.keeps(destination, use)

    def kept(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> tuple[SmtpConnection, Kept] | None:
        """A connection to this server that somebody left open. It may be dead."""
        if self.lease is None:
            return None
        found = self.lease.take(destination, relay, tls)
        if found is not None:
            found[0].adopt(self, relay)
        return found

    def kept_for_nexthop(
        self, destination: Destination
    ) -> tuple[SmtpConnection, Kept, Relay, TlsPolicy] | None:
        """A connection that somebody left open for the nexthop. It may be dead."""
        if self.lease is None:
            return None
        found = self.lease.take_for_nexthop(
            destination, lambda relay: self.tls_policy(destination, relay)
        )
        if found:
            found[0].adopt(self, found[2])
        return found

    def keep(self, wire: Wire, kept: Kept) -> None:
        """Leave the connection to others; keeps() has said so."""
        assert self.lease is not None
        assert isinstance(wire, SmtpConnection)
        self.lease.put(wire, kept)

    def nexthop_served(self) -> None:
        """The nexthop has a server that talks to us."""
        if self.lease is not None:
            self.lease.nexthop_served()

    def connect(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> Wire | DSN:
        """Open a connection, or say why not."""
        reports, policies = self.tls_reports, self._tls_policies
        if reports and policies and tls.level and not policies.optional():
            reports.prepare(destination)
        if self.lease is not None:
            self.lease.opens(destination, relay, tls)
        if self._trace is None:
            return self._connect(destination, relay, tls)
        return self._trace.connect(
            relay, lambda: self._connect(destination, relay, tls)
        )

    def _connect(
        self, destination: Destination, relay: Relay, tls: TlsPolicy
    ) -> SmtpConnection | DSN:
        source = self._source_address(relay)
        if isinstance(source, DSN):
            return source
        seconds = self.settings.seconds("smtp_connect_timeout")
        sock = smtp_connect.connect(
            relay,
            timeout=max(0.001, min(seconds or self.time_left(), self.time_left())),
            bind_address=source,
            bind_enforce=self.settings.flag("smtp_bind_address_enforce"),
            note=self.note,
        )
        if isinstance(sock, DSN):
            return sock
        limits = smtp_connection.TimeLimits(
            self.time_left,
            budgets=self.settings.flag("smtp_per_request_deadline"),
            min_rate=self.settings.integer("smtp_min_data_rate"),
        )
        filtered = bool(self.settings.text("smtp_reply_filter"))
        connection = smtp_connection.Connection(
            sock,
            relay,
            limits,
            line_limit=self.settings.integer("line_length_limit"),
            utf8=self.settings.flag("smtputf8_enable"),
            reply_filter=self.filter_reply if filtered else None,
            note=self.note,
            on_line=None if self._trace is None else self._trace.on_line,
        )
        return SmtpConnection(self, connection, destination, tls)

    def _source_address(self, relay: Relay) -> str | DSN:
        """Where a connection is to come from; empty: as the system has it."""
        sixth = ":" in relay.address
        name = "smtp_bind_address6" if sixth else "smtp_bind_address"
        given = self.settings.text(name).strip("[]")
        if given and not address_family(given):
            return _misconfigured(f"{name} = {given}: no address")
        if given or not relay.port:
            return given
        if self.settings.words("inet_interfaces") in _NO_SOURCE:
            # Nothing is loaded for what most have.
            return ""
        try:
            return self._name_service().source(IPV6 if sixth else IPV4)
        except ConfigError as problem:
            return _misconfigured(str(problem))

    # --- where to begin

    def destinations(self) -> tuple[Destination, ...] | DSN:
        """Where the request goes, or why nothing can be delivered at all."""
        why = self.unready()
        if why is not None or self.lease is None:
            return why or self._destinations()
        return self.lease.destinations(self._destinations)

    def _destinations(self) -> tuple[Destination, ...] | DSN:
        return nexthop.destinations(
            self.request.nexthop,
            fallback=self.settings.text("smtp_fallback_relay"),
            default_port=self.settings.text("smtp_tcp_port"),
            lmtp=self.request.lmtp,
            known_ports=self.settings.words("known_tcp_ports"),
            service_port=smtp_connect.service_port,
        )

    def unready(self) -> DSN | None:
        """Why nobody can be talked to: no name to say, no passwords to be had."""
        name = self.settings.text("smtp_helo_name")
        if not name or not name.isprintable() or " " in name:
            return DSN(EnhancedStatus("4.3.5"), f"bad smtp_helo_name: {name!r}")
        if self.settings.mentions("proxy:"):
            from postfix_trouble.tables import unreachable

            for name in self.settings.tables():
                if problem := unreachable(self.settings, name):
                    return _misconfigured(f"{name}: {problem}")
        typed = self._credentials is not None
        if typed or not self.settings.flag("smtp_sasl_auth_enable"):
            return None
        from postfix_trouble.sasl import log_in

        return log_in.unready(self.settings)


def _misconfigured(problem: str) -> DSN:
    text = f"mail system configuration error: {problem}"
    return DSN(EnhancedStatus("4.3.5"), text)


def deliver_request(context: DeliveryContext) -> Report:
    """Deliver one request: find its servers, try them, and say how it ended."""
    return delivery.deliver(
        context.request,
        context.destinations(),
        context.settings,
        context,
        context.status_filter(),
    )
