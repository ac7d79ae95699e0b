"""Parameters of the table: TLS."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.types import row as P

_LEVELS = (
    "",
    "none",
    "may",
    "encrypt",
    "fingerprint",
    "dane",
    "dane-only",
    "verify",
    "secure",
)
_GRADES = ("export", "low", "medium", "high", "null")
_CHAIN_FILES = "smtp_tls_chain_files takes keys of any kind"
_OPENSSL = "Python's ssl module can't set it"
_CIPHER_LIST = "the grades have the lists of Postfix 3.7"
_CIPHER_LISTS = {
    "high": "aNULL:-aNULL:HIGH:@STRENGTH",
    "medium": "aNULL:-aNULL:HIGH:MEDIUM:+RC4:@STRENGTH",
    "low": "aNULL:-aNULL:HIGH:MEDIUM:LOW:+RC4:@STRENGTH",
    "export": "aNULL:-aNULL:HIGH:MEDIUM:LOW:EXPORT:+RC4:@STRENGTH",
    "null": "eNULL:!aNULL",
}

TLS = {
    "smtp_tls_security_level": P(
        "E", "${{$compatibility_level} <level {3.11} ? {} : {may}}", words=_LEVELS
    ),
    "smtp_tls_policy_maps": P("M", ""),
    "smtp_use_tls": P("B", "no"),
    "smtp_enforce_tls": P("B", "no"),
    "smtp_tls_enforce_peername": P("B", "yes"),
    "smtp_tls_per_site": P("M", ""),
    "smtp_tls_wrappermode": P("B", "no"),
    "smtp_tls_CAfile": P("S", ""),
    "smtp_tls_CApath": P("S", ""),
    "tls_append_default_CA": P("B", "no"),
    "smtp_tls_cert_file": P("S", ""),
    "smtp_tls_key_file": P("S", "$smtp_tls_cert_file"),
    "smtp_tls_chain_files": P("L", ""),
    "smtp_tls_dcert_file": P("S", "", unsupported=_CHAIN_FILES, vital=True),
    "smtp_tls_dkey_file": P(
        "S", "$smtp_tls_dcert_file", unsupported=_CHAIN_FILES, vital=True
    ),
    "smtp_tls_eccert_file": P("S", "", unsupported=_CHAIN_FILES, vital=True),
    "smtp_tls_eckey_file": P(
        "S", "$smtp_tls_eccert_file", unsupported=_CHAIN_FILES, vital=True
    ),
    "smtp_tls_protocols": P("L", ">=TLSv1"),
    "smtp_tls_mandatory_protocols": P("L", ">=TLSv1"),
    "smtp_tls_ciphers": P("E", "medium", words=_GRADES),
    "smtp_tls_mandatory_ciphers": P("E", "medium", words=_GRADES),
    "smtp_tls_exclude_ciphers": P("L", ""),
    "smtp_tls_mandatory_exclude_ciphers": P("L", ""),
    "smtp_tls_secure_cert_match": P("L", "nexthop, dot-nexthop", 1),
    "smtp_tls_verify_cert_match": P("L", "hostname", 1),
    "smtp_tls_fingerprint_cert_match": P("L", ""),
    "smtp_tls_fingerprint_digest": P(
        "S", "${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}", 1
    ),
    "smtp_tls_trust_anchor_file": P("L", ""),
    "smtp_tls_servername": P("S", ""),
    "smtp_tls_scert_verifydepth": P(
        "I", "9", unsupported="the limit is OpenSSL's own, as it is in Postfix 3.7"
    ),
    "smtp_tls_loglevel": P("S", "0"),
    "smtp_tls_note_starttls_offer": P("B", "no"),
    "smtp_tls_block_early_mail_reply": P("B", "no"),
    "smtp_tls_force_insecure_host_tlsa_lookup": P("B", "no"),
    "smtp_tls_dane_insecure_mx_policy": P(
        "E",
        "${{$trouble_postfix_version} <level {3.12} ? "
        "{${{$smtp_tls_security_level} == {dane} ? {dane} : {may}}} : {dane}}",
        words=("may", "encrypt", "dane"),
    ),
    "smtp_tls_enforce_sts_mx_patterns": P("B", "yes"),
    "smtp_tls_enable_rpk": P("B", "no", unsupported=_OPENSSL),
    "smtp_tlsrpt_enable": P("B", "no"),
    "smtp_tlsrpt_socket_name": P("S", ""),
    "smtp_tlsrpt_skip_reused_handshakes": P(
        "B", "${{$trouble_postfix_version} <level {3.11} ? {yes} : {no}}"
    ),
    "smtp_tls_loglevel_maps": P(
        "M", "", unsupported="smtp_tls_loglevel is for all destinations"
    ),
    "smtp_tls_trace_size_limit": P(
        "I", "102400", unsupported="there are no traces of TLS"
    ),
    "smtp_tls_session_cache_database": P(
        "S", "", unsupported="sessions are kept in the memory of serve and lmtp only"
    ),
    "smtp_tls_session_cache_timeout": P("T", "3600s", 0, 8640000),
    **{
        f"tls_{grade}_cipherlist": P("S", ciphers, 1, unsupported=_CIPHER_LIST)
        for grade, ciphers in _CIPHER_LISTS.items()
    },
    "tls_wildcard_matches_multiple_labels": P(
        "B", "yes", unsupported="a * is one label, as it is in Postfix 3.7"
    ),
    "tls_dane_digests": P("L", "sha512 sha256", 1),
    "tls_disable_workarounds": P("L", "", unsupported=_OPENSSL),
    "tls_ssl_options": P("L", "", unsupported=_OPENSSL),
    "tls_eecdh_auto_curves": P(
        "L", "X25519 X448 prime256v1 secp521r1 secp384r1", unsupported=_OPENSSL
    ),
    "tls_fast_shutdown_enable": P("B", "yes", unsupported=_OPENSSL),
    "tls_config_file": P("S", "default", unsupported=_OPENSSL),
    "tls_config_name": P("S", "", unsupported=_OPENSSL),
}
