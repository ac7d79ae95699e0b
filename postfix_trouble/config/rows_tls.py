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
        "E",
        "${{$compatibility_level} <level {3.11} ? {} : {may}}",
        "TLS level; empty: by smtp_use_tls, smtp_enforce_tls",
        words=_LEVELS,
    ),
    "smtp_tls_policy_maps": P("M", "", "TLS level and more by destination"),
    "smtp_use_tls": P("B", "no", "old form of the level may"),
    "smtp_enforce_tls": P("B", "no", "old form of the levels encrypt, verify"),
    "smtp_tls_enforce_peername": P("B", "yes", "verify, not encrypt"),
    "smtp_tls_per_site": P("M", "", "old form of smtp_tls_policy_maps"),
    "smtp_tls_wrappermode": P("B", "no", "TLS before the greeting"),
    "smtp_tls_CAfile": P("S", "", "file of trusted authorities"),
    "smtp_tls_CApath": P("S", "", "directory of trusted authorities"),
    "tls_append_default_CA": P("B", "no", "trust the system's authorities too"),
    "smtp_tls_cert_file": P("S", "", "client certificate"),
    "smtp_tls_key_file": P("S", "$smtp_tls_cert_file", "its key"),
    "smtp_tls_chain_files": P("L", "", "files with key and certificates"),
    "smtp_tls_dcert_file": P(
        "S", "", "DSA certificate", unsupported=_CHAIN_FILES, vital=True
    ),
    "smtp_tls_dkey_file": P(
        "S", "$smtp_tls_dcert_file", "its key", unsupported=_CHAIN_FILES, vital=True
    ),
    "smtp_tls_eccert_file": P(
        "S", "", "ECDSA certificate", unsupported=_CHAIN_FILES, vital=True
    ),
    "smtp_tls_eckey_file": P(
        "S", "$smtp_tls_eccert_file", "its key", unsupported=_CHAIN_FILES, vital=True
    ),
    "smtp_tls_protocols": P("L", ">=TLSv1", "protocols at level may"),
    "smtp_tls_mandatory_protocols": P("L", ">=TLSv1", "protocols from encrypt up"),
    "smtp_tls_ciphers": P("E", "medium", "ciphers at level may", words=_GRADES),
    "smtp_tls_mandatory_ciphers": P(
        "E", "medium", "ciphers from encrypt up", words=_GRADES
    ),
    "smtp_tls_exclude_ciphers": P("L", "", "ciphers never used"),
    "smtp_tls_mandatory_exclude_ciphers": P(
        "L", "", "ciphers not used from encrypt up"
    ),
    "smtp_tls_secure_cert_match": P(
        "L", "nexthop, dot-nexthop", "names to match at level secure", 1
    ),
    "smtp_tls_verify_cert_match": P(
        "L", "hostname", "names to match at level verify", 1
    ),
    "smtp_tls_fingerprint_cert_match": P("L", "", "fingerprints to match"),
    "smtp_tls_fingerprint_digest": P(
        "S",
        "${{$compatibility_level} <level {3.6} ? {md5} : {sha256}}",
        "digest of fingerprints",
        1,
    ),
    "smtp_tls_trust_anchor_file": P("L", "", "authorities in place of CAfile"),
    "smtp_tls_servername": P("S", "", "name for SNI; hostname and nexthop: that"),
    "smtp_tls_scert_verifydepth": P(
        "I",
        "9",
        "longest chain of certificates",
        unsupported="the limit is OpenSSL's own, as it is in Postfix 3.7",
    ),
    "smtp_tls_loglevel": P("S", "0", "how much TLS logs"),
    "smtp_tls_note_starttls_offer": P("B", "no", "log servers that offer STARTTLS"),
    "smtp_tls_block_early_mail_reply": P(
        "B", "no", "find replies that were sent before the handshake"
    ),
    "smtp_tls_force_insecure_host_tlsa_lookup": P(
        "B", "no", "TLSA look-up for hosts without DNSSEC"
    ),
    "smtp_tls_dane_insecure_mx_policy": P(
        "E",
        "${{$trouble_postfix_version} <level {3.12} ? "
        "{${{$smtp_tls_security_level} == {dane} ? {dane} : {may}}} : {dane}}",
        "level when the MX answer is not secure",
        words=("may", "encrypt", "dane"),
    ),
    "smtp_tls_enforce_sts_mx_patterns": P(
        "B", "yes", "pass over hosts that an MTA-STS policy does not name", since="3.10"
    ),
    "smtp_tls_enable_rpk": P(
        "B", "no", "raw public keys", since="3.9", unsupported=_OPENSSL
    ),
    "smtp_tlsrpt_enable": P(
        "B", "no", "tell a reporter what became of TLS (TLSRPT)", since="3.10"
    ),
    "smtp_tlsrpt_socket_name": P(
        "S", "", "the reporter's socket, below queue_directory", since="3.10"
    ),
    "smtp_tlsrpt_skip_reused_handshakes": P(
        "B",
        "${{$trouble_postfix_version} <level {3.11} ? {yes} : {no}}",
        "not when a TLS session is resumed",
        since="3.10",
    ),
    "smtp_tls_loglevel_maps": P(
        "M",
        "",
        "TLS logging by destination",
        since="3.12",
        unsupported="smtp_tls_loglevel is for all destinations",
    ),
    "smtp_tls_trace_size_limit": P(
        "I",
        "102400",
        "bytes of a TLS trace",
        since="3.12",
        unsupported="there are no traces of TLS",
    ),
    "smtp_tls_session_cache_database": P(
        "S",
        "",
        "TLS sessions to resume",
        unsupported="sessions are kept in the memory of serve and lmtp only",
    ),
    "smtp_tls_session_cache_timeout": P(
        "T",
        "3600s",
        "how long serve and lmtp keep TLS sessions to resume; 0: not at all",
        0,
        8640000,
    ),
    **{
        f"tls_{grade}_cipherlist": P(
            "S", ciphers, f"grade {grade}", 1, unsupported=_CIPHER_LIST
        )
        for grade, ciphers in _CIPHER_LISTS.items()
    },
    "tls_wildcard_matches_multiple_labels": P(
        "B",
        "yes",
        "*.example.com matches a.b.example.com",
        unsupported="a * is one label, as it is in Postfix 3.7",
    ),
    "tls_dane_digests": P("L", "sha512 sha256", "digests, best first, for DANE", 1),
    "tls_disable_workarounds": P("L", "", "bug workarounds", unsupported=_OPENSSL),
    "tls_ssl_options": P("L", "", "OpenSSL options", unsupported=_OPENSSL),
    "tls_eecdh_auto_curves": P(
        "L",
        "X25519 X448 prime256v1 secp521r1 secp384r1",
        "key exchange groups",
        unsupported=_OPENSSL,
    ),
    "tls_fast_shutdown_enable": P(
        "B", "yes", "do not wait for the peer's close_notify", unsupported=_OPENSSL
    ),
    "tls_config_file": P(
        "S", "default", "OpenSSL's own settings", unsupported=_OPENSSL
    ),
    "tls_config_name": P("S", "", "section of that file", unsupported=_OPENSSL),
}
