"""Look-up tables: what Postfix's maps(3) and dict_open(3) are to its clients."""

from __future__ import annotations

from postfix_trouble.edge.tables.maps import (
    Maps,
    is_local,
    match_list,
    open_configured,
    open_maps,
    unreachable,
)
from postfix_trouble.model.failure import TableError

__all__ = [
    "Maps",
    "TableError",
    "is_local",
    "match_list",
    "open_configured",
    "open_maps",
    "unreachable",
]
