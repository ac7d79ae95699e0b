"""What a server shows and takes in a TLS handshake."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def context(script: Mapping[str, Any], path: Path, name: str) -> ssl.SSLContext:
    """As the script has it, with a certificate of a directory (certificates.py)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as shown:
        for one in (name, *script.get("chain", ())):
            shown.write((path / f"{one}.pem").read_bytes())
        shown.flush()
        made.load_cert_chain(shown.name, path / f"{name}-key.pem")
    if script.get("max_version") == "TLSv1.2":
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    if script.get("ask"):
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(path / "ca.pem")
    if not script.get("resume"):
        made.num_tickets = 0
    return made
