"""Look-up tables: what Postfix's maps(3) and dict_open(3) are to its clients."""

from __future__ import annotations

from postfix_trouble.core.failure import TableError
from postfix_trouble.tables.maps import (
    Maps,
    is_local,
    match_list,
    open_configured,
    open_maps,
    open_word,
    unreachable,
)

__all__ = [
    "Maps",
    "TableError",
    "is_local",
    "match_list",
    "open_configured",
    "open_maps",
    "open_word",
    "unreachable",
]
