"""Lists of tables, and how Postfix's clients look things up in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from postfix_trouble.config.kinds import split_words
from postfix_trouble.config.matching import (
    address_keys,
    domain_keys,
    external,
    mapped_address,
)
from postfix_trouble.config.matching import match_list as match_words
from postfix_trouble.config.text_table import SyntaxProblem, between_braces, table_names
from postfix_trouble.edge.tables import files
from postfix_trouble.edge.tables.kinds import NoLibraryError, Table, TableProblem, shown
from postfix_trouble.model.failure import TableError
from postfix_trouble.model.value import TYPE_CHECKING

POSTMAP = "/usr/sbin/postmap"


if TYPE_CHECKING:
    from postfix_trouble.config.settings import Settings


class Maps:
    """The tables of one parameter (Postfix maps(3)).

    Nothing is opened before the first look-up. A table that can't be opened is an error
    of each look-up that gets so far, never a table without the key.
    """

    def __init__(self, specs: tuple[str, ...], parameter: str, opener: _Opener) -> None:
        self._specs = specs
        self._parameter = parameter
        self._opener = opener
        self._tables: dict[str, Table] = {}

    def __bool__(self) -> bool:
        return bool(self._specs)

    @property
    def warnings(self) -> list[str]:
        """What was wrong with single lines and rules of tables opened so far."""
        return self._opener.warnings

    def find(
        self, key: str, fold: bool = False, *, empty_counts: bool = False
    ) -> str | None:
        """The value of a key in the first table that has it, None if none has.

        With `fold`, case does not count for tables of fixed keys (those of patterns
        decide for themselves). Raises TableError, also for an empty value, unless
        `empty_counts`: what takes one table and no list (dict(3)) may find that.
        """
        return self._find(key, fold, patterns=True, empty_counts=empty_counts)

    def find_address(
        self,
        address: str,
        *,
        delimiters: str = "",
        is_local: Callable[[str], bool] = lambda _domain: False,
    ) -> str | None:
        """The value for an address in internal form.

        The keys are those of mail_addr_find(3): user+ext@domain, user@domain, for a
        local domain user+ext and user, then @domain; tables of patterns see the first
        only. Local parts that need quotes are looked up with, then without them. Case
        does not count. Raises TableError.
        """
        found = self._find_address(address, delimiters, is_local)
        return found[0] if found else None

    def map_address(
        self,
        address: str,
        *,
        delimiters: str = "",
        is_local: Callable[[str], bool] = lambda _domain: False,
        propagate: bool = False,
        origin: str = "",
    ) -> str:
        """What smtp_generic_maps make of an address; itself if they don't have it.

        In and out in internal form. `propagate`: an address extension that the key
        leaves out is put back. `origin` completes a result without a domain. Raises
        TableError.
        """
        found = self._find_address(address, delimiters, is_local)
        if found is None:
            return address
        value, extension = found
        kept = extension if propagate else ""
        return mapped_address(address, value, kept, origin)

    def _find_address(
        self, address: str, delimiters: str, is_local: Callable[[str], bool]
    ) -> tuple[str, str] | None:
        """The value, and the extension that its key leaves out."""
        for key in address_keys(address, delimiters, is_local) if self else ():
            for form in dict.fromkeys((external(key.text), key.text)):
                value = self._find(form, fold=True, patterns=key.whole)
                if value is not None:
                    return value, key.extension
        return None

    def find_domain(self, destination: str) -> str | None:
        """The value for a destination: a domain's own, or that of a parent `.domain`.

        Anything but a plain domain is looked up as it stands. Raises TableError.
        """
        for key in domain_keys(destination) if self else ():
            if (value := self.find(key, fold=True)) is not None:
                return value
        return None

    def close(self) -> None:
        """Hang up on servers. The next look-up opens everything again."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def _find(
        self, key: str, fold: bool, patterns: bool, empty_counts: bool = False
    ) -> str | None:
        for spec in self._specs:
            try:
                table = self._tables.get(spec) or self._opener.open(spec)
                self._tables[spec] = table
                value = table.find(key, fold) if patterns or table.fixed else None
            except TableProblem as problem:
                text = f"{shown(spec)}: {problem}"
                raise TableError(self._parameter, text) from None
            if value == "" and not empty_counts:
                text = f"lookup of {key} returns an empty string result"
                raise TableError(self._parameter, text)
            if value is not None:
                return value
        return None


class _Opener:
    """Opens tables by their type:name."""

    def __init__(self, secret: bool, postmap: str, config_directory: str) -> None:
        self._secret = secret
        self._postmap = postmap
        self._config_directory = config_directory
        self.warnings: list[str] = []

    def open(self, spec: str) -> Table:
        kind, colon, name = spec.partition(":")
        if not (colon and name and kind.replace("_", "").isalnum()):
            raise TableProblem('expecting "type:name" form')
        try:
            return self._open(kind, name)
        except SyntaxProblem as problem:
            raise TableProblem(str(problem)) from None

    def _open(self, kind: str, name: str) -> Table:
        if kind == "texthash":
            table, warnings = files.open_text(name, self._secret)
            self.warnings += warnings
            return table
        if kind == "inline":
            return files.open_inline(name)
        if kind == "static":
            text = between_braces(name) if name.startswith("{") else name
            return files.StaticTable(text)
        if kind in ("regexp", "pcre", "cidr"):
            return self._open_rules(kind, name)
        if kind in ("pipemap", "unionmap", "randmap"):
            return self._open_group(kind, name)
        if kind == "socketmap":
            return _open_socketmap(name)
        if kind == "tcp":
            from postfix_trouble.edge.tables.sockets import TcpTable

            host, _, port = name.rpartition(":")
            return TcpTable((host.strip("[]"), port))
        if kind == "environ":
            return files.EnvironmentTable()
        if kind == "fail":
            return _FailingTable()
        return self._through_postmap(kind, name)

    def _through_postmap(self, kind: str, name: str) -> Table:
        from postfix_trouble.edge.tables.postmap import PostmapTable

        return PostmapTable(
            kind, name, self._postmap, self._config_directory, self._secret
        )

    def _open_rules(self, kind: str, name: str) -> Table:
        try:
            table, warnings = files.open_rules(kind, name, self._secret)
        except NoLibraryError:
            # Postfix has another.
            return self._through_postmap(kind, name)
        self.warnings += warnings
        return table

    def _open_group(self, kind: str, name: str) -> Table:
        if kind == "randmap":
            return _RandomTable(table_names(name))
        tables = [self.open(spec) for spec in table_names(name)]
        return _PipeTable(tables) if kind == "pipemap" else _UnionTable(tables)


def _open_socketmap(name: str) -> Table:
    from postfix_trouble.edge.tables.sockets import SocketMapTable

    kind, _, rest = name.partition(":")
    address, colon, table = rest.rpartition(":")
    if kind == "unix" and address and table:
        return SocketMapTable(address, table)
    host, _, port = address.rpartition(":")
    if kind == "inet" and colon and host and port and table:
        return SocketMapTable((host.strip("[]"), port), table)
    raise TableProblem("expecting socketmap:inet:host:port:name or unix:path:name")


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
                raise TableProblem("an empty result within a pipemap")
            if value is None:
                return None
            key = value
        return key


class _UnionTable(_GroupTable):
    """unionmap: the results of all tables that have the key, with commas between."""

    def find(self, key: str, fold: bool) -> str | None:
        values = [table.find(key, fold) for table in self._tables]
        if "" in values:
            raise TableProblem("an empty result within a unionmap")
        return ",".join(value for value in values if value) or None


class _FailingTable(Table):
    """fail: an error of each look-up that gets so far."""

    def find(self, _key: str, _fold: bool) -> str | None:
        raise TableProblem("error as asked for")


class _RandomTable(Table):
    """randmap: one of several values, whatever the key."""

    def __init__(self, values: tuple[str, ...]) -> None:
        self._values = values

    def find(self, _key: str, _fold: bool) -> str | None:
        import random

        # Any will do: it is no secret which.
        return random.choice(self._values)  # nosec B311


def open_maps(
    spec: str,
    parameter: str,
    *,
    secret: bool = False,
    postmap: str = POSTMAP,
    config_directory: str = "",
) -> Maps:
    """The tables that the value of a parameter names, none for an empty value.

    `parameter` is for messages. `secret`: files with passwords, which are refused when
    others may read them. `postmap` and `config_directory` are for the types that only
    Postfix can open; empty: the directory that postmap(1) finds for itself. Opens
    nothing, and so does not fail.
    """
    return Maps(
        split_words(spec), parameter, _Opener(secret, postmap, config_directory)
    )


def is_local(settings: Settings) -> Callable[[str], bool]:
    """Whether mail for a domain is delivered on this machine (resolve_local(3)).

    For the keys of addresses. Address literals count as not local: which addresses are
    ours is not asked here. The function raises TableError.
    """

    def is_local_domain(domain: str) -> bool:
        if domain.lower() == settings.text("myorigin").lower():
            return True
        return match_list(settings.words("mydestination"), domain, "mydestination")

    return is_local_domain


def match_list(words: Iterable[str], subject: str, parameter: str) -> bool:
    """Whether a list such as smtp_sasl_mechanism_filter names `subject`.

    Items are words, !words, /files and type:tables (match_list(3)). Raises TableError.
    """

    def find_table(spec: str, key: str) -> str | None:
        return open_maps(spec, parameter).find(key, fold=True)

    def read_file(path: str) -> str:
        try:
            return files.read_text(path)
        except TableProblem as problem:
            raise TableError(parameter, str(problem)) from None

    return match_words(words, subject, find_table, read_file)
