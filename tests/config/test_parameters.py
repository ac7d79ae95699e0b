"""The table against `postconf -d` of Postfix 3.7.11, recorded on Debian 12."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools"))
from manual import meanings

from postfix_trouble.config.parameters import TABLE, supported
from postfix_trouble.config.settings import Settings
from postfix_trouble.config.types import ConfigError

POSTFIX = dict(
    line.split(" =", 1)
    for line in (Path(__file__).parent / "data/postconf-d-3.7.11.txt")
    .read_text()
    .splitlines()
)
# Why these are not Postfix's stands in parameters.py and at the row.
DIFFERENT = {"compatibility_level", "mydomain", "syslog_name"}
# Of a Postfix after 3.7.
NEW = {
    each
    for _, name, other, _ in supported()
    for each in (name, other)
    if each and meanings()[name][1]
}
# These depend on the Postfix that is followed.
LATER = {"smtp_tls_dane_insecure_mx_policy", "smtp_tls_security_level"}
# Legacy names without a default of their own, and what differs from host to host.
NOT_LISTED = {
    "fallback_relay",
    "lmtp_per_record_deadline",
    "lmtp_tls_dane_insecure_mx_policy",
    "multi_instance_name",
    "myhostname",
    "send_cyrus_sasl_authzid",
    "smtp_per_record_deadline",
}
# Made by Postfix from the names of its transports, for the queue manager.
QUEUE_MANAGER = ("_delivery_slot", "_destination_", "_recipient", "_rate_delay")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in TABLE
        if not (name in NEW or name.startswith("trouble_"))
        and name not in DIFFERENT | LATER | NOT_LISTED
    ],
)
def test_default_is_that_of_postfix(name: str) -> None:
    assert TABLE[name].default == POSTFIX[name].strip()


@pytest.mark.parametrize("level", ["", "may", "dane"])
def test_level_for_exchangers_without_dnssec(level: str) -> None:
    given = {"smtp_tls_security_level": level}
    for version, expected in (("3.7", "may"), ("3.11", "may"), ("3.12", "dane")):
        settings = Settings({**given, "trouble_postfix_version": version})
        found = settings.text("smtp_tls_dane_insecure_mx_policy")
        assert found == ("dane" if level == "dane" else expected)


@pytest.mark.parametrize(
    ("compatible", "level"), [("3.6", ""), ("3.10", ""), ("3.11", "may")]
)
def test_tls_level_by_compatibility(compatible: str, level: str) -> None:
    given = {"compatibility_level": compatible}
    assert Settings(given).text("smtp_tls_security_level") == level
    assert Settings(given, lmtp=True).text("smtp_tls_security_level") == ""


@pytest.mark.parametrize("name", sorted(NEW))
def test_a_parameter_of_later_releases_is_not_in_this_one(name: str) -> None:
    assert name not in POSTFIX


@pytest.mark.parametrize(
    "name", [name for name in POSTFIX if name.startswith(("smtp_", "lmtp_"))]
)
def test_every_client_parameter_is_known(name: str) -> None:
    known = name in TABLE or any(part in name for part in QUEUE_MANAGER)
    assert known or name.endswith(("_concurrency", "_delivery_slots"))


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
def test_every_default_is_a_good_value(lmtp: bool) -> None:
    settings = Settings(lmtp=lmtp)
    convert = {
        "B": settings.flag,
        "E": settings.text,
        "I": settings.integer,
        "L": settings.words,
        "M": settings.words,
        "S": settings.text,
        "T": settings.seconds,
    }
    for name, row in TABLE.items():
        convert[row.kind](name)


def test_no_name_of_ours_is_one_that_postfix_makes_from_a_transport() -> None:
    ours = [name for name in TABLE if name.startswith("trouble_")]
    made = ("_time_limit", "_rate_delay", "_limit", "_initial_destination_concurrency")
    assert ours
    assert not [
        name
        for name in ours
        if name == "trouble_time_limit"
        or (name.startswith("trouble_destination_") and name.endswith(made))
        or name.endswith("_rate_delay")
    ]


def test_the_manual_lists_each_parameter_once_and_all_of_them() -> None:
    rows = list(supported())
    names = [name for _, name, _, _ in rows] + [
        other for _, _, other, _ in rows if other
    ]
    assert sorted(names) == sorted(TABLE)
    assert list(meanings()) == [name for _, name, _, _ in rows]
    reasons = {row.unsupported for *_, row in rows if row.unsupported}
    # Each completes the sentence "not supported, because ...".
    assert not [reason for reason in reasons if reason.endswith(".")]


def test_what_must_not_be_passed_over_has_a_reason() -> None:
    vital = [name for name, row in TABLE.items() if row.vital]
    assert "smtp_tls_dcert_file" in vital
    assert all(TABLE[name].unsupported for name in vital)
    for name in vital:
        with pytest.raises(ConfigError, match="not supported, because"):
            Settings({name: "hash:/x"}, lmtp=name.startswith("lmtp_")).refuse_unusable()
    Settings(dict.fromkeys(vital, "")).refuse_unusable()
    Settings({"lmtp_tls_dcert_file": "/x"}).refuse_unusable()
