"""Loading the program whole, for a process that stays."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

# Subjects of which a delivery may need any module.
_DELIVERY = (
    *("core", "policy", "config", "tables", "message", "state", "dns", "sasl", "tls"),
    *("smtp", "report", "client", "pipe", "lmtp"),
)


def load_all() -> None:
    """Load what any delivery may need: an upgrade of the files under a process that
    stays must not mix versions, and no two threads load a module at the same time."""
    package = Path(__file__).parent.parent
    for subject in _DELIVERY:
        for path in sorted((package / subject).glob("*.py")):
            if path.stem != "__init__":
                import_module(f"postfix_trouble.{subject}.{path.stem}")
    for name in ("email.utils", "encodings.idna", "hmac", "sqlite3", "ssl"):
        import_module(name)
