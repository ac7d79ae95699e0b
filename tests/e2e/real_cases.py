"""Log-ins at a real server: each mechanism, with a good and a bad password."""

from __future__ import annotations

import real_server
from both_clients import Case
from real_server import MECHANISMS, PORT

GROUPS = {
    f"real-{mechanism.lower()}": real_server.group(mechanism)
    for mechanism in MECHANISMS
}
GROUPS["real-no-tls"] = {
    **real_server.group("PLAIN"),
    "smtp_tls_security_level": "none",
}
# What Cyrus prefers where there is a choice is for Cyrus to say; what we do is tested.
GROUPS["real-any"] = {**real_server.group(""), "smtp_sasl_security_options": ""}


def _case(name: str, group: str) -> Case:
    return Case(group, f"[{name}.real.test]:{PORT}", {})


def _refused(name: str, group: str) -> Case:
    words = "SASL authentication failed; server "
    return _case(name, group)._replace(status="deferred", dsn="4.7.8", words=words)


CASES: dict[str, Case] = {}
for _group in GROUPS:
    if _group == "real-no-tls":
        continue
    CASES[f"{_group}-right"] = _case("right", _group)
    if _group != "real-any":
        CASES[f"{_group}-wrong"] = _refused("wrong", _group)
        CASES[f"{_group}-unknown"] = _refused("unknown", _group)
# AUTH is offered in TLS only, and nobody may send mail without.
CASES["real-no-tls"] = _case("right", "real-no-tls")._replace(
    status="bounced", dsn="5.7.1", words="Relay access denied"
)
