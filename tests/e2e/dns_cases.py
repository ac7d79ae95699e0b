"""Domains with odd records in the name service, and what becomes of mail for them."""

from __future__ import annotations

from typing import Any

from both_clients import Case

from scripted_server import Script

GROUPS = {
    "dns": {},
    "dns-patient": {"smtp_defer_if_no_mx_address_found": "yes"},
    "dns-ignoring": {"ignore_mx_lookup_error": "yes"},
}
ZONE: dict[str, dict[str, Any]] = {}
CASES: dict[str, Case] = {}

_NO_NAME = "Host or domain name not found. Name service error for name="


def _case(
    name: str,
    records: dict[str, Any],
    hosts: dict[str, Script | None],
    status: str,
    dsn: str = "2.0.0",
    words: str = "",
    group: str = "dns",
) -> None:
    """A domain NAME.test with hosts LABEL.NAME.test; those with a script are up."""
    ZONE[f"{name}.test"] = records
    servers = {}
    for number, (label, script) in enumerate(hosts.items()):
        address = f"127.40.{len(CASES)}.{number + 1}"
        ZONE[f"{label}.{name}.test" if label else f"{name}.test"] = {
            **({} if label else records),
            "A": [address],
        }
        if script is not None:
            servers[f"{address}:25"] = script
    CASES[name] = Case(group, f"{name}.test", servers, status, dsn, words)


def _mx(name: str, *labels: str) -> dict[str, Any]:
    """MX records with preference 10, 20, and so on."""
    return {
        "MX": [f"{10 * (n + 1)} {label}.{name}.test." for n, label in enumerate(labels)]
    }


_BUSY: Script = {"stages": {"banner": "421 4.3.2 busy"}}
_SOFT: Script = {"stages": {"rcpt": "450 4.2.0 greylisted"}}
_HARD: Script = {"stages": {"rcpt": "550 5.1.1 no such user"}}

_case("order", _mx("order", "a", "b", "c"), {"c": {}, "b": {}, "a": {}}, "sent")
_case("down", _mx("down", "a", "b", "c"), {"a": None, "b": {}, "c": {}}, "sent")
_case(
    "all-down",
    _mx("all-down", "a", "b"),
    {"a": None, "b": None},
    "deferred",
    "4.4.1",
    "connect to b.all-down.test[",
)
_case("busy", _mx("busy", "a", "b"), {"a": _BUSY, "b": {}}, "sent")
_case(
    "soft",
    _mx("soft", "a", "b", "c"),
    {"a": _SOFT, "b": _SOFT, "c": {}},
    "deferred",
    "4.2.0",
    "host b.soft.test[",
)
_case("hard", _mx("hard", "a", "b"), {"a": _SOFT, "b": _HARD}, "bounced", "5.1.1")
_case("no-mx", {}, {"": {}}, "sent")
_case(
    "null-mx",
    {"MX": ["0 ."], "A": ["127.0.0.1"]},
    {},
    "bounced",
    "5.1.0",
    "Domain null-mx.test does not accept mail (nullMX)",
)
_case(
    "servfail",
    {"rcode": "SERVFAIL"},
    {},
    "deferred",
    "4.4.3",
    f"{_NO_NAME}servfail.test type=MX",
)
_case(
    "servfail-ignored", {"rcode:MX": "SERVFAIL"}, {"": {}}, "sent", group="dns-ignoring"
)
_case("refused", {"rcode": "REFUSED"}, {}, "deferred", "4.4.3")
_case("no-answer", {"drop": True}, {}, "deferred", "4.4.3", "Host not found, try again")
_case(
    "alias-of-itself",
    {"CNAME": ["alias-of-itself.test."], "alone": True},
    {},
    "bounced",
    "5.4.4",
    "Name server loop for alias-of-itself.test",
)
_case(
    "no-data",
    {"TXT": ['"hello"']},
    {},
    "bounced",
    "5.4.4",
    "Host found but no data record",
)
_case(
    "no-address",
    _mx("no-address", "a", "b"),
    {},
    "bounced",
    "5.4.4",
    f"{_NO_NAME}b.no-address.test type=A",
)
_case(
    "no-address-yet",
    _mx("no-address-yet", "a", "b"),
    {},
    "deferred",
    "4.4.4",
    group="dns-patient",
)
_case("some-address", _mx("some-address", "a", "b"), {"b": {}}, "sent")
_case("alias", _mx("alias", "a"), {"b": {}}, "sent")
_case("malformed", {"MX": ["10 a_b!.malformed.test."]}, {}, "bounced", "5.4.4")
_case(
    "loop",
    _mx("loop", "a", "b"),
    {},
    "bounced",
    "5.4.6",
    "mail for loop.test loops back to myself",
)
_case("backup", _mx("backup", "a", "me"), {"a": {}}, "sent")
_case(
    "backup-down",
    _mx("backup-down", "a", "me"),
    {"a": None},
    "deferred",
    "4.4.1",
    "connect to a.backup-down.test[",
)
_case(
    "backup-alone",
    _mx("backup-alone", "a", "me"),
    {},
    "deferred",
    "4.4.4",
    "unable to find primary relay",
)
_case(
    "own-name",
    {},
    {"": {"host": "client.example.test"}},
    "bounced",
    "5.4.6",
    "loops back to myself",
)
# Not in the zone: it does not exist.
CASES["nowhere"] = Case("dns", "nowhere.test", {}, "bounced", "5.4.4", _NO_NAME)

ZONE["a.alias.test"] = {"CNAME": ["b.alias.test."]}
# The only address that the Postfix of the tests has.
for _me in (
    "a.loop.test",
    "me.backup.test",
    "me.backup-down.test",
    "me.backup-alone.test",
):
    ZONE[_me] = {"A": ["127.0.0.1"]}
