"""`lmtp` as lmtp(8) sees it: routing, replies, and what becomes of trouble."""

from __future__ import annotations

import grp
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import needs
import postfix_trouble
from lmtp_client import PROGRAM, Client, MakeService, Process, services
from postfix_trouble.client.connection_cache import Connections
from postfix_trouble.client.service import Service
from postfix_trouble.client.throttled import Throttled
from postfix_trouble.lmtp import delivery as lmtp_delivery
from postfix_trouble.lmtp import replies as lmtp_replies
from postfix_trouble.message.message import Message
from postfix_trouble.report import postmaster
from postfix_trouble.report.maillog import MailLog
from scripted_server import Script, ScriptedServer
from waiting import PATIENCE, wait

OK = "250 2.0.0 Ok: queued as SAMPLE"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[MakeService]:
    yield from services(str(tmp_path / "log"))


def nexthop(*servers: ScriptedServer) -> str:
    return ",".join(f"[{x.listen.rpartition(':')[0]}]:{x.port}" for x in servers)


@pytest.fixture
def sinks() -> Iterator[list[ScriptedServer]]:
    """Three servers at different addresses, and the same port."""
    with ExitStack() as stack:
        first = stack.enter_context(ScriptedServer())
        others = [
            stack.enter_context(ScriptedServer(listen=f"127.0.0.{n}:{first.port}"))
            for n in (2, 3)
        ]
        yield [first, *others]


def recipients_at(server: ScriptedServer) -> list[list[str]]:
    """The recipients of each connection."""
    return [
        [
            line.partition("<")[2].partition(">")[0]
            for line in each.commands
            if "RCPT" in line
        ]
        for each in server.connections
    ]


# --- routing --------------------------------------------------------------------------


def test_each_domain_has_its_server(
    serve: MakeService, sinks: list[ScriptedServer]
) -> None:
    one, two, _ = sinks
    service = serve(smtp_tcp_port=str(one.port))
    replies = service.send(
        "a@[127.0.0.1]", "b@[127.0.0.2]", "c@[127.0.0.1]", "a@[127.0.0.1]"
    )
    assert replies == [OK] * 4
    assert recipients_at(one) == [["a@[127.0.0.1]", "c@[127.0.0.1]", "a@[127.0.0.1]"]]
    assert recipients_at(two) == [["b@[127.0.0.2]"]]


@pytest.mark.parametrize("by", ["relayhost", "--nexthop"])
def test_all_to_one_server(
    serve: MakeService, sinks: list[ScriptedServer], by: str
) -> None:
    one, two, _ = sinks
    service = (
        serve(nexthop(one), relayhost=nexthop(two))
        if by == "--nexthop"
        else serve(relayhost=nexthop(one))
    )
    assert service.send("a@one.test", "b@two.test") == [OK] * 2
    assert recipients_at(one) == [["a@one.test", "b@two.test"]]
    assert two.connections == []


def meeting(barrier: threading.Barrier, reply: str) -> dict[str, Any]:
    """A reply that waits until so many have come to one."""
    return {"delay": partial(barrier.wait, PATIENCE), "reply": reply}


def test_destinations_are_served_at_the_same_time(
    serve: MakeService, sinks: list[ScriptedServer]
) -> None:
    barrier = threading.Barrier(len(sinks))
    for number, server in enumerate(sinks):
        action = meeting(barrier, reply=f"250 2.0.0 I am {number}")
        server.scripts = ({"stages": {"eod": action}},)
    service = serve(smtp_tcp_port=str(sinks[0].port))
    replies = service.send("a@[127.0.0.3]", "b@[127.0.0.1]", "c@[127.0.0.2]")
    assert replies == [f"250 2.0.0 I am {number}" for number in (2, 0, 1)]


def test_who_comes_too_late_is_not_in_trouble(serve: MakeService) -> None:
    """Slow servers use up the time; those that were never asked did nothing wrong."""
    slow: Script = {"stages": {"banner": {"then": "hang"}}}
    with ExitStack() as stack:
        good = stack.enter_context(ScriptedServer())
        names = []
        for n in range(2, 7):
            listen = f"127.0.0.{n}:{good.port}"
            stack.enter_context(ScriptedServer(slow, listen=listen))
            names.append(f"a@[127.0.0.{n}]")
        service = serve(smtp_tcp_port=str(good.port), trouble_deadline="10s")
        *_, late = service.send(*names, "a@[127.0.0.1]")
        assert late == "450 4.4.2 delivery time limit exceeded"
        assert service.send("a@[127.0.0.1]") == [OK]


def test_one_destination_in_trouble_is_no_matter_for_the_others(
    serve: MakeService, sinks: list[ScriptedServer]
) -> None:
    sinks[1].scripts = ({"stages": {"mail": "550 5.7.1 not you"}},)
    service = serve(smtp_tcp_port=str(sinks[0].port))
    good, bad = service.send("a@[127.0.0.1]", "b@[127.0.0.2]")
    assert good == OK
    assert bad == (
        "550 5.7.1 host 127.0.0.2[127.0.0.2] said: 550 5.7.1 not you"
        " (in reply to MAIL FROM command)"
    )


# --- replies --------------------------------------------------------------------------


def test_each_recipient_has_its_reply(serve: MakeService) -> None:
    stages = {
        "rcpt:full@d.test": "452 4.2.2 full",
        "rcpt:nobody@d.test": "550 5.1.1 who?",
    }
    with ScriptedServer({"stages": stages}) as server:
        service = serve(nexthop(server))
        replies = service.send("nobody@d.test", "ok@d.test", "full@d.test", "ok@d.test")
    said = "host 127.0.0.1[127.0.0.1] said:"
    assert replies == [
        f"550 5.1.1 {said} 550 5.1.1 who? (in reply to RCPT TO command)",
        OK,
        f"450 4.2.2 {said} 452 4.2.2 full (in reply to RCPT TO command)",
        OK,
    ]


def test_what_lmtp_tells_reaches_the_server(serve: MakeService) -> None:
    keywords = ["PIPELINING", "SIZE", "8BITMIME", "DSN", "SMTPUTF8"]
    with ScriptedServer({"keywords": keywords}) as server:
        service = serve(nexthop(server))
        replies = service.send(
            "<a@d.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2B1@d.test",
            "<\u00fc@d.test> NOTIFY=NEVER",
            sender="<s@d.test> SIZE=999 BODY=8BITMIME RET=HDRS ENVID=x+3Dy SMTPUTF8",
        )
    assert replies == [OK] * 2
    assert server.connections[0].commands[1:4] == [
        "MAIL FROM:<s@d.test> SIZE=999 BODY=8BITMIME ENVID=x+3Dy RET=HDRS SMTPUTF8",
        "RCPT TO:<a@d.test> ORCPT=rfc822;a+2B1@d.test NOTIFY=SUCCESS,DELAY",
        "RCPT TO:<\u00fc@d.test> NOTIFY=NEVER",
    ]


def test_the_message_arrives_as_it_came(serve: MakeService) -> None:
    text = b"Subject: x\n\n.\n..\nbody\n" + b"0123456789\n" * 200_000
    with ScriptedServer() as server, serve(nexthop(server)).connect() as client:
        client.envelope("a@d.test")
        client.end(text.replace(b"\n.", b"\n.."))
        assert client.text() == OK
        client.hang_up()
    wanted = text.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
    # No diff of millions of bytes, should they not be equal.
    assert (server.connections[0].messages == [wanted]) is True


# --- the log --------------------------------------------------------------------------


def test_log_has_the_queue_id_of_the_header_or_of_xforward(serve: MakeService) -> None:
    with ScriptedServer() as server:
        service = serve(nexthop(server))
        with service.connect() as client:
            client.send("a@d.test")
            assert client.ask("XFORWARD IDENT=4OTHER")[:3] == "250"
            client.send("b@d.test")
            client.send("c@d.test", message=b"Subject: none\n\nhello\n")
    to = [record.partition(", relay")[0] for record in service.log()]
    assert to == [
        "4SAMPLE: to=<a@d.test>",
        "4OTHER: to=<b@d.test>",
        "NOQUEUE: to=<c@d.test>",
    ]


# --- trouble --------------------------------------------------------------------------


@pytest.mark.fault("9, LMTP the client has gone before the end of the message")
def test_message_is_not_ended_for_a_client_that_has_gone(serve: MakeService) -> None:
    """It will come again, so a server that has it already would have it twice.

    That is no trouble with the server: no other one is asked, and the log does not say
    that it may have the message.
    """
    with ScriptedServer() as server, ScriptedServer() as other:
        barrier = threading.Barrier(2)
        server.scripts = ({"stages": {"data": meeting(barrier, reply="354 go on")}},)
        service = serve(nexthop(server), smtp_fallback_relay=nexthop(other))
        with service.connect() as client:
            client.envelope("a@d.test")
            client.end()
            client.hang_up()
            barrier.wait(PATIENCE)
        service.__exit__(None, None, None)
    (connection,) = server.connections
    assert connection.messages == []
    assert connection.commands[-1] == "DATA"
    assert other.connections == []
    log = "".join(service.log())
    assert "dsn=4.3.0, status=deferred (nobody waits for the answer" in log
    assert "more than once" not in log


def test_destination_is_in_no_trouble_when_the_client_has_gone(
    serve: MakeService, tmp_path: Path
) -> None:
    """It is we who hung up on the server: the next mail for it goes there at once."""
    state = str(tmp_path / "state")
    with ScriptedServer() as server:
        barrier = threading.Barrier(2)
        data = meeting(barrier, reply="354 go on")
        server.scripts = ({"stages": {"data": data}}, {})
        service = serve(nexthop(server), trouble_state_directory=state)
        with service.connect() as client:
            client.envelope("a@d.test")
            client.end()
            client.hang_up()
            barrier.wait(PATIENCE)
        service.__exit__(None, None, None)
        assert "nobody waits for the answer" in "".join(service.log())
        other = serve(nexthop(server), trouble_state_directory=state)
        assert other.send("b@d.test") == [OK]
    assert [len(each.messages) for each in server.connections] == [0, 1]


def test_deadline_is_below_lmtp_data_done_timeout(serve: MakeService) -> None:
    assert lmtp_delivery.DEADLINE == 540.0
    with ScriptedServer({"stages": {"banner": {"action": "hang"}}}) as server:
        start = time.monotonic()
        (reply,) = serve(nexthop(server), trouble_deadline="10s").send("a@d.test")
        assert time.monotonic() - start > 9
    assert reply.startswith(
        "450 4.4.2 conversation with 127.0.0.1[127.0.0.1] timed out"
    )


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_destination_in_trouble_is_left_alone_for_a_while(serve: MakeService) -> None:
    port = closed_port()
    service = serve(f"[127.0.0.1]:{port}")
    refused = f"connect to 127.0.0.1[127.0.0.1]:{port}: Connection refused"
    assert service.send("a@d.test") == [f"450 4.4.1 {refused}"]
    with ScriptedServer(listen=f"127.0.0.1:{port}") as server:
        later = f"450 4.4.1 delivery temporarily suspended: {refused}"
        assert service.send("a@d.test", "b@d.test") == [later] * 2
        assert server.connections == []
        # Without a state directory, that is a matter of this process.
        assert serve(f"[127.0.0.1]:{port}").send("a@d.test") == [OK]


def test_processes_tell_each_other_by_the_state_directory(
    serve: MakeService, tmp_path: Path
) -> None:
    where = f"[127.0.0.1]:{closed_port()}"
    state = str(tmp_path / "state")
    (reply,) = serve(where, trouble_state_directory=state).send("a@d.test")
    assert "refused" in reply
    (reply,) = serve(where, trouble_state_directory=state).send("a@d.test")
    assert "suspended" in reply


def test_destination_is_not_left_alone_if_that_is_not_wanted(
    serve: MakeService,
) -> None:
    service = serve(f"[127.0.0.1]:{closed_port()}", trouble_destination_retry_time="0")
    for _ in range(2):
        assert "suspended" not in service.send("a@d.test")[0]


@pytest.mark.fault("LMTP an internal problem")
@pytest.mark.parametrize(
    ("settings", "log"),
    [
        ({"smtp_generic_maps": "texthash:/nowhere"}, "/nowhere"),
        ({"smtp_tls_policy_maps": "texthash:/nowhere"}, "smtp_tls_policy_maps"),
    ],
)
def test_an_internal_problem_defers(
    serve: MakeService, settings: dict[str, str], log: str
) -> None:
    with ScriptedServer() as server:
        service = serve(nexthop(server), **settings)
        for reply in service.send("a@d.test", "b@d.test"):
            assert reply.startswith("450 4.")
    assert log in "".join(service.log())


def test_one_notice_an_hour(serve: MakeService, tmp_path: Path) -> None:
    """A server that misbehaves does not write to the postmaster for each message."""
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f"#!/bin/sh\necho >>{tmp_path}/notices; cat >/dev/null\n")
    sendmail.chmod(0o755)
    with ScriptedServer({"stages": {"mail": "500 5.5.2 what?"}}) as server:
        service = serve(
            nexthop(server), sendmail_path=str(sendmail), notify_classes="protocol"
        )
        for _ in range(3):
            service.send("a@d.test")
    assert (tmp_path / "notices").read_text() == "\n"
    transcripts = [line for line in service.log() if "transcript of session" in line]
    assert len(transcripts) == 3


def test_who_has_the_message_is_not_deferred(
    serve: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug after the final dot: who was refused, and who has it, stays so."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("what a bug")

    monkeypatch.setattr(postmaster, "tell", broken)
    stages = {"rcpt": ["250 ok", "550 5.1.1 no"], "eod": "what\n250 2.0.0 Ok"}
    with ScriptedServer({"stages": stages}) as server:
        service = serve(nexthop(server))
        taken, refused = service.send("a@d.test", "b@d.test")
    assert taken == "250 2.0.0 what 250 2.0.0 Ok"
    assert refused.startswith("550 5.1.1 host ")
    assert "what a bug" in "".join(service.log())


@pytest.mark.fault("LMTP a bug in each place that has to do with a delivered message")
@pytest.mark.parametrize(
    ("place", "name", "refusal"),
    [
        (MailLog, "write", "550 5.1.1"),
        (MailLog, "_to_file", "550 5.1.1"),
        (Connections, "end", "550 5.1.1"),
        (Connections, "wanted", "550 5.1.1"),
        (Throttled, "remember", "550 5.1.1"),
        (Service, "_remember", "550 5.1.1"),
        (Service, "_afterwards", "550 5.1.1"),
        # Nothing was to be heard of him any more: he is asked for again.
        (Message, "close", "451 4.3.0"),
        (lmtp_replies, "reply", "451 4.3.0"),
        (lmtp_delivery, "warn", "550 5.1.1"),
    ],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_after_a_bug_who_has_the_message_is_told(
    serve: MakeService,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    refusal: str,
) -> None:
    """From the reply to the dot on: for two destinations, which have two threads."""
    both = threading.Barrier(2, action=lambda: taken.set())
    taken = threading.Event()
    whole = getattr(place, name)

    def broken(*given: Any, **named: Any) -> Any:
        if taken.is_set():
            raise AttributeError("'NoneType' object has no attribute 'send'")
        return whole(*given, **named)

    monkeypatch.setattr(place, name, broken)
    eod = {"reply": "250 2.0.0 Ok", "delay": both.wait}
    with (
        ScriptedServer({"stages": {"eod": eod}}) as first,
        ScriptedServer(
            {"stages": {"rcpt": ["250 ok", "550 5.1.1 no"], "eod": eod}},
            listen=f"127.0.0.2:{first.port}",
        ),
    ):
        service = serve(
            smtp_tcp_port=str(first.port),
            smtp_connection_cache_destinations="static:all",
        )
        *taken_for, refused = service.send(
            "a@[127.0.0.1]", "b@[127.0.0.2]", "c@[127.0.0.2]"
        )
    assert [reply[:9] for reply in taken_for] == ["250 2.0.0"] * 2
    assert refused[:9] == refusal


def test_without_threads_destinations_wait_for_one_another(
    serve: MakeService, sinks: list[ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoneLeft:
        def __init__(self, **_: object) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    service = serve(smtp_tcp_port=str(sinks[0].port))
    with service.connect() as client:
        monkeypatch.setattr(
            lmtp_delivery, "threading", SimpleNamespace(Thread=NoneLeft)
        )
        assert client.send("a@[127.0.0.1]", "b@[127.0.0.2]") == [OK] * 2
    assert [len(server.connections) for server in sinks] == [1, 1, 0]


# --- as a process ---------------------------------------------------------------------


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.fault("42 the files of a listener are gone, and mail wants much of them")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_listener_has_all_it_needs(
    tmp_path: Path, certificates: Path, processes: str
) -> None:
    """An upgrade takes its files away, or changes what it has not loaded."""
    program = shutil.copytree(
        Path(postfix_trouble.__file__).parent, tmp_path / "lib/postfix_trouble"
    )
    stages = {"rcpt:b@d.test": "550 5.1.1 no", "eod": "what\n250 2.0.0 Ok"}
    script: Script = {"stages": stages, "keywords": ["STARTTLS", "AUTH CRAM-MD5"]}
    settings = {
        "smtp_tls_security_level": "encrypt",
        "smtp_header_checks": "inline:{x=y}",
        "smtp_generic_maps": "inline:{x=y}",
        "smtp_delivery_status_filter": "inline:{x=y}",
        "smtp_reply_filter": "inline:{x=y}",
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": "static:{user:word}",
        "smtp_sasl_security_options": "",
        "notify_classes": "protocol",
        "sendmail_path": "/bin/true",
        "trouble_state_directory": str(tmp_path / "state"),
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    with ScriptedServer(script, certificates=str(certificates)) as server:
        process = Process(
            tmp_path,
            *(f"--listen=unix:{tmp_path}/lmtpd", f"--processes={processes}"),
            *("--nexthop", nexthop(server), *options),
            program=[sys.executable, "-I", "-S", str(program / "__main__.py"), "lmtp"],
        )
        with process.connect() as client:
            shutil.rmtree(program)
            replies = client.send("a@d.test", "b@d.test")
        process.process.terminate()
        assert process.end()[0] == 0
    assert [reply[:9] for reply in replies] == ["250 2.0.0", "550 5.1.1"]
    assert "internal error" not in process.log.read_text()


@pytest.mark.fault("LMTP twenty first messages at once")
def test_the_first_messages_come_at_once(tmp_path: Path) -> None:
    """Whatever a listener makes or loads for its first message, many want it then."""
    clients = 20
    with ScriptedServer() as server:
        process = Process(
            tmp_path,
            f"--listen=unix:{tmp_path}/lmtpd",
            *("--nexthop", nexthop(server)),
            "-osmtp_connection_cache_destinations=static:all",
            "-osmtp_header_checks=inline:{x=y}",
        )
        together = threading.Barrier(clients)
        replies: list[str] = []

        def send() -> None:
            with process.connect() as client:
                client.envelope("a@d.test")
                together.wait(PATIENCE)
                client.end()
                replies.append(client.text())

        threads = [threading.Thread(target=send) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.process.terminate()
        assert process.end()[0] == 0
    assert replies == [OK] * clients


@pytest.mark.fault("5, LMTP SIGTERM while a message is under way")
def test_sigterm_waits_for_the_message_under_way(tmp_path: Path) -> None:
    barrier = threading.Barrier(2)
    script: Script = {"stages": {"eod": meeting(barrier, reply="250 2.0.0 done")}}
    with ScriptedServer(script) as server:
        process = Process(
            tmp_path, "--nexthop", nexthop(server), f"--listen=unix:{tmp_path}/lmtpd"
        )
        with process.connect() as busy, process.connect() as idle:
            busy.envelope("a@d.test")
            busy.end()
            wait(lambda: server.connections and server.connections[0].messages)
            process.process.send_signal(signal.SIGTERM)
            assert idle.text() == "421 4.3.2 Service is shutting down"
            assert idle.text() == ""
            barrier.wait(PATIENCE)
            assert busy.text() == "250 2.0.0 done"
            assert busy.text() == "421 4.3.2 Service is shutting down"
        assert process.end() == (0, "")
    assert not process.path.exists()


@pytest.mark.fault("spawn a delivery with the connection on 0, 1 and 2")
def test_serves_the_connection_on_descriptor_0(tmp_path: Path) -> None:
    """As spawn(8) starts it: the socket is on 0, 1 and 2."""
    ours, theirs = socket.socketpair()
    with ScriptedServer() as server:
        argv = ["--nexthop", nexthop(server), f"--log-file={tmp_path}/log"]
        process = subprocess.Popen(
            [*PROGRAM, *argv],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
        )
        theirs.close()
        with Client(ours) as client:
            assert client.send("a@d.test") == [OK]
            assert client.ask("QUIT")[:3] == "221"
            assert client.text() == ""
        assert process.wait(PATIENCE) == 0


NOISY = """
import sys, threading
from postfix_trouble.lmtp import command as lmtp, delivery as lmtp_delivery

class CountedService(lmtp_delivery.LmtpService):
    def __enter__(self):
        print("a library says something")
        print("a warning", file=sys.stderr)
        bug = threading.Thread(target=lambda: 1 / 0)
        bug.start()
        bug.join()
        return super().__enter__()

lmtp.LmtpService = CountedService
sys.exit(lmtp.run(sys.argv[1:]))
"""


def test_what_would_be_printed_is_logged(tmp_path: Path) -> None:
    """Under spawn(8) nobody sees it, and it must not get into the dialogue."""
    ours, theirs = socket.socketpair()
    where = theirs.fileno()
    process = subprocess.Popen(
        [sys.executable, "-c", NOISY, f"--log-file={tmp_path}/log"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), where),  # type: ignore[call-overload]
    )
    theirs.close()
    with Client(ours) as client:
        assert client.ask("QUIT")[:3] == "221"
    assert process.wait(PATIENCE) == 0
    log = (tmp_path / "log").read_text()
    for words in ("a library says something", "a warning", "ZeroDivisionError"):
        assert log.count(words) == 1


def test_log_of_the_configuration(tmp_path: Path) -> None:
    """trouble_log_file holds here as for `deliver`."""
    ours, theirs = socket.socketpair()
    (tmp_path / "main.cf").write_text(f"trouble_log_file = {tmp_path}/log\n")
    with ScriptedServer() as server:
        argv = ["--nexthop", nexthop(server), "--config", str(tmp_path / "main.cf")]
        process = subprocess.Popen([*PROGRAM, *argv], stdin=theirs.fileno())
        theirs.close()
        with Client(ours) as client:
            assert client.send("a@d.test") == [OK]
        assert process.wait(PATIENCE) == 0
    assert "to=<a@d.test>" in (tmp_path / "log").read_text()


@needs.as_root
def test_mode_and_group_of_the_socket(tmp_path: Path) -> None:
    """So that lmtp(8), which is neither us nor root, may write to it."""
    gid = grp.getgrnam("mail").gr_gid
    with ScriptedServer() as server:
        where = f"--listen=unix:{tmp_path}/lmtpd"
        process = Process(
            tmp_path, "--nexthop", nexthop(server), where, "--mode=0660", "--group=mail"
        )
        with process.connect() as client:
            assert client.send("a@d.test") == [OK]
        found = process.path.stat()
        process.process.terminate()
        process.end()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, gid)


@needs.as_root
def test_a_group_that_is_not_ours_to_give(tmp_path: Path) -> None:
    place = tmp_path.parent / "theirs"
    place.mkdir(mode=0o755)
    os.chown(place, 65534, 65534)
    where = place / "lmtpd"
    script = "import sys\nfrom postfix_trouble.lmtp.command import run\n"
    script += "import os\nos.chdir(sys.argv[1])\nos.setgroups([])\n"
    script += "os.setgid(65534)\nos.setuid(65534)\n"
    script += "sys.exit(run(sys.argv[2:]))"
    argv = ["--log-file=log", "--listen=unix:lmtpd", "--group=root"]
    done = subprocess.run(
        [sys.executable, "-c", script, str(place), *argv],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "unix:lmtpd: Operation not permitted" in done.stderr
    assert not where.exists()


def test_serves_the_socket_of_systemd(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtpd")
    with ScriptedServer() as server, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        argv = ["--nexthop", nexthop(server), f"--log-file={tmp_path}/log"]
        start = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&0 0</dev/null'
        process = subprocess.Popen(
            ["sh", "-c", start, "sh", *PROGRAM, *argv], stdin=listening.fileno()
        )
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        with Client(connection) as client:
            assert client.send("a@d.test") == [OK]
        process.terminate()
        assert process.wait(PATIENCE) == 0
    # It is systemd's.
    assert os.path.exists(path)


MISTAKES = [
    pytest.param(["-o", "no_such_parameter=1"], "no_such_parameter", id="name"),
    pytest.param(["-o", "smtp_helo_timeout=soon"], "smtp_helo_timeout", id="value"),
    pytest.param(["--config", "/nowhere/main.cf"], "/nowhere/main.cf", id="file"),
    pytest.param(["--bogus"], "--bogus", id="option"),
    pytest.param(["a@d.test"], "a@d.test", id="argument"),
    pytest.param(["--connections", "many"], "many", id="number"),
    pytest.param(["--connections", "0"], "from 1", id="no clients"),
]


@pytest.mark.fault("33, LMTP a wrong setting")
@pytest.mark.parametrize(("argv", "log"), MISTAKES)
def test_client_is_asked_to_come_again_when_a_setting_is_wrong(
    tmp_path: Path, argv: list[str], log: str
) -> None:
    ours, theirs = socket.socketpair()
    written = tmp_path / "log"
    with ours:
        done = subprocess.run(
            [*PROGRAM, f"--log-file={written}", *argv],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=theirs.fileno(),
            check=False,
            timeout=PATIENCE,
        )
        theirs.close()
        ours.settimeout(PATIENCE)
        said = ours.makefile("rb").read()
    assert said == b"421 4.3.5 Mail system configuration error\r\n"
    assert done.returncode == 75
    # Where the log is was not known yet: it went to syslog.
    assert log == "--bogus" or log in written.read_text()


def test_somebody_starts_it_by_hand() -> None:
    done = subprocess.run(
        PROGRAM, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 78
    assert b"this runs under spawn(8) or systemd, or with --listen" in done.stderr


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        *MISTAKES,
        pytest.param(["--listen=tcp:1"], "tcp:1", id="address"),
        pytest.param(
            ["--listen=unix:/nowhere/lmtpd"],
            "fatal: unix:/nowhere/lmtpd: No such file or directory",
            id="directory",
        ),
        pytest.param(
            ["-o", "smtp_sasl_auth_enable=yes", "-o", "smtp_sasl_type=dovecot"],
            "smtp_sasl_type",
            id="unsupported",
        ),
        pytest.param(["--mode=rw"], "--mode rw: octal number expected", id="mode"),
        pytest.param(
            ["--group=no-such"], "--group no-such: there is no such group", id="group"
        ),
        pytest.param(
            ["--mode=0660", "--listen=inet:24"],
            "--mode, --group: inet:24 is not unix:PATH",
            id="mode of no file",
        ),
    ],
)
def test_listener_does_not_start_when_a_setting_is_wrong(
    tmp_path: Path, argv: list[str], said: str
) -> None:
    process = Process(tmp_path, f"--listen=unix:{tmp_path}/lmtpd", *argv)
    code, text = process.end()
    assert code == 78
    assert said in text
    assert not process.path.exists()
