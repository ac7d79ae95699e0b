"""What TLS must be with a server: main.cf and its tables, DNS, and the sender's wishes.

Loaded only where somebody asks for TLS.
"""

from __future__ import annotations

from postfix_trouble.core.outcome import Skipped
from postfix_trouble.core.tls import TlsPolicy
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tls import handshake as tls_handshake
from postfix_trouble.tls import policy as tls_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.client.tables import Tables
    from postfix_trouble.core.envelope import DeliveryRequest
    from postfix_trouble.core.relay import Destination, Relay
    from postfix_trouble.core.tls import StsPolicy
    from postfix_trouble.dns.lookup import Answer
    from postfix_trouble.message.message import Message
    from postfix_trouble.tls.kept import KeptTls


class TlsPolicies:
    """The TLS policies of the servers of one delivery request."""

    def __init__(
        self,
        tables: Tables,
        request: DeliveryRequest,
        message: Message,
        *,
        query: Callable[[str, str], Answer],
        sts: Callable[[str], StsPolicy] | None,
        kept: KeptTls | None,
        wanted: bool,
    ) -> None:
        """`query`: asks the DNS. `sts`: finds the MTA-STS policy of a domain; None:
        nobody wants to know. `kept`: what a process that stays keeps of TLS. `wanted`:
        the settings ask for TLS."""
        self._tables = tables
        self._settings = tables.settings
        self._note = tables.note
        self._request = request
        self._message = message
        self._query = query
        self._sts = sts
        self._kept = kept
        self._wanted = wanted
        self._prefix = "lmtp" if request.lmtp else "smtp"

    def policy(self, destination: Destination, relay: Relay) -> TlsPolicy | Skipped:
        """The TLS policy for a server, or why it must be skipped."""
        policy = self._configured(destination, relay) if self._wanted else TlsPolicy()
        if isinstance(policy, Skipped) or not self._requiretls_asked():
            return policy
        from postfix_trouble.policy import requiretls

        asked = requiretls.policy_for(
            destination.host or destination.socket,
            self._settings.words("smtp_requiretls_policy"),
            lambda table, key: self._tables.search(
                "smtp_requiretls_policy", table, key
            ),
            note=self._note,
            parameter=f"{self._prefix}_requiretls_policy",
        )
        if asked is None:
            unknown = Skipped(requiretls.misconfigured(relay.host), policy.status)
            return self._passed_over(destination, relay, unknown)
        policy = policy._replace(requiretls=asked)
        low = requiretls.level_too_low(policy, relay.host)
        if low is not None:
            if requiretls.passed_over(asked, policy.level):
                return self._passed_over(destination, relay, low)
            self._note(low.why.reason)
        return policy

    def _passed_over(
        self, destination: Destination, relay: Relay, low: Skipped
    ) -> Skipped:
        where = f"{destination.text}/{relay.host}"
        self._note(f"warning: TLS policy lookup for {where}: {low.why.reason}")
        return low

    def _requiretls_asked(self) -> bool:
        asked, settings = self._request.requiretls, self._settings
        return asked and settings.flag("requiretls_enable") and settings.follows("3.11")

    def optional(self) -> bool:
        """Whether the sender asks for delivery without TLS rather than none."""
        wanted = self._settings.flag("tls_required_enable")
        if not (wanted and self._settings.follows("3.10")) or self._requiretls_asked():
            return False
        return self._message.tls_optional()

    def _configured(
        self, destination: Destination, relay: Relay
    ) -> TlsPolicy | Skipped:
        """What the settings ask of TLS with a server."""
        policy = tls_policy.policy(
            self._settings,
            destination,
            relay,
            self._tables.find,
            query=self._query,
            sts=self._sts,
            note=self._note,
            prefix=self._prefix,
            optional=self.optional(),
        )
        if isinstance(policy, Skipped):
            return policy
        problem = tls_handshake.unready(policy, self._settings, self._kept)
        if problem is None:
            return policy
        self._note(f"warning: {problem.reason}")
        return Skipped(problem, policy.status)
