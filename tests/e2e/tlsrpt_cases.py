"""Sessions of every kind with servers whose domains ask for TLSRPT.

Each domain has the name of its case, and is the destination of both clients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from both_clients import Case

from certificates import fingerprint, tlsa_data
from scripted_server import Script

HOST = "127.42.0.1"
PLACE = "/etc/postfix/tlsrpt"
SOCKET = f"{PLACE}/socket"
RECORD = "v=TLSRPTv1; rua=mailto:tls@rpt.test"

_ON = {
    "smtp_tlsrpt_enable": "yes",
    "smtp_tlsrpt_socket_name": SOCKET,
    "smtp_tls_CAfile": f"{PLACE}/ca.pem",
    "smtp_tls_policy_maps": f"texthash:{PLACE}/policy",
}
GROUPS: dict[str, dict[str, str]] = {
    "rpt-may": {"smtp_tls_security_level": "may", **_ON},
    "rpt-dane": {
        "smtp_tls_security_level": "dane",
        "smtp_dns_support_level": "dnssec",
        **_ON,
    },
    "rpt-off": {"smtp_tls_security_level": "may", **_ON, "smtp_tlsrpt_enable": "no"},
}
CASES: dict[str, Case] = {}
_POLICIES: dict[str, str] = {}
_EXCHANGED: list[str] = []
# TLSA records; {good} stands for what the certificate of that name has.
_RECORDS: dict[str, list[str]] = {}
# Domains that ask for nothing, or not in the right way.
_OTHERS: dict[str, list[str]] = {
    "rpt-nobody": [],
    "rpt-malformed": ["v=TLSRPTv1 rua=mailto:tls@rpt.test"],
    "rpt-two": [RECORD, RECORD + "2"],
    "rpt-other": ["v=spf1 -all", RECORD],
}

_OFFER = ("STARTTLS", "8BITMIME", "ENHANCEDSTATUSCODES")
_SENT = ("sent", "2.0.0", "")
_UNVERIFIED = ("deferred", "4.7.5", "Server certificate not verified")
_NO_HANDSHAKE = ("deferred", "4.7.5", "Cannot start TLS: handshake failure")
_NOT_OFFERED = ("deferred", "4.7.4", "TLS is required, but was not offered by host")


def _case(
    name: str,
    script: Script,
    outcome: tuple[str, str, str] = _SENT,
    *,
    policy: str = "",
    records: list[str] | None = None,
    group: str = "rpt-may",
    exchanger: bool = False,
) -> None:
    """`exchanger`: its server is mx.secure.test."""
    name = f"rpt-{name}"
    port = 2600 + len(CASES)
    nexthop = f"{name}.test:{port}" if exchanger else f"[{name}.test]:{port}"
    if exchanger:
        _EXCHANGED.append(name)
    if policy:
        _POLICIES[nexthop] = policy
    if records is not None:
        _RECORDS[f"_{port}._tcp.{name}.test"] = records
        group = "rpt-dane"
    servers = {f"{HOST}:{port}": {"keywords": _OFFER, **script}}
    CASES[name] = Case(group, nexthop, servers, *outcome)


def _shows(certificate: str, **more: Any) -> Script:
    return {"tls": {"cert": certificate, **more}}


_HELO: Script = {"stages": {"ehlo": "502 5.5.1 no"}}
_case("may", _shows("selfsigned"))
_case("off", _shows("good"), group="rpt-off")
_case("nobody", _shows("good"))
_case("malformed", _shows("good"))
_case("two", _shows("good"))
_case("other", _shows("good"))
_case("may-not-offered", {"keywords": ()})
_case("may-refused", {"stages": {"starttls": "454 4.7.0 no"}})
_case(
    "refused",
    {"stages": {"starttls": "454 4.7.0 no"}},
    ("deferred", "4.7.0", "refused to start TLS: 454 4.7.0 no"),
    policy="encrypt",
)
_case("may-garbage", _shows("good", handshake="garbage"), _NO_HANDSHAKE)
_case("encrypt", _shows("expired"), policy="encrypt")
_case("none", _shows("good"), policy="none")
_case("not-offered", {"keywords": ()}, _NOT_OFFERED, policy="encrypt")
_case("helo", _HELO, _NOT_OFFERED, policy="encrypt")
_case("hangs-up", _shows("good", handshake="close"), _NO_HANDSHAKE, policy="secure")
_case("secure", _shows("good"), policy="secure match=secure.test:mx.secure.test")
for _shown in ("good", "wrongname", "expired", "untrusted", "selfsigned"):
    _case(f"secure-{_shown}", _shows(_shown), _UNVERIFIED, policy="secure match=x.test")
_case("print", _shows("good"), policy="fingerprint match=CERT-good")
_case("print-bad", _shows("good"), _UNVERIFIED, policy="fingerprint match=CERT-bad")
_case(
    "dane", _shows("good"), records=["3 0 2 {wrongname}", "3 1 1 {good}", "2 0 1 {ca}"]
)
_case("dane-bad", _shows("good"), _UNVERIFIED, records=["3 1 1 {expired}"])
_case("dane-unusable", _shows("expired"), records=["3 9 1 {good}"])
_case("dane-for-others", _shows("expired"), records=["1 1 1 {good}"])
_case("dane-none", _shows("expired"), records=[])
_case("dane-not-offered", {"keywords": ()}, _NOT_OFFERED, records=["3 1 1 {good}"])
_STS = (
    "secure match=mx.secure.test servername=hostname policy_type=sts "
    "policy_domain=sts.rpt.test mx_host_pattern=*.test mx_host_pattern=mx.secure.test "
    "{policy_string = version: STSv1} {policy_string = mode: enforce}"
)
_case("sts", _shows("good", sni=True), policy=_STS, exchanger=True)
_case("sts-bad", _shows("good"), _UNVERIFIED, policy=_STS)
_FAILURE = "policy_failure=sts-webpki-invalid"
_case("sts-failure", _shows("good"), _UNVERIFIED, policy=f"{_STS} {_FAILURE}")
_case(
    "sts-failure-only",
    _shows("good"),
    _UNVERIFIED,
    policy=f"{_STS} {_FAILURE}",
    exchanger=True,
)
_case(
    "sts-failure-may",
    _shows("good"),
    policy=f"may policy_type=sts policy_domain=sts.rpt.test {_FAILURE}",
)
_case("no-sts", _shows("good"), policy="may policy_type=no-policy-found")
_case(
    "no-sts-failure",
    _shows("good"),
    _UNVERIFIED,
    policy="secure match=mx.secure.test policy_type=no-policy-found "
    "policy_failure=Validation-Failure",
)


# Who has what Postfix 3.9 takes for a mistake.
NEWER = {x for x in CASES if "policy_type=" in _POLICIES.get(CASES[x].nexthop, "")}


def policy_table(certificates: Path) -> str:
    """The policy table, with the digests of the certificates of this run."""
    good, bad = (fingerprint(certificates / f"{x}.pem") for x in ("good", "expired"))
    lines = "".join(f"{place} {text}\n" for place, text in _POLICIES.items())
    return lines.replace("CERT-good", good).replace("CERT-bad", bad)


def zone(certificates: Path) -> dict[str, dict[str, Any]]:
    """What the name server knows; all of it is signed."""
    found: dict[str, dict[str, Any]] = {
        "": {"NS": ["ns.root.test."], "ad": True},
        "mx.secure.test": {"A": [HOST], "ad": True},
    }
    for name in CASES:
        exchange = {"MX": ["10 mx.secure.test"]} if name in _EXCHANGED else {}
        found[f"{name}.test"] = {"A": [HOST], "ad": True, **exchange}
        texts = _OTHERS.get(name, [RECORD])
        if texts:
            quoted = [f'"{text[:9]}" "{text[9:]}"' for text in texts]
            found[f"_smtp._tls.{name}.test"] = {"TXT": quoted, "ad": True}
    for name, records in _RECORDS.items():
        full = [_tlsa(text, certificates) for text in records]
        found[name] = {"TLSA": full, "ad": True} if full else {"ad": True}
    return found


def _tlsa(text: str, certificates: Path) -> str:
    usage, selector, matching, name = text.split()
    path = certificates / f"{name.strip('{}')}.pem"
    data = tlsa_data(path, int(selector) & 1, int(matching))
    return f"{usage} {selector} {matching} {data}"
