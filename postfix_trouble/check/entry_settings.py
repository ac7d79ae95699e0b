"""What the entries of a master.cf that run us have in common: settings and limits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from postfix_trouble.config.expansion import ExpansionError, expand
from postfix_trouble.config.parameters import TABLE
from postfix_trouble.config.settings import Settings
from postfix_trouble.config.types import ConfigError
from postfix_trouble.terminal.parameters import make_settings, read_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from postfix_trouble.pipe.options import CommandLine

PROGRAM = "postfix-trouble"


def own_settings(line: CommandLine) -> Settings:
    """The program's settings under an entry. Raises ConfigError, UsageError."""
    path = line.value("--config")
    values: dict[str, str] = {}
    if path and os.access(path, os.R_OK):
        # What the account can't read is another finding.
        values = read_config(path)[0]
    overrides = line.pairs("-o")
    if line.switch("--state-directory"):
        overrides["trouble_state_directory"] = line.value("--state-directory")
    lmtp = line.switch("--lmtp")
    return make_settings(values, config=path, overrides=overrides, lmtp=lmtp)


def own_arguments(line: CommandLine) -> list[str]:
    """The options of `check` that make it see what the entry sees."""
    found = []
    for name in ("--config", "--state-directory"):
        if line.switch(name):
            found += [name, line.value(name)]
    for pair in line.lists.get("-o", ()):
        found += ["-o", pair]
    return [*found, *(["--lmtp"] if line.switch("--lmtp") else [])]


def overridden(values: Mapping[str, str], pairs: Iterable[str]) -> dict[str, str]:
    """Postfix's settings with those that `-o` in an entry has in their place."""
    own = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {**values, **{key.strip(): value.strip() for key, value in own.items()}}


def value(values: Mapping[str, str], name: str, default: str) -> str:
    """A parameter of Postfix that is not in our table, expanded. Raises ConfigError."""

    def raw(key: str) -> str | None:
        row = TABLE.get(key)
        return values.get(key, row.default if row else None)

    try:
        return expand(values.get(name, default), raw)
    except ExpansionError as problem:
        raise ConfigError(name, f"parameter {name}: {problem}") from None


def chroot_default(values: Mapping[str, str]) -> bool:
    """What `-` in the column chroot means. `values`: Postfix's, empty if unknown."""
    known = {"compatibility_level": "0", **values}
    level = "${{$compatibility_level} <level {1} ? {y} : {n}}"
    return bool(values) and value(known, "", level) == "y"
