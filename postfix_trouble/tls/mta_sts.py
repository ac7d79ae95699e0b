"""MTA-STS (RFC 8461): what a domain says of TLS with its mail servers.

A TXT record says that there is a policy, and has another id whenever that changes. The
policy comes by HTTPS and holds for its max_age, whatever becomes of the record and the
web server in that time: who can hide them must not be able to weaken it.

    enforce   the server's name fits the policy, and its certificate is good for it
    testing   as enforce, but mail goes through in any case: here, as without a policy
    none      as without a policy

In force, a policy is what a plug-in for smtp_tls_policy_maps would answer: level
secure, and attributes from mx_host_pattern to policy_type (TLS_README).
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re

from postfix_trouble.core.hostname import hostname_problem
from postfix_trouble.core.tls import StsPolicy, TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.tls.policy_entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

# RFC 8461 3.2: about a year.
MOST_AGE = 31_557_600
#: Bytes of a policy, and seconds for its coming (RFC 8461 3.3).
MOST_BYTES = 64 * 1024
MOST_SECONDS = 60.0
# Who could not give us a policy is left alone for so long (RFC 8461 3.3), and a policy
# is fetched again once a day, while it holds (RFC 8461 10.2).
_RETRY = 300.0
_REFRESH = 86400.0

_RECORD = "v=STSv1;"
_FIELD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}=[\x21-\x3a\x3c\x3e-\x7e]+")
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_AGE = re.compile(r"[0-9]{1,10}")
_MODES = ("enforce", "testing", "none")

# Result types of RFC 8460 4.3.2.1.
NOT_FETCHED = "sts-policy-fetch-error"
NOT_TRUSTED = "sts-webpki-invalid"
INVALID = "sts-policy-invalid"


class NoPolicy(Value):
    """Why no policy is to be had."""

    problem: str
    # One of the above; empty: the domain has none.
    failure: str = ""


def identity(texts: Iterable[str]) -> str | NoPolicy:
    """The id in the TXT records at _mta-sts.DOMAIN (RFC 8461 3.1)."""
    records = [x for x in texts if x.startswith(_RECORD)]
    if not records:
        return NoPolicy("no TXT record with v=STSv1")
    if len(records) > 1:
        return NoPolicy("several TXT records with v=STSv1", INVALID)
    _version, *fields = (x.strip(" \t") for x in records[0].split(";"))
    if not fields[-1]:
        fields.pop()
    names = [x[3:] for x in fields if x.startswith("id=")]
    if not names or not all(map(_FIELD.fullmatch, fields)):
        return NoPolicy("malformed TXT record", INVALID)
    # As in a policy, the first of several counts.
    if not _ID.fullmatch(names[0]):
        return NoPolicy("malformed id in the TXT record", INVALID)
    return names[0]


def parse(domain: str, body: bytes) -> StsPolicy | NoPolicy:
    """A policy (RFC 8461 3.2). What is unknown in it is ignored."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return NoPolicy("the policy is no UTF-8", INVALID)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in filter(None, (x.strip(" \t\r") for x in text.split("\n"))):
        key, colon, value = line.partition(":")
        value = value.lstrip(" \t")
        if not (colon and value and _KEY.fullmatch(key)):
            return NoPolicy("malformed line in the policy", INVALID)
        if key == "mx":
            names.append(value.lower().removesuffix("."))
        # The first of several counts.
        found.setdefault(key, value)
    problem = _problem(found, names)
    if problem:
        return NoPolicy(problem, INVALID)
    age = min(int(found["max_age"]), MOST_AGE)
    return StsPolicy(domain, found["mode"], tuple(names), age, text)


def _problem(found: dict[str, str], names: list[str]) -> str:
    """What the policy lacks, empty if nothing."""
    if found.get("version") != "STSv1":
        return "the policy's version is not STSv1"
    if found.get("mode") not in _MODES:
        return "the policy's mode is not enforce, testing or none"
    if not _AGE.fullmatch(found.get("max_age", "")):
        return "the policy has no max_age, or a malformed one"
    if any(hostname_problem(x.removeprefix("*.")) for x in names):
        return "malformed mx in the policy"
    if not names and found["mode"] != "none":
        return "the policy has no mx"
    return ""


# --- servers ------------------------------------------------------------------------


def matches(host: str, pattern: str) -> bool:
    """Whether a policy's mx names a host (RFC 8461 4.1); "*" is one label."""
    host, pattern = host.lower().removesuffix("."), pattern.lower()
    if pattern.startswith("*."):
        return host.partition(".")[1:] == (".", pattern[2:])
    return host == pattern


def entry(policy: StsPolicy) -> Entry | None:
    """The policy as a plug-in says it; None: it asks for nothing.

    After what postfix-mta-sts-resolver answers to Postfix 3.10. `match` counts where
    smtp_tls_enforce_sts_mx_patterns is off.
    """
    if policy.mode != "enforce":
        return None
    match = ":".join(x.removeprefix("*") for x in policy.mx)
    lines = filter(None, (x.strip() for x in policy.text.split("\n")))
    return Entry(
        TlsLevel.SECURE,
        {
            "match": (match,),
            "servername": ("hostname",),
            "policy_type": ("sts",),
            "policy_domain": (policy.domain,),
            "policy_ttl": (str(policy.max_age),),
            "policy_string": tuple(lines),
            "mx_host_pattern": policy.mx,
        },
    )


def said(entry: Entry, domain: str) -> StsPolicy | None:
    """The policy that a plug-in tells of, for a domain if it names none."""
    if (entry.one("policy_type") or "").lower() != "sts":
        return None
    lines = entry.all("policy_string")
    modes = [x.partition(":")[2].strip() for x in lines if x.startswith("mode:")]
    level = "enforce" if entry.level > TlsLevel.ENCRYPT else "testing"
    return StsPolicy(
        entry.one("policy_domain") or domain,
        modes[0] if modes else level,
        entry.all("mx_host_pattern"),
        text="\n".join(lines),
    )


# --- the cache ----------------------------------------------------------------------


class Cached(Value):
    """What is remembered of a domain. Moments are of the wall clock."""

    # That of the TXT record with the policy.
    identity: str = ""
    # When the policy came, and when it was last tried to get one.
    fetched: float = 0.0
    tried: float = 0.0
    # None: none was to be had.
    policy: StsPolicy | None = None

    def expires(self) -> float:
        """When it may be forgotten."""
        age = self.policy.max_age if self.policy else 0
        return max(self.fetched + age, self.tried + _RETRY)

    def holds(self, now: float) -> StsPolicy | None:
        """The policy, unless it is too old."""
        policy = self.policy
        return policy if policy and now < self.fetched + policy.max_age else None

    def rests(self, now: float) -> bool:
        """The domain could not give us a policy a moment ago."""
        return self.tried > self.fetched and 0 <= now - self.tried < _RETRY

    def due(self, identity: str, now: float) -> bool:
        """Whether to fetch the policy. `identity`: that of the TXT record, or empty."""
        policy = self.holds(now)
        if policy is None:
            return bool(identity)
        if identity and identity != self.identity:
            return True
        # Half of a short life, so that there is time for a second try.
        return not 0 <= now - self.fetched < min(_REFRESH, policy.max_age / 2)


def packed(cached: Cached) -> str:
    """For the state directory."""
    text = cached.policy.text if cached.policy else ""
    return f"{cached.identity} {cached.fetched!r} {cached.tried!r}\n{text}"


def unpacked(domain: str, text: str) -> Cached:
    """From there; if it is none of ours, nothing is known."""
    head, _, body = text.partition("\n")
    policy = parse(domain, body.encode("utf-8", "surrogateescape")) if body else None
    try:
        identity, fetched, tried = head.split(" ")
        known = Cached(identity, float(fetched), float(tried))
    except ValueError:
        return Cached()
    return Cached() if isinstance(policy, NoPolicy) else known._replace(policy=policy)
