"""Settings that routing goes by."""

from __future__ import annotations

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.hostname import IPV4, IPV6
from postfix_trouble.dns.routing import Rules


def test_who_sets_nothing_gets_what_postfix_has() -> None:
    default = Settings()
    assert default.words("inet_protocols") == ("all",)
    assert default.words("smtp_host_lookup") == ("dns",)
    assert default.text("smtp_address_preference") == "any"
    assert Rules() == Rules(
        myhostname="localhost",
        lmtp=False,
        families=(IPV4, IPV6),
        dns=not default.flag("disable_dns_lookups"),
        dns_hosts=True,
        native_hosts=False,
        ignore_mx_lookup_error=default.flag("ignore_mx_lookup_error"),
        defer_if_no_mx_address=default.flag("smtp_defer_if_no_mx_address_found"),
        randomize=default.flag("smtp_randomize_addresses"),
        preferred_family=0,
        balance=default.flag("smtp_balance_inet_protocols"),
        address_limit=default.integer("smtp_mx_address_limit"),
        srv_services=default.words("use_srv_lookup"),
        allow_srv_fallback=default.flag("allow_srv_lookup_fallback"),
        ignore_srv_error=default.flag("ignore_srv_lookup_error"),
        cname_overrides=default.flag("smtp_cname_overrides_servername"),
    )
