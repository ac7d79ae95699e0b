"""Find the servers of a destination (Postfix smtp_addr.c, smtp_connect_inet).

Postfix looks up the addresses of all mail exchangers before it connects to one. Here
the answers are the same, but what lies beyond the first server is looked up only when
somebody asks: most mail is taken by the first one.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.hostname import IPV4, IPV6, address_family
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination, Exchange, Relay
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.dns.lookup import Answer, Record, Result
from postfix_trouble.dns.nexthop import BadDestination
from postfix_trouble.dns.ordering import (
    MAX_ADDRESSES,
    balanced,
    by_family,
    by_weight,
    in_groups,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postfix_trouble.dns.interfaces import Lookups

_SMTP_PORT = 25


class Rules(Value):
    """The settings that decide where mail goes."""

    myhostname: str = "localhost"
    # Of an LMTP client: no MX look-up, no loop detection.
    lmtp: bool = False
    # Whether a host that is ourselves is a mistake.
    loop_detection: bool = True
    # IPV4, IPV6 or both.
    families: tuple[int, ...] = (IPV4, IPV6)
    # Ask the DNS at all (smtp_dns_support_level).
    dns: bool = True
    # Where host names are looked up (smtp_host_lookup).
    dns_hosts: bool = True
    native_hosts: bool = False
    ignore_mx_lookup_error: bool = False
    # smtp_defer_if_no_mx_address_found
    defer_if_no_mx_address: bool = False
    randomize: bool = True
    # IPV4, IPV6, or 0 for any.
    preferred_family: int = 0
    balance: bool = True
    # smtp_mx_address_limit; 0: none.
    address_limit: int = 5
    # use_srv_lookup
    srv_services: tuple[str, ...] = ()
    allow_srv_fallback: bool = False
    ignore_srv_error: bool = False
    # smtp_cname_overrides_servername
    cname_overrides: bool = False


class Servers:
    """The servers of one destination, in order (a smtp Route)."""

    def __init__(
        self,
        servers: Sequence[Relay] = (),
        failure: DSN | None = None,
        *,
        own: bool = False,
        rest: Callable[[Sequence[Relay]], tuple[list[Relay], bool]] | None = None,
    ) -> None:
        self._servers = list(servers)
        self._place = 0
        self._own = own
        # Makes the whole list of the part that is known, and tells if we are in it.
        self._rest = rest
        #: Why there is no server at all, else empty.
        self.failure = failure or DSN()
        #: MX and SRV hosts without an address, as far as was looked, each with why.
        self.addressless: list[tuple[Relay, DSN]] = []

    def next(self) -> Relay | None:
        """The next server, None after the last one."""
        if not self.more():
            return None
        self._place += 1
        return self._servers[self._place - 1]

    def more(self) -> bool:
        """Whether next() will find another one. May cost queries."""
        if self._place:
            self._complete()
        return self._place < len(self._servers)

    @property
    def last_resort(self) -> bool:
        """We are a mail exchanger for this destination, or mail to it loops.

        May cost queries: worth asking only when its servers have failed, and another
        destination follows.
        """
        self._complete()
        return self._own or self.failure.status.endswith(".4.6")

    def _complete(self) -> None:
        if self._rest:
            self._servers, self._own = self._rest(self._servers)
            self._rest = None


def unusable(problem: DSN) -> Servers:
    """A destination at which Postfix's client dies: none is tried after it."""
    return Servers(failure=problem, own=True)


def find_servers(destination: Destination, rules: Rules, lookups: Lookups) -> Servers:
    """Where to connect for a destination, or why there is nowhere to."""
    if isinstance(destination, BadDestination):
        return unusable(destination.problem)
    if destination.socket:
        return Servers([Relay(rules.myhostname, destination.socket, 0)])
    if not rules.families:
        reason = "all network protocols are disabled"
        return Servers(failure=DSN(EnhancedStatus("4.4.4"), reason))
    return _ServerSearch(destination, rules, lookups).run()


class _ServerSearch:
    """The look-ups for one destination, and the status that they leave behind."""

    def __init__(
        self, destination: Destination, rules: Rules, lookups: Lookups
    ) -> None:
        self._destination = destination
        self._rules = rules
        self._lookups = lookups
        self._loop_detection = destination.port == _SMTP_PORT and not rules.lmtp
        self._why = DSN()
        # The MX or SRV answer that hosts come from now.
        self._exchange: Exchange | None = None
        self._addressless: list[tuple[Relay, DSN]] = []

    def run(self) -> Servers:
        """Postfix smtp_connect_inet, the look-up part."""
        found = self._found()
        # The list grows when the hosts that are left are looked up.
        found.addressless = self._addressless
        return found

    def _found(self) -> Servers:
        destination = self._destination
        service = destination.service or str(destination.port)
        literal = destination.text.startswith("[")
        if self._rules.dns and not literal and service in self._rules.srv_services:
            return self._service(f"_{service}._tcp.{destination.host}")
        return self._plain()

    def _plain(self) -> Servers:
        """Without SRV."""
        if self._destination.no_mx or not self._rules.dns:
            return self._host()
        return self._domain()

    def _fail(self, status: str, reason: str) -> Servers:
        self._why = DSN(EnhancedStatus(status), reason)
        return Servers(failure=self._why)

    # Mail exchangers: smtp_domain_addr

    def _domain(self) -> Servers:
        domain = self._destination.host
        self._why = DSN()
        answer = self._lookups.query(domain, "MX")
        if answer.result is Result.NOT_FOUND:
            return self._host()
        if answer.result is Result.FOUND:
            return self._exchangers(domain, answer) or self._no_exchanger(domain)
        ignorable = answer.result in (Result.RETRY, Result.FAIL, Result.INVALID)
        if ignorable and self._rules.ignore_mx_lookup_error:
            return self._host()
        return self._fail(_STATUS[answer.result], answer.reason)

    def _no_exchanger(self, domain: str) -> Servers:
        if self._rules.defer_if_no_mx_address:
            self._why = self._why._replace(status=self._why.status.softened())
        self._lookups.note(
            f"warning: no MX host for {domain} has a valid address record"
        )
        return Servers(failure=self._why)

    def _exchangers(self, name: str, answer: Answer) -> Servers | None:
        """Servers of the best hosts that have addresses; None if none has any."""
        records = answer.records
        owners = dict.fromkeys((name, records[0].owner))
        self._exchange = Exchange(tuple(owners), answer.authentic)
        if records[0].kind == "SRV":
            records = tuple(by_weight(records, self._lookups.below))
        groups = in_groups(records)
        for place, group in enumerate(groups):
            found = self._group(group)
            if not found:
                continue
            if self._loops(found):
                # All that is no better than we are is of no use.
                return self._loop_failure(name, best=place == 0)
            later = groups[place + 1 :]
            return Servers(
                self._arranged(found, group),
                rest=lambda known: self._whole(known, later),  # noqa: B023 (the loop ends)
            )
        return None

    def _loop_failure(self, name: str, *, best: bool) -> Servers:
        if best:
            self._fail("5.4.6", f"mail for {name} loops back to myself")
        else:
            self._fail("4.4.4", f"unable to find primary relay for {name}")
        return unusable(self._why)

    def _whole(
        self, known: Sequence[Relay], groups: list[list[Record]]
    ) -> tuple[list[Relay], bool]:
        """All servers, and whether we are among the mail exchangers."""
        servers = list(known)
        for group in groups:
            found = [x._replace(best=False) for x in self._group(group)]
            if self._loops(found):
                return self._balanced(servers), True
            servers += self._arranged(found, group)
            if len(servers) >= MAX_ADDRESSES:
                break
        return self._balanced(servers), False

    def _group(self, group: list[Record]) -> list[Relay]:
        """Addresses of hosts of equal preference."""
        found: list[Relay] = []
        for record in group:
            port = record.port if record.kind == "SRV" else self._destination.port
            addresses = self._addresses(record.data, port, record.preference)
            found += addresses
            if not addresses:
                host = Relay(record.data, "", port, record.preference)
                host = host._replace(exchange=self._exchange)
                self._addressless.append((host, self._why))
            if len(found) >= MAX_ADDRESSES:
                break
        return found

    def _arranged(self, relays: list[Relay], group: list[Record]) -> list[Relay]:
        if group[0].kind == "SRV":
            # The weights have spoken.
            return relays
        if self._rules.randomize:
            relays = shuffled(relays, self._lookups.below)
        return by_family(relays, self._rules.preferred_family)

    def _balanced(self, relays: list[Relay]) -> list[Relay]:
        limit = self._rules.address_limit
        if limit and self._rules.balance:
            return balanced(relays, limit)
        return relays

    def _loops(self, relays: list[Relay]) -> bool:
        if not self._loop_detection:
            return False
        loops = any(self._lookups.own(x.address) for x in relays)
        if loops and not self._rules.loop_detection:
            self._lookups.note(
                f"{self._destination.host} is this machine: Postfix would say that"
                " mail loops back to myself; the server was named, so it is tried"
            )
            return False
        return loops

    # SRV: smtp_service_addr

    def _service(self, name: str) -> Servers:
        rules = self._rules
        fallback = rules.allow_srv_fallback
        answer = self._lookups.query(name, "SRV")
        if answer.result is Result.FOUND:
            found = self._exchangers(name, answer)
            if found is None:
                self._lookups.note(
                    f"warning: no SRV host for {name} has a valid address record"
                )
                found = Servers(failure=self._why)
        else:
            found = self._fail(_STATUS[answer.result], answer.reason)
            ignorable = answer.result in (Result.RETRY, Result.FAIL, Result.INVALID)
            fallback = fallback or (rules.ignore_srv_error and ignorable)
        if fallback and found.failure.reason:
            reason = found.failure.reason
            self._lookups.note(f"skipping SRV lookup for {name}: {reason}")
            return self._plain()
        return found

    # One host: smtp_host_addr, smtp_addr_one

    def _host(self) -> Servers:
        host = self._destination.host
        self._why, self._exchange = DSN(), None
        relays = self._addresses(host, self._destination.port)
        if not relays:
            return Servers(failure=self._why)
        if self._loops(relays):
            return self._fail("5.4.6", f"mail for {host} loops back to myself")
        if self._rules.randomize:
            relays = shuffled(relays, self._lookups.below)
        relays = by_family(relays, self._rules.preferred_family)
        return Servers(self._balanced(relays))

    def _addresses(self, host: str, port: int, preference: int = 0) -> list[Relay]:
        """Addresses of a host, in the order in which they came.

        A status is left behind if there are none; a soft one that is there already
        dominates.
        """
        relay = Relay(host, "", port, preference, exchange=self._exchange)
        if address_family(host) in self._rules.families:
            return [relay._replace(address=self._lookups.address_text(host))]
        if self._rules.dns and self._rules.dns_hosts:
            found, worst = self._dns_addresses(relay)
            if found:
                return found
            self._blame(worst)
            if worst.result is not Result.NOT_FOUND:
                return []
        if self._rules.native_hosts or not self._rules.dns:
            return self._native_addresses(relay)
        return []

    def _dns_addresses(self, relay: Relay) -> tuple[list[Relay], Answer]:
        """Addresses of all families, and the answer to blame if there are none."""
        found: list[Relay] = []
        worst = Answer(Result.NOT_FOUND)
        for family in self._rules.families:
            answer = self._lookups.query(relay.host, _KIND[family])
            if answer.result >= worst.result:
                worst = answer
            found += self._capped(relay, answer)
        return found, worst

    def _capped(self, relay: Relay, answer: Answer) -> list[Relay]:
        """The addresses that an answer names: no more than can possibly be tried."""
        records: Sequence[Record] = answer.records
        limit = max(5, self._rules.address_limit or MAX_ADDRESSES)
        if len(records) > limit and self._rules.randomize:
            records = shuffled(records, self._lookups.below)
        host = relay.host
        return [
            relay._replace(
                host=x.owner if self._rules.cname_overrides else host,
                address=x.data,
                authentic=answer.authentic,
                alias=() if x.owner.lower() == host.lower() else (host, x.owner),
            )
            for x in records[:limit]
        ]

    def _blame(self, answer: Answer) -> None:
        status = _STATUS[answer.result]
        if self._why.status.soft:
            status = "4" + status[1:]
        self._why = DSN(EnhancedStatus(status), answer.reason)

    def _native_addresses(self, relay: Relay) -> list[Relay]:
        host = relay.host
        answer = self._lookups.native(host)
        if answer.addresses:
            return [relay._replace(address=x) for x in answer.addresses]
        soft = self._why.status.soft
        if not answer.error:
            self._fail("4.4.4" if soft else "5.4.4", f"{host}: host not found")
            return []
        if soft or answer.soft:
            status = "4.4.4" if answer.unknown_name else "4.3.0"
        else:
            status = "5.4.4" if answer.unknown_name else "5.3.0"
        self._fail(status, f"unable to look up host {host}: {answer.error}")
        return []


_KIND = {IPV4: "A", IPV6: "AAAA"}

_STATUS = {
    Result.NOT_FOUND: "5.4.4",
    Result.FAIL: "5.4.3",
    Result.INVALID: "5.4.4",
    Result.RETRY: "4.4.3",
    Result.POLICY: "4.7.0",
    Result.NULL: "5.1.0",
}
