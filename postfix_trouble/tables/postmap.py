"""Tables that only Postfix can open: through postmap(1)."""

from __future__ import annotations

import os

from postfix_trouble.config.masking import shown
from postfix_trouble.tables.base import Table, TableUnusable
from postfix_trouble.tables.files import refuse_open_to_others

# Seconds.
POSTMAP_TIME_LIMIT = 10.0

# What postmap appends to the name of an indexed file.
_SUFFIXES = {
    "hash": ".db",
    "btree": ".db",
    "lmdb": ".lmdb",
    "cdb": ".cdb",
    "dbm": ".pag",
}


def file_of(spec: str) -> str:
    """The file of a table type:name, if it is one."""
    kind, _, name = spec.partition(":")
    return name + _SUFFIXES.get(kind, "")


class PostmapTable(Table):
    """Any type that only Postfix itself can open, through `postmap -q`."""

    def __init__(
        self, kind: str, name: str, postmap: str, config_directory: str, secret: bool
    ) -> None:
        self._spec = f"{kind}:{name}"
        self._command = [postmap]
        if config_directory:
            self._command += ["-c", config_directory]
        self._file = file_of(self._spec) if kind in _SUFFIXES else ""
        self._secret = secret
        self.fixed = kind not in ("regexp", "pcre", "cidr")

    def find(self, key: str, fold: bool) -> str | None:
        """Ask postmap. Fixed keys are folded by it unless told otherwise."""
        import subprocess

        if not key or "\0" in key or "\n" in key:
            return None
        if self._secret and self._file:
            refuse_open_to_others(self._file)
        # A dash alone would make it read keys from its input; so it gets one there.
        options = ([] if fold else ["-f"]) + ([] if self.utf8 else ["-u"])
        command = [*self._command, *options, "-q", "-", self._spec]
        try:
            done = subprocess.run(
                command,
                input=os.fsencode(key + "\n"),
                capture_output=True,
                timeout=POSTMAP_TIME_LIMIT,
                check=False,
            )
        except OSError as error:
            problem = f"{command[0]}: {error.strerror}"
            raise TableUnusable(
                f"{problem}; it is needed for {shown(self._spec)}"
            ) from None
        except subprocess.TimeoutExpired:
            problem = f"no answer from {command[0]} within {POSTMAP_TIME_LIMIT:.0f}s"
            raise TableUnusable(problem) from None
        return self._value(key, done.returncode, done.stdout, done.stderr)

    def _value(self, key: str, status: int, output: bytes, errors: bytes) -> str | None:
        """What the answer of postmap means: `key TAB value`, or nothing."""
        # Not at other ends of lines than LF: a key or a value may have them.
        lines = [line for line in os.fsdecode(errors).split("\n") if line]
        serious = [line for line in lines if ": warning: " not in line]
        if status not in (0, 1) or serious:
            said = (serious or lines or [f"exit status {status}"])[-1]
            raise TableUnusable(said.replace(self._spec, shown(self._spec))[:200])
        text = os.fsdecode(output)
        if not text:
            return None
        start = f"{key}\t"
        if not text.startswith(start):
            raise TableUnusable(f"unexpected answer from {self._command[0]}")
        return text[len(start) :].removesuffix("\n")
