"""Parameters from --config and -o, and what follows from where the main.cf is."""

from __future__ import annotations

import os
import stat
from errno import EINVAL

from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Bytes: more than any domain has.
_LINE_LIMIT = 4096


def read_text(path: str) -> str:
    """A whole configuration file, its lines as they are. Raises OSError.

    Nothing but LF ends a line of Postfix's, so that nothing else may become one.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read()


def read_config(path: str) -> tuple[dict[str, str], list[str]]:
    """The settings of a main.cf, and what to warn of. Raises ConfigError."""
    from postfix_trouble.config import main_cf

    try:
        return main_cf.parse(read_text(path), path)
    except OSError as problem:
        raise ConfigError("", f"open {path}: {problem.strerror}") from None


def implied(config: str | None) -> dict[str, str]:
    """Defaults that follow from where the settings come from.

    A main.cf is Postfix's own: $config_directory is where it is, and one that has no
    compatibility_level is of level 0. A file of another name is nothing but settings.
    """
    if not config or os.path.basename(config) != "main.cf":
        return {}
    directory = os.path.dirname(os.path.abspath(config))
    return {"config_directory": directory, "compatibility_level": "0"}


def make_settings(
    values: Mapping[str, str],
    *,
    config: str | None,
    overrides: Mapping[str, str],
    lmtp: bool,
) -> Settings:
    """The settings of this machine. `values` come from the file `config`.

    Raises ConfigError.
    """
    return Settings(
        values,
        overrides=overrides,
        lmtp=lmtp,
        system_hostname=os.uname().nodename,
        implied=implied(config),
        first_line=_first_line,
    )


def _first_line(path: str) -> str:
    """The first line of a regular file. Raises OSError."""
    # A pipe must not make us wait for somebody to open its other end.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(EINVAL, "not a regular file")
        return file.readline(_LINE_LIMIT).decode("utf-8", "surrogateescape")


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
    make_settings(values, config=config, overrides=overrides, lmtp=lmtp)
    return {**implied(config), **values, **overrides}
