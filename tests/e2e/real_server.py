"""A mail server that we did not write: Postfix's smtpd with STARTTLS and Cyrus SASL.

It is part of the same Postfix as the clients, under another name. What it takes goes
through the queue again and ends in a maildir.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HOST = "127.43.0.1"
PORT = 587
# Names of one server: what the password table says of each.
ZONE = {f"{name}.real.test": {"A": [HOST]} for name in ("right", "wrong", "unknown")}
NAME = "real.example.test"
FILES = Path("/etc/postfix/real")
# Where Debian 12's looks whatever cyrus_sasl_config_path says.
SASL = FILES.parent / "sasl"
STORED = "stored.test"
USER, PASSWORD = "sender", "correct-horse, ünd battery"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256")

_SASL = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {files}/sasldb2
mech_list: {mechanisms} DIGEST-MD5
"""
_PASSWORDS = f"""
[right.real.test]:{PORT} {USER}:{PASSWORD}
[wrong.real.test]:{PORT} {USER}:not the password
[unknown.real.test]:{PORT} stranger:{PASSWORD}
"""

MASTER = f"""
{HOST}:{PORT} inet n - n - - smtpd
  -o {{smtpd_sasl_auth_enable=yes}} -o smtpd_sasl_type=cyrus -o smtpd_sasl_path=smtpd
  -o smtpd_sasl_local_domain={NAME} -o cyrus_sasl_config_path={SASL}
  -o smtpd_tls_security_level=may -o smtpd_tls_auth_only=yes
  -o smtpd_tls_cert_file={FILES}/good.pem -o smtpd_tls_key_file={FILES}/good-key.pem
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject_unauth_destination
  -o mynetworks=
  -o smtpd_recipient_restrictions= -o myhostname={NAME} -o smtpd_error_sleep_time=0
  -o smtpd_sasl_authenticated_header=yes
  -o smtpd_delay_reject=yes -o cleanup_service_name=real-cleanup
real-cleanup unix n - n - 0 cleanup
  -o virtual_alias_maps=static:box@{STORED}
virtual unix - n n - - virtual
  -o virtual_mailbox_base={FILES} -o virtual_mailbox_maps=static:box/
  -o virtual_mailbox_domains=static:all -o virtual_uid_maps=static:65534
  -o virtual_gid_maps=static:65534 -o virtual_minimum_uid=1
anvil unix - - n - 1 anvil
"""
ROUTES = f"{STORED} virtual:\n"


def group(mechanism: str) -> dict[str, str]:
    """The settings of a client that logs in by one mechanism."""
    return {
        "smtp_tls_security_level": "secure",
        "smtp_tls_CAfile": str(FILES / "ca.pem"),
        "smtp_tls_secure_cert_match": "mx.secure.test",
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_security_options": "noanonymous",
        "smtp_sasl_mechanism_filter": mechanism.lower(),
        "smtp_sasl_password_maps": f"texthash:{FILES}/sasl_passwd",
    }


def prepare(certificates: Path, account: str, group_name: str) -> None:
    """Passwords for the server, and those that the account of our client may read."""
    shutil.copytree(certificates, FILES)
    FILES.chmod(0o755)
    text = _SASL.format(files=FILES, mechanisms=" ".join(MECHANISMS))
    (SASL / "smtpd.conf").write_text(text)
    subprocess.run(
        ["saslpasswd2", "-p", "-c", "-f", FILES / "sasldb2", "-u", NAME, USER],
        input=PASSWORD.encode(),
        check=True,
    )
    shutil.chown(FILES / "sasldb2", "postfix")
    passwords = FILES / "sasl_passwd"
    passwords.write_text(_PASSWORDS)
    # As the manual has it: root's, and the group of the account in user=.
    passwords.chmod(0o640)
    shutil.chown(passwords, "root", group_name)
    (FILES / "box").mkdir()
    shutil.chown(FILES / "box", account, group_name)


def stored() -> list[bytes]:
    """The messages in the maildir."""
    return [path.read_bytes() for path in (FILES / "box/new").glob("*")]
