"""The TLS policy for one server: level, and what goes with it.

After Postfix smtp_tls_policy(3). A policy that can't be found out, or can't be
understood, passes the server over: it is never replaced by a weaker one.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.failure import TableError
from postfix_trouble.core.hostname import hostname_problem, idn_to_ascii
from postfix_trouble.core.outcome import DSN, Skipped
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.tls import StsPolicy, TlsLevel, TlsPolicy, TlsStatus
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tls.level import security_level
from postfix_trouble.tls.policy_entry import Entry, parse_entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.dns.lookup import Answer

    # Name, kind of record.
    Query = Callable[[str, str], Answer]
    # Domain, in A-label form.
    Sts = Callable[[str], StsPolicy]
    # Parameter that names the tables, key, whether to fold its case.
    Find = Callable[[str, str, bool], str | None]

_CONFIGURATION = DSN(EnhancedStatus("4.7.5"), "client TLS configuration problem")
# No trace in the report: what an earlier server left there stands.
_PASSED_OVER = DSN()


def _nothing(name: str, kind: str) -> Answer:
    """Where there is no name service."""
    from postfix_trouble.dns.lookup import Answer, Result

    return Answer(Result.RETRY)


def policy(
    settings: Settings,
    destination: Destination,
    relay: Relay,
    find: Find,
    *,
    query: Query = _nothing,
    sts: Sts | None = None,
    note: Callable[[str], None] = lambda text: None,
    prefix: str = "smtp",
    optional: bool = False,
) -> TlsPolicy | Skipped:
    """The policy for a server, or why the server is skipped before connecting.

    `find` looks a key up in the tables of a parameter, and raises TableError if that
    can't be done; `query` asks the DNS, `sts` finds the MTA-STS policy of a domain, and
    is asked where no table has an entry. `note` takes warnings for the log, `prefix`
    (smtp or lmtp) names the parameters in them. `optional`: the sender prefers delivery
    to TLS (TLS-Required: no), so no table is looked at.
    """
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        note(text)

    search = _PolicySearch(settings, destination, relay, find, tell, prefix)
    search.query = query
    search.sts = sts
    search.optional = optional
    found = search()
    if isinstance(found, TlsPolicy):
        return found._replace(sts=search.sts_policy)
    if found.status:
        note(f"TLS policy lookup for {destination.text}/{relay.host}: {found.reason}")
    why = said[-1] if said else ""
    return Skipped(found, search.known, why, search.sts_policy)


def entry_policy(
    settings: Settings,
    key: str,
    value: str,
    note: Callable[[str], None],
    *,
    prefix: str = "smtp",
) -> TlsPolicy | DSN:
    """What an entry of a policy table comes to, whatever the DNS says.

    Without a server: one that the entry's own patterns fit is taken for granted.
    """
    found = parse_entry(value)
    patterns = found.all("mx_host_pattern") if isinstance(found, Entry) else ()
    host = patterns[0].replace("*", "mx", 1) if patterns else key
    destination, relay = Destination(key, key, 25), Relay(host, "", 25)
    search = _PolicySearch(settings, destination, relay, _no_table, note, prefix)
    entry = search.parsed(value)
    return entry if isinstance(entry, DSN) else search.wrapped(entry)


def _no_table(parameter: str, key: str, fold: bool) -> str | None:
    return None


class _PolicySearch:
    """policy_create, with its arguments."""

    def __init__(
        self,
        settings: Settings,
        destination: Destination,
        relay: Relay,
        find: Find,
        note: Callable[[str], None],
        prefix: str,
    ) -> None:
        self.settings = settings
        self.destination = destination
        self.relay = relay
        self.find = find
        self.note = note
        self.prefix = prefix
        self.query: Query = _nothing
        self.sts: Sts | None = None
        #: What MTA-STS says of the destination, once somebody asked.
        self.sts_policy: StsPolicy | None = None
        self.optional = False
        # Of the policy, where that is not the trouble.
        self.known = TlsStatus("unknown?")

    def __call__(self) -> TlsPolicy | DSN:
        """Level first, then what goes with it."""
        common = security_level(self.settings)
        entry = Entry(self._at_most(common)) if self.optional else self._entry(common)
        listed = entry is not None
        entry = entry or Entry(common)
        if isinstance(entry, DSN):
            return entry
        level = entry.level
        if level in (TlsLevel.DANE, TlsLevel.DANE_ONLY):
            return self._pinned(entry, listed)
        sts = None if listed or level is TlsLevel.FINGERPRINT else self._built_in()
        if sts is not None:
            return self.wrapped(sts)
        if level is TlsLevel.MAY and self.destination.socket:
            self.note(
                "opportunistic TLS encryption is not appropriate "
                "for unix-domain destinations."
            )
            level = TlsLevel.NONE
        return self.wrapped(entry._replace(level=level))

    def _pinned(self, entry: Entry, listed: bool) -> TlsPolicy | DSN:
        """DANE: the level depends on what the host's records are.

        Where they can be used they count, and not MTA-STS (RFC 8461 2); but where
        DNSSEC does not vouch for who the server is, MTA-STS can.
        """
        from postfix_trouble.tls import dane

        found = dane.pinned(
            entry.level,
            self.relay,
            self.settings,
            self.query,
            self.note,
            destination=self.destination.text,
            lmtp=self.prefix == "lmtp",
        )
        if isinstance(found, DSN):
            return found
        exchange = self.relay.exchange
        vouched = found.level >= TlsLevel.DANE and (not exchange or exchange.authentic)
        only = entry.level is TlsLevel.DANE_ONLY
        sts = None if listed or vouched or only else self._built_in()
        if sts is not None:
            if found.level < TlsLevel.DANE:
                return self.wrapped(sts)
            strict = self.settings.flag("smtp_tls_enforce_sts_mx_patterns")
            if strict and not self._named(sts):
                return self._passed_over(entry)
        policy = self.wrapped(entry._replace(level=found.level))
        if isinstance(policy, DSN) or not found.names:
            return policy
        # A name with a dot at its end is never one of the words for other names.
        name = found.names[0].removesuffix(".") + "."
        return policy._replace(
            servername=name,
            match=found.names,
            tlsa=found.records,
            records=found.texts,
            name=found.name,
        )

    def wrapped(self, entry: Entry) -> TlsPolicy | DSN:
        """TLS before the greeting leaves no way to do without."""
        wrapped = self.settings.flag("smtp_tls_wrappermode")
        if wrapped and entry.level < TlsLevel.ENCRYPT:
            self.note(
                f'{self.prefix}_tls_wrappermode requires "{self.prefix}'
                '_tls_security_level = encrypt" (or stronger)'
            )
            return self._passed_over(entry)
        if entry.level is TlsLevel.NONE:
            return TlsPolicy()
        return self._session(entry, wrapped)

    def _passed_over(self, entry: Entry) -> DSN:
        self.known = TlsPolicy(entry.level).status
        return _PASSED_OVER

    def _at_most(self, common: TlsLevel) -> TlsLevel:
        """What is left of the common level where TLS is not required."""
        wrapped = self.settings.flag("smtp_tls_wrappermode")
        return min(common, TlsLevel.ENCRYPT if wrapped else TlsLevel.MAY)

    def _built_in(self) -> Entry | None:
        """What MTA-STS asks for, None if nothing; for what is a mail domain."""
        host = idn_to_ascii(self.destination.host)
        if self.sts is None or self.destination.no_mx or hostname_problem(host):
            return None
        from postfix_trouble.tls import mta_sts

        self.sts_policy = self.sts(host)
        return mta_sts.entry(self.sts_policy)

    def _entry(self, common: TlsLevel) -> Entry | DSN | None:
        """What the tables say; None: nothing."""
        if self.settings.text("smtp_tls_policy_maps"):
            return self._by_policy()
        if self.settings.text("smtp_tls_per_site"):
            from postfix_trouble.tls.per_site import by_site

            return by_site(
                common,
                self.destination,
                self.relay,
                lambda key: self.find("smtp_tls_per_site", key, True),
                self.note,
                f"{self.prefix}_tls_per_site",
            )
        return None

    def _by_policy(self) -> Entry | DSN | None:
        """tls_policy_lookup: parent domains only for what is a plain domain."""
        key = self.destination.text
        ascii_only = not self.settings.flag("smtputf8_enable")
        parents = not hostname_problem(key if ascii_only else idn_to_ascii(key))
        while key:
            try:
                value = self.find("smtp_tls_policy_maps", key, True)
            except TableError:
                self.note(f"{self._where()}: policy table lookup error")
                return _CONFIGURATION
            if value is not None:
                entry = self.parsed(value)
                if isinstance(entry, Entry) and entry.one("policy_type"):
                    from postfix_trouble.tls.mta_sts import said

                    self.sts_policy = said(entry, self.destination.host)
                return entry
            dot = key.find(".", 1) if parents else 0
            key = key[dot:] if dot > 0 else ""
        return None

    def _where(self) -> str:
        table = f"{self.prefix}_tls_policy_maps"
        return f'{table}, next-hop destination "{self.destination.text}"'

    def parsed(self, value: str) -> Entry | DSN:
        """tls_policy_lookup_one."""
        entry = parse_entry(value)
        where = self._where()
        if isinstance(entry, str):
            self.note(f"{where}: {entry}")
            return _CONFIGURATION
        for token in entry.ignored:
            self.note(f'{where}: ignoring attribute "{token}" with TLS disabled')
        return entry

    # --- what goes with the level -----------------------------------------------

    def _session(self, entry: Entry, wrapped: bool) -> TlsPolicy | DSN:
        settings, level = self.settings, entry.level
        mandatory = "" if level is TlsLevel.MAY else "mandatory_"
        servername = entry.one("servername")
        if servername is None:
            servername = settings.text("smtp_tls_servername")
            if servername and hostname_problem(servername):
                self.note(
                    f'"{self.prefix}_tls_servername = {servername}" '
                    "specifies an invalid hostname"
                )
                return _CONFIGURATION
        match = self._match(entry)
        if isinstance(match, DSN):
            return match
        anchors = entry.all("tafile")
        if not anchors and level >= TlsLevel.VERIFY:
            anchors = settings.words("smtp_tls_trust_anchor_file")
        protocols = entry.one("protocols")
        if protocols is None:
            protocols = settings.text(f"smtp_tls_{mandatory}protocols")
        return TlsPolicy(
            level,
            match,
            protocols,
            entry.one("ciphers") or settings.text(f"smtp_tls_{mandatory}ciphers"),
            self._exclusions(entry),
            servername,
            anchors,
            wrapped,
            must_fail=(entry.one("policy_failure") or "").lower(),
        )

    def _exclusions(self, entry: Entry) -> str:
        """set_cipher_grade: mandatory TLS encrypts, authenticated TLS authenticates."""
        level, settings = entry.level, self.settings
        excluded = entry.one("exclude")
        if excluded is not None:
            parts = [excluded]
        else:
            parts = [settings.text("smtp_tls_exclude_ciphers")]
            if level > TlsLevel.MAY:
                parts.append(settings.text("smtp_tls_mandatory_exclude_ciphers"))
        if level > TlsLevel.MAY:
            parts.append("eNULL" if level is TlsLevel.ENCRYPT else "aNULL")
        return " ".join(filter(None, parts))

    def _match(self, entry: Entry) -> tuple[str, ...] | DSN:
        """Fingerprints or match strategies. Only well-formed fingerprints are left."""
        level = entry.level
        if level <= TlsLevel.ENCRYPT or level in (TlsLevel.DANE, TlsLevel.DANE_ONLY):
            return ()
        if level is TlsLevel.FINGERPRINT:
            words = entry.match or self.settings.words(
                "smtp_tls_fingerprint_cert_match"
            )
            digests = tuple(filter(None, map(_digest, words)))
            for word in words:
                if not _digest(word):
                    self.note(f"malformed fingerprint value: {word}")
            if not digests:
                self.note(
                    f"nexthop domain {self.destination.text}: configured at "
                    "fingerprint security level, but with no fingerprints to match."
                )
                return _CONFIGURATION
            return digests
        if entry.all("mx_host_pattern") and self.settings.flag(
            "smtp_tls_enforce_sts_mx_patterns"
        ):
            return self._sts(entry)
        if entry.match:
            return entry.match
        word = "verify" if level is TlsLevel.VERIFY else "secure"
        listed = self.settings.text(f"smtp_tls_{word}_cert_match")
        return tuple(listed.replace(",", " ").replace(":", " ").split())

    def _sts(self, entry: Entry) -> tuple[str, ...] | DSN:
        """RFC 8461 section 4.1: the host must be one that the policy names.

        The policy was fetched by somebody else; that it was, is all we know of it.
        """
        if "sts" in map(str.lower, entry.all("policy_type")) and not self._named(entry):
            return self._passed_over(entry)
        if entry.match:
            return ("hostname",)
        return self._match(Entry(entry.level))

    def _named(self, entry: Entry) -> bool:
        """Whether the host is one that an MTA-STS policy names."""
        from postfix_trouble.tls.mta_sts import matches

        host = self.relay.host
        if any(matches(host, x) for x in entry.all("mx_host_pattern")):
            return True
        domain = entry.one("policy_domain") or self.destination.host
        self.note(f"MX name '{host}' does not match STS MX pattern for '{domain}'")
        return False


def _digest(word: str) -> str:
    """A fingerprint as plain lower-case hex, empty if it is none."""
    import re  # where fingerprints are matched only

    found = re.fullmatch(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2})*", word)
    return word.replace(":", "").lower() if found else ""
