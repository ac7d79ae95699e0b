"""Exit codes (sysexits.h), and what pipe(8) makes of each without a status line."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

EX_OK = 0
EX_USAGE = 64
EX_DATAERR = 65
EX_NOUSER = 67
EX_NOHOST = 68
EX_UNAVAILABLE = 69
EX_TEMPFAIL = 75
EX_PROTOCOL = 76
EX_NOPERM = 77
EX_CONFIG = 78

NAMES = {
    EX_OK: "EX_OK",
    EX_USAGE: "EX_USAGE",
    EX_DATAERR: "EX_DATAERR",
    EX_NOUSER: "EX_NOUSER",
    EX_NOHOST: "EX_NOHOST",
    EX_UNAVAILABLE: "EX_UNAVAILABLE",
    EX_TEMPFAIL: "EX_TEMPFAIL",
    EX_PROTOCOL: "EX_PROTOCOL",
    EX_NOPERM: "EX_NOPERM",
    EX_CONFIG: "EX_CONFIG",
}
