"""Parameters for commands that a person types: --config and -o."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from postfix_trouble.config import maincf
from postfix_trouble.config.settings import ConfigError, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_config(path: str) -> tuple[dict[str, str], list[str]]:
    """The settings of a main.cf, and what to warn of. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return maincf.parse(file.read(), path)
    except OSError as problem:
        raise ConfigError("", f"open {path}: {problem.strerror}") from None


def overriding(pairs: Sequence[str]) -> dict[str, str]:
    """What -o says. Raises click.UsageError."""
    import click

    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"-o {pair}: NAME=VALUE expected")
        found[name.strip()] = value.strip()
    return found


def given_values(
    config: str | None, pairs: Sequence[str], *, lmtp: bool = False
) -> dict[str, str]:
    """All values by name, -o over --config; those of -o are checked.

    Raises ConfigError, click.UsageError.
    """
    values = read_config(config)[0] if config else {}
    overrides = overriding(pairs)
    Settings(
        values,
        overrides=overrides,
        lmtp=lmtp,
        system_hostname=os.uname().nodename,
    )
    return {**values, **overrides}
