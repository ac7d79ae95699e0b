"""From the name of a table, type:name, to the table (Postfix dict_open(3))."""

from __future__ import annotations

import os
from collections.abc import Callable

from postfix_trouble.config.masking import shown
from postfix_trouble.tables import files
from postfix_trouble.tables.base import NoLibraryError, Table, TableUnusable
from postfix_trouble.tables.text import (
    SyntaxProblem,
    between_braces,
    is_utf8,
    table_names,
)

POSTMAP = "/usr/sbin/postmap"


def is_table_name(spec: str) -> bool:
    """Whether a word of a list has the form type:name."""
    kind, colon, name = spec.partition(":")
    return bool(kind and colon and name)


class Opener:
    """Opens tables by their type:name."""

    def __init__(
        self,
        secret: bool,
        postmap: str,
        config_directory: str,
        utf8: bool,
        warn: Callable[[str], None],
    ) -> None:
        self._secret = secret
        self._postmap = postmap
        self._config_directory = config_directory
        self._utf8 = utf8
        self._warn = warn

    def open(self, spec: str) -> Table:
        """One table. Raises TableUnusable."""
        kind, _, name = spec.partition(":")
        if not (is_table_name(spec) and kind.replace("_", "").isalnum()):
            raise TableUnusable('expecting "type:name" form')
        try:
            table = self._open(kind, name)
        except SyntaxProblem as problem:
            raise TableUnusable(str(problem)) from None
        table.utf8 = self._utf8
        return Utf8Table(table, shown(spec), self._warn) if self._utf8 else table

    def _open(self, kind: str, name: str) -> Table:
        if kind == "texthash":
            table, warnings = files.open_text(name, self._secret, self._utf8)
            self._warn_of(warnings)
            return table
        if kind == "inline":
            return files.open_inline(name, self._utf8)
        if kind == "static":
            text = between_braces(name) if name.startswith("{") else name
            return _FunctionTable(lambda _key: text)
        if kind in ("regexp", "pcre", "cidr"):
            return self._open_rules(kind, name)
        if kind in ("pipemap", "unionmap", "randmap"):
            return self._open_group(kind, name)
        if kind == "socketmap":
            return _open_socketmap(name)
        if kind == "tcp":
            from postfix_trouble.tables.sockets import TcpTable

            host, _, port = name.rpartition(":")
            return TcpTable((host.strip("[]"), port))
        if kind == "environ":
            return _FunctionTable(_environment)
        if kind == "fail":
            return _FunctionTable(_fail)
        if kind == "proxy":
            # The socket of proxymap(8) is for Postfix's own account.
            return self.open(name)
        return self._through_postmap(kind, name)

    def _through_postmap(self, kind: str, name: str) -> Table:
        from postfix_trouble.tables.postmap import PostmapTable

        return PostmapTable(
            kind, name, self._postmap, self._config_directory, self._secret
        )

    def _open_rules(self, kind: str, name: str) -> Table:
        try:
            table, warnings = files.open_rules(kind, name, self._secret)
        except NoLibraryError:
            # Postfix has another.
            return self._through_postmap(kind, name)
        self._warn_of(warnings)
        return table

    def _warn_of(self, warnings: list[str]) -> None:
        for text in warnings:
            self._warn(text)

    def _open_group(self, kind: str, name: str) -> Table:
        if kind == "randmap":
            import random

            values = table_names(name)
            # Any will do: it is no secret which.
            return _FunctionTable(lambda _key: random.choice(values))  # nosec B311
        tables = [self.open(spec) for spec in table_names(name)]
        return _PipeTable(tables) if kind == "pipemap" else _UnionTable(tables)


def _open_socketmap(name: str) -> Table:
    from postfix_trouble.tables.sockets import SocketMapTable

    kind, _, rest = name.partition(":")
    address, colon, table = rest.rpartition(":")
    if kind == "unix" and address and table:
        return SocketMapTable(address, table)
    host, _, port = address.rpartition(":")
    if kind == "inet" and colon and host and port and table:
        return SocketMapTable((host.strip("[]"), port), table)
    raise TableUnusable("expecting socketmap:inet:host:port:name or unix:path:name")


class _GroupTable(Table):
    """Several tables that work as one."""

    def __init__(self, tables: list[Table]) -> None:
        self._tables = tables

    def close(self) -> None:
        for table in self._tables:
            table.close()


class _PipeTable(_GroupTable):
    """pipemap: what one table finds is the key for the next."""

    def find(self, key: str, fold: bool) -> str | None:
        for table in self._tables:
            value = table.find(key, fold)
            if value == "":
                raise TableUnusable("an empty result within a pipemap")
            if value is None:
                return None
            key = value
        return key


class _UnionTable(_GroupTable):
    """unionmap: the results of all tables that have the key, with commas between."""

    def find(self, key: str, fold: bool) -> str | None:
        values = [table.find(key, fold) for table in self._tables]
        if "" in values:
            raise TableUnusable("an empty result within a unionmap")
        return ",".join(value for value in values if value) or None


class _FunctionTable(Table):
    """static, environ, randmap and fail: what a function makes of a key."""

    def __init__(self, function: Callable[[str], str | None]) -> None:
        self._function = function

    def find(self, key: str, _fold: bool) -> str | None:
        return self._function(key)


def _environment(key: str) -> str | None:
    """A variable of our own environment."""
    return None if "\0" in key or "=" in key else os.environ.get(key)


def _fail(_key: str) -> str | None:
    raise TableUnusable("error as asked for")


class Utf8Table(Table):
    """A table as it is searched under smtputf8_enable = yes: what is not UTF-8 is no
    key and no value (Postfix dict_utf8(3))."""

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
