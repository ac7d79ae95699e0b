"""From destinations to outcomes, after Postfix smtp_connect_inet.

Destinations in order, for each its servers in order, until nobody is left. A server is
final when no other one will be tried for this request; whether it is may cost look-ups
and matters only once something has failed, so it is asked for only then.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.outcome import DSN, Report, Situation, Skipped
from postfix_trouble.core.tls import TlsLevel, TlsStatus
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.policy import trouble
from postfix_trouble.smtp.handshake import handshake
from postfix_trouble.smtp.recipients import Panic, RecipientState
from postfix_trouble.smtp.session import Kept, Session
from postfix_trouble.smtp.transaction import probe, transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.envelope import DeliveryRequest
    from postfix_trouble.core.outcome import ServerRecord
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.tls import TlsPolicy
    from postfix_trouble.smtp.interfaces import DeliveryEnvironment, Wire
    from postfix_trouble.smtp.session import Script


def deliver(
    request: DeliveryRequest,
    destinations: tuple[Destination, ...] | DSN,
    settings: Settings,
    outside: DeliveryEnvironment,
    status_filter: Callable[[str], str | None] | None = None,
) -> Report:
    """Try to deliver to every recipient; there is an outcome for each in the report.

    `destinations` is a DSN when the nexthop could not be understood. `status_filter`
    is smtp_delivery_status_filter. What goes wrong when somebody has the message
    already is a warning, and the others are deferred; before that it is raised.
    """
    rules = trouble.OutcomeRules(
        settings.flag("soft_bounce"), status_filter, outside.note
    )
    attempt = RecipientState(
        request, rules, outside.clock, outside.on_outcomes, outside.note
    )
    servers: list[ServerRecord] = []
    try:
        _try_all(attempt, destinations, settings, outside, servers)
        return _report(attempt, servers)
    except Exception as problem:
        if not attempt.outcomes:
            raise
        attempt.break_off(problem)
        return _report(attempt, servers)


def _try_all(
    attempt: RecipientState,
    destinations: tuple[Destination, ...] | DSN,
    settings: Settings,
    outside: DeliveryEnvironment,
    servers: list[ServerRecord],
) -> None:
    """Try destinations until everybody has an outcome."""
    destination = None
    if isinstance(destinations, DSN):
        attempt.why = destinations
        destinations = ()
    for count, destination in enumerate(destinations, 1):
        last = count == len(destinations)
        visit = _Visit(attempt, settings, outside, destination, last, servers)
        if visit.run():
            break
    if attempt.unmarked:
        _give_up(attempt, settings, outside, destinations, destination)


def _report(attempt: RecipientState, servers: list[ServerRecord]) -> Report:
    if len(attempt.outcomes) != len(attempt.request.recipients):
        raise Panic("not every recipient has an outcome")
    return Report(
        attempt.request,
        tuple(sorted(attempt.outcomes, key=lambda end: end.recipient.position)),
        tuple(attempt.skipped),
        attempt.throttled,
        tuple(servers),
        verdicts=tuple(attempt.verdicts),
    )


def _give_up(
    attempt: RecipientState,
    settings: Settings,
    outside: DeliveryEnvironment,
    destinations: tuple[Destination, ...],
    current: Destination | None,
) -> None:
    """Nobody is left to try: what was heard last is the reason."""
    lmtp = attempt.request.lmtp
    relayhost = settings.text("relayhost")
    first = [destination.text for destination in destinations[:1]]
    why, warning = trouble.left_over(
        attempt.why,
        fallback=current is not None and current.fallback,
        relayhost=not lmtp and relayhost in first,
        loop_transport="" if lmtp else settings.text("best_mx_transport"),
    )
    if warning:
        outside.note(warning)
    # soft_bounce matters to the policy only where another server may follow.
    now = Situation(final_server=True, complete=attempt.complete)
    attempt.fail_all(trouble.sess_fail(now, why), None)


class _Visit:
    """The servers of one destination, tried in order."""

    def __init__(
        self,
        attempt: RecipientState,
        settings: Settings,
        outside: DeliveryEnvironment,
        destination: Destination,
        last: bool,
        servers: list[ServerRecord],
    ) -> None:
        self.attempt = attempt
        self.settings = settings
        self.outside = outside
        self.destination = destination
        self.last = last
        self.servers = servers
        self.addresses = 0
        self.sessions = 0
        # A server that was found and not tried yet.
        self.ahead: Relay | None = None
        # Servers whose kept connection was used.
        self.used = {_place(each.relay) for each in servers if each.reused}

    def run(self) -> bool:
        """Try them. True if no other destination may be tried after this one."""
        route = self.route = self.outside.route(self.destination)
        self.ahead = route.next()
        # Why there is no server; empty if there is one.
        self.attempt.why = route.failure
        if self.ahead is not None:
            self._use_kept()
        plaintext = False
        relay = self._next()
        while relay is not None:
            self.addresses += 1
            plaintext = self._try(relay, plaintext)
            if plaintext:
                # Once more the same address, and neither attempt counts twice.
                self.addresses -= 1
            else:
                relay = self._next()
        # Whether others may follow can cost look-ups; with nobody left it is no matter.
        return self.last or not self.attempt.unmarked or route.last_resort

    def _next(self) -> Relay | None:
        """The next server. It may cost a look-up, so only where it will be tried."""
        if not self.attempt.unmarked or self._limit_reached():
            return None
        self._skip_used()
        relay, self.ahead = self.ahead or self.route.next(), None
        return relay

    def _skip_used(self) -> None:
        """No server follows whose kept connection was used (smtp_update_addr_list)."""
        while self.used:
            self.ahead = self.ahead or self.route.next()
            if self.ahead is None or _place(self.ahead) not in self.used:
                break
            self.ahead = None

    def _use_kept(self) -> None:
        """The connection of the nexthop comes before all servers (smtp_reuse_session).

        It may be to a backup, and is used on while better ones are in trouble.
        """
        found = self.outside.kept_for_nexthop(self.destination)
        if found is None:
            return
        wire, kept, relay, policy = found
        session = self._resumed(relay, policy, wire, kept)
        if session is not None:
            self.attempt.tls = TlsStatus()
            self.used.add(_place(relay))
            self.addresses += 1
            self._run(session, wire, reused=True)

    def _limit_reached(self) -> bool:
        """No server follows, whether there is one or not."""
        addresses = self.settings.integer("smtp_mx_address_limit")
        sessions = self.settings.integer("smtp_mx_session_limit")
        return (0 < addresses <= self.addresses) or (0 < sessions <= self.sessions)

    def _final_server(self) -> bool:
        if not self._limit_reached():
            self._skip_used()
            if self.ahead is not None or self.route.more():
                return False
        return self.last or self.route.last_resort

    def _try(self, relay: Relay, plaintext: bool) -> bool:
        """Try one server. True if it is to be tried again without TLS."""
        policy = self.outside.tls_policy(self.destination, relay)
        if isinstance(policy, Skipped):
            self.attempt.tls = policy.tls
            if policy.why.status:
                self.attempt.why = policy.why
            return False
        self.attempt.tls = policy.status
        if plaintext:
            policy = policy._replace(level=TlsLevel.NONE)
        kept = self._kept(relay, policy)
        if kept is not None:
            # As Postfix, which takes those to the best servers before any other.
            return self._run(*kept, reused=True) and not relay.best
        found = self.outside.connect(self.destination, relay, policy)
        if isinstance(found, DSN):
            self._not_connected(found)
            return False
        return self._run(self._session(relay, policy), found, reused=False)

    def _kept(self, relay: Relay, policy: TlsPolicy) -> tuple[Session, Wire] | None:
        """A connection that was kept open and is still good. Nobody hears of others."""
        found = self.outside.kept(self.destination, relay, policy)
        if found is None:
            return None
        session = self._resumed(relay, policy, *found)
        return None if session is None else (session, found[0])

    def _resumed(
        self, relay: Relay, policy: TlsPolicy, wire: Wire, kept: Kept
    ) -> Session | None:
        """A session over a kept connection, if that is still alive."""
        session = self._session(relay, policy)
        session.resume(kept)
        if _play(wire, probe(session)):
            return session
        wire.close()
        return None

    def _not_connected(self, why: DSN) -> None:
        self.attempt.why = why
        if why.status == "4.4.1":
            self.attempt.skip(why.reason)
        else:
            # It was not the server that failed.
            self.outside.note(why.reason)

    def _run(self, session: Session, wire: Wire, *, reused: bool) -> bool:
        """One session. True if the server is to be tried again without TLS."""
        counted = reused
        keeping = False
        try:
            counted = counted or _play(wire, handshake(session))
            self.sessions += counted
            if counted:
                session.keeping = session.reusable and self.outside.keeps(
                    self.destination, session.relay, session.use
                )
                _play(wire, transaction(session))
                keeping = session.keeping and session.reusable and not session.broken
            else:
                _play(wire, session.quit())
        finally:
            if not keeping:
                wire.close()
        record = wire.record()
        errors = tuple(sorted(session.errors.union(record.errors)))
        self.servers.append(
            record._replace(tls=session.tls, errors=errors, reused=reused)
        )
        if keeping:
            kept = Kept(session.capabilities, session.tls, session.use)
            self.outside.keep(wire, kept)
        # Before 3.11 also one that was lost in the middle of a transaction.
        if not session.failed or (counted and self.settings.follows("3.11")):
            self.outside.nexthop_served()
        self.attempt.end_session()
        if session.retry_plaintext:
            self.sessions -= counted
        return session.retry_plaintext

    def _session(self, relay: Relay, policy: TlsPolicy) -> Session:
        return Session(
            self.attempt,
            self.settings,
            self.destination,
            relay,
            policy,
            final_server=self._final_server,
            has_password=lambda: self.outside.credentials(self.destination, relay),
            rewrite=self.outside.rewrite,
        )


def _place(relay: Relay) -> tuple[str, int]:
    return relay.address, relay.port


def _play(wire: Wire, script: Script[Any]) -> Any:
    """Have the wire carry out a script, step by step. What the script returns.

    What the wire raises is raised in the script, which may know better.
    """
    try:
        step = next(script)
        while True:
            try:
                answer = wire.play(step)
            except Exception as problem:  # noqa: BLE001  most scripts pass it on
                step = script.throw(problem)
            else:
                step = script.send(answer)
    except StopIteration as end:
        return end.value
