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
    "soft_bounce": P("B", "no", "defer what would be returned to the sender"),
    "notify_classes": P(
        "L",
        "resource, software",
        "what the postmaster is told of",
        words=NOTICE_CLASSES,
    ),
    "error_notice_recipient": P("S", "postmaster", "who gets transcripts", 1),
    "bounce_notice_recipient": P(
        "S", "postmaster", "who gets copies of bounces", 1, unsupported=_BOUNCE
    ),
    "2bounce_notice_recipient": P(
        "S", "postmaster", "who gets undeliverable bounces", 1, unsupported=_BOUNCE
    ),
    "delay_notice_recipient": P(
        "S", "postmaster", "who gets copies of delay warnings", 1, unsupported=_BOUNCE
    ),
    "header_from_format": P(
        "E",
        "standard",
        "form of From: and To: in generated mail",
        words=("standard", "obsolete"),
    ),
    "double_bounce_sender": P(
        "S", "double-bounce", "sender of notices to the postmaster", 1
    ),
    "myhostname": P("S", "", "our own name; empty: that of the system"),
    "mydomain": P("S", "", "domain of myhostname; empty: all after its first dot"),
    "myorigin": P(
        "S", "$myhostname", "domain of addresses that have none, or a file with it", 1
    ),
    "mydestination": P(
        "L",
        "$myhostname, localhost.$mydomain, localhost",
        "domains that are local: keys of address look-ups",
    ),
    "mail_name": P("S", "Postfix", "name of the mail system in notices", 1),
    "mail_version": P("S", "3.7.11", "for expansions"),
    "compatibility_level": P(
        "S", "3.6", "for defaults; 0 where there is a main.cf and it has none"
    ),
    "config_directory": P(
        "S", "/etc/postfix", "where main.cf is; for expansions and postmap", 1
    ),
    "data_directory": P("S", "/var/lib/postfix", "for expansions", 1),
    "queue_directory": P("S", "/var/spool/postfix", "for expansions", 1),
    "daemon_directory": P("S", "/usr/lib/postfix/sbin", "for expansions", 1),
    "command_directory": P("S", "/usr/sbin", "where postmap(1) is", 1),
    "sendmail_path": P("S", "/usr/sbin/sendmail", "sends bounces and notices"),
    "default_database_type": P("S", "hash", "for expansions", 1),
    "multi_instance_name": P("S", "", "for expansions"),
    "syslog_name": P("S", "postfix-trouble", "name in log lines", 1),
    "syslog_facility": P(
        "S", "mail", "facility of log lines", 1, unsupported="it is always mail"
    ),
    "helpful_warnings": P("B", "yes", "hints in warnings"),
    "info_log_address_format": P(
        "E",
        "external",
        "whether logged addresses are quoted",
        words=("external", "internal"),
    ),
    "delay_logging_resolution_limit": P("I", "2", "decimals of delay=", 0, 6),
    "default_delivery_status_filter": P("M", "", "default of the next"),
    "smtp_delivery_status_filter": P(
        "M", "$default_delivery_status_filter", "change status and text of an outcome"
    ),
    "pipe_delivery_status_filter": P(
        "M",
        "$default_delivery_status_filter",
        "the same for pipe(8)",
        unsupported="pipe(8) itself applies it to our answer",
    ),
    "minimal_backoff_time": P(
        "T", "300s", "age from which a failed TLS handshake is tried without TLS", 1
    ),
    "maximal_backoff_time": P(
        "T", "4000s", "longest pause between tries; for trouble_give_up_age", 1
    ),
    "queue_run_delay": P(
        "T", "300s", "pause between queue scans", 1, unsupported=_QUEUE_MANAGER
    ),
    "line_length_limit": P("I", "2048", "bytes kept of a reply and its lines", 512),
    "smtp_log_tls_feature_status": P(
        "B", "yes", "what became of TLS, tls= in log lines", since="3.11"
    ),
    "debug_peer_list": P(
        "L", "", "whom to log in detail", unsupported="-v and --json show the dialogue"
    ),
    "debug_peer_level": P(
        "I", "2", "how much detail", 1, unsupported="-v and --json show the dialogue"
    ),
}

ROUTING = {
    "relayhost": P("S", "", "softens errors of the destination that it names"),
    "fallback_relay": P("L", "", "default of the next"),
    "smtp_fallback_relay": P(
        "L", "$fallback_relay", "destinations to try after the nexthop"
    ),
    "best_mx_transport": P(
        "S",
        "",
        "transport for mail that loops",
        unsupported="a program behind pipe(8) can't hand mail to another transport",
    ),
    "ignore_mx_lookup_error": P("B", "no", "look up addresses when MX look-up fails"),
    "smtp_defer_if_no_mx_address_found": P(
        "B", "no", "defer when no MX host has an address"
    ),
    "smtp_mx_address_limit": P("I", "5", "addresses tried per destination; 0: all"),
    "smtp_mx_session_limit": P("I", "2", "sessions per destination; 0: any number"),
    "smtp_randomize_addresses": P("B", "yes", "shuffle servers of one preference"),
    "smtp_address_preference": P(
        "E", "any", "addresses to try first", words=("any", "ipv4", "ipv6")
    ),
    "smtp_balance_inet_protocols": P(
        "B", "yes", "leave room for both protocols within smtp_mx_address_limit"
    ),
    "smtp_host_lookup": P(
        "L", "dns", "where names are looked up", 1, words=("dns", "native")
    ),
    "disable_dns_lookups": P("B", "no", "old form of smtp_dns_support_level"),
    "smtp_dns_support_level": P(
        "E",
        "",
        "use of the DNS; empty: by disable_dns_lookups",
        words=("", "disabled", "enabled", "dnssec"),
    ),
    "smtp_dns_resolver_options": P(
        "L", "", "complete short names", words=("res_defnames", "res_dnsrch")
    ),
    "smtp_dns_reply_filter": P("M", "", "records to pass over"),
    "inet_protocols": P("L", "all", "IP versions", words=("all", "ipv4", "ipv6")),
    "inet_interfaces": P("L", "all", "own addresses: loop detection, source address"),
    "proxy_interfaces": P("L", "", "further own addresses"),
    "smtp_bind_address": P("S", "", "source address, IPv4"),
    "smtp_bind_address6": P("S", "", "source address, IPv6"),
    "smtp_bind_address_enforce": P("B", "no", "defer when the address can't be had"),
    "smtp_tcp_port": P("S", "smtp", "default port", 1),
    "known_tcp_ports": P(
        "L", "lmtp=24, smtp=25, smtps=submissions=465, submission=587", "port names"
    ),
    "smtp_cname_overrides_servername": P("B", "no", "a host takes its alias' target"),
    "use_srv_lookup": P("L", "", "services with SRV look-up", since="3.8"),
    "allow_srv_lookup_fallback": P("B", "no", "MX when no SRV found", since="3.8"),
    "ignore_srv_lookup_error": P("B", "no", "MX when SRV look-up fails", since="3.8"),
    "dns_ncache_ttl_fix_enable": P(
        "B", "no", "life of negative answers", unsupported="no answer is kept"
    ),
    "dnssec_probe": P(
        "S",
        "ns:.",
        "look-up that shows whether DNSSEC works",
        unsupported="each answer's own AD bit is what counts",
    ),
}

BOUNCES = {
    "bounce_size_limit": P("I", "50000", "bytes of the mail in a bounce", 1),
    "bounce_template_file": P(
        "S", "", "texts of bounces", unsupported="bounces of ours have one form"
    ),
    "delay_warning_time": P(
        "T", "0h", "age for a delay warning", unsupported=_QUEUE_MANAGER
    ),
    "maximal_queue_lifetime": P(
        "T", "5d", "when mail is given up; for trouble_give_up_age", 0, 8640000
    ),
    "bounce_queue_lifetime": P("T", "5d", "the same for bounces", 0, 8640000),
    "confirm_delay_cleared": P(
        "B", "no", "tell of mail sent late", unsupported=_QUEUE_MANAGER
    ),
    "enable_threaded_bounces": P("B", "no", "References: in a bounce"),
    "command_time_limit": P(
        "T",
        "1000s",
        "when pipe(8) kills a program",
        1,
        unsupported="pipe(8) applies it to us; trouble_deadline must be below it",
    ),
    "export_environment": P(
        "L",
        "TZ MAIL_CONFIG LANG",
        "environment of programs",
        unsupported="pipe(8) applies it to us",
    ),
    "recipient_delimiter": P("S", "", "between user and extension in an address"),
    "enable_original_recipient": P(
        "B", "yes", "X-Original-To:", unsupported="cleanup(8) and pipe(8) apply it"
    ),
    "default_destination_recipient_limit": P(
        "I", "50", "recipients of one request", unsupported=_QUEUE_MANAGER
    ),
    "default_destination_concurrency_limit": P(
        "I", "20", "requests at a time", unsupported=_QUEUE_MANAGER
    ),
    "default_destination_concurrency_failed_cohort_limit": P(
        "I",
        "1",
        "failures until a destination is suspended",
        unsupported=_QUEUE_MANAGER,
    ),
}

# None may be called trouble_time_limit, trouble_destination_..._limit or
# trouble_..._rate_delay: Postfix makes such names for a transport called trouble.
OURS = {
    "trouble_deadline": P(
        "T", "900s", "limit of a whole run; below pipe(8)'s time limit", 1
    ),
    "trouble_state_directory": P(
        "S", "", "what is remembered between runs; empty: nothing"
    ),
    "trouble_destination_retry_time": P(
        "T", "300s", "how long a dead destination is suspended; 0: not at all"
    ),
    "trouble_give_up_age": P(
        "T",
        "",
        "age at which recipients that are left are returned; empty: "
        "maximal_queue_lifetime less maximal_backoff_time, but at least half of it",
    ),
    "trouble_nameserver": P("S", "", "address[:port] of a name server to ask"),
    "trouble_resolver_time_limit": P(
        "T", "30s", "limit of the DNS look-ups for one destination", 1
    ),
    "trouble_mta_sts": P(
        "B", "no", "find out and apply MTA-STS policies (RFC 8461), without a plug-in"
    ),
    "trouble_postfix_version": P(
        "E",
        VERSIONS[-1],
        "the Postfix whose decisions are followed",
        words=VERSIONS,
    ),
    "trouble_sasl_token_command": P("S", "", "command that prints an OAuth token"),
    "trouble_sasl_token_margin": P("T", "60s", "drop a token so long before its end"),
    "trouble_log_file": P("S", "", "log to this file, not to syslog"),
    "trouble_log_format": P(
        "E",
        "postfix",
        "log records as Postfix has them, or JSON objects",
        words=("postfix", "json"),
    ),
}
