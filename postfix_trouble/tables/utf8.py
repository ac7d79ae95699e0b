"""Tables of text: what is not UTF-8 is no key and no value (Postfix dict_utf8(3))."""

from __future__ import annotations

from collections.abc import Callable

from postfix_trouble.tables.base import Table, TableUnusable


class Utf8Table(Table):
    """A table as it is searched under smtputf8_enable = yes."""

    def __init__(self, table: Table, spec: str, warn: Callable[[str], None]) -> None:
        self._table = table
        # As it is shown in warnings.
        self._spec = spec
        self._warn = warn
        self.fixed = table.fixed

    def find(self, key: str, fold: bool) -> str | None:
        """The value of a key. A key that is not UTF-8 is in no table."""
        if not is_utf8(key):
            self._warn(f"{self._spec}: non-UTF-8 key")
            return None
        value = self._table.find(key, fold)
        if value is not None and not is_utf8(value):
            raise TableUnusable(f"key {key}: non-UTF-8 value")
        return value

    def close(self) -> None:
        """Give back what is held open."""
        self._table.close()


def is_utf8(text: str) -> bool:
    """Whether a text was UTF-8 when it came (other bytes are surrogateescaped)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
