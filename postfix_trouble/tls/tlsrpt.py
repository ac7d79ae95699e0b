"""TLSRPT: what is reported of a session, and to whom (RFC 8460).

After smtp_tlsrpt(3) and tlsrpt_wrapper(3) of Postfix 3.10. A domain asks for reports by
a TXT record; each connection to one of its servers on which TLS was asked for is one
success or one failure. What comes of all of them, once a day, is a reporter's business:
it gets a datagram for each, as libtlsrpt makes them (protocol version 1).
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.steps import TlsResult
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.relay import Relay
    from postfix_trouble.core.tls import TlsFacts, TlsPolicy

_VERSION = "v=TLSRPTv1"
# libtlsrpt's numbers.
_TLSA, _STS, _NO_POLICY = 1, 2, 9
_FAILURES = {
    "starttls-not-supported": 201,
    "certificate-host-mismatch": 202,
    "certificate-not-trusted": 203,
    "certificate-expired": 204,
    "validation-failure": 205,
    "sts-policy-fetch-error": 301,
    "sts-policy-invalid": 302,
    "sts-webpki-invalid": 303,
    "tlsa-invalid": 304,
}

NOT_SUPPORTED = TlsResult("starttls-not-supported")
HANDSHAKE_FAILED = TlsResult("validation-failure", "tls-handshake-failure")

# What OpenSSL says of a chain, and what that is here; anything else: not trusted.
_EXPIRED = "certificate has expired"
# The beginning of what is no fault of the server's.
_OURS = "authorities can't be loaded"
_NAMED = (
    "self-signed certificate",
    "self-signed certificate in certificate chain",
    "self signed certificate",
    "self signed certificate in certificate chain",
    "unable to get local issuer certificate",
    "certificate is not yet valid",
    "unsuitable certificate purpose",
    "unsupported certificate purpose",
)


# --- who wants to know --------------------------------------------------------------


def record_of(texts: Iterable[str]) -> tuple[str, str]:
    """The one TXT record that asks for reports, and what is wrong with the others."""
    found, problem = "", ""
    for text in texts:
        rest = text.removeprefix(_VERSION)
        if rest == text:
            continue
        if not rest.lstrip(" \t").startswith(";"):
            problem = f'ignoring malformed policy: "{text}"'
        elif found:
            return "", "too many TLSRPT policies"
        else:
            found = text
    return found, problem


# --- what became of a session -------------------------------------------------------


def before_handshake(policy: TlsPolicy) -> TlsResult | None:
    """What is known before the handshake, and no success can change."""
    sts = policy.sts
    if policy.level is TlsLevel.ENCRYPT and policy.name:
        return TlsResult("tlsa-invalid", "all-TLSA-records-unusable")
    if sts is not None and sts.failure and not sts.mode:
        return TlsResult(sts.failure)
    return None


def tried_out(policy: TlsPolicy, settings: Settings) -> bool:
    """Whether MTA-STS is in its testing mode: what fails is told and does not matter.

    (RFC 8461 5. That of a plug-in is told of as Postfix does.) Who trusts nobody has
    nothing to tell.
    """
    if policy.sts is None or policy.sts.mode != "testing":
        return False
    files = settings.text("smtp_tls_CAfile") or settings.text("smtp_tls_CApath")
    if not files and not settings.flag("tls_append_default_CA"):
        return False
    return settings.flag("smtp_tlsrpt_enable") and settings.flag("trouble_mta_sts")


def after_handshake(
    policy: TlsPolicy, facts: TlsFacts, *, trial: bool = False
) -> TlsResult:
    """What a session comes to by the server's certificate.

    `trial`: tried_out(), so the certificate counts though the level does without.
    """
    if facts.matched or (policy.level < TlsLevel.FINGERPRINT and not trial):
        return TlsResult()
    if policy.must_fail:
        return TlsResult(policy.must_fail)
    problem = dict(facts.details).get("problem", "")
    if trial and facts.certificate and (not problem or problem.startswith(_OURS)):
        return TlsResult()
    if problem == _EXPIRED:
        return TlsResult("certificate-expired")
    if problem in _NAMED:
        # As current versions of OpenSSL write it.
        text = problem.replace("self signed", "self-signed")
        return TlsResult("validation-failure", text.replace(" ", "_"))
    if problem == "hostname mismatch":
        return TlsResult("certificate-host-mismatch")
    return TlsResult("certificate-not-trusted")


# --- how it is told -----------------------------------------------------------------


class Session(Value):
    """Who talked to whom."""

    # Whose reports they are, A-label form, and the TXT record that asks for them.
    domain: str
    record: str
    relay: Relay
    # Our end of the connection; empty: not known.
    our_address: str = ""


def log_record(session: Session, result: TlsResult) -> str:
    """The line that Postfix logs."""
    relay = session.relay
    where = f"domain={session.domain}, receiving_mx={relay.host}[{relay.address}]"
    if not result.failure:
        return f"TLSRPT: status=success, {where}"
    kind = result.failure.replace("-", "_")
    reason = f", failure_reason={result.reason}" if result.reason else ""
    return f"TLSRPT: status=failure, {where}, failure_type={kind}{reason}"


def datagram(session: Session, policy: TlsPolicy, result: TlsResult) -> bytes:
    """What tlsrpt-collectd is sent. The order of the keys matters to it."""
    import json

    report = {
        **_policy(session, policy),
        **_failures(session, result),
        "t": int(bool(result.failure)),
        "f": int(bool(result.failure)),
    }
    whole = {
        "dpv": "1",
        "d": session.domain,
        "pr": session.record,
        "policies": [report],
    }
    # Server names and replies may hold bytes that are no UTF-8.
    return json.dumps(whole, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def _policy(session: Session, policy: TlsPolicy) -> Mapping[str, Any]:
    sts = policy.sts
    if policy.records:
        return {
            "policy-type": _TLSA,
            "policy-domain": policy.match[0].removesuffix("."),
            "policy-string": policy.records,
        }
    if sts is None or not (sts.mode or sts.failure):
        return {"policy-type": _NO_POLICY, "policy-domain": session.domain}
    found: dict[str, Any] = {"policy-type": _STS, "policy-domain": sts.domain}
    if lines := [line.strip() for line in sts.text.splitlines() if line.strip()]:
        found["policy-string"] = lines
    if sts.mx:
        found["mx-host"] = sts.mx
    return found


def _failures(session: Session, result: TlsResult) -> Mapping[str, Any]:
    if not result.failure:
        return {}
    told = {
        "s": session.our_address,
        "n": session.relay.host,
        "h": result.hello.replace("\n", "\r\n"),
        "r": session.relay.address,
        "f": result.reason,
    }
    details = {"c": _FAILURES[result.failure], **{k: v for k, v in told.items() if v}}
    return {"failure-details": [details]}
