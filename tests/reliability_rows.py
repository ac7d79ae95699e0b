"""What can go wrong, and what must come of it: the rows of docs/reliability.md.

A test says which row it shows, and what it does for that:

    @pytest.mark.fault("12 disk full (ENOSPC) while the message comes")
    @pytest.mark.attack("memory: 50 MiB of dots, with 256 MiB of address space")

tools/reliability.py makes the tables of such marks and of what a test run has left.
"""

from __future__ import annotations

# fault: (what, what must come of it). A bare status goes with exit code 75.
FAULTS = {
    "1": ("killed before the final dot (out of memory, power)", "4.3.0"),
    "2": (
        "killed between the final dot and the record of its reply",
        "4.3.0; the message may arrive twice: the window",
    ),
    "3": ("killed later", "4.3.0; the next attempt sends nothing again"),
    "4": (
        "SIGTERM, SIGINT, SIGHUP before the final dot",
        "4.3.0 terminated by signal",
    ),
    "5": ("SIGTERM after the final dot", "the reply is waited for, 10 s at most"),
    "6": ("SIGPIPE", "nothing"),
    "7": ("pipe(8)'s time limit, which would bounce", "4.4.2 before it"),
    "8": ("a message that never ends", "4.3.0 timeout reading message"),
    "9": ("a message cut short, for pipe(8) is gone", "75, and nothing is sent"),
    "10": ("pipe(8) or the launcher gone later", "before the dot: nothing is sent"),
    "11": ("standard output closed or full", "the same exit code"),
    "12": ("no room for the message", "4.3.1"),
    "13": (
        "state directory missing, read-only, somebody else's",
        "one recipient: delivered; several: 4.3.0, nothing is sent",
    ),
    "14": ("its disk full before MAIL", "as 13"),
    "15": (
        "its disk full after the final dot",
        "the truth, and a warning; with mixed outcomes some may have it twice",
    ),
    "16": ("its database locked", "10 s of patience, then as 13"),
    "17": ("its database damaged", "set aside; this time as 13"),
    "18": ("no descriptors, memory or processes", "75, or delivered"),
    "19": ("clocks that jump", "nothing"),
    "20": ("resolv.conf missing or broken", "4.4.3"),
    "21": ("name servers silent, failing, mad", "4.4.3"),
    "22": ("no such name, no address, null MX", "5.4.4, 5.4.4, 5.1.0: as smtp(8)"),
    "23": ("connection refused, unreachable, timed out", "next server, then 4.4.1"),
    "24": ("half-open connection, silent server", "4.4.2"),
    "25": ("no reply to the final dot", "4.4.2; the message may arrive twice"),
    "26": (
        "strange reply to the final dot",
        "as smtp(8): lines without a code are skipped, 1xx and 3xx are 5.5.0",
    ),
    "27": ("TLS fails", "at `may` in the clear, as smtp(8); else 4.7.4 or 4.7.5"),
    "28": ("log-in fails", "4.7.x"),
    "29": ("a bug", "4.3.0; who has the message does not get it again"),
    "30": ("log or notice can't be written", "nothing"),
    "31": ("syslog missing, or not reading", "nothing"),
    "32": ("interpreter, package or code missing or broken", "4.3.0"),
    "33": ("configuration missing, unreadable, wrong", "4.3.5"),
    "34": ("unknown option, wrong value in master.cf", "4.3.5"),
    "35": ("no recipient, odd arguments", "4.3.5"),
    "36": ("an address that can't be sent", "5.1.3"),
    "37": ("some delivered, some deferred", "75; each gets it once"),
    "38": (
        "some delivered, some refused",
        "our bounce at once, 0; without sendmail(1) 4.3.0, and again",
    ),
    "39": ("the same, and the sender must not be told", "0, and a line in the log"),
    "40": ("all refused, for several reasons", "our bounce with each of them, 0"),
    "41": ("a child is left that holds the output", "pipe(8) does not wait for it"),
    "42": ("an upgrade in mid-run", "delivered or 75, never twice"),
    "43": ("state directory on a network file system", "works, without WAL"),
    "MTA-STS": (
        "a domain's MTA-STS policy can't be had",
        "as without one, within the deadline",
    ),
    "LMTP": (
        "a bug in the LMTP server",
        "451 4.3.0 for each recipient that does not have it",
    ),
    "spawn": (
        "spawn(8) has the connection on descriptors 1 and 2",
        "nothing but replies is written to it",
    ),
    "engine": (
        "an engine, its client or pipe(8) killed, stopped, gone, somebody else's",
        "delivered once or 75; nothing is sent before the dot, or again in one run",
    ),
    "kills": ("kills and bugs at random", "the ledger agrees with the server"),
    "soak": (
        "a real Postfix, a server that misbehaves, kills",
        "the ledger agrees with the server",
    ),
}

# attack: what must come of it.
ATTACKS = {
    "addresses": "the server hears what smtp(8) says; no option, command or record",
    "smuggling": "one message, whatever ends a line there; no second command",
    "memory": "delivered with 256 MiB of address space",
    "replies": "4.4.2 after 1 MiB; long log lines and answers are cut",
    "deadlines": "75 within the deadline",
    "STARTTLS": "what was said in the clear does not count",
    "log": "one record stays one record, without control characters",
    "terminal": "no control character reaches the terminal",
    "secrets": "no password or token in log, answer, bounce, notice or process list",
    "state": "not used, or closed to others",
    "children": "ended, and what they say has a bound",
    "LMTP": "neither more messages nor endless waits for a client of ours",
    "DNS": "only an answer to our question counts",
}


def key(mark: str) -> list[str]:
    """The rows that a mark names, before a blank or a colon: `21, 22 answers ...`."""
    words = mark.replace(":", " ").split()
    found = []
    for word in words:
        found.append(word.rstrip(","))
        if not word.endswith(","):
            break
    return found


def done(mark: str) -> str:
    """What a mark says was done."""
    words = mark.split()
    while words and words[0].endswith(","):
        del words[0]
    return " ".join(words[1:])
