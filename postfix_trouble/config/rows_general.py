"""Parameters of the table: general, routing, bounces, and our own."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.types import row

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
    "soft_bounce": row("B", "no"),
    "notify_classes": row("L", "resource, software", words=NOTICE_CLASSES),
    "error_notice_recipient": row("S", "postmaster", 1),
    "bounce_notice_recipient": row("S", "postmaster", 1, unsupported=_BOUNCE),
    "2bounce_notice_recipient": row("S", "postmaster", 1, unsupported=_BOUNCE),
    "delay_notice_recipient": row("S", "postmaster", 1, unsupported=_BOUNCE),
    "header_from_format": row("E", "standard", words=("standard", "obsolete")),
    "double_bounce_sender": row("S", "double-bounce", 1),
    "myhostname": row("S", ""),
    "mydomain": row("S", ""),
    "myorigin": row("S", "$myhostname", 1),
    "mydestination": row("L", "$myhostname, localhost.$mydomain, localhost"),
    "mail_name": row("S", "Postfix", 1),
    "mail_version": row("S", "3.7.11"),
    "compatibility_level": row("S", "3.6"),
    "config_directory": row("S", "/etc/postfix", 1),
    "data_directory": row("S", "/var/lib/postfix", 1),
    "queue_directory": row("S", "/var/spool/postfix", 1),
    "daemon_directory": row("S", "/usr/lib/postfix/sbin", 1),
    "command_directory": row("S", "/usr/sbin", 1),
    "sendmail_path": row("S", "/usr/sbin/sendmail"),
    "default_database_type": row("S", "hash", 1),
    "multi_instance_name": row("S", ""),
    "syslog_name": row("S", "postfix-trouble", 1),
    "syslog_facility": row("S", "mail", 1, unsupported="it is always mail"),
    "helpful_warnings": row("B", "yes"),
    "info_log_address_format": row("E", "external", words=("external", "internal")),
    "delay_logging_resolution_limit": row("I", "2", 0, 6),
    "default_delivery_status_filter": row("M", ""),
    "smtp_delivery_status_filter": row("M", "$default_delivery_status_filter"),
    "pipe_delivery_status_filter": row(
        "M",
        "$default_delivery_status_filter",
        unsupported="pipe(8) itself applies it to our answer",
    ),
    "minimal_backoff_time": row("T", "300s", 1),
    "maximal_backoff_time": row("T", "4000s", 1),
    "queue_run_delay": row("T", "300s", 1, unsupported=_QUEUE_MANAGER),
    "line_length_limit": row("I", "2048", 512),
    "smtp_log_tls_feature_status": row("B", "yes"),
    "debug_peer_list": row("L", "", unsupported="-v and --json show the dialogue"),
    "debug_peer_level": row("I", "2", 1, unsupported="-v and --json show the dialogue"),
}

ROUTING = {
    "relayhost": row("S", ""),
    "fallback_relay": row("L", ""),
    "smtp_fallback_relay": row("L", "$fallback_relay"),
    "best_mx_transport": row(
        "S",
        "",
        unsupported="a program behind pipe(8) can't hand mail to another transport",
    ),
    "ignore_mx_lookup_error": row("B", "no"),
    "smtp_defer_if_no_mx_address_found": row("B", "no"),
    "smtp_mx_address_limit": row("I", "5"),
    "smtp_mx_session_limit": row("I", "2"),
    "smtp_randomize_addresses": row("B", "yes"),
    "smtp_address_preference": row("E", "any", words=("any", "ipv4", "ipv6")),
    "smtp_balance_inet_protocols": row("B", "yes"),
    "smtp_host_lookup": row("L", "dns", 1, words=("dns", "native")),
    "disable_dns_lookups": row("B", "no"),
    "smtp_dns_support_level": row("E", "", words=("", "disabled", "enabled", "dnssec")),
    "smtp_dns_resolver_options": row("L", "", words=("res_defnames", "res_dnsrch")),
    "smtp_dns_reply_filter": row("M", ""),
    "inet_protocols": row("L", "all", words=("all", "ipv4", "ipv6")),
    "inet_interfaces": row("L", "all"),
    "proxy_interfaces": row("L", ""),
    "smtp_bind_address": row("S", ""),
    "smtp_bind_address6": row("S", ""),
    "smtp_bind_address_enforce": row("B", "no"),
    "smtp_tcp_port": row("S", "smtp", 1),
    "known_tcp_ports": row(
        "L", "lmtp=24, smtp=25, smtps=submissions=465, submission=587"
    ),
    "smtp_cname_overrides_servername": row("B", "no"),
    "use_srv_lookup": row("L", ""),
    "allow_srv_lookup_fallback": row("B", "no"),
    "ignore_srv_lookup_error": row("B", "no"),
    "dns_ncache_ttl_fix_enable": row("B", "no", unsupported="no answer is kept"),
    "dnssec_probe": row(
        "S", "ns:.", unsupported="each answer's own AD bit is what counts"
    ),
}

BOUNCES = {
    "bounce_size_limit": row("I", "50000", 1),
    "bounce_template_file": row("S", "", unsupported="bounces of ours have one form"),
    "delay_warning_time": row("T", "0h", unsupported=_QUEUE_MANAGER),
    "maximal_queue_lifetime": row("T", "5d", 0, 8640000),
    "bounce_queue_lifetime": row("T", "5d", 0, 8640000),
    "confirm_delay_cleared": row("B", "no", unsupported=_QUEUE_MANAGER),
    "enable_threaded_bounces": row("B", "no"),
    "command_time_limit": row(
        "T",
        "1000s",
        1,
        unsupported="pipe(8) applies it to us; trouble_deadline must be below it",
    ),
    "export_environment": row(
        "L", "TZ MAIL_CONFIG LANG", unsupported="pipe(8) applies it to us"
    ),
    "recipient_delimiter": row("S", ""),
    "enable_original_recipient": row(
        "B", "yes", unsupported="cleanup(8) and pipe(8) apply it"
    ),
    "default_destination_recipient_limit": row("I", "50", unsupported=_QUEUE_MANAGER),
    "default_destination_concurrency_limit": row("I", "20", unsupported=_QUEUE_MANAGER),
    "default_destination_concurrency_failed_cohort_limit": row(
        "I", "1", unsupported=_QUEUE_MANAGER
    ),
}

# None may be called trouble_time_limit, trouble_destination_..._limit or
# trouble_..._rate_delay: Postfix makes such names for a transport called trouble.
OURS = {
    "trouble_deadline": row("T", "900s", 1),
    "trouble_state_directory": row("S", ""),
    "trouble_destination_retry_time": row("T", "300s"),
    "trouble_give_up_age": row("T", ""),
    "trouble_nameserver": row("S", ""),
    "trouble_resolver_time_limit": row("T", "30s", 1),
    "trouble_mta_sts": row("B", "no"),
    "trouble_postfix_version": row("E", VERSIONS[-1], words=VERSIONS),
    "trouble_sasl_token_command": row("S", ""),
    "trouble_sasl_token_margin": row("T", "60s"),
    "trouble_log_file": row("S", ""),
    "trouble_log_format": row("E", "postfix", words=("postfix", "json")),
}
