"""What master.cf may get wrong about the LMTP server: each mistake, and its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from spelled_out import assert_as_written_down, spelled_out

from postfix_trouble.check.lmtp_entry import ClientEntry, ServerEntry, judge
from postfix_trouble.config.master_cf import PipeEntry, Service

SPAWN = Service(7, "server", "unix", "-", "n", "n", "-", "20", "spawn", ())
LMTP = Service(9, "trouble-lmtp", "unix", "-", "-", "n", "-", "20", "lmtp", ())
ENTRY = PipeEntry(SPAWN, user="nobody", argv=("/usr/bin/postfix-trouble", "lmtp"))
SERVER = ServerEntry(time_limit=3600.0)
CLIENT = ClientEntry(LMTP)
SOUND = "[]\nok: server, line 7: the entry is as it should be\n\n"


def column(**changes: Any) -> PipeEntry:
    return ENTRY._replace(service=SPAWN._replace(**changes))


def limited(
    ours: str, theirs: str
) -> tuple[PipeEntry, ServerEntry, tuple[ClientEntry, ...]]:
    client = ClientEntry(LMTP._replace(process_limit=theirs))
    return column(process_limit=ours), SERVER, (client,)


@pytest.mark.parametrize(
    ("entry", "now", "clients"),
    [
        (ENTRY, SERVER, ()),
        (ENTRY, SERVER, (CLIENT, CLIENT)),
        (column(chroot="-"), SERVER, (CLIENT,)),
        # To the second: what is under way ends 30 seconds before.
        (ENTRY, ServerEntry(time_limit=870.0), ()),
        (ENTRY, ServerEntry(time_limit=870.0), (CLIENT,)),
        (ENTRY, ServerEntry(time_limit=580.0), (CLIENT._replace(reuse=10.0),)),
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
    entry: PipeEntry, now: ServerEntry, clients: tuple[ClientEntry, ...]
) -> None:
    assert spelled_out("", judge(entry, now, clients)) == SOUND


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
    "arguments": (ENTRY, SERVER._replace(problem="no such option: -y"), ()),
    "time": (ENTRY, ServerEntry(time_limit=869.0), ()),
    "time by default": (ENTRY, ServerEntry(deadline=900.0), ()),
    "time of the slowest": (
        ENTRY, ServerEntry(), (CLIENT, CLIENT._replace(reuse=500.0), CLIENT)
    ),
    "patience": (ENTRY, SERVER, (CLIENT._replace(patience=569.0),)),
    "little patience": (ENTRY, SERVER, (CLIENT._replace(patience=60.5),)),
    "recipient limit": (ENTRY, SERVER, (CLIENT._replace(recipient_limit=1),)),
    "one more process": limited("20", "21"),
    "any number of processes": limited("20", "0"),
    "processes by default": limited("20", "-"),
    "second client": (
        ENTRY, SERVER, (CLIENT, ClientEntry(LMTP._replace(process_limit="99"))),
    ),
}  # fmt: skip


def all_of_it() -> Iterator[str]:
    for name, (entry, now, clients) in MISTAKES.items():
        yield spelled_out(name, judge(entry, now, clients))


def test_mistakes_their_cost_and_their_remedy() -> None:
    assert_as_written_down("lmtp-entry", "".join(all_of_it()))


def test_what_postfix_has_by_default() -> None:
    assert ServerEntry() == ServerEntry(1000.0, 540.0, "")
    assert ClientEntry(LMTP) == ClientEntry(LMTP, 600.0, 300.0, 50)
