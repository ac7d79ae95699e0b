"""TLS levels, policies, and what is known of a session."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.choice import Ordered
from postfix_trouble.core.value import Value


class TlsLevel(Ordered):
    """smtp_tls_security_level, in order of strength."""

    NONE = 0
    MAY = 1
    ENCRYPT = 2
    FINGERPRINT = 3
    DANE = 4
    DANE_ONLY = 5
    VERIFY = 6
    SECURE = 7

    @property
    def word(self) -> str:
        """As it is written in main.cf."""
        return self.name.lower().replace("_", "-")


class RequireTls(Ordered):
    """What is made of REQUIRETLS for a destination (smtp_requiretls_policy)."""

    # As if the sender had not asked for it.
    DISABLE = 0
    # Passed on to servers that offer it.
    OPPORTUNISTIC = 1
    # The same, but never in the clear.
    OPPORTUNISTIC_STARTTLS = 2
    # A certificate that matches, and a server that offers it, or no delivery.
    ENFORCE = 3

    @property
    def word(self) -> str:
        """As it is written in main.cf."""
        return self.name.lower().replace("_", "+")


class Tlsa(Value):
    """A TLSA record that a certificate can be compared with (RFC 6698)."""

    # 2: an authority that signed the certificate (DANE-TA), 3: the certificate itself.
    usage: int
    # 0: all of the certificate, 1: its public key.
    selector: int
    # Name of the digest, as hashlib has it; empty: `data` is the whole thing.
    digest: str
    data: bytes


class TlsStatus(Value):
    """What became of TLS with a server: `tls=` of the log, from Postfix 3.11 on.

    may         as it was asked for
    may:none    less came of it, and it will do
    !encrypt    not met, so the server was not used
    may?        it did not come to a decision
    """

    level: str = ""
    # Empty unless the sender asked for it and that is not disabled.
    requiretls: str = ""

    @property
    def text(self) -> str:
        """As the log has it."""
        return "/".join(filter(None, self))

    def level_met(self, less: str = "") -> TlsStatus:
        """TLS is as it should be, or `less`."""
        return self._replace(level=_decided(self.level, less))

    def level_unmet(self) -> TlsStatus:
        """TLS is not as it must be."""
        return self._replace(level=_decided(self.level, mark="!"))

    def requiretls_met(self, less: str = "") -> TlsStatus:
        """REQUIRETLS is passed on, or `less` of it will do."""
        return self._replace(requiretls=_decided(self.requiretls, less))

    def requiretls_unmet(self, less: str) -> TlsStatus:
        """The server lacks what REQUIRETLS asks for: `less` is what there is."""
        return self._replace(requiretls=_decided(self.requiretls, less, "!"))


def _decided(feature: str, less: str = "", mark: str = "") -> str:
    """The feature as decided; the first decision counts."""
    if not feature.endswith("?"):
        return feature
    name = feature.removesuffix("?")
    return mark + name + (f":{less}" if less not in ("", name) else "")


class StsPolicy(Value):
    """What a domain's MTA-STS policy is (RFC 8461), or why there is none."""

    domain: str
    # enforce, testing, none; empty: there is no policy.
    mode: str = ""
    # Names of mail servers; "*." stands for one label.
    mx: tuple[str, ...] = ()
    # Seconds.
    max_age: int = 0
    # As it was fetched.
    text: str = ""
    # Why there is none, or why the one in the cache could not be refreshed.
    problem: str = ""
    # The same as a result type of RFC 8460 4.3.2.1; empty: the domain has none.
    failure: str = ""


class TlsPolicy(Value):
    """What is asked of a TLS session with one host (Postfix SMTP_TLS_POLICY)."""

    level: TlsLevel = TlsLevel.NONE
    # Match strategies (nexthop, dot-nexthop, hostname), names, or fingerprints.
    match: tuple[str, ...] = ()
    protocols: str = ""
    ciphers: str = ""
    exclude: str = ""
    # Server name to send: "", "hostname", "nexthop" or a name.
    servername: str = ""
    # Files of trust anchors of this destination.
    trust_anchors: tuple[str, ...] = ()
    # TLS before the greeting.
    wrappermode: bool = False
    # What is made of the sender's REQUIRETLS.
    requiretls: RequireTls = RequireTls.DISABLE
    # DANE: one of these has to match, and for an authority one of the names of `match`.
    tlsa: tuple[Tlsa, ...] = ()
    # A result type of RFC 8460 by which no certificate is the right one; empty: none.
    must_fail: str = ""
    # DANE: all records about mail servers, as master files have their data.
    records: tuple[str, ...] = ()
    # What the log calls the level, if not by its name: that of DANE that came to less.
    name: str = ""
    # What MTA-STS says of the destination; None: nobody asked.
    sts: StsPolicy | None = None

    @property
    def status(self) -> TlsStatus:
        """The log's words before anything is tried."""
        asked = "requiretls?" if self.requiretls else ""
        return TlsStatus(f"{self.name or self.level.word}?", asked)


class TlsFacts(Value):
    """A TLS session as it came out."""

    protocol: str
    cipher: str
    bits: int
    # The chain leads to an authority that we trust.
    trusted: bool = False
    # The certificate is that of the server we meant, as the level demands.
    matched: bool = False
    # The server showed a certificate at all.
    certificate: bool = True
    # A session of before was resumed.
    resumed: bool = False
    # Subject, issuer, names and expiry of the certificate, for people.
    details: tuple[tuple[str, str], ...] = ()
