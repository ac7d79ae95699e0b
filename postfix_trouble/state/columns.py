"""Texts and DSNs as columns of the state file."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus


def blob(text: str) -> bytes:
    """Text for the file. Addresses may have bytes that are no UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def text(blob: bytes) -> str:
    """Text from the file."""
    return blob.decode("utf-8", "surrogateescape")


def packed(dsn: DSN) -> bytes:
    """All of a DSN in one column."""
    return blob("\0".join(field.replace("\0", "?") for field in dsn))


def unpacked(value: bytes) -> DSN:
    """A DSN from its column. Raises ValueError or TypeError if it is none."""
    status, *rest = text(value).split("\0")
    return DSN(EnhancedStatus(status), *rest)
