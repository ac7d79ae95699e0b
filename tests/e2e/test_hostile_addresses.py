"""Addresses that want to be options, commands or other addresses, through Postfix."""

from __future__ import annotations

from pathlib import Path

import pytest
import side_by_side
from private_postfix import PrivatePostfix

from scripted_server import ScriptedServer

LOCAL_PARTS = {
    "option": "--config=/etc/passwd",
    "short-option": "-oQ/tmp",
    "quoted-option": '"-o soft_bounce=yes"',
    "comma": '"a,b@z"',
    "semicolon": '"a;b"',
    "brackets": '"<x>"',
    "two-addresses": '"a@b.test> <c"',
    "source-route": '"@relay:a"',
    "comment": '"a(b)c"',
    "group": '"g:a@b;"',
    "escape": '"a\x1b[2Jb"',
    "control": '"a\x01b\x7f"',
    "bell": '"a\x07\x08b"',
    "format": "%s%n%d{0}",
    "macros": '"${nexthop}$(sender)"',
    "second-command": '"x> NOTIFY=NEVER\\\nRSET"',
    "record": '"x>, relay=evil, status=sent (ok)"',
    "queue": '"x, orig_to=<y>"',
}


def heard(
    postfix: PrivatePostfix, server: ScriptedServer, client: str, local: str
) -> list[str]:
    """MAIL and RCPT as the server had them from one of the clients."""
    before = len(server.connections)
    postfix.submit(f"{local}@sent.{client}.test")
    commands = side_by_side.next_taken(server, before).commands
    return [c.replace(f".{client}.", ".client.") for c in commands if " " in c][1:3]


@pytest.mark.attack("addresses: options, commands, controls, macros, beside smtp(8)")
@pytest.mark.parametrize("name", LOCAL_PARTS)
def test_an_address_is_an_address(
    postfix: PrivatePostfix, our_log: Path, name: str
) -> None:
    """The server hears from us what it hears from smtp(8), and the log is one line."""
    local = LOCAL_PARTS[name]
    (place,) = side_by_side.addresses("sent")
    ours_before = len(our_log.read_bytes().split(b"\n"))
    with ScriptedServer({"keywords": []}, listen=place) as server:
        ours = heard(postfix, server, "trouble", local)
        theirs = heard(postfix, server, "smtp", local)
    assert ours == theirs
    assert ours[1].startswith("RCPT TO:<")
    records = our_log.read_bytes().split(b"\n")[ours_before - 1 : -1]
    assert len(records) == 1, records
    assert b" status=sent (250 " in records[0]
    assert not any(byte < 32 or byte == 127 for byte in records[0])


@pytest.mark.attack("addresses: shell commands, behind pipe(8)")
def test_no_shell_sees_an_address(postfix: PrivatePostfix, place: Path) -> None:
    owned = place / "owned"
    local = f'"`touch {owned}`;$(touch {owned})|touch {owned}"'
    (where,) = side_by_side.addresses("sent")
    with ScriptedServer({"keywords": []}, listen=where) as server:
        said = heard(postfix, server, "trouble", local)
    assert "touch" in said[1]
    assert not owned.exists()
