"""checks: smtp_header_checks, smtp_body_checks and their kin.

A table is asked for each header, or each line of a body; its answer names an action
(Postfix header_body_checks(3)). Of the actions of header_checks(5), a client knows
those that change or log: they never reject, and what is asked for in vain is logged
and ignored.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Callable

from postfix_trouble.core.value import Value
from postfix_trouble.message.headers import name_length
from postfix_trouble.message.lines import nobody
from postfix_trouble.message.mime import Place

# What a table says about a text, None for nothing. What it raises passes through.
Find = Callable[[str], str | None]

# The most of a text that is quoted in a log record.
_QUOTED = 200

_MIME_HEADERS = frozenset(
    (
        b"content-description",
        b"content-disposition",
        b"content-id",
        b"content-transfer-encoding",
        b"content-type",
        b"mime-version",
    )
)
_UNPRINTABLE = {**dict.fromkeys(range(32), "?"), 127: "?"}


class Tables(Value):
    """The tables that are searched; None for none."""

    header: Find | None = None
    mime_header: Find | None = None
    nested_header: Find | None = None
    body: Find | None = None


class Checks:
    """Stages that apply the tables.

    protocol: "smtp" or "lmtp", for the names of parameters in log records.
    note: is told what is logged; warnings begin with `warning: `, as in Postfix's log.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        protocol: str = "smtp",
        note: Callable[[str], object] = nobody,
    ) -> None:
        self._tables = {
            Place.MESSAGE: (f"{protocol}_header_checks", tables.header),
            Place.PART: (f"{protocol}_mime_header_checks", tables.mime_header),
            Place.NESTED: (f"{protocol}_nested_header_checks", tables.nested_header),
            None: (f"{protocol}_body_checks", tables.body),
        }
        self._note = note

    def header(
        self, header: bytes, place: Place, name: bytes
    ) -> tuple[bytes, bytes | None]:
        """Check one header. Returns what to send before it, and it, or None.

        MIME headers are the business of the MIME table wherever they are.
        """
        return self._check(header, Place.PART if name in _MIME_HEADERS else place)

    def body(self, line: bytes, complete: bool) -> bytes:
        """Check one line, or a piece of a long one."""
        before, text = self._check(line, None)
        if text is None:
            return before
        return before + text + b"\n" if complete else before + text

    def _check(self, text: bytes, place: Place | None) -> tuple[bytes, bytes | None]:
        parameter, find = self._tables[place]
        # To a table a text is a C string, and nothing is found for an empty one.
        key = text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        answer = find(key) if find and key else None
        if answer is None:
            return b"", text
        return self._act(answer, key, text, place is not None, parameter)

    def _act(
        self, answer: str, key: str, text: bytes, is_header: bool, parameter: str
    ) -> tuple[bytes, bytes | None]:
        action, argument = _split(answer)
        match action:
            case "WARN" | "INFO":
                word = "warning" if action == "WARN" else "info"
                self._log(word, key, is_header, argument)
            case "STRIP":
                self._log("strip", key, is_header, argument)
                return b"", None
            case "IGNORE":
                return b"", None
            case "REPLACE" | "PREPEND":
                if self._usable(action, argument, is_header, parameter):
                    self._log(action.lower(), key, is_header, argument)
                    given = argument.encode("utf-8", "surrogateescape")
                    if action == "REPLACE":
                        return b"", given
                    return given + b"\n", text
            case "DUNNO" | "OK":
                pass
            case _:
                self._warn(f"unsupported command in {parameter} map: {answer}")
        return b"", text

    def _usable(
        self, action: str, argument: str, is_header: bool, parameter: str
    ) -> bool:
        if not argument:
            self._warn(f"{action} action without text in {parameter} map")
            return False
        if is_header and not name_length(argument.encode("utf-8", "surrogateescape")):
            self._warn(
                f'bad {action} header text "{argument}" in {parameter} map'
                ' -- need "headername: headervalue"'
            )
            return False
        return True

    def _log(self, word: str, key: str, is_header: bool, argument: str) -> None:
        quoted = key.encode("utf-8", "surrogateescape")[:_QUOTED]
        text = f"{word}: {'header' if is_header else 'body'} "
        text += quoted.decode("utf-8", "replace")
        self._tell(f"{text}: {argument}" if argument else text)

    def _warn(self, text: str) -> None:
        self._tell(f"warning: {text}")

    def _tell(self, text: str) -> None:
        # The message must not write log records of its own.
        self._note(text.translate(_UNPRINTABLE))


def _split(answer: str) -> tuple[str, str]:
    """Action in capitals, and its argument."""
    blanks = [at for at in (answer.find(" "), answer.find("\t")) if at >= 0]
    end = min(blanks, default=len(answer))
    return answer[:end].upper(), answer[end:].lstrip(" \t\n\v\f\r")
