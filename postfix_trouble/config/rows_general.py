"""Parameters of the table: general, routing, bounces, and our own."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.types import row as P

_QUEUE_MANAGER = "the queue manager applies it before we are run"
_BOUNCE = "bounce(8) sends these notices"

# Those that decide in ways of their own, the newest last.
VERSIONS = ("3.7", "3.8", "3.9", "3.10", "3.11", "3.12")

NOTICE_CLASSES = (
    "bounce",
    "2bounce",
    "data",
    "delay",
    "policy",
    "protocol",
    "resource",
    "software",
)

GENERAL = {
    "soft_bounce": P("B", "no"),
    "notify_classes": P("L", "resource, software", words=NOTICE_CLASSES),
    "error_notice_recipient": P("S", "postmaster", 1),
    "bounce_notice_recipient": P("S", "postmaster", 1, unsupported=_BOUNCE),
    "2bounce_notice_recipient": P("S", "postmaster", 1, unsupported=_BOUNCE),
    "delay_notice_recipient": P("S", "postmaster", 1, unsupported=_BOUNCE),
    "header_from_format": P("E", "standard", words=("standard", "obsolete")),
    "double_bounce_sender": P("S", "double-bounce", 1),
    "myhostname": P("S", ""),
    "mydomain": P("S", ""),
    "myorigin": P("S", "$myhostname", 1),
    "mydestination": P("L", "$myhostname, localhost.$mydomain, localhost"),
    "mail_name": P("S", "Postfix", 1),
    "mail_version": P("S", "3.7.11"),
    "compatibility_level": P("S", "3.6"),
    "config_directory": P("S", "/etc/postfix", 1),
    "data_directory": P("S", "/var/lib/postfix", 1),
    "queue_directory": P("S", "/var/spool/postfix", 1),
    "daemon_directory": P("S", "/usr/lib/postfix/sbin", 1),
    "command_directory": P("S", "/usr/sbin", 1),
    "sendmail_path": P("S", "/usr/sbin/sendmail"),
    "default_database_type": P("S", "hash", 1),
    "multi_instance_name": P("S", ""),
    "syslog_name": P("S", "postfix-trouble", 1),
    "syslog_facility": P("S", "mail", 1, unsupported="it is always mail"),
    "helpful_warnings": P("B", "yes"),
    "info_log_address_format": P("E", "external", words=("external", "internal")),
    "delay_logging_resolution_limit": P("I", "2", 0, 6),
    "default_delivery_status_filter": P("M", ""),
    "smtp_delivery_status_filter": P("M", "$default_delivery_status_filter"),
    "pipe_delivery_status_filter": P(
        "M",
        "$default_delivery_status_filter",
        unsupported="pipe(8) itself applies it to our answer",
    ),
    "minimal_backoff_time": P("T", "300s", 1),
    "maximal_backoff_time": P("T", "4000s", 1),
    "queue_run_delay": P("T", "300s", 1, unsupported=_QUEUE_MANAGER),
    "line_length_limit": P("I", "2048", 512),
    "smtp_log_tls_feature_status": P("B", "yes"),
    "debug_peer_list": P("L", "", unsupported="-v and --json show the dialogue"),
    "debug_peer_level": P("I", "2", 1, unsupported="-v and --json show the dialogue"),
}

ROUTING = {
    "relayhost": P("S", ""),
    "fallback_relay": P("L", ""),
    "smtp_fallback_relay": P("L", "$fallback_relay"),
    "best_mx_transport": P(
        "S",
        "",
        unsupported="a program behind pipe(8) can't hand mail to another transport",
    ),
    "ignore_mx_lookup_error": P("B", "no"),
    "smtp_defer_if_no_mx_address_found": P("B", "no"),
    "smtp_mx_address_limit": P("I", "5"),
    "smtp_mx_session_limit": P("I", "2"),
    "smtp_randomize_addresses": P("B", "yes"),
    "smtp_address_preference": P("E", "any", words=("any", "ipv4", "ipv6")),
    "smtp_balance_inet_protocols": P("B", "yes"),
    "smtp_host_lookup": P("L", "dns", 1, words=("dns", "native")),
    "disable_dns_lookups": P("B", "no"),
    "smtp_dns_support_level": P("E", "", words=("", "disabled", "enabled", "dnssec")),
    "smtp_dns_resolver_options": P("L", "", words=("res_defnames", "res_dnsrch")),
    "smtp_dns_reply_filter": P("M", ""),
    "inet_protocols": P("L", "all", words=("all", "ipv4", "ipv6")),
    "inet_interfaces": P("L", "all"),
    "proxy_interfaces": P("L", ""),
    "smtp_bind_address": P("S", ""),
    "smtp_bind_address6": P("S", ""),
    "smtp_bind_address_enforce": P("B", "no"),
    "smtp_tcp_port": P("S", "smtp", 1),
    "known_tcp_ports": P(
        "L", "lmtp=24, smtp=25, smtps=submissions=465, submission=587"
    ),
    "smtp_cname_overrides_servername": P("B", "no"),
    "use_srv_lookup": P("L", ""),
    "allow_srv_lookup_fallback": P("B", "no"),
    "ignore_srv_lookup_error": P("B", "no"),
    "dns_ncache_ttl_fix_enable": P("B", "no", unsupported="no answer is kept"),
    "dnssec_probe": P(
        "S", "ns:.", unsupported="each answer's own AD bit is what counts"
    ),
}

BOUNCES = {
    "bounce_size_limit": P("I", "50000", 1),
    "bounce_template_file": P("S", "", unsupported="bounces of ours have one form"),
    "delay_warning_time": P("T", "0h", unsupported=_QUEUE_MANAGER),
    "maximal_queue_lifetime": P("T", "5d", 0, 8640000),
    "bounce_queue_lifetime": P("T", "5d", 0, 8640000),
    "confirm_delay_cleared": P("B", "no", unsupported=_QUEUE_MANAGER),
    "enable_threaded_bounces": P("B", "no"),
    "command_time_limit": P(
        "T",
        "1000s",
        1,
        unsupported="pipe(8) applies it to us; trouble_deadline must be below it",
    ),
    "export_environment": P(
        "L", "TZ MAIL_CONFIG LANG", unsupported="pipe(8) applies it to us"
    ),
    "recipient_delimiter": P("S", ""),
    "enable_original_recipient": P(
        "B", "yes", unsupported="cleanup(8) and pipe(8) apply it"
    ),
    "default_destination_recipient_limit": P("I", "50", unsupported=_QUEUE_MANAGER),
    "default_destination_concurrency_limit": P("I", "20", unsupported=_QUEUE_MANAGER),
    "default_destination_concurrency_failed_cohort_limit": P(
        "I", "1", unsupported=_QUEUE_MANAGER
    ),
}

# None may be called trouble_time_limit, trouble_destination_..._limit or
# trouble_..._rate_delay: Postfix makes such names for a transport called trouble.
OURS = {
    "trouble_deadline": P("T", "900s", 1),
    "trouble_state_directory": P("S", ""),
    "trouble_destination_retry_time": P("T", "300s"),
    "trouble_give_up_age": P("T", ""),
    "trouble_nameserver": P("S", ""),
    "trouble_resolver_time_limit": P("T", "30s", 1),
    "trouble_mta_sts": P("B", "no"),
    "trouble_postfix_version": P("E", VERSIONS[-1], words=VERSIONS),
    "trouble_sasl_token_command": P("S", ""),
    "trouble_sasl_token_margin": P("T", "60s"),
    "trouble_log_file": P("S", ""),
    "trouble_log_format": P("E", "postfix", words=("postfix", "json")),
}
