"""Lists of tables, and how Postfix's clients look things up in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from postfix_trouble.config.masking import shown
from postfix_trouble.config.types import split_words
from postfix_trouble.core.failure import TableError
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.tables import files
from postfix_trouble.tables.base import Table, TableUnusable
from postfix_trouble.tables.matching import (
    address_keys,
    external,
    mapped_address,
    match_words,
)
from postfix_trouble.tables.opener import POSTMAP, Opener, is_table_name
from postfix_trouble.tables.postmap import file_of

# Those that Postfix opens with DICT_FLAG_UTF8_REQUEST.
_UTF8_TABLES = frozenset({
    "smtp_generic_maps", "smtp_sasl_password_maps", "smtp_tls_per_site",
    "smtp_tls_policy_maps",
})  # fmt: skip
# One table, not a list of them.
_SINGLE = "smtp_reply_filter"

if TYPE_CHECKING:
    from postfix_trouble.config.settings import Settings


class Maps:
    """The tables of one parameter (Postfix maps(3)).

    Nothing is opened before the first look-up. A table that can't be opened is an error
    of each look-up that gets so far, never a table without the key.
    """

    def __init__(self, specs: tuple[str, ...], parameter: str, opener: Opener) -> None:
        self._specs = specs
        self._parameter = parameter
        self._opener = opener
        # A comma in a value that is not in braces: Postfix does not even start.
        self._malformed = not all(map(is_table_name, specs))
        self._tables: dict[str, Table] = {}

    def __bool__(self) -> bool:
        return bool(self._specs)

    def find(
        self,
        key: str,
        fold: bool = False,
        *,
        patterns: bool = True,
        empty_counts: bool = False,
    ) -> str | None:
        """The value of a key in the first table that has it, None if none has.

        With `fold`, case does not count for tables of fixed keys (those of patterns
        decide for themselves; without `patterns` they are skipped). Raises
        TableError, also for an empty value, unless `empty_counts`: what takes one table
        and no list (dict(3)) may find that.
        """
        if self._malformed:
            # The word is not shown: it may be a part of a password.
            problem = TableUnusable('expecting "type:name" form for each table')
            raise self._error("", problem)
        for spec in self._specs:
            try:
                table = self._opened(spec)
                value = table.find(key, fold) if patterns or table.fixed else None
            except TableUnusable as problem:
                raise self._error(spec, problem) from None
            if value == "" and not empty_counts:
                text = f"lookup of {key} returns an empty string result"
                raise TableError(self._parameter, text)
            if value is not None:
                return value
        return None

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
                value = self.find(form, fold=True, patterns=key.whole)
                if value is not None:
                    return value, key.extension
        return None

    def close(self) -> None:
        """Hang up on servers. The next look-up opens everything again."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def problems(self, key: str) -> Iterator[str]:
        """Why tables can't be searched: each of the list is tried, with a key."""
        for spec in self._specs:
            one = Maps((spec,), self._parameter, self._opener)
            try:
                one.find(key)
            except TableError as problem:
                yield problem.problem
            one.close()

    def _opened(self, spec: str) -> Table:
        if spec not in self._tables:
            self._tables[spec] = self._opener.open(spec)
        return self._tables[spec]

    def _error(self, spec: str, problem: TableUnusable) -> TableError:
        text = f"{shown(spec)}: {problem}" if spec else str(problem)
        return TableError(self._parameter, text)


def _silent(_text: str) -> None:
    pass


def open_maps(
    spec: str,
    parameter: str,
    *,
    secret: bool = False,
    postmap: str = POSTMAP,
    config_directory: str = "",
    utf8: bool = False,
    warn: Callable[[str], None] = _silent,
) -> Maps:
    """The tables that the value of a parameter names, none for an empty value.

    `parameter` is for messages. `secret`: files with passwords, which are refused when
    others may read them. `postmap` and `config_directory` are for the types that only
    Postfix can open; empty: the directory that postmap(1) finds for itself. `utf8`:
    what is not UTF-8 is no key, and an error as a value. `warn` is told of lines and
    rules that count for nothing. Opens nothing, and so does not fail.
    """
    specs = (spec,) if spec and parameter == _SINGLE else split_words(spec)
    opener = Opener(secret, postmap, config_directory, utf8, warn)
    return Maps(specs, parameter, opener)


def open_configured(
    settings: Settings, parameter: str, warn: Callable[[str], None] = _silent
) -> Maps:
    """The tables that a smtp_ parameter names, opened as smtp(8) does.

    Raises ConfigError for a setting that can't be used.
    """
    return open_maps(
        settings.text(parameter),
        parameter,
        # Passwords in a file that others may read are no secret any more.
        secret=parameter == "smtp_sasl_password_maps",
        postmap=settings.text("command_directory") + "/postmap",
        config_directory=settings.config_directory(),
        utf8=parameter in _UTF8_TABLES and settings.flag("smtputf8_enable"),
        warn=warn,
    )


def open_word(
    settings: Settings, spec: str, parameter: str, warn: Callable[[str], None] = _silent
) -> Maps:
    """One table among the words of a list. Opens nothing, and so does not fail."""
    return open_maps(
        spec,
        parameter,
        postmap=settings.text("command_directory") + "/postmap",
        config_directory=settings.config_directory(),
        warn=warn,
    )


def unreachable(settings: Settings, parameter: str) -> str:
    """Why a proxy: table of a parameter can't be searched; empty if it can.

    proxymap(8) is for Postfix's own account, so that what is behind it is opened here.
    That takes a file with the tables, or with how to reach their server.
    """
    for spec in split_words(settings.text(parameter)):
        inner = spec
        while inner.startswith("proxy:"):
            inner = inner.removeprefix("proxy:")
        name = inner.partition(":")[2]
        if inner == spec or not name.startswith("/"):
            continue
        try:
            os.close(os.open(file_of(inner), os.O_RDONLY | os.O_NONBLOCK))
        except OSError as error:
            why = f"this account can't open {error.filename}: {error.strerror}"
            return f"{shown(spec)}: proxymap(8) serves Postfix only, and {why}"
    return ""


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
        except TableUnusable as problem:
            raise TableError(parameter, str(problem)) from None

    return match_words(words, subject, find_table, read_file)
