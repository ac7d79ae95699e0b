"""Parameters of the table: the dialogue, its timeouts, reuse of connections, SASL."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.types import row

_SECURITY_OPTIONS = (
    "noplaintext",
    "noactive",
    "nodictionary",
    "noanonymous",
    "mutual_auth",
)
_EXTENSION_USERS = ("canonical", "virtual", "alias", "forward", "include", "generic")

DIALOGUE = {
    "smtp_helo_name": row("S", "$myhostname", 1),
    "smtp_always_send_ehlo": row("B", "yes"),
    "smtp_never_send_ehlo": row("B", "no"),
    "smtp_skip_5xx_greeting": row("B", "yes"),
    "smtp_skip_quit_response": row("B", "yes"),
    "smtp_discard_ehlo_keywords": row("L", ""),
    "smtp_discard_ehlo_keyword_address_maps": row("M", ""),
    "smtp_quote_rfc821_envelope": row("B", "yes"),
    "smtp_line_length_limit": row("I", "998"),
    "smtp_send_xforward_command": row("B", "no"),
    "smtp_send_dummy_mail_auth": row("B", "no"),
    "smtp_reply_filter": row("S", ""),
    "smtp_generic_maps": row("M", ""),
    "propagate_unmatched_extensions": row(
        "L", "canonical, virtual", words=_EXTENSION_USERS
    ),
    "smtp_header_checks": row("M", ""),
    "smtp_mime_header_checks": row("M", ""),
    "smtp_nested_header_checks": row("M", ""),
    "smtp_body_checks": row("M", ""),
    "disable_mime_output_conversion": row("B", "no"),
    "detect_8bit_encoding_header": row("B", "yes"),
    "disable_mime_input_processing": row("B", "no"),
    "header_size_limit": row("I", "102400", 1),
    "mime_nesting_limit": row("I", "100", 1),
    "smtputf8_enable": row("B", "${{$compatibility_level} <level {1} ? {no} : {yes}}"),
    "smtp_pix_workarounds": row(
        "L", "disable_esmtp,delay_dotcrlf", words=("disable_esmtp", "delay_dotcrlf")
    ),
    "smtp_pix_workaround_maps": row("M", ""),
    "smtp_pix_workaround_threshold_time": row("T", "500s"),
    "smtp_pix_workaround_delay_time": row("T", "10s", 1),
    "smtp_address_verify_target": row(
        "E",
        "rcpt",
        words=("rcpt", "data"),
        unsupported="Postfix answers address probes itself",
    ),
    "lmtp_assume_final": row("B", "no"),
    "requiretls_enable": row("B", "yes"),
    "smtp_requiretls_policy": row(
        "L",
        "inline:{ { $mydomain = opportunistic } { .$mydomain = opportunistic } "
        "{ localhost = opportunistic } } "
        "cidr:{ { 0.0.0.0/0 opportunistic } { ::/0 opportunistic } } enforce",
    ),
    "tls_required_enable": row("B", "yes"),
}

TIMEOUTS = {
    "smtp_connect_timeout": row("T", "30s"),
    "smtp_helo_timeout": row("T", "300s", 1),
    "smtp_starttls_timeout": row("T", "300s", 1),
    "smtp_xforward_timeout": row("T", "300s", 1),
    "smtp_mail_timeout": row("T", "300s", 1),
    "smtp_rcpt_timeout": row("T", "300s", 1),
    "smtp_data_init_timeout": row("T", "120s", 1),
    "smtp_data_xfer_timeout": row("T", "180s", 1),
    "smtp_data_done_timeout": row("T", "600s", 1),
    "smtp_rset_timeout": row("T", "20s", 1),
    "smtp_quit_timeout": row("T", "300s", 1),
    "smtp_per_record_deadline": row("S", ""),
    "smtp_per_request_deadline": row(
        "B", "${smtp_per_record_deadline?{$smtp_per_record_deadline}:{no}}"
    ),
    "smtp_min_data_rate": row("I", "500", 1),
}

REUSE = {
    "smtp_connection_cache_on_demand": row("B", "yes"),
    "smtp_connection_cache_destinations": row("L", ""),
    "smtp_connection_cache_time_limit": row("T", "2s", 1),
    "smtp_connection_reuse_time_limit": row("T", "300s", 1),
    "smtp_connection_reuse_count_limit": row("I", "0"),
    "smtp_tls_connection_reuse": row("B", "no"),
}

SASL = {
    "smtp_sasl_auth_enable": row("B", "no"),
    "smtp_sasl_password_maps": row("M", ""),
    "smtp_sasl_password_result_delimiter": row("S", ":", 1, 1),
    "smtp_sender_dependent_authentication": row("B", "no"),
    "smtp_sasl_mechanism_filter": row("L", ""),
    "smtp_sasl_security_options": row(
        "L", "noplaintext, noanonymous", words=_SECURITY_OPTIONS
    ),
    "smtp_sasl_tls_security_options": row(
        "L", "$smtp_sasl_security_options", words=_SECURITY_OPTIONS
    ),
    "smtp_sasl_tls_verified_security_options": row(
        "L", "$smtp_sasl_tls_security_options", words=_SECURITY_OPTIONS
    ),
    "smtp_sasl_auth_soft_bounce": row("B", "yes"),
    "smtp_sasl_auth_cache_name": row("S", ""),
    "smtp_sasl_auth_cache_time": row("T", "90d"),
    "smtp_sasl_type": row("E", "cyrus", words=("cyrus",)),
    "smtp_sasl_path": row("S", "", unsupported="no SASL library is used"),
    "send_cyrus_sasl_authzid": row("B", "no"),
}
