"""The tables that a delivery searches, by the parameters that name them."""

from __future__ import annotations

from postfix_trouble.core.failure import TableError
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.tables import Maps


# Of lines in tables: each mail has a process, which reads them anew.
_WARNINGS = 3


class Tables:
    """Look-ups of one delivery request."""

    def __init__(self, settings: Settings, note: Callable[[str], None]) -> None:
        self.settings = settings
        self.note = note
        self._tables: dict[str, Maps | None] = {}
        self._warned = 0

    def find(self, parameter: str, key: str, fold: bool = False) -> str | None:
        """Search the tables that a parameter names. Raises TableError."""
        maps = self.maps(parameter)
        return None if maps is None else maps.find(key, fold)

    def search(self, parameter: str, table: str, key: str) -> str | None:
        """Search one table among the words of a list. Raises TableError."""
        maps = self._tables.get(table)
        if maps is None:
            from postfix_trouble.tables import open_word

            maps = open_word(self.settings, table, parameter, self._warn)
            self._tables[table] = maps
        return maps.find(key, True)

    def maps(self, parameter: str) -> Maps | None:
        """The tables that a parameter names, None if it names none."""
        if parameter not in self._tables:
            maps = None
            if self.settings.text(parameter):
                from postfix_trouble.tables import open_configured

                maps = open_configured(self.settings, parameter, self._warn)
            self._tables[parameter] = maps
        return self._tables[parameter]

    def _warn(self, text: str) -> None:
        """Tell of a line in a table that counts for nothing; of the first few."""
        self._warned += 1
        if self._warned <= _WARNINGS:
            self.note(f"warning: {text}")

    def close(self) -> None:
        """Give back what tables hold open: connections, files."""
        for table in self._tables.values():
            if table is not None:
                table.close()

    def status_filter(self) -> Callable[[str], str | None] | None:
        """smtp_delivery_status_filter, if there is one.

        One that can't be searched changes nothing (Postfix dsn_filter_lookup): how the
        recipient ended is known by then.
        """
        if not self.settings.text("smtp_delivery_status_filter"):
            return None

        def search(text: str) -> str | None:
            try:
                return self.find("smtp_delivery_status_filter", text)
            except TableError as problem:
                self.note(f'warning: {problem}: lookup error for "{text}"')
                return None

        return search

    def rewrite(self, address: str) -> str:
        """An envelope address after smtp_generic_maps. Raises TableError."""
        maps = self.maps("smtp_generic_maps")
        if maps is None:
            return address
        from postfix_trouble.tables import is_local

        settings = self.settings
        extended = settings.words("propagate_unmatched_extensions")
        return maps.map_address(
            address,
            delimiters=settings.text("recipient_delimiter"),
            is_local=is_local(settings),
            propagate="generic" in extended,
            origin=settings.text("myorigin"),
        )

    def find_sender(self, address: str) -> str | None:
        """What the password tables have for a sender, in any of its forms."""
        maps = self.maps("smtp_sasl_password_maps")
        if maps is None:
            return None
        from postfix_trouble.tables import is_local

        return maps.find_address(
            address,
            delimiters=self.settings.text("recipient_delimiter"),
            is_local=is_local(self.settings),
        )

    def filter_record(self, record: str) -> str | Lost | None:
        """smtp_dns_reply_filter: what is to be done with a resource record."""
        try:
            return self.find("smtp_dns_reply_filter", record)
        except TableError as problem:
            self.note(str(problem))
            return Lost.DATA

    def filter_reply(self, line: str) -> str | None:
        """smtp_reply_filter: what stands for a line of a reply. Raises TableError."""
        maps = self.maps("smtp_reply_filter")
        return None if maps is None else maps.find(line, True, empty_counts=True)
