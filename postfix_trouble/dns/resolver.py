"""The name services: DNS queries, the system's own look-ups, our own addresses.

The policy of routing asks, this module answers, within a time limit. Nothing here is
loaded or opened before it is needed: a numeric destination costs no query, no file and
no import. Why no DNS library: dns/packet.py has the figures.
"""

from __future__ import annotations

import os
import time

from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.hostname import IPV4, IPV6
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.dns import system
from postfix_trouble.dns.lookup import Answer, NativeAnswer, Packet, Result
from postfix_trouble.dns.routing import Rules, Servers, find_servers, unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.dns.kept import KeptReplies
    from postfix_trouble.dns.nameservers import NameServers

_SMTPS_PORT = 465
_MAX_ALIASES = 10


class Resolver:
    """Finds the servers of destinations; the answers are kept for its lifetime.

    `deadline`: seconds that are left for the whole delivery. `search_filter` finds a
    record's text in smtp_dns_reply_filter (None: not there, Lost: can't be searched).
    Look-ups for one destination take no longer than trouble_resolver_time_limit
    together. `loop_detection`: whether mail may not go to this machine. `kept`: what
    name servers said before, in a process that stays. Raises ConfigError for wrong
    settings.
    """

    def __init__(
        self,
        settings: Settings,
        deadline: Callable[[], float],
        note: Callable[[str], None],
        *,
        lmtp: bool = False,
        loop_detection: bool = True,
        search_filter: Callable[[str], str | Lost | None] | None = None,
        resolv_conf: str = "/etc/resolv.conf",
        kept: KeptReplies | None = None,
    ) -> None:
        if settings.text("smtp_dns_reply_filter") and not search_filter:
            # Whoever sets a filter means it: not to be ignored.
            parameter = "smtp_dns_reply_filter"
            raise ConfigError(parameter, f"{parameter} is not supported here")
        self._settings = settings
        self._deadline = deadline
        self.note = note
        self._rules = _rules(settings, lmtp)._replace(loop_detection=loop_detection)
        self._search_filter = search_filter
        self._own: system.OwnAddresses | None = None
        self._resolv_conf = resolv_conf
        self._servers: NameServers | None = None
        self._kept = kept
        self._known: dict[tuple[str, str], Answer] = {}
        self._doubted = False
        # Seconds left for the current destination.
        self._budget = settings.seconds("trouble_resolver_time_limit")

    def route(self, destination: Destination) -> Servers:
        """The servers of a destination.

        A wrong setting that comes to light only here makes a destination without
        servers (4.3.5), no exception: others may have taken part of the mail already.
        """
        try:
            self._budget = self._settings.seconds("trouble_resolver_time_limit")
            self._warn(destination)
            return find_servers(destination, self._rules, self)
        except ConfigError as problem:
            reason = f"mail system configuration error: {problem}"
            return unusable(DSN(EnhancedStatus("4.3.5"), reason))

    def _warn(self, destination: Destination) -> None:
        """Say what is likely to be a mistake."""
        settings = self._settings
        if destination.socket and settings.text("smtp_fallback_relay"):
            relays = settings.text("smtp_fallback_relay")
            self.note(
                f'warning: ignoring "lmtp_fallback_relay = {relays}" setting'
                " for non-TCP connections"
            )
        if (
            destination.port == _SMTPS_PORT
            and not settings.flag("smtp_tls_wrappermode")
            and settings.flag("helpful_warnings")
        ):
            name = "lmtp" if self._rules.lmtp else "smtp"
            self.note(
                "SMTPS wrappermode (TCP port 465) requires setting"
                f' "{name}_tls_wrappermode = yes", and'
                f' "{name}_tls_security_level = encrypt" (or stronger)'
            )

    # What dns/routing.py asks for (Lookups)

    def query(self, name: str, kind: str) -> Answer:
        """Ask the DNS for records of a name: MX, A, AAAA, SRV, TLSA, CNAME, TXT."""
        key = (name.lower(), kind)
        if key not in self._known:
            self._known[key] = self._searched(name, kind)
        return self._known[key]

    def native(self, host: str) -> NativeAnswer:
        """Ask the system (/etc/hosts, and whatever else nsswitch.conf names)."""
        start = time.monotonic()
        answer = system.look_up(host, self._rules.families, self._left())
        self._budget -= time.monotonic() - start
        return answer

    def own(self, address: str) -> bool:
        """Whether we receive mail at an address (inet_interfaces, proxy_interfaces)."""
        return address in self._own_addresses()

    def source(self, family: int) -> str:
        """Where connections come from; empty: as the system has it.

        A machine that receives mail at one address sends from it, too (Postfix
        smtp_connect_addr). Raises ConfigError.
        """
        return self._own_addresses().only(family)

    def _own_addresses(self) -> system.OwnAddresses:
        if self._own is None:
            self._own = system.OwnAddresses(self._settings, self.native)
        return self._own

    def address_text(self, address: str) -> str:
        """The usual form of a numeric address."""
        return system.address_text(address)

    def below(self, limit: int) -> int:
        """A random number. (The random module would be one more import.)"""
        return int.from_bytes(os.urandom(8), "big") % limit

    # Queries

    def _left(self) -> float:
        """Seconds that a look-up may take now."""
        return max(0.0, min(self._budget, self._deadline()))

    def _searched(self, name: str, kind: str) -> Answer:
        """The answer for a name, or for what the search list makes of it."""
        failure = None
        for candidate in self._candidates(name, kind):
            answer = self._aliased(candidate, kind)
            if answer.result is Result.FOUND:
                return answer
            if answer.result is not Result.NOT_FOUND or failure is None:
                reason = answer.reason.replace(f"={candidate} ", f"={name} ")
                failure = answer._replace(reason=reason)
            if answer.result is not Result.NOT_FOUND:
                break
        return failure or self._aliased(name, kind)

    def _candidates(self, name: str, kind: str) -> Iterator[str]:
        """res_search(3), as far as smtp_dns_resolver_options allows."""
        options = self._settings.words("smtp_dns_resolver_options")
        if not options or kind not in ("A", "AAAA"):
            yield name
            return
        conf = self._name_servers().conf
        dots = name.count(".")
        if dots >= conf.ndots:
            yield name
        if "res_dnsrch" in options:
            yield from (f"{name}.{x}" for x in conf.search)
        elif not dots:
            yield from (f"{name}.{x}" for x in conf.search[:1])
        if dots < conf.ndots:
            yield name

    def _aliased(self, name: str, kind: str) -> Answer:
        """Follow aliases to the records, and apply the filter."""
        from postfix_trouble.dns.answers import (
            Alias,
            endless,
            filtered,
            interpret,
            is_odd,
            unreachable,
            unspeakable,
        )

        refused = unspeakable(name, kind)
        if refused:
            return refused
        authentic, odd = True, False
        for _ in range(_MAX_ALIASES):
            packet = self._ask(name, kind)
            if packet is None:
                return unreachable(name, kind)
            authentic = authentic and packet.authentic
            odd = odd or is_odd(packet, name, kind)
            answer = interpret(packet, name, kind, self.note)
            if isinstance(answer, Alias):
                name = answer
                continue
            answer = answer._replace(authentic=authentic)
            if odd and answer.result is Result.NOT_FOUND:
                # Nothing is returned for a muddle in the name service.
                return answer._replace(result=Result.RETRY)
            if self._search_filter and answer.records:
                return filtered(answer, name, kind, self._search_filter, self.note)
            return answer
        return endless(name)

    def _ask(self, name: str, kind: str) -> Packet | None:
        """A server's reply; None if none of them gave a useful one in time."""
        if self._kept is not None:
            found = self._kept.find((name.lower(), kind))
            if found is not None:
                return found
        servers = self._name_servers()
        start = time.monotonic()
        try:
            packet = servers.ask(name, kind, self._left)
            if self._kept is not None and packet is not None:
                self._kept.keep((name.lower(), kind), packet)
            return packet
        finally:
            self._budget -= time.monotonic() - start
            self._doubt(servers.doubted)

    def _doubt(self, server: str) -> None:
        """Say once why DNSSEC is of no use. (Postfix believes any name server.)"""
        if server and not self._doubted:
            self._doubted = True
            self.note(
                f"warning: name server {server} is not on this machine: what it says"
                ' of DNSSEC is not believed without "options trust-ad" in resolv.conf'
            )

    def _name_servers(self) -> NameServers:
        if self._servers is None:
            from postfix_trouble.dns.nameservers import NameServers

            level = self._settings.text("smtp_dns_support_level")
            own = self._settings.text("trouble_nameserver")
            self._servers = NameServers(
                self._resolv_conf, own, dnssec=level == "dnssec", below=self.below
            )
        return self._servers


def _rules(settings: Settings, lmtp: bool) -> Rules:
    level = settings.text("smtp_dns_support_level")
    disabled = (
        settings.flag("disable_dns_lookups") if not level else level == "disabled"
    )
    hosts = settings.words("smtp_host_lookup")
    preference = settings.text("smtp_address_preference")
    return Rules(
        myhostname=settings.text("myhostname"),
        lmtp=lmtp,
        families=system.enabled_families(settings.words("inet_protocols")),
        dns=not disabled,
        dns_hosts="dns" in hosts,
        native_hosts="native" in hosts,
        ignore_mx_lookup_error=settings.flag("ignore_mx_lookup_error"),
        defer_if_no_mx_address=settings.flag("smtp_defer_if_no_mx_address_found"),
        randomize=settings.flag("smtp_randomize_addresses"),
        preferred_family={"ipv4": IPV4, "ipv6": IPV6}.get(preference, 0),
        balance=settings.flag("smtp_balance_inet_protocols"),
        address_limit=settings.integer("smtp_mx_address_limit"),
        srv_services=settings.words("use_srv_lookup"),
        allow_srv_fallback=settings.flag("allow_srv_lookup_fallback"),
        ignore_srv_error=settings.flag("ignore_srv_lookup_error"),
        cname_overrides=settings.flag("smtp_cname_overrides_servername"),
    )
