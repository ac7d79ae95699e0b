"""Whether a file is still the one that was read."""

from __future__ import annotations

import os

from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


def file_stamp(path: str) -> Hashable:
    """Changes when the file at a path does, or its owner or mode; None: no file.

    Of a directory it says whether files were added, removed or replaced.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    times = found.st_mtime_ns, found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, *times
