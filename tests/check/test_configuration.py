"""What main.cf may get wrong: each mistake, what it costs, and what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest
from spelled_out import assert_as_written_down, spelled_out

from postfix_trouble.check.configuration import judge
from postfix_trouble.check.findings import Finding
from postfix_trouble.config.settings import Settings


def judged(
    values: dict[str, str], warnings: Collection[str] = (), lmtp: bool = False
) -> Iterator[Finding]:
    values = {"myhostname": "mail.example.org", **values}
    settings = Settings(values, lmtp=lmtp)
    return judge(settings, list(values), warnings, lmtp=lmtp)


TRUST = ("smtp_tls_CAfile", "smtp_tls_CApath", "smtp_tls_trust_anchor_file")
SECURE = {"smtp_tls_security_level": "secure"}
POLICY = {"smtp_tls_policy_maps": "texthash:/x"}
SOUND: list[dict[str, str]] = [
    {},
    {"smtpd_banner": "x", "mine": "y", "trouble_time_limit": "2000"},
    {"smtp_tls_dcert_file": ""},
    *({**SECURE, name: "/x"} for name in TRUST),
    *({**POLICY, name: "/x"} for name in TRUST),
    {**SECURE, "tls_append_default_CA": "yes"},
    {**POLICY, "tls_append_default_CA": "yes"},
    {"smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec"},
    {
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": "texthash:/x",
    },
    {"smtp_helo_name": "[192.0.2.1]"},
    {"smtp_bind_address": "192.0.2.1", "smtp_bind_address6": "2001:db8::1"},
    {"smtp_bind_address6": "[2001:db8::1]"},
    {"trouble_give_up_age": "5d"},
    # One that transports share, and what Postfix makes of a transport's name.
    *(
        {f"trouble_{name}": "1"}
        for name in (
            "delivery_slot_cost", "delivery_slot_discount", "delivery_slot_loan",
            "destination_concurrency_failed_cohort_limit",
            "destination_concurrency_limit",
            "destination_concurrency_negative_feedback",
            "destination_concurrency_positive_feedback", "destination_rate_delay",
            "destination_recipient_limit", "extra_recipient_limit",
            "initial_destination_concurrency", "minimum_delivery_slots",
            "recipient_limit", "recipient_refill_delay", "recipient_refill_limit",
            "time_limit", "transport_rate_delay",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("values", SOUND)
def test_sound(values: dict[str, str]) -> None:
    assert list(judged(values)) == []


MISTAKES: dict[str, dict[str, str]] = {
    "no boolean": {"soft_bounce": "maybe"},
    "no time, and no default": {"trouble_give_up_age": "5x"},
    "others have it by default": {"maximal_queue_lifetime": "5x"},
    "the other protocol": {"lmtp_lhlo_timeout": "5x"},
    "wrong, and not honoured": {"queue_run_delay": "5x"},
    "not honoured": {"bounce_template_file": "/x"},
    "must not be ignored": {"smtp_tls_dcert_file": "/x"},
    "wrong, and must not be ignored": {"smtp_tls_dcert_file": "${x"},
    "must not be ignored, but is empty": {"smtp_tls_dcert_file": "$no_such"},
    "the same for LMTP": {"lmtp_tls_dcert_file": "/x"},
    "misspelt": {"smtp_helo_tiemout": "5", "trouble_deadlin": "5"},
    "misspelt for LMTP": {"lmtp_lhlo_tiemout": "5"},
    "like nothing": {"smtp_xyzzy": "5"},
    "like a transport's": {"trouble_time_limits": "5"},
    "no authority": SECURE,
    "verify": {"smtp_tls_security_level": "verify"},
    "no authority for a policy": POLICY,
    "a policy, and secure": {**POLICY, **SECURE},
    "a policy, and verify": {**POLICY, "smtp_tls_security_level": "verify"},
    "dane": {"smtp_tls_security_level": "dane"},
    "dane-only": {"smtp_tls_security_level": "dane-only"},
    "no authority for MTA-STS": {"trouble_mta_sts": "yes"},
    "no authority but for servers": {"trouble_mta_sts": "yes"}
    | {"smtp_tls_trust_anchor_file": "/x", "trouble_state_directory": "/x"},
    "no level": {"smtp_tls_security_level": "may2", "smtp_sasl_auth_enable": "yes"},
    "nothing to log in with": {"smtp_sasl_auth_enable": "yes"},
    "nobody logs in": {"smtp_sasl_password_maps": "texthash:/x"},
    "localdomain": {"myhostname": "h.localdomain"},
    "a name without a domain": {"smtp_helo_name": "h"},
    "a bracketed name": {"smtp_helo_name": "[h]"},
    "no address": {"smtp_bind_address": "h", "smtp_bind_address6": "[::x]"},
    "nearly an address": {"smtp_bind_address": "X192.0.2.1"},
    "given up too late": {"trouble_give_up_age": "9d"},
    "given up too late for bounces": {"bounce_queue_lifetime": "1d"}
    | {"trouble_give_up_age": "2d"},
}


def test_mistakes_their_cost_and_their_remedy() -> None:
    found = [spelled_out(name, judged(values)) for name, values in MISTAKES.items()]
    smtp = {"smtp_helo_timeout": "5x", "smtp_tls_dcert_file": "/x"}
    lmtp = {"lmtp_lhlo_timeout": "5x", "lmtp_tls_dcert_file": "/x"}
    for values in smtp, lmtp:
        found.append(spelled_out("of an LMTP client", judged(values, lmtp=True)))
    blanks = 'logical line must not start with whitespace: " soft_bounce = yes"'
    warnings = ("main.cf, line 2: overriding earlier entry: x=y", f"main.cf: {blanks}")
    found.append(spelled_out("lines of the file", judged({}, warnings)))
    assert_as_written_down("configuration", "".join(found))
