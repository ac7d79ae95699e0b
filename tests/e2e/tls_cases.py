"""Servers with good and bad TLS, and what becomes of mail at each level of security.

All are called mx.secure.test; the port tells them apart, and is the key in the policy
table. The files are in /etc/postfix/tls, which the test fills before the first mail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from both_clients import Case

from certificates import fingerprint, key_digest
from scripted_server import Script

HOST = "127.41.0.1"
# How old a message gets in no test; the age from which it is an old one.
YOUNG, OLD = "minimal_backoff_time=3600s", "minimal_backoff_time=1s"
ZONE = {"mx.secure.test": {"A": [HOST]}}
FILES = "/etc/postfix/tls"
_TRUST = {"smtp_tls_CAfile": f"{FILES}/ca.pem"}
_TABLE = {"smtp_tls_policy_maps": f"texthash:{FILES}/policy", **_TRUST}

GROUPS: dict[str, dict[str, str]] = {
    "tls-may": {"smtp_tls_security_level": "may"},
    "tls-encrypt": {"smtp_tls_security_level": "encrypt"},
    "tls-verify": {"smtp_tls_security_level": "verify", **_TRUST},
    "tls-secure": {"smtp_tls_security_level": "secure", **_TRUST},
    "tls-untrusting": {"smtp_tls_security_level": "secure"},
    "tls-wrapped": {
        "smtp_tls_security_level": "secure",
        "smtp_tls_wrappermode": "yes",
        **_TRUST,
    },
    "tls-wrapped-weak": {
        "smtp_tls_security_level": "may",
        "smtp_tls_wrappermode": "yes",
    },
    "tls-policy": {"smtp_tls_security_level": "may", **_TABLE},
    # Set for the second attempt, so that the message is an old one.
    "tls-waiting": {
        "smtp_tls_security_level": "may",
        **dict([YOUNG.split("=")]),
    },
    "tls-waiting-on": {
        "smtp_tls_security_level": "encrypt",
        **dict([YOUNG.split("=")]),
    },
}
CASES: dict[str, Case] = {}
# Entries of the policy table: port, and the text, which may name a certificate whose
# digest is to stand there.
_POLICIES: dict[int, str] = {}

OFFER = ("STARTTLS", "8BITMIME", "ENHANCEDSTATUSCODES")
UNVERIFIED = ("deferred", "4.7.5", "Server certificate not verified")
NO_HANDSHAKE = ("deferred", "4.7.5", "Cannot start TLS: handshake failure")
NOT_OFFERED = ("deferred", "4.7.4", "TLS is required, but was not offered by host")
MISCONFIGURED = ("deferred", "4.7.5", "client TLS configuration problem")
SENT = ("sent", "2.0.0", "")


def policy_table(certificates: Path) -> str:
    """The policy table, with the digests of the certificates of this run."""
    lines = []
    for port, text in _POLICIES.items():
        for name in ("good", "selfsigned"):
            path = certificates / f"{name}.pem"
            text = text.replace(f"CERT-{name}", fingerprint(path))
            text = text.replace(f"KEY-{name}", key_digest(path))
        lines.append(f"[mx.secure.test]:{port} {text}\n")
    return "".join(lines)


def _case(
    name: str,
    group: str,
    script: Script,
    outcome: tuple[str, str, str],
    policy: str = "",
) -> None:
    port = 2600 + len(CASES)
    if policy:
        _POLICIES[port] = policy
    servers = {f"{HOST}:{port}": {"keywords": OFFER, **script}}
    CASES[name] = Case(group, f"[mx.secure.test]:{port}", servers, *outcome)


def _shows(certificate: str, **more: Any) -> Script:
    return {"tls": {"cert": certificate, **more}}


# --- each certificate, each level ---------------------------------------------------

# Who passes where the name and the authority matter; wrong names have an authority.
_PASSING = {"may": 5, "encrypt": 5, "verify": 1, "secure": 1, "untrusting": 0}
CERTIFICATES = ("good", "wrongname", "expired", "untrusted", "selfsigned")
for _level, _passing in _PASSING.items():
    for _number, _shown in enumerate(CERTIFICATES):
        _case(
            f"{_level}-{_shown}",
            f"tls-{_level}",
            _shows(_shown),
            SENT if _number < _passing else UNVERIFIED,
        )

# --- by policy table ----------------------------------------------------------------

_ROWS: dict[str, tuple[str, str, tuple[str, str, str]]] = {
    # Certificate shown, policy, outcome.
    "print-good": ("good", "fingerprint match=CERT-good", SENT),
    "print-key": ("good", "fingerprint match=KEY-good", SENT),
    "print-of-another": ("good", "fingerprint match=CERT-selfsigned", UNVERIFIED),
    "print-two": ("good", "fingerprint match=CERT-selfsigned|CERT-good", SENT),
    "print-selfsigned": ("selfsigned", "fingerprint match=CERT-selfsigned", SENT),
    "print-expired": ("expired", "fingerprint match=CERT-good", UNVERIFIED),
    "print-untrusted": ("untrusted", "fingerprint match=CERT-good", UNVERIFIED),
    "print-wrongname": ("wrongname", "fingerprint match=CERT-good", UNVERIFIED),
    "print-none": ("good", "fingerprint", MISCONFIGURED),
    "policy-none": ("expired", "none", SENT),
    "policy-may": ("expired", "may", SENT),
    "policy-encrypt": ("expired", "encrypt", SENT),
    "policy-verify": ("good", "verify", SENT),
    "policy-secure": ("good", "secure", SENT),
    "policy-wrong": ("expired", "secure", UNVERIFIED),
    "match-other": ("good", "secure match=other.test", UNVERIFIED),
    "match-that-name": ("wrongname", "secure match=wrong.example.test", SENT),
    "match-below": ("wrongname", "secure match=.example.test", SENT),
    "match-one-of": ("good", "secure match=other.test:nexthop", SENT),
    "match-host": ("good", "verify match=hostname", SENT),
    "anchor": ("untrusted", f"secure tafile={FILES}/otherca.pem", SENT),
    "anchor-other": ("good", f"secure tafile={FILES}/otherca.pem", UNVERIFIED),
    "anchor-missing": ("good", f"secure tafile={FILES}/no.pem", MISCONFIGURED),
    "old-protocol": ("good", "encrypt protocols=TLSv1.2", SENT),
    "misspelt": ("good", "secrue", MISCONFIGURED),
    "bad-attribute": ("good", "encrypt match=nexthop", MISCONFIGURED),
    "unknown-attribute": ("good", "secure matches=nexthop", MISCONFIGURED),
    "bad-ciphers": ("good", "encrypt ciphers=great", NO_HANDSHAKE),
    "bad-protocols": ("good", "encrypt protocols=TLSv9", NO_HANDSHAKE),
}
for _name, (_shown, _policy, _outcome) in _ROWS.items():
    _case(_name, "tls-policy", _shows(_shown, sni=True), _outcome, _policy)
for _name, _words in {
    "bad-ciphers": "ciphers=great",
    "bad-protocols": "protocols=TLSv9",
}.items():
    CASES[_name] = CASES[_name]._replace(
        ours=f"Cannot start TLS: smtp_tls_policy_maps: {_words}"
    )
_case(
    "sni", "tls-policy", _shows("good", sni=True), SENT, "encrypt servername=hostname"
)
_case("no-policy", "tls-policy", _shows("expired"), SENT)
_case(
    "too-new",
    "tls-policy",
    _shows("good", max_version="TLSv1.2"),
    NO_HANDSHAKE,
    "encrypt protocols=TLSv1.3",
)

# --- STARTTLS -----------------------------------------------------------------------

_GARBAGE = _shows("good", handshake="garbage")
_HANGS_UP = _shows("good", handshake="close")
_RESETS = _shows("good", handshake="reset")
_REFUSED = "454 4.7.0 TLS not available"
_LOST_AFTER = {"stages": {"ehlo-after-tls": {"action": "close"}}}
_LOST_AT_MAIL = {"stages": {"mail": {"action": "close"}}}


def _starttls(reply: Any) -> Script:
    return {"stages": {"starttls": reply}}


_LOST = ("deferred", "4.4.2", "lost connection with mx.secure.test[")
_case("not-offered-may", "tls-may", {"keywords": ()}, SENT)
_case("not-offered-encrypt", "tls-encrypt", {"keywords": ()}, NOT_OFFERED)
_case("not-offered-secure", "tls-secure", {"keywords": ()}, NOT_OFFERED)
_case("no-esmtp", "tls-encrypt", {"stages": {"ehlo": "502 no"}}, NOT_OFFERED)
_case("refused-may", "tls-may", _starttls(_REFUSED), SENT)
_case(
    "refused-encrypt",
    "tls-encrypt",
    _starttls(_REFUSED),
    ("deferred", "4.7.0", "refused to start TLS: 454 4.7.0 TLS not available"),
)
_case(
    "refused-for-good",
    "tls-secure",
    _starttls("554 5.7.0 never"),
    ("bounced", "5.7.0", "refused to start TLS: 554 5.7.0 never"),
)
_case("lost-at-starttls", "tls-may", _starttls({"action": "close"}), _LOST)
_case("garbage-may", "tls-may", _GARBAGE, NO_HANDSHAKE)
_case("garbage-encrypt", "tls-encrypt", _GARBAGE, NO_HANDSHAKE)
_case("hangs-up-may", "tls-may", _HANGS_UP, NO_HANDSHAKE)
_case("hangs-up-secure", "tls-secure", _HANGS_UP, NO_HANDSHAKE)
_case("resets-may", "tls-may", _RESETS, NO_HANDSHAKE)
# Replies that come before their time are no replies.
_case(
    "injected",
    "tls-encrypt",
    _starttls({"raw": "220 2.0.0 go\r\n250 2.0.0 injected\r\n"}),
    SENT,
)

_case("lost-after", "tls-may", _LOST_AFTER, _LOST)
_case("lost-at-mail", "tls-may", _LOST_AT_MAIL, _LOST)

# --- TLS from the first byte --------------------------------------------------------

for _shown in CERTIFICATES:
    _case(
        f"wrapped-{_shown}",
        "tls-wrapped",
        {**_shows(_shown, wrapper=True), "keywords": ()},
        SENT if _shown == "good" else UNVERIFIED,
    )
_case(
    "wrapped-garbage",
    "tls-wrapped",
    _shows("good", wrapper=True, handshake="garbage"),
    NO_HANDSHAKE,
)
_case(
    "wrapped-weak",
    "tls-wrapped-weak",
    _shows("good", wrapper=True),
    ("deferred", "4.3.0", "server unavailable or unable to receive mail"),
)

# --- plaintext after all, for a message that has waited -----------------------------

# What comes of the second attempt; the first ends as it does for a young message.
WAITING: dict[str, tuple[str, str, str]] = {}


def _waits(
    name: str,
    group: str,
    script: Script,
    first: tuple[str, str, str],
    second: tuple[str, str, str],
) -> None:
    _case(name, group, script, first)
    WAITING[name] = second


_waits("waits-garbage", "tls-waiting", _GARBAGE, NO_HANDSHAKE, SENT)
_waits("waits-hangs-up", "tls-waiting", _HANGS_UP, NO_HANDSHAKE, SENT)
_waits("waits-lost-after", "tls-waiting", _LOST_AFTER, _LOST, SENT)
_waits("waits-lost-at-mail", "tls-waiting", _LOST_AT_MAIL, _LOST, _LOST)
_waits("waits-encrypt", "tls-waiting-on", _GARBAGE, NO_HANDSHAKE, NO_HANDSHAKE)
_waits("waits-lost-encrypt", "tls-waiting-on", _LOST_AFTER, _LOST, _LOST)
