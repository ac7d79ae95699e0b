"""What master.cf may get wrong: each mistake, what it costs, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from spelled_out import assert_as_written_down, spelled_out

from postfix_trouble.check.argv import Line, macros
from postfix_trouble.check.entry import Circumstances, judge
from postfix_trouble.config.master_cf import PipeEntry, Service

SERVICE = Service(7, "trouble", "unix", "-", "n", "n", "-", "20", "pipe", ())
ARGV = (
    "/usr/bin/postfix-trouble", "deliver", "--queue-id", "${queue_id}", "--nexthop",
    "${nexthop}", "--sender", "${sender}", "--", "${recipient}",
)  # fmt: skip
ENTRY = PipeEntry(SERVICE, user="nobody", null_sender="", argv=ARGV)
VALUES = {
    "--queue-id": "${queue_id}",
    "--nexthop": "${nexthop}",
    "--sender": "${sender}",
}
LINE = Line(VALUES, ("${recipient}",))
ONE = Circumstances(recipient_limit=1)
KEPT = Circumstances(state_directory="/var/lib/trouble")


def without(option: str) -> Line:
    return LINE._replace(values={k: v for k, v in VALUES.items() if k != option})


def with_value(option: str, value: str) -> Line:
    return LINE._replace(values={**VALUES, option: value})


def to(*recipients: str) -> Line:
    return LINE._replace(recipients=recipients)


def column(**changes: Any) -> PipeEntry:
    return ENTRY._replace(service=SERVICE._replace(**changes))


def argv(*words: str) -> PipeEntry:
    return ENTRY._replace(argv=words)


SOUND = [
    (ENTRY, LINE, ONE),
    (ENTRY, LINE, KEPT),
    (column(process_limit="-"), LINE, KEPT),
    (column(process_limit="0"), LINE, KEPT),
    (column(chroot="-"), LINE, ONE),
    (ENTRY._replace(null_sender="<>"), LINE, ONE),
    (ENTRY._replace(eol=""), LINE, ONE),
    (ENTRY._replace(size="00"), LINE, ONE),
    (ENTRY._replace(flags="DORX"), LINE, ONE),
    (ENTRY._replace(flags="RX"), LINE, KEPT),
    (ENTRY._replace(flags="q"), with_value("--quoted", ""), ONE),
    (ENTRY, with_value("--sender", "$(sender)"), ONE),
    (ENTRY, with_value("--sender", "$sender"), ONE),
    (ENTRY, with_value("--nexthop", "${domain}"), ONE),
    (column(chroot="-"), LINE, ONE),
    (ENTRY, to("$(recipient)"), ONE),
    (ENTRY, to("$recipient"), ONE),
    (ENTRY, with_value("--original-recipient", "${original_recipient}"), ONE),
    (argv(*ARGV, "$$", "$${x}", "$sender$$x", "", "a'b"), LINE, ONE),
    (ENTRY, LINE, ONE._replace(deadline=970.0)),
    *((argv(*ARGV, f"${{{name}}}"), LINE, ONE) for name in (
        "client_address", "client_helo", "client_hostname", "client_port",
        "client_protocol", "domain", "extension", "mailbox", "nexthop",
        "original_recipient", "queue_id", "recipient", "sasl_method", "sasl_sender",
        "sasl_username", "sender", "size", "user",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "line", "now"), SOUND)
def test_sound(entry: PipeEntry, line: Line, now: Circumstances) -> None:
    assert spelled_out("", judge(entry, line, now)) == (
        "[]\nok: trouble, line 7: no mistakes in the entry\n\n"
    )


MISTAKES = {
    "type": (column(kind="inet"), LINE, ONE),
    "unpriv": (column(unprivileged="-"), LINE, ONE),
    "chroot": (column(chroot="y"), LINE, ONE),
    "chroot at level 0": (column(chroot="-"), LINE, ONE._replace(chroot_default=True)),
    "chroot=": (ENTRY._replace(chroot="/var/jail"), LINE, ONE),
    "-o before argv=": (
        ENTRY._replace(
            overrides=("smtp_tls_security_level=encrypt", "soft_bounce=yes")
        ),
        LINE,
        ONE,
    ),
    "unknown attributes": (ENTRY._replace(unknown=("colour", "x")), LINE, ONE),
    "no user": (ENTRY._replace(user=""), LINE, ONE),
    "no null_sender": (ENTRY._replace(null_sender="MAILER-DAEMON"), LINE, ONE),
    "another null_sender": (ENTRY._replace(null_sender="me@x"), LINE, ONE),
    "eol": (ENTRY._replace(eol="\\r\\n"), LINE, ONE),
    "size": (ENTRY._replace(size="100"), LINE, ONE),
    "size that is none": (ENTRY._replace(size="10M"), LINE, ONE),
    "flags": (ENTRY._replace(flags="huF.>Bz"), LINE, ONE),
    "q without --quoted": (ENTRY._replace(flags="q"), LINE, ONE),
    "--quoted without q": (ENTRY, with_value("--quoted", ""), ONE),
    "D and O": (ENTRY._replace(flags="DO"), LINE, KEPT),
    "arguments nobody understands": (ENTRY, Line({}, (), "no such option: -y"), ONE),
    "no --nexthop": (ENTRY, without("--nexthop"), ONE),
    "no --sender": (ENTRY, without("--sender"), ONE),
    "no --queue-id": (ENTRY, without("--queue-id"), ONE),
    "another sender": (ENTRY, with_value("--sender", "me@x"), ONE),
    "macros": (argv(*ARGV, "${from}", "$", "a${}b", "$(to)", "$x"), LINE, ONE),
    "envid": (argv(*ARGV, "${envid}"), LINE, ONE),
    "quotes": (argv(*ARGV, "'${sender}'", '"a'), LINE, ONE),
    "--engine that is not the first option": (
        argv(*ARGV[:2], "--engine", "/run/engine", *ARGV[2:]),
        with_value("--engine", "/run/engine"),
        ONE,
    ),
    "no recipients": (ENTRY, to(), ONE),
    "other recipients": (ENTRY, to("${user}@${domain}"), ONE),
    "more recipients": (ENTRY, to("${recipient}", "postmaster@x"), ONE),
    "decorated recipients": (ENTRY, to("<${recipient}>"), ONE),
    "no --": (argv(*(word for word in ARGV if word != "--")), LINE, ONE),
    "recipient in an option": (ENTRY, with_value("--envid", "x${recipient}"), KEPT),
    "domain in an option": (ENTRY, with_value("--envid", "${domain}"), KEPT),
    "user in an option": (ENTRY, with_value("--envid", "${user}"), KEPT),
    "mailbox in an option": (ENTRY, with_value("--envid", "${mailbox}"), KEPT),
    "extension in an option": (ENTRY, with_value("--envid", "${extension}"), KEPT),
    "address as it was": (ENTRY, with_value("--envid", "${original_recipient}"), KEPT),
    "several, and nothing kept": (ENTRY, LINE, Circumstances()),
    "unlimited": (ENTRY, LINE, Circumstances(recipient_limit=0)),
    "one each, no process limit": (column(process_limit="-"), LINE, ONE),
    "one each, process limit 0": (column(process_limit="0"), LINE, ONE),
    "JSON, one each": (ENTRY, with_value("--json", ""), ONE),
    "JSON, several, kept": (ENTRY, with_value("--json", ""), KEPT),
    "JSON, several": (ENTRY, with_value("--json", ""), Circumstances()),
    "time": (ENTRY, LINE, ONE._replace(deadline=971.0)),
    "little time": (ENTRY, LINE, ONE._replace(time_limit=90.0)),
}


def all_of_it() -> Iterator[str]:
    for name, (entry, line, now) in MISTAKES.items():
        yield spelled_out(name, judge(entry, line, now))


def test_mistakes_their_cost_and_their_remedy() -> None:
    assert_as_written_down("pipe-entry", "".join(all_of_it()))


def test_macros() -> None:
    assert macros("${a}$(b)$c$$d $$e $${f}") == ["a", "b", "c"]


def test_what_postfix_has_by_default() -> None:
    assert Circumstances() == Circumstances(1000.0, 50, 900.0, "", False, "")
