"""What master.cf may get wrong about the LMTP server: each mistake, and its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from spelled_out import assert_as_written_down, spelled_out

from postfix_trouble.check.argv import Line
from postfix_trouble.check.entry import Circumstances, Client, judge
from postfix_trouble.config.master_cf import PipeEntry, Service

SPAWN = Service(7, "server", "unix", "-", "n", "n", "-", "20", "spawn", ())
LMTP = Service(9, "trouble-lmtp", "unix", "-", "-", "n", "-", "20", "lmtp", ())
ENTRY = PipeEntry(SPAWN, user="nobody", argv=("/usr/bin/postfix-trouble", "lmtp"))
SHORT = Circumstances(deadline=540.0)
SERVER = SHORT._replace(time_limit=3600.0)
BOGUS = "no such option: -y"
CLIENT = Client(LMTP)
SOUND = "[]\nok: server, line 7: no mistakes in the entry\n\n"


def line_of(entry: PipeEntry) -> Line:
    """What follows `lmtp`, as far as these tests have any."""
    words = dict.fromkeys(entry.argv[2:], "")
    return Line(words, (), BOGUS if "-y" in words else "")


def column(**changes: Any) -> PipeEntry:
    return ENTRY._replace(service=SPAWN._replace(**changes))


def limited(
    ours: str, theirs: str
) -> tuple[PipeEntry, Circumstances, tuple[Client, ...]]:
    client = Client(LMTP._replace(process_limit=theirs))
    return column(process_limit=ours), SERVER, (client,)


@pytest.mark.parametrize(
    ("entry", "now", "clients"),
    [
        (ENTRY, SERVER, ()),
        (ENTRY, SERVER, (CLIENT, CLIENT)),
        (
            ENTRY._replace(argv=(*ENTRY.argv, "--nexthop")),
            SERVER._replace(relayhost="[mail.example.org]:587"),
            (),
        ),
        (column(chroot="-"), SERVER, (CLIENT,)),
        # To the second: what is under way ends 30 seconds before.
        (ENTRY, SHORT._replace(time_limit=870.0), ()),
        (ENTRY, SHORT._replace(time_limit=870.0), (CLIENT,)),
        (ENTRY, SHORT._replace(time_limit=580.0), (CLIENT._replace(reuse=10.0),)),
        (ENTRY, SERVER, (CLIENT._replace(patience=570.0),)),
        (ENTRY, SERVER, (CLIENT._replace(recipient_limit=0),)),
        (ENTRY, SERVER, (CLIENT._replace(recipient_limit=2),)),
        limited("20", "19"),
        limited("-", "20"),
        limited("-", "-"),
        limited("0", "0"),
        limited("0", "-"),
        limited("0", "100"),
    ],
)
def test_sound(
    entry: PipeEntry, now: Circumstances, clients: tuple[Client, ...]
) -> None:
    assert spelled_out("", judge(entry, line_of(entry), now, clients)) == SOUND


MISTAKES = {
    "type": (column(kind="inet"), SERVER, ()),
    "unpriv": (column(unprivileged="-"), SERVER, ()),
    "chroot": (column(chroot="y"), SERVER, ()),
    "unknown attributes": (ENTRY._replace(unknown=("colour", "x")), SERVER, ()),
    "those of pipe(8)": (
        ENTRY._replace(
            flags="DRhu", size="1000", directory="/tmp", chroot="/tmp",
            null_sender="", eol="\\r\\n",
        ), SERVER, (),
    ),
    "no user": (ENTRY._replace(user=""), SERVER, ()),
    "arguments": (ENTRY._replace(argv=(*ENTRY.argv, "-y")), SERVER, ()),
    "relayhost": (ENTRY, SERVER._replace(relayhost="[mail.example.org]:587"), ()),
    "time": (ENTRY, SHORT._replace(time_limit=869.0), ()),
    "time by default": (ENTRY, SHORT._replace(deadline=900.0), ()),
    "time of the slowest": (
        ENTRY, SHORT, (CLIENT, CLIENT._replace(reuse=500.0), CLIENT)
    ),
    "patience": (ENTRY, SERVER, (CLIENT._replace(patience=569.0),)),
    "little patience": (ENTRY, SERVER, (CLIENT._replace(patience=60.5),)),
    "recipient limit": (ENTRY, SERVER, (CLIENT._replace(recipient_limit=1),)),
    "one more process": limited("20", "21"),
    "any number of processes": limited("20", "0"),
    "processes by default": limited("20", "-"),
    "second client": (
        ENTRY, SERVER, (CLIENT, Client(LMTP._replace(process_limit="99"))),
    ),
}  # fmt: skip


def all_of_it() -> Iterator[str]:
    for name, (entry, now, clients) in MISTAKES.items():
        yield spelled_out(name, judge(entry, line_of(entry), now, clients))


def test_mistakes_their_cost_and_their_remedy() -> None:
    assert_as_written_down("lmtp-entry", "".join(all_of_it()))


def test_what_postfix_has_by_default() -> None:
    assert Client(LMTP) == Client(LMTP, 600.0, 300.0, 50)
