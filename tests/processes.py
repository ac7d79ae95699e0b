"""Whether a process is there."""

from __future__ import annotations

from pathlib import Path


def alive(process: int) -> bool:
    """Not if it only waits for somebody to ask after it (a zombie)."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2]
    except OSError:
        return False
    return not state.startswith("Z")
