"""Parameters of the table: TLS."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.types import row

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
    "smtp_tls_security_level": row(
        "E", "${{$compatibility_level} <level {3.11} ? {} : {may}}", words=_LEVELS
    ),
    "smtp_tls_policy_maps": row("M", ""),
    "smtp_use_tls": row("B", "no"),
    "smtp_enforce_tls": row("B", "no"),
    "smtp_tls_enforce_peername": row("B", "yes"),
    "smtp_tls_per_site": row("M", ""),
    "smtp_tls_wrappermode": row("B", "no"),
    "smtp_tls_CAfile": row("S", ""),
    "smtp_tls_CApath": row("S", ""),
    "tls_append_default_CA": row("B", "no"),
    "smtp_tls_cert_file": row("S", ""),
    "smtp_tls_key_file": row("S", "$smtp_tls_cert_file"),
    "smtp_tls_chain_files": row("L", ""),
    "smtp_tls_dcert_file": row("S", "", unsupported=_CHAIN_FILES, vital=True),
    "smtp_tls_dkey_file": row(
        "S", "$smtp_tls_dcert_file", unsupported=_CHAIN_FILES, vital=True
    ),
    "smtp_tls_eccert_file": row("S", "", unsupported=_CHAIN_FILES, vital=True),
    "smtp_tls_eckey_file": row(
        "S", "$smtp_tls_eccert_file", unsupported=_CHAIN_FILES, vital=True
    ),
    "smtp_tls_protocols": row("L", ">=TLSv1"),
    "smtp_tls_mandatory_protocols": row("L", ">=TLSv1"),
    "smtp_tls_ciphers": row("E", "medium", words=_GRADES),
    "smtp_tls_mandatory_ciphers": row("E", "medium", words=_GRADES),
    "smtp_tls_exclude_ciphers": row("L", ""),
    "smtp_tls_mandatory_exclude_ciphers": row("L", ""),
    "smtp_tls_secure_cert_match": row("L", "nexthop, dot-nexthop", 1),
    "smtp_tls_verify_cert_match": row("L", "hostname", 1),
    "smtp_tls_fingerprint_cert_match": row("L", ""),
    "smtp_tls_fingerprint_digest": row(
        "S", "${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}", 1
    ),
    "smtp_tls_trust_anchor_file": row("L", ""),
    "smtp_tls_servername": row("S", ""),
    "smtp_tls_scert_verifydepth": row(
        "I", "9", unsupported="the limit is OpenSSL's own, as it is in Postfix 3.7"
    ),
    "smtp_tls_loglevel": row("S", "0"),
    "smtp_tls_note_starttls_offer": row("B", "no"),
    "smtp_tls_block_early_mail_reply": row("B", "no"),
    "smtp_tls_force_insecure_host_tlsa_lookup": row("B", "no"),
    "smtp_tls_dane_insecure_mx_policy": row(
        "E",
        "${{$trouble_postfix_version} <level {3.12} ? "
        "{${{$smtp_tls_security_level} == {dane} ? {dane} : {may}}} : {dane}}",
        words=("may", "encrypt", "dane"),
    ),
    "smtp_tls_enforce_sts_mx_patterns": row("B", "yes"),
    "smtp_tls_enable_rpk": row("B", "no", unsupported=_OPENSSL),
    "smtp_tlsrpt_enable": row("B", "no"),
    "smtp_tlsrpt_socket_name": row("S", ""),
    "smtp_tlsrpt_skip_reused_handshakes": row(
        "B", "${{$trouble_postfix_version} <level {3.11} ? {yes} : {no}}"
    ),
    "smtp_tls_loglevel_maps": row(
        "M", "", unsupported="smtp_tls_loglevel is for all destinations"
    ),
    "smtp_tls_trace_size_limit": row(
        "I", "102400", unsupported="there are no traces of TLS"
    ),
    "smtp_tls_session_cache_database": row(
        "S", "", unsupported="sessions are kept in the memory of serve and lmtp only"
    ),
    "smtp_tls_session_cache_timeout": row("T", "3600s", 0, 8640000),
    **{
        f"tls_{grade}_cipherlist": row("S", ciphers, 1, unsupported=_CIPHER_LIST)
        for grade, ciphers in _CIPHER_LISTS.items()
    },
    "tls_wildcard_matches_multiple_labels": row(
        "B", "yes", unsupported="a * is one label, as it is in Postfix 3.7"
    ),
    "tls_dane_digests": row("L", "sha512 sha256", 1),
    "tls_disable_workarounds": row("L", "", unsupported=_OPENSSL),
    "tls_ssl_options": row("L", "", unsupported=_OPENSSL),
    "tls_eecdh_auto_curves": row(
        "L", "X25519 X448 prime256v1 secp521r1 secp384r1", unsupported=_OPENSSL
    ),
    "tls_fast_shutdown_enable": row("B", "yes", unsupported=_OPENSSL),
    "tls_config_file": row("S", "default", unsupported=_OPENSSL),
    "tls_config_name": row("S", "", unsupported=_OPENSSL),
}
