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
    "smtp_helo_name": P("S", "$myhostname", 1),
    "smtp_always_send_ehlo": P("B", "yes"),
    "smtp_never_send_ehlo": P("B", "no"),
    "smtp_skip_5xx_greeting": P("B", "yes"),
    "smtp_skip_quit_response": P("B", "yes"),
    "smtp_discard_ehlo_keywords": P("L", ""),
    "smtp_discard_ehlo_keyword_address_maps": P("M", ""),
    "smtp_quote_rfc821_envelope": P("B", "yes"),
    "smtp_line_length_limit": P("I", "998"),
    "smtp_send_xforward_command": P("B", "no"),
    "smtp_send_dummy_mail_auth": P("B", "no"),
    "smtp_reply_filter": P("S", ""),
    "smtp_generic_maps": P("M", ""),
    "propagate_unmatched_extensions": P(
        "L", "canonical, virtual", words=_EXTENSION_USERS
    ),
    "smtp_header_checks": P("M", ""),
    "smtp_mime_header_checks": P("M", ""),
    "smtp_nested_header_checks": P("M", ""),
    "smtp_body_checks": P("M", ""),
    "disable_mime_output_conversion": P("B", "no"),
    "detect_8bit_encoding_header": P("B", "yes"),
    "disable_mime_input_processing": P("B", "no"),
    "header_size_limit": P("I", "102400", 1),
    "mime_nesting_limit": P("I", "100", 1),
    "smtputf8_enable": P("B", "${{$compatibility_level} <level {1} ? {no} : {yes}}"),
    "smtp_pix_workarounds": P(
        "L", "disable_esmtp,delay_dotcrlf", words=("disable_esmtp", "delay_dotcrlf")
    ),
    "smtp_pix_workaround_maps": P("M", ""),
    "smtp_pix_workaround_threshold_time": P("T", "500s"),
    "smtp_pix_workaround_delay_time": P("T", "10s", 1),
    "smtp_address_verify_target": P(
        "E",
        "rcpt",
        words=("rcpt", "data"),
        unsupported="Postfix answers address probes itself",
    ),
    "lmtp_assume_final": P("B", "no"),
    "requiretls_enable": P("B", "yes"),
    "smtp_requiretls_policy": P(
        "L",
        "inline:{ { $mydomain = opportunistic } { .$mydomain = opportunistic } "
        "{ localhost = opportunistic } } "
        "cidr:{ { 0.0.0.0/0 opportunistic } { ::/0 opportunistic } } enforce",
    ),
    "tls_required_enable": P("B", "yes"),
}

TIMEOUTS = {
    "smtp_connect_timeout": P("T", "30s"),
    "smtp_helo_timeout": P("T", "300s", 1),
    "smtp_starttls_timeout": P("T", "300s", 1),
    "smtp_xforward_timeout": P("T", "300s", 1),
    "smtp_mail_timeout": P("T", "300s", 1),
    "smtp_rcpt_timeout": P("T", "300s", 1),
    "smtp_data_init_timeout": P("T", "120s", 1),
    "smtp_data_xfer_timeout": P("T", "180s", 1),
    "smtp_data_done_timeout": P("T", "600s", 1),
    "smtp_rset_timeout": P("T", "20s", 1),
    "smtp_quit_timeout": P("T", "300s", 1),
    "smtp_per_record_deadline": P("S", ""),
    "smtp_per_request_deadline": P(
        "B", "${smtp_per_record_deadline?{$smtp_per_record_deadline}:{no}}"
    ),
    "smtp_min_data_rate": P("I", "500", 1),
}

REUSE = {
    "smtp_connection_cache_on_demand": P("B", "yes"),
    "smtp_connection_cache_destinations": P("L", ""),
    "smtp_connection_cache_time_limit": P("T", "2s", 1),
    "smtp_connection_reuse_time_limit": P("T", "300s", 1),
    "smtp_connection_reuse_count_limit": P("I", "0"),
    "smtp_tls_connection_reuse": P("B", "no"),
}

SASL = {
    "smtp_sasl_auth_enable": P("B", "no"),
    "smtp_sasl_password_maps": P("M", ""),
    "smtp_sasl_password_result_delimiter": P("S", ":", 1, 1),
    "smtp_sender_dependent_authentication": P("B", "no"),
    "smtp_sasl_mechanism_filter": P("L", ""),
    "smtp_sasl_security_options": P(
        "L", "noplaintext, noanonymous", words=_SECURITY_OPTIONS
    ),
    "smtp_sasl_tls_security_options": P(
        "L", "$smtp_sasl_security_options", words=_SECURITY_OPTIONS
    ),
    "smtp_sasl_tls_verified_security_options": P(
        "L", "$smtp_sasl_tls_security_options", words=_SECURITY_OPTIONS
    ),
    "smtp_sasl_auth_soft_bounce": P("B", "yes"),
    "smtp_sasl_auth_cache_name": P("S", ""),
    "smtp_sasl_auth_cache_time": P("T", "90d"),
    "smtp_sasl_type": P("E", "cyrus", words=("cyrus",)),
    "smtp_sasl_path": P("S", "", unsupported="no SASL library is used"),
    "send_cyrus_sasl_authzid": P("B", "no"),
}
