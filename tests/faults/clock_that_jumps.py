"""Run the program with a wall clock that jumps ten years to and fro at every look."""

from __future__ import annotations

import itertools
import time

TEN_YEARS = 10 * 365 * 86400.0
real, jumps = time.time, itertools.cycle((0.0, TEN_YEARS, -TEN_YEARS))
time.time = lambda: real() + next(jumps)

from postfix_trouble import failsafe  # noqa: E402

failsafe.main()
