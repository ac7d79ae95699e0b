"""Parameters of the table: the dialogue, its timeouts, reuse of connections, SASL."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.types import row as P

_SECURITY_OPTIONS = (
    "noplaintext",
    "noactive",
    "nodictionary",
    "noanonymous",
    "mutual_auth",
)
_EXTENSION_USERS = ("canonical", "virtual", "alias", "forward", "include", "generic")

DIALOGUE = {
    "smtp_helo_name": P("S", "$myhostname", "name in EHLO and HELO", 1),
    "smtp_always_send_ehlo": P("B", "yes", "EHLO whatever the greeting says"),
    "smtp_never_send_ehlo": P("B", "no", "HELO, never EHLO"),
    "smtp_skip_5xx_greeting": P("B", "yes", "a greeting with 5xx is not final"),
    "smtp_skip_quit_response": P("B", "yes", "don't wait for the reply to QUIT"),
    "smtp_discard_ehlo_keywords": P("L", "", "extensions to pass over"),
    "smtp_discard_ehlo_keyword_address_maps": P(
        "M", "", "the same by server address; key: the address"
    ),
    "smtp_quote_rfc821_envelope": P("B", "yes", "quote addresses as RFC 5321 says"),
    "smtp_line_length_limit": P("I", "998", "break longer lines; 0: no limit"),
    "smtp_send_xforward_command": P("B", "no", "pass on who the client was"),
    "smtp_send_dummy_mail_auth": P("B", "no", "AUTH=<> in MAIL FROM"),
    "smtp_reply_filter": P("S", "", "one table; change reply lines"),
    "smtp_generic_maps": P("M", "", "change addresses on their way out"),
    "propagate_unmatched_extensions": P(
        "L",
        "canonical, virtual",
        "tables that keep address extensions",
        words=_EXTENSION_USERS,
    ),
    "smtp_header_checks": P("M", "", "rules for header lines"),
    "smtp_mime_header_checks": P("M", "", "rules for MIME header lines"),
    "smtp_nested_header_checks": P("M", "", "rules for headers of attached mail"),
    "smtp_body_checks": P("M", "", "rules for body lines"),
    "disable_mime_output_conversion": P("B", "no", "don't convert 8 bit to 7 bit"),
    "detect_8bit_encoding_header": P(
        "B", "yes", "8BITMIME where a header declares 8-bit text"
    ),
    "disable_mime_input_processing": P(
        "B", "no", "don't look at headers of parts for that"
    ),
    "mime_nesting_limit": P("I", "100", "depth up to which MIME is followed", 1),
    "smtputf8_enable": P(
        "B",
        "${{$compatibility_level} <level {1} ? {no} : {yes}}",
        "SMTPUTF8, and UTF-8 in replies and logs",
    ),
    "smtp_pix_workarounds": P(
        "L",
        "disable_esmtp,delay_dotcrlf",
        "for Cisco PIX firewalls",
        words=("disable_esmtp", "delay_dotcrlf"),
    ),
    "smtp_pix_workaround_maps": P("M", "", "the same by server address"),
    "smtp_pix_workaround_threshold_time": P("T", "500s", "for mail as old as this"),
    "smtp_pix_workaround_delay_time": P("T", "10s", "pause before the dot", 1),
    "smtp_address_verify_target": P(
        "E",
        "rcpt",
        "where an address probe stops",
        words=("rcpt", "data"),
        unsupported="Postfix answers address probes itself",
    ),
    "lmtp_assume_final": P("B", "no", "LMTP success is `delivered`, not `relayed`"),
    "requiretls_enable": P(
        "B", "yes", "do as smtp_requiretls_policy says", since="3.11"
    ),
    "smtp_requiretls_policy": P(
        "L",
        "inline:{ { $mydomain = opportunistic } { .$mydomain = opportunistic } "
        "{ localhost = opportunistic } } "
        "cidr:{ { 0.0.0.0/0 opportunistic } { ::/0 opportunistic } } enforce",
        "words and tables: enforce, opportunistic+starttls, opportunistic, disable",
        since="3.11",
    ),
    "tls_required_enable": P(
        "B", "yes", "do without TLS for mail with `TLS-Required: no`", since="3.10"
    ),
}

TIMEOUTS = {
    "smtp_connect_timeout": P("T", "30s", "connect; 0: the system's limit"),
    "smtp_helo_timeout": P("T", "300s", "greeting, EHLO and HELO", 1),
    "smtp_starttls_timeout": P("T", "300s", "STARTTLS and the handshake", 1),
    "smtp_xforward_timeout": P("T", "300s", "XFORWARD", 1),
    "smtp_mail_timeout": P("T", "300s", "MAIL FROM", 1),
    "smtp_rcpt_timeout": P("T", "300s", "RCPT TO", 1),
    "smtp_data_init_timeout": P("T", "120s", "DATA", 1),
    "smtp_data_xfer_timeout": P("T", "180s", "each piece of the message", 1),
    "smtp_data_done_timeout": P("T", "600s", "the reply to the dot", 1),
    "smtp_rset_timeout": P("T", "20s", "RSET", 1),
    "smtp_quit_timeout": P("T", "300s", "QUIT", 1),
    "smtp_per_record_deadline": P("S", "", "old name of the next"),
    "smtp_per_request_deadline": P(
        "B",
        "${smtp_per_record_deadline?{$smtp_per_record_deadline}:{no}}",
        "limits are for a whole stage, not for each read and write",
    ),
    "smtp_min_data_rate": P("I", "500", "bytes/s that extend such a limit", 1),
}

REUSE = {
    "smtp_connection_cache_on_demand": P(
        "B", "yes", "keep connections while more mail waits; LMTP server only"
    ),
    "smtp_connection_cache_destinations": P(
        "L", "", "destinations whose connections are kept; LMTP server only"
    ),
    "smtp_connection_cache_time_limit": P(
        "T", "2s", "how long an idle connection is kept; LMTP server only", 1
    ),
    "smtp_connection_reuse_time_limit": P(
        "T", "300s", "how long a connection is used again; LMTP server only", 1
    ),
    "smtp_connection_reuse_count_limit": P(
        "I", "0", "how often it is used again; 0: no limit; LMTP server only"
    ),
    "smtp_tls_connection_reuse": P(
        "B", "no", "LMTP server: keep connections with TLS, too"
    ),
}

SASL = {
    "smtp_sasl_auth_enable": P("B", "no", "authenticate to servers"),
    "smtp_sasl_password_maps": P("M", "", "user names and passwords"),
    "smtp_sasl_password_result_delimiter": P(
        "S", ":", "between user name and password", 1, 1, since="3.9"
    ),
    "smtp_sender_dependent_authentication": P("B", "no", "look up the sender first"),
    "smtp_sasl_mechanism_filter": P("L", "", "mechanisms that may be used"),
    "smtp_sasl_security_options": P(
        "L",
        "noplaintext, noanonymous",
        "what mechanisms must give without TLS",
        words=_SECURITY_OPTIONS,
    ),
    "smtp_sasl_tls_security_options": P(
        "L", "$smtp_sasl_security_options", "with TLS", words=_SECURITY_OPTIONS
    ),
    "smtp_sasl_tls_verified_security_options": P(
        "L",
        "$smtp_sasl_tls_security_options",
        "with TLS to a verified server",
        words=_SECURITY_OPTIONS,
    ),
    "smtp_sasl_auth_soft_bounce": P("B", "yes", "a refused password is not final"),
    "smtp_sasl_auth_cache_name": P(
        "S", "", "set: remember refused passwords, in the state directory"
    ),
    "smtp_sasl_auth_cache_time": P("T", "90d", "how long"),
    "smtp_sasl_type": P("E", "cyrus", "our own mechanisms", words=("cyrus",)),
    "smtp_sasl_path": P(
        "S", "", "place of SASL settings", unsupported="no SASL library is used"
    ),
    "send_cyrus_sasl_authzid": P("B", "no", "send an authorization identity"),
}
