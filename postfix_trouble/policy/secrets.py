"""Who may read a file that holds a secret, and what of it must not be shown."""

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
