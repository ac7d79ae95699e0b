"""Who may read a file that holds a secret, and what of it must not be shown."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

# stat(2): permissions of those who are neither owner nor group.
_OTHERS = 0o007


def exposure(path: str, mode: int) -> str:
    """Why a file must not be used, with the remedy; empty if its mode is right.

    The group may read it: that is how root gives a file to the account of a pipe(8)
    service and to nobody else.
    """
    if not mode & _OTHERS:
        return ""
    return f"{path} holds secrets and is open to everybody: chmod o-rwx {path}"


class Concealer:
    """Blanks out what must not be shown, wherever it turns up."""

    __slots__ = ("_secrets",)

    # A shorter text is found in ordinary words too, and would tell by its absence.
    _SHORT = 4

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, secret: str) -> None:
        """From now on this is not shown."""
        if len(secret) < self._SHORT:
            return
        self._secrets.add(secret)
        # As a reply has it without SMTPUTF8: a question mark for each odd byte.
        data = secret.encode("utf-8", "surrogateescape")
        self._secrets.add("".join(chr(b) if 31 < b < 127 else "?" for b in data))

    def __call__(self, text: str) -> str:
        """The text without any of them; the longest go first."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "<hidden>")
        return text
