"""What pipe(8) makes of a command, row by row: scripts, and what Postfix logs of each.

The program is built on these facts, so they are checked on the installed Postfix. Not
provoked here: a fork that fails, a damaged queue file, a disk error while the message
is handed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

NAME = "contract"
TIME_LIMIT = 10
MAIN = {
    "contract_time_limit": f"{TIME_LIMIT}s",
    "contract_destination_recipient_limit": "1",
}
SENT = "delivered via contract service"
COMMAND = '"/bin/sh"'


class Row(NamedTuple):
    """A shell script, and the delivery record it leads to."""

    script: str
    dsn: str
    status: str
    # The whole reason; one that ends with * is the beginning of it.
    reason: str


def sent(output: str = "") -> str:
    return f"{SENT} ({output})" if output else SENT


def died(status: int, output: str = "") -> str:
    text = f"Command died with status {status}: {COMMAND}"
    return f"{text}. Command output: {output}" if output else text


# Exit statuses without any output.
SYSEXITS = {
    64: ("5.3.0", "bounced", "command line usage error"),
    65: ("5.6.0", "bounced", "data format error"),
    66: ("5.3.0", "bounced", "cannot open input"),
    67: ("5.1.1", "bounced", "user unknown"),
    68: ("5.1.2", "bounced", "host name unknown"),
    69: ("5.3.0", "bounced", "service unavailable"),
    70: ("5.3.0", "bounced", "internal software error"),
    71: ("4.3.0", "deferred", "system resource problem"),
    72: ("5.3.0", "bounced", "critical OS file missing"),
    73: ("5.2.0", "bounced", "can't create user output file"),
    74: ("5.3.0", "bounced", "input/output error"),
    75: ("4.3.0", "deferred", "temporary failure"),
    76: ("5.5.0", "bounced", "remote error in protocol"),
    77: ("5.7.0", "bounced", "permission denied"),
    78: ("5.3.5", "bounced", "local configuration error"),
}
ROWS = {
    # How the command runs.
    "identity": Row("id -u; id -g; id -G", "2.0.0", "sent", sent("65534 65534 65534")),
    "session": Row(
        "read -r pid name state ppid pgrp sid rest </proc/$$/stat;"
        " [ $$ = $pgrp ] && [ $$ = $sid ] && echo leader",
        "2.0.0",
        "sent",
        sent("leader"),
    ),
    # 3 and 10 are the shell's own.
    "descriptors": Row(
        "cd /proc/self/fd; echo [0-9]*; [ 1 -ef 2 ] && echo one",
        "2.0.0",
        "sent",
        sent("0 1 10 2 3 one"),
    ),
    "umask": Row("umask", "2.0.0", "sent", sent("0077")),
    "directory": Row(
        "[ . -ef $(/usr/sbin/postconf -h queue_directory 2>&-) ] && echo queue",
        "2.0.0",
        "sent",
        sent("queue"),
    ),
    "environment": Row(
        "tr '\\0' '\\n' </proc/$$/environ | sort",
        "2.0.0",
        "sent",
        sent("LANG=C MAIL_CONFIG=/etc/postfix PATH=/usr/bin:/bin"),
    ),
    "arguments": Row(
        'echo "$# <$1> <$2>"', "2.0.0", "sent", sent("2 <> <r@arguments.contract.test>")
    ),
    "input-ends-lines-with-lf": Row(
        "tail -n 1 | od -An -c | tr -s ' '", "2.0.0", "sent", sent(" B y e . \\n")
    ),
    "input-not-read": Row("exit 0", "2.0.0", "sent", sent()),
    "output-cleaned": Row(
        "printf 'hello\\tworld\\r\\nrest'; exit 75",
        "4.3.0",
        "deferred",
        "temporary failure. Command output: hello world_ rest",
    ),
    "output-of-success-100-bytes": Row(
        "printf '%0150d' 0", "2.0.0", "sent", sent("0" * 100)
    ),
    "output-4096-bytes": Row(
        "printf '4.7.1 %05000d' 0; exit 75", "4.7.1", "deferred", "0" * 200 + "*"
    ),
    # Which result: the first row of the table that fits.
    "time-limit": Row(
        "sleep 99", "5.3.0", "bounced", f"Command time limit exceeded: {COMMAND}"
    ),
    "time-limit-with-status": Row(
        "printf '4.4.2 slow'; sleep 99",
        "5.3.0",
        "bounced",
        f"Command time limit exceeded: {COMMAND}. Command output: 4.4.2 slow",
    ),
    "time-limit-is-per-wait": Row(
        "for n in 1 2 3; do printf x; sleep 4; done; exit 75",
        "4.3.0",
        "deferred",
        "temporary failure. Command output: xxx",
    ),
    "child-keeps-output": Row(
        "sleep 99 & printf '4.4.2 x'; exit 75",
        "5.3.0",
        "bounced",
        f"Command time limit exceeded: {COMMAND}. Command output: 4.4.2 x",
    ),
    "killed": Row(
        "kill -9 $$", "4.3.0", "deferred", f"Command died with signal 9: {COMMAND}"
    ),
    "killed-by-term": Row(
        "printf x; kill -15 $$",
        "4.3.0",
        "deferred",
        f"Command died with signal 15: {COMMAND}. Command output: x",
    ),
    "status-4-exit-75": Row(
        "printf '4.7.1 later'; exit 75", "4.7.1", "deferred", "later"
    ),
    "status-4-exit-69": Row(
        "printf '4.7.1 later'; exit 69", "4.7.1", "deferred", "later"
    ),
    "status-4-exit-1": Row(
        "printf '4.7.1 later'; exit 1", "4.7.1", "deferred", "later"
    ),
    "status-5-exit-69": Row(
        "printf '5.7.1 never'; exit 69", "5.7.1", "bounced", "never"
    ),
    "status-5-exit-75": Row(
        "printf '5.7.1 never'; exit 75", "5.7.1", "bounced", "never"
    ),
    "status-2-exit-75": Row("printf '2.0.0 ok'; exit 75", "5.0.0", "bounced", "ok"),
    "status-4-exit-0": Row(
        "printf '4.2.2 full'; exit 0", "2.0.0", "sent", sent("4.2.2 full")
    ),
    "newline-becomes-blank": Row(
        "echo '4.7.1 later'; exit 75", "4.7.1", "deferred", "later "
    ),
    "blank-before-status": Row(
        "printf ' 5.7.1 no'; exit 75",
        "4.3.0",
        "deferred",
        "temporary failure. Command output:  5.7.1 no",
    ),
    "stderr-before-status": Row(
        "echo warning >&2; printf '4.4.1 down'; exit 69",
        "5.3.0",
        "bounced",
        "service unavailable. Command output: warning 4.4.1 down",
    ),
    **{f"exit-{code}": Row(f"exit {code}", *what) for code, what in SYSEXITS.items()},
    **{
        f"exit-{code}": Row(f"exit {code}", "5.3.0", "bounced", died(code))
        for code in (1, 2, 79, 100, 120, 126, 127, 137, 255)
    },
    "exit-1-with-traceback": Row(
        "echo Traceback >&2; exit 1", "5.3.0", "bounced", died(1, "Traceback ")
    ),
    "success": Row("cat >/dev/null", "2.0.0", "sent", sent()),
}


def address(row: str) -> str:
    """The recipient whose mail a row's script gets."""
    return f"r@{row}.contract.test"


def write_scripts(directory: Path) -> None:
    """Write all scripts into a new directory."""
    directory.mkdir()
    for name, row in ROWS.items():
        (directory / name).write_text(row.script + "\n")


def master(directory: Path, account: str) -> str:
    """The master.cf entry that runs the script named by the nexthop."""
    return (
        f"{NAME} unix - n n - 20 pipe\n  user={account} null_sender=\n"
        f"  argv=/bin/sh {directory}/${{nexthop}} ${{sender}} ${{recipient}}\n"
        f"absent unix - n n - 1 pipe\n"
        f"  user={account} argv={directory}/no-such-program\n"
    )


def routes() -> str:
    """The transport table for all rows."""
    table = {f"{name}.contract.test": f"{NAME}:{name}" for name in ROWS}
    table["absent.contract.test"] = "absent:x"
    return "".join(f"{domain} {route}\n" for domain, route in table.items())
