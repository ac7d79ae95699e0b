"""Settings that do something, one case each, so that none is honoured in name only.

What other files compare already (timeouts, TLS levels, look-ups, conversions) is not
here. Tables are in /etc/postfix/settings, which the test fills before the first mail.
"""

from __future__ import annotations

from typing import Any

from both_clients import Case

from scripted_server import Script

HOST = "127.44.0.1"
# Not of the loopback network: Postfix sends from no other by itself.
OWN = "192.0.2.9"
FILES = "/etc/postfix/settings"
_TLS = "/etc/postfix/tls"
ZONE = {"mx.secure.test": {"A": [HOST]}}
TABLES = {
    "mime": "/^Content-Type: text\\/html/ REPLACE Content-Type: text/plain\n"
    "/^Content-Description:/ IGNORE\n/^X-In-Part:/ PREPEND X-Seen: yes\n",
    "generic": "sender@sender.test out@example.org\nnobody@sender.test nobody\n"
    "@below.test @above.test\n",
    "pix": f"{HOST} delay_dotcrlf\n",
}
GROUPS: dict[str, dict[str, str]] = {}
CASES: dict[str, Case] = {}

UNVERIFIED = ("deferred", "4.7.5", "Server certificate not verified")
NO_HANDSHAKE = ("deferred", "4.7.5", "Cannot start TLS: handshake failure")
NOT_OFFERED = ("deferred", "4.7.4", "TLS is required, but was not offered")
SENT = ("sent", "2.0.0", "")
_FIRST = b"From: sender@sender.test\nTo: list\nSubject: sample\n"


def _case(
    name: str,
    settings: dict[str, str],
    script: Script | None = None,
    outcome: tuple[str, str, str] = SENT,
    *,
    nexthop: str = "",
    host: str = HOST,
    **more: Any,
) -> None:
    """`nexthop`: what stands for the server, {port} being its port."""
    GROUPS[f"set-{name}"] = settings
    port = 2600 + len(CASES)
    where = (nexthop or f"[{HOST}]:{{port}}").format(port=port)
    servers = {f"{host}:{port}": script or {}}
    CASES[name] = Case(f"set-{name}", where, servers, *outcome, **more)


# --- where from, where to -----------------------------------------------------------

# The address that the server must see.
SOURCES = {"bind": "127.44.0.9", "interface": OWN, "interfaces": "127.0.0.1"}
_case("bind", {"smtp_bind_address": "127.44.0.9"})
_case("interface", {"inet_interfaces": OWN})
_case("interfaces", {"inet_interfaces": f"{OWN}, 127.0.0.1"})
_case("port-name", {"known_tcp_ports": "odd=2603"}, nexthop=f"[{HOST}]:odd")
_NATIVE: dict[str, Any] = {"nexthop": "inhosts.test:{port}", "host": "127.66.0.1"}
_case("dns-off", {"disable_dns_lookups": "yes"}, **_NATIVE)
_case("dns-disabled", {"smtp_dns_support_level": "disabled"}, **_NATIVE)
_case(
    "native",
    {"smtp_host_lookup": "native"},
    nexthop="[inhosts.test]:{port}",
    host="127.66.0.1",
)

# --- the dialogue -------------------------------------------------------------------

_PIX: Script = {"stages": {"banner": "220 **** 0 **"}}
_NO_WAIT = {"smtp_pix_workaround_threshold_time": "0s"}
_case("pix", {**_NO_WAIT, "smtp_pix_workaround_delay_time": "1s"}, _PIX)
_case("pix-no-delay", {"smtp_pix_workarounds": "disable_esmtp"}, _PIX)
_case("pix-off", {"smtp_pix_workarounds": ""}, _PIX)
_case("pix-map", {"smtp_pix_workaround_maps": f"texthash:{FILES}/pix"}, _PIX)
_SLOW: Script = {"stages": {"banner": {"reply": "220 mx.fake.test", "drip": 0.7}}}
_TIMED_OUT = ("deferred", "4.4.2", "timed out while receiving the initial server")
_case("slow", {}, _SLOW)
_case("deadline", {"smtp_per_request_deadline": "yes"}, _SLOW, _TIMED_OUT)
_case("old-deadline", {"smtp_per_record_deadline": "yes"}, _SLOW, _TIMED_OUT)
_case("dummy-auth", {"smtp_send_dummy_mail_auth": "yes"}, {"keywords": ["AUTH PLAIN"]})
_case("unquoted", {"smtp_quote_rfc821_envelope": "no"}, local='"a b"')
_case("log-internal", {"info_log_address_format": "internal"}, local='"a b"')
_case("log-external", {}, local='"a b"')

# --- the message --------------------------------------------------------------------

_GENERIC = {
    "smtp_generic_maps": f"texthash:{FILES}/generic",
    "recipient_delimiter": "+",
}
_KEEPING = {**_GENERIC, "propagate_unmatched_extensions": "generic"}
_HEADER = (
    b"From: Some One <sender+more@sender.test>\nTo: x@below.test, y@sender.test,\n"
    b' "a, b" <nobody@sender.test> (c)\nSubject: sender@sender.test\n'
)
for _name, _settings in {"generic": _GENERIC, "generic-keeping": _KEEPING}.items():
    for _sender in ("sender@sender.test", "sender+ext@sender.test", "x@below.test"):
        _case(
            f"{_name}-{len(CASES)}",
            _settings,
            sender=_sender,
            message=_HEADER + b"\nHello.\n",
        )
_case("generic-no-domain", _GENERIC, sender="nobody@sender.test")
_case(
    "mime-checks",
    {"smtp_mime_header_checks": f"regexp:{FILES}/mime"},
    message=_FIRST + b"MIME-Version: 1.0\nContent-Description: whole\n"
    b"X-In-Part: no\nContent-Type: multipart/mixed; boundary=b\n\n"
    b"--b\nContent-Type: text/html;\n charset=x\nX-In-Part: one\n\n<p>\n"
    b"--b\nContent-Description: part\n\ntext\n--b--\n",
)

# --- TLS ----------------------------------------------------------------------------

_OFFER = ("STARTTLS", "ENHANCEDSTATUSCODES")
_MAY = {"smtp_tls_security_level": "may"}
_ENCRYPT = {"smtp_tls_security_level": "encrypt"}
_CA = {"smtp_tls_CAfile": f"{_TLS}/ca.pem"}
_VERIFY = {"smtp_tls_security_level": "verify", **_CA}
_SECURE = {"smtp_tls_security_level": "secure", **_CA}
_ANCHORED = {
    "smtp_tls_security_level": "secure",
    "smtp_tls_trust_anchor_file": f"{_TLS}/otherca.pem",
}


def _tls_case(
    name: str,
    settings: dict[str, str],
    outcome: tuple[str, str, str] = SENT,
    **tls: Any,
) -> None:
    script = {"keywords": _OFFER, "tls": {"cert": "good", **tls}}
    _case(name, settings, script, outcome, nexthop="[mx.secure.test]:{port}")


_NO_ECDSA = {"smtp_tls_exclude_ciphers": "ECDSA"}
_MUST_NO_ECDSA = {"smtp_tls_mandatory_exclude_ciphers": "ECDSA"}
_V2 = "TLSv1.2"
_tls_case("exclude", {**_MAY, **_NO_ECDSA}, NO_HANDSHAKE, max_version=_V2)
_tls_case("exclude-unneeded", {**_MAY, **_NO_ECDSA})
_tls_case("exclude-too", {**_ENCRYPT, **_NO_ECDSA}, NO_HANDSHAKE, max_version=_V2)
_tls_case("must-exclude", {**_ENCRYPT, **_MUST_NO_ECDSA}, NO_HANDSHAKE, max_version=_V2)
_tls_case("must-exclude-not", {**_MAY, **_MUST_NO_ECDSA}, max_version=_V2)
for _grade in ("high", "medium", "low", "export"):
    _tls_case(f"may-{_grade}", {**_MAY, "smtp_tls_ciphers": _grade}, max_version=_V2)
    _strong = {**_ENCRYPT, "smtp_tls_mandatory_ciphers": _grade}
    _tls_case(f"encrypt-{_grade}", _strong, max_version=_V2)
_tls_case(
    "may-null", {**_MAY, "smtp_tls_ciphers": "null"}, NO_HANDSHAKE, max_version=_V2
)
_tls_case(
    "protocols",
    {**_MAY, "smtp_tls_protocols": "TLSv1.3"},
    NO_HANDSHAKE,
    max_version=_V2,
)
_tls_case("protocols-not", {**_ENCRYPT, "smtp_tls_protocols": "TLSv1.3"})
_tls_case("must-protocols", {**_ENCRYPT, "smtp_tls_mandatory_protocols": "!TLSv1.3"})
_tls_case(
    "must-protocols-more",
    {**_ENCRYPT, "smtp_tls_mandatory_protocols": ">=TLSv1.3"},
    NO_HANDSHAKE,
    max_version=_V2,
)
_tls_case("verify-nexthop", {**_VERIFY, "smtp_tls_verify_cert_match": "nexthop"})
_tls_case("verify-below", {**_VERIFY, "smtp_tls_verify_cert_match": ".secure.test"})
_tls_case(
    "verify-other", {**_VERIFY, "smtp_tls_verify_cert_match": "other.test"}, UNVERIFIED
)
_tls_case(
    "secure-other",
    {**_SECURE, "smtp_tls_secure_cert_match": "other.test, .test2"},
    UNVERIFIED,
)
_tls_case("secure-host", {**_SECURE, "smtp_tls_secure_cert_match": "hostname"})
_tls_case("anchor-file", _ANCHORED, cert="untrusted")
_tls_case("anchor-file-only", {**_ANCHORED, **_CA}, UNVERIFIED)
_tls_case("use-tls", {"smtp_use_tls": "yes"}, cert="expired")
_tls_case(
    "enforce-tls", {"smtp_enforce_tls": "yes", **_CA}, UNVERIFIED, cert="wrongname"
)
_tls_case(
    "enforce-nameless",
    {"smtp_enforce_tls": "yes", "smtp_tls_enforce_peername": "no"},
    cert="expired",
)
_case("enforce-in-vain", {"smtp_enforce_tls": "yes"}, {}, NOT_OFFERED)
_tls_case("servername", {**_MAY, "smtp_tls_servername": "hostname"}, sni=True)
_tls_case("servername-other", {**_MAY, "smtp_tls_servername": "a.test"}, sni=True)
_tls_case(
    "early-reply",
    {**_MAY, "smtp_tls_block_early_mail_reply": "yes"},
)
