"""Connections to next hops that stay open: what servers and senders see of that.

Each row of the tables is two or more messages in a row. What a server heard is written
as one word for each connection: E EHLO, M MAIL, R RCPT, D DATA, . the message, Z RSET,
Q QUIT, T STARTTLS, A AUTH.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmtp_client import MakeService, services
from scripted_server import KEYWORDS, ScriptedServer
from waiting import PATIENCE, wait

Listen = Callable[..., ScriptedServer]
OK = "250 2.0.0 Ok: queued as SAMPLE"
KEEP = {
    "smtp_connection_cache_destinations": "static:all",
    # However long the machine takes from one message to the next.
    "smtp_connection_cache_time_limit": "60s",
}
LETTERS = {"STARTTLS": "T", "RSET": "Z", "DATA": "D", "<message": ".", "<body>": ","}


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Makes servers. They outlive the services, which say QUIT to them."""
    with contextlib.ExitStack() as stack:
        yield lambda *scripts, **options: stack.enter_context(
            ScriptedServer(*scripts, **options)
        )


@pytest.fixture
def serve(listen: Listen, tmp_path: Path) -> Iterator[MakeService]:
    yield from services(str(tmp_path / "log"))


def at(*servers: ScriptedServer) -> str:
    return ",".join(f"[{x.listen.rpartition(':')[0]}]:{x.port}" for x in servers)


def heard(server: ScriptedServer) -> list[str]:
    """What each connection was used for."""
    words = []
    for connection in server.connections:
        verbs = (line.replace(":", " ").split()[0] for line in connection.commands)
        words.append("".join(LETTERS.get(v, v[0]) for v in verbs if v[:2] != "<T"))
    return words


def settled(server: ScriptedServer, *wanted: str) -> None:
    """The server has heard all this; waited for, since QUIT has no reply."""
    wait(lambda: heard(server) == list(wanted), lambda: heard(server))


# --- what is kept, row by row ---------------------------------------------------------

LATER = "4.2.0 later"
# Stages, codes of two replies, connections.
ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "taken": ({}, "250 250", "EMRD.ZMRD."),
    "4xx to MAIL": ({"mail": f"450 {LATER}"}, "450 250", "EMZZMRD."),
    "5xx to MAIL": ({"mail": "550 5.7.1 no"}, "550 250", "EMZZMRD."),
    "4xx to RCPT": ({"rcpt": f"450 {LATER}"}, "450 250", "EMRZZMRD."),
    "421 to RCPT, left open": ({"rcpt": "421 4.3.2 stop"}, "450 250", "EMRZZMRD."),
    "4xx to DATA": ({"data": f"451 {LATER}"}, "450 250", "EMRDZZMRD."),
    "5xx to .": ({"eod": "554 5.6.0 spam"}, "550 250", "EMRD.ZMRD."),
    "421 to ., left open": ({"eod": "421 4.3.2 stop"}, "450 250", "EMRD.ZMRD."),
    "first RSET refused, second is the probe": (
        {"mail": f"450 {LATER}", "rset": "500 no"}, "450 250", "EMZZMRD.",
    ),
    # A server that broke the protocol is left without a word.
    "500 to .": ({"eod": "500 what"}, "550 250", "EMRD. EMRD."),
    "garbage": ({"eod": "what\n250 ok"}, "250 250", "EMRD. EMRD."),
    "3xx to RCPT": ({"rcpt": "354 go"}, "550 250", "EMRZ EMRD."),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_what_is_kept(listen: Listen, serve: MakeService, row: str) -> None:
    odd, codes, words = ROWS[row]
    connections = words.split()
    # Only the first time; on a second connection never.
    good = {stage: "354 go" if stage == "data" else "250 ok" for stage in odd}
    once = {stage: [said, good[stage]] for stage, said in odd.items()}
    scripts = [{"stages": each, "keywords": ["SIZE"]} for each in (once, good)]
    server = listen(*scripts)
    service = serve(at(server), trouble_destination_retry_time="0", **KEEP)
    with service.connect() as client:
        replies = [client.send("a@d.test")[0] for _ in range(2)]
    assert [reply[:3] for reply in replies] == codes.split()
    assert heard(server) == connections
    if len(connections) == 2:
        assert server.connections[0].end == "client-close"
    service.service.__exit__()
    # All that is still open is left in good form.
    settled(server, *connections[:-1], f"{connections[-1]}Q")


# What a kept connection says to the probe.
STALE: dict[str, dict[str, Any]] = {
    "421": {"rset": "421 4.4.2 idle"},
    "421, closed": {"rset": {"reply": "421 4.4.2 idle", "then": "close"}},
    "refused": {"rset": "500 what"},
    "3xx": {"rset": "354 go on"},
    "closed at the probe": {"rset": {"then": "close"}},
    "reset": {"rset": {"then": "reset"}},
    "closed before": {"eod": {"reply": OK, "then": "close"}},
    "421 while it was idle": {
        "eod": {"raw": f"{OK}\r\n421 4.4.2 idle\r\n", "then": "close"}
    },
    "unanswered": {"rset": {"action": "hang"}},
}


@pytest.mark.parametrize("stages", STALE.values(), ids=STALE)
@pytest.mark.parametrize("pipelining", [True, False])
def test_stale_connection_is_nobodys_failure(
    listen: Listen, serve: MakeService, stages: dict[str, Any], pipelining: bool
) -> None:
    """The next one is at the same address; it counts, and nothing is logged."""
    keywords = KEYWORDS if pipelining else KEYWORDS[1:]
    first = {"stages": stages, "keywords": keywords}
    server = listen(first, {"keywords": keywords})
    service = serve(at(server), smtp_rset_timeout="1s", **KEEP)
    with service.connect() as client:
        assert client.send("a@d.test") == [OK]
        before = len(service.log())
        assert client.send("b@d.test") == [OK]
    (record,) = service.log()[before:]
    assert "conn_use" not in record
    assert "status=sent" in record
    assert heard(server)[1] == "EMRD."
    assert [len(x.messages) for x in server.connections] == [1, 1]


def test_garbage_before_the_reply_to_the_probe(
    listen: Listen, serve: MakeService
) -> None:
    server = listen({"stages": {"rset": "what\n250 ok"}})
    service = serve(at(server), **KEEP)
    with service.connect() as client:
        for _ in range(3):
            assert client.send("a@d.test") == [OK]
    # Used, but not kept again.
    assert heard(server)[:2] == ["EMRD.ZMRD.Q", "EMRD."]


# --- limits ---------------------------------------------------------------------------


def test_limit_of_count(listen: Listen, serve: MakeService) -> None:
    server = listen()
    service = serve(at(server), smtp_connection_reuse_count_limit="2", **KEEP)
    with service.connect() as client:
        for _ in range(4):
            client.send("a@d.test")
    # So many reuses, and known before the dot.
    assert heard(server) == ["EMRD.ZMRD.ZMRD.Q", "EMRD."]
    uses = [x.partition("conn_use=")[2].partition(",")[0] for x in service.log()]
    assert uses == ["", "2", "3", ""]


def test_limit_of_time(listen: Listen, serve: MakeService) -> None:
    server = listen({"stages": {"ehlo": {"reply": "250 mx", "delay": 1.0}}})
    service = serve(at(server), smtp_connection_reuse_time_limit="1s", **KEEP)
    with service.connect() as client:
        client.send("a@d.test")
    # Known before the dot.
    settled(server, "EMRD.Q")


def test_idle_connections_are_left_in_good_form(
    listen: Listen, serve: MakeService
) -> None:
    server = listen()
    hasty = {**KEEP, "smtp_connection_cache_time_limit": "1s"}
    service = serve(at(server), **hasty)
    with service.connect() as client:
        begun = time.monotonic()
        client.send("a@d.test")
        settled(server, "EMRD.Q")
        assert time.monotonic() - begun >= 1.0
        client.send("a@d.test")
        settled(server, "EMRD.Q", "EMRD.Q")


# --- when -----------------------------------------------------------------------------


def test_single_messages_end_with_quit(listen: Listen, serve: MakeService) -> None:
    server = listen()
    service = serve(at(server))
    for _ in range(2):
        service.send("a@d.test")
    assert heard(server) == ["EMRD.Q"] * 2


def test_connections_are_kept_on_demand(listen: Listen, serve: MakeService) -> None:
    """A client whose messages come one close behind the other has more of them."""
    server = listen()
    with serve(at(server)).connect() as client:
        for _ in range(3):
            client.send("a@d.test")
    assert heard(server) == ["EMRD.Q", "EMRD.ZMRD."]


def test_connections_are_not_kept_if_that_is_not_wanted(
    listen: Listen, serve: MakeService
) -> None:
    server = listen()
    service = serve(at(server), smtp_connection_cache_on_demand="no")
    with service.connect() as client:
        for _ in range(3):
            client.send("a@d.test")
    assert heard(server) == ["EMRD.Q"] * 3


def test_only_destinations_in_the_list(listen: Listen, serve: MakeService) -> None:
    listed = {
        "smtp_connection_cache_on_demand": "no",
        "smtp_connection_cache_destinations": "127.0.0.2",
    }
    one = listen()
    two = listen(listen=f"127.0.0.2:{one.port}")
    service = serve(smtp_tcp_port=str(one.port), **listed)
    with service.connect() as client:
        for _ in range(2):
            client.send("a@[127.0.0.1]", "b@[127.0.0.2]")
    assert heard(one) == ["EMRD.Q"] * 2
    assert heard(two) == ["EMRD.ZMRD."]


def test_clients_share_connections(listen: Listen, serve: MakeService) -> None:
    server = listen()
    service = serve(at(server), **KEEP)
    for _ in range(3):
        service.send("a@d.test")
    assert heard(server) == ["EMRD.ZMRD.ZMRD."]


def test_each_message_at_a_time_has_its_own(listen: Listen, serve: MakeService) -> None:
    server = listen()
    service = serve(at(server), **KEEP)
    many = [
        threading.Thread(target=service.send, args=("a@d.test",)) for _ in range(10)
    ]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join(PATIENCE)
    assert sum(len(each.messages) for each in server.connections) == 10
    assert all(each.end in ("", "quit") for each in server.connections)
    assert not [x for x in service.log() if "status=sent" not in x]


# --- failures on a kept connection ----------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(["250 ok", "450 4.2.0 later"], id="deferred"),
        pytest.param(["250 ok", {"then": "close"}], id="lost"),
    ],
)
def test_kept_connection_that_fails_is_an_ordinary_session(
    listen: Listen, serve: MakeService, trouble: list[Any]
) -> None:
    best, other = listen({"stages": {"mail": trouble}, "keywords": []}), listen()
    service = serve(at(best, other), **KEEP)
    with service.connect() as client:
        assert client.send("a@d.test") == [OK]
        assert client.send("a@d.test") == [OK]
    assert [len(x.messages) for x in best.connections] == [1]
    assert heard(best)[0].startswith("EMRD.ZM")
    assert heard(other) == ["EMRD."]


# --- for whom -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "connections"),
    [("3.7", ["EMRD.ZMRD."]), ("3.11", ["EMRD.", "EMRD."])],
)
def test_message_that_needs_smtputf8_goes_over_a_connection_of_its_own(
    listen: Listen, serve: MakeService, version: str, connections: list[str]
) -> None:
    server = listen({"keywords": ["SMTPUTF8", "8BITMIME"]})
    follow = {"trouble_postfix_version": version}
    with serve(at(server), **KEEP, **follow).connect() as client:
        client.send("a@d.test")
        sender = "<\u00fc@d.test> SMTPUTF8 BODY=8BITMIME"
        assert client.send("a@d.test", sender=sender) == [OK]
    assert heard(server) == connections


def test_kept_connection_does_not_hide_that_smtputf8_is_missing(
    listen: Listen, serve: MakeService
) -> None:
    server = listen({"keywords": ["8BITMIME"]})
    service = serve(at(server), **KEEP)
    with service.connect() as client:
        assert client.send("a@d.test") == [OK]
        [refused] = client.send("a@d.test", sender="<\u00fc@d.test> SMTPUTF8")
        assert refused.startswith("550 5.6.7 ")
    service.service.__exit__()
    settled(server, "EMRD.Q", "EQ")


@pytest.mark.parametrize("reuse", ["yes", "no"])
def test_tls_sessions_are_kept_if_that_is_wanted(
    listen: Listen, serve: MakeService, certificates: Path, reuse: str
) -> None:
    script = {"keywords": ["STARTTLS"], "tls": {"cert": "good"}}
    server = listen(script, certificates=str(certificates))
    service = serve(
        at(server),
        smtp_tls_security_level="encrypt",
        smtp_tls_connection_reuse=reuse,
        **KEEP,
    )
    with service.connect() as client:
        for _ in range(2):
            assert client.send("a@d.test") == [OK]
    kept = ["ETEMRD.ZMRD."]
    assert heard(server) == (kept if reuse == "yes" else ["ETEMRD.Q"] * 2)


def test_connections_for_another_tls_policy_are_not_used(
    listen: Listen, serve: MakeService, certificates: Path, tmp_path: Path
) -> None:
    """Two destinations at one server: one says that TLS has to be."""
    script = {"keywords": ["STARTTLS"], "tls": {"cert": "good"}}
    server = listen(script, certificates=str(certificates))
    policies = tmp_path / "policies"
    policies.write_text(f"[127.0.0.1]:{server.port} encrypt\n")
    service = serve(
        smtp_tcp_port=str(server.port),
        smtp_tls_policy_maps=f"texthash:{policies}",
        smtp_tls_connection_reuse="yes",
        **KEEP,
    )
    for recipient in ("a@[127.0.0.1]", f"a@[127.0.0.1]:{server.port}"):
        service.send(recipient)
    assert sorted(heard(server)) == ["EMRD.", "ETEMRD."]


def test_connections_of_another_user_are_not_used(
    listen: Listen, serve: MakeService, tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("a@d.test alice:secret\nb@d.test bob:secret\n")
    passwords.chmod(0o600)
    keywords = ["AUTH PLAIN"]
    server = listen({"keywords": keywords})
    service = serve(
        at(server),
        smtp_sasl_auth_enable="yes",
        smtp_sasl_password_maps=f"texthash:{passwords}",
        smtp_sasl_security_options="noanonymous",
        smtp_sender_dependent_authentication="yes",
        **KEEP,
    )
    with service.connect() as client:
        for sender in ("a", "b", "a"):
            assert client.send("x@d.test", sender=f"<{sender}@d.test>") == [OK]
    assert heard(server) == ["EAMRD.ZMRD.", "EAMRD."]
    names = [x.commands[1] for x in server.connections]
    assert names[0] != names[1]


def test_all_are_left_in_good_form_at_the_end(
    listen: Listen, serve: MakeService
) -> None:
    server = listen()
    service = serve(at(server), **KEEP)
    service.send("a@d.test")
    service.service.__exit__()
    settled(server, "EMRD.Q")
    # What ends after that is not kept.
    service.send("a@d.test")
    settled(server, "EMRD.Q", "EMRD.Q")
