"""Runs commands one by one and says what each cost.

usage: measure.py
Reads lines of `INPUT-FILE<TAB>COMMAND<TAB>ARGUMENT...`, writes a line of
`STATUS WALL-ms CPU-ms PEAK-MiB` for each.

A process of its own, started with `-I -S`: before it becomes the command, the child is
as large as this is, and that counts for the peak.
"""

import os
import sys
import time


def run(command: list[str], text: str) -> str:
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(text, os.O_RDONLY), 0)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    # The figures of a process contain those of its children that it has waited for.
    _, status, used = os.wait4(pid, 0)
    wall = (time.perf_counter() - start) * 1000
    cpu = (used.ru_utime + used.ru_stime) * 1000
    return f"{status} {wall} {cpu} {used.ru_maxrss / 1024}"


for line in sys.stdin:
    source, *argv = line.rstrip("\n").split("\t")
    print(run(argv, source), flush=True)
