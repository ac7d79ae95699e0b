"""MTA-STS policies of domains: looked up, fetched, and kept as long as they hold."""

from __future__ import annotations

import time
from _thread import allocate_lock

from postfix_trouble.core.hostname import IPV4, IPV6
from postfix_trouble.core.tls import StsPolicy
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.dns.lookup import Result
from postfix_trouble.dns.system import enabled_families
from postfix_trouble.tls import mta_sts
from postfix_trouble.tls.mta_sts import Cached, NoPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.dns.lookup import Answer
    from postfix_trouble.dns.resolver import Resolver

    class Memory(Protocol):
        """Where policies are kept: the state directory or this process."""

        def get(self, domain: str) -> str:
            """What put() was told, else empty."""

        def put(self, domain: str, text: str, expires: float, now: float) -> None:
            """Keep it until then."""


# Domains that a process remembers at most; beyond that, the oldest are forgotten.
_MOST = 10_000


class ProcessMemory:
    """Policies in a process that stays. Used by several threads."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, float]] = {}
        self._lock = allocate_lock()

    def get(self, domain: str) -> str:
        """What put() was told, else empty."""
        with self._lock:
            return self._known.get(domain, ("", 0.0))[0]

    def put(self, domain: str, text: str, expires: float, now: float) -> None:
        """Keep it until then."""
        with self._lock:
            known = self._known
            known.pop(domain, None)
            if len(known) >= _MOST:
                for old in [x for x, (_, end) in known.items() if end < now]:
                    del known[old]
            if len(known) >= _MOST:
                del known[next(iter(known))]
            known[domain] = text, expires


class ReadMemory(ProcessMemory):
    """Policies that others keep: they are read, and what is new is not told them."""

    def __init__(self, kept: Memory) -> None:
        super().__init__()
        self._kept = kept

    def get(self, domain: str) -> str:
        """The policy as this process knows it, or they."""
        return super().get(domain) or self._kept.get(domain)


class Policies:
    """Finds policies for one delivery request; each domain is looked at once."""

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        resolver: Callable[[Callable[[], float]], Resolver],
        *,
        time_left: Callable[[], float],
        note: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        port: int = 443,
    ) -> None:
        """`resolver`: makes one that keeps to a limit; it is not that for the servers,
        whose time is not ours to spend. `time_left`: seconds for the whole request.
        `clock`: seconds since 1970. `port`: of web servers.
        """
        self._settings = settings
        self._memory = memory
        self._resolver = resolver
        self._time_left = time_left
        self._note = note
        self._clock = clock
        self._port = port
        self._found: dict[str, StsPolicy] = {}

    def of(self, domain: str) -> StsPolicy:
        """The policy that is in force for a domain (A-label form), or why none is."""
        domain = domain.lower().removesuffix(".")
        if domain not in self._found:
            self._found[domain] = self._look_up(domain)
        return self._found[domain]

    def _look_up(self, domain: str) -> StsPolicy:
        level = self._settings.text("smtp_dns_support_level")
        if level == "disabled" or self._settings.flag("disable_dns_lookups"):
            return StsPolicy(domain, problem="the DNS is not asked (main.cf)")
        now = self._clock()
        known = mta_sts.unpacked(domain, self._memory.get(domain))
        if known.rests(now):
            text = "no policy could be had a few minutes ago"
            return _in_force(domain, known, now, NoPolicy(text, mta_sts.NOT_FETCHED))
        end = time.monotonic() + min(mta_sts.MOST_SECONDS, self._time_left() / 2)
        resolver = self._resolver(lambda: end - time.monotonic())
        identity = self._identity(domain, resolver)
        name = identity if isinstance(identity, str) else ""
        if not known.due(name, now):
            problem = identity if isinstance(identity, NoPolicy) else NoPolicy("")
            if problem.failure:
                self._failed(domain, known, now, problem)
            return _in_force(domain, known, now, problem)
        found = self._fetched(domain, resolver, end)
        if isinstance(found, NoPolicy):
            self._failed(domain, known, now, found)
            return _in_force(domain, known, now, found)
        known = Cached(name or known.identity, now, now, found)
        self._remember(domain, known, now)
        return found

    def _identity(self, domain: str, resolver: Resolver) -> str | NoPolicy:
        answer = resolver.query(f"_mta-sts.{domain}", "TXT")
        if answer.result is Result.FOUND:
            return mta_sts.identity(x.data for x in answer.records)
        if answer.result is Result.NOT_FOUND:
            return NoPolicy(f"no TXT record at _mta-sts.{domain}")
        return NoPolicy(answer.reason, mta_sts.NOT_FETCHED)

    def _fetched(
        self, domain: str, resolver: Resolver, end: float
    ) -> StsPolicy | NoPolicy:
        from postfix_trouble.tls.mta_sts_fetch import fetch

        host = f"mta-sts.{domain}"
        answers: list[Answer] = []
        families = enabled_families(self._settings.words("inet_protocols"))
        for family, kind in ((IPV4, "A"), (IPV6, "AAAA")):
            if family in families:
                answers.append(resolver.query(host, kind))
        addresses = [x.data for answer in answers for x in answer.records]
        if not addresses:
            reasons = [x.reason for x in answers] or ["no network protocol"]
            return NoPolicy(reasons[0], mta_sts.NOT_FETCHED)
        left = end - time.monotonic()
        body = fetch(host, addresses, self._settings, left, self._port)
        return body if isinstance(body, NoPolicy) else mta_sts.parse(domain, body)

    # --- the cache

    def _failed(
        self, domain: str, known: Cached, now: float, problem: NoPolicy
    ) -> None:
        """Leave it alone for a while; what it had is not touched."""
        self._note(f"warning: MTA-STS policy of {domain}: {problem.problem}")
        self._remember(domain, known._replace(tried=now), now)

    def _remember(self, domain: str, known: Cached, now: float) -> None:
        self._memory.put(domain, mta_sts.packed(known), known.expires(), now)


def _in_force(domain: str, known: Cached, now: float, problem: NoPolicy) -> StsPolicy:
    """What is in the cache, or that there is nothing."""
    policy = known.holds(now) or StsPolicy(domain)
    return policy._replace(problem=problem.problem, failure=problem.failure)
