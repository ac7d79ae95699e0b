"""Look-up tables: what Postfix's maps(3) and dict_open(3) are to its clients."""

from __future__ import annotations

from postfix_trouble.edge.tables.kinds import TableError
from postfix_trouble.edge.tables.maps import Maps, match_list, open_maps

__all__ = ["Maps", "TableError", "match_list", "open_maps"]
