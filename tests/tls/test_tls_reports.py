"""The program and a real TLSRPT collector; and what a reporter can't do to mail."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dns_server import DnsServer, serving
from postfix_trouble.client.tls_reports import TlsReports
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.steps import TlsResult
from postfix_trouble.core.tls import TlsLevel, TlsPolicy
from postfix_trouble.dns.resolver import Resolver
from scripted_server import Script, ScriptedServer
from waiting import wait

RECORD = "v=TLSRPTv1; rua=mailto:tls@example.test"
TLS: Script = {"keywords": ["STARTTLS"], "tls": {"cert": "selfsigned"}}


def zone(**more: Any) -> dict[str, Any]:
    return {
        "mx.example.test": {"A": ["127.0.0.1"]},
        "_smtp._tls.mx.example.test": {"TXT": [f'"{RECORD}"'], **more},
    }


@pytest.fixture
def place() -> Iterator[Path]:
    """Not tmp_path: the path of a socket has to be short."""
    with tempfile.TemporaryDirectory(prefix="postfix-trouble-") as directory:
        yield Path(directory)


@contextmanager
def reporter(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(path))
        end.settimeout(60)
        yield end


def deliver(
    program: str,
    certificates: Path,
    place: Path,
    dns: DnsServer,
    script: Script = TLS,
    *,
    message: bytes = b"Subject: x\n\nx\n",
    lmtp: bool = False,
    **values: str,
) -> tuple[dict[str, Any], str]:
    """Deliver once. The JSON object, and the log."""
    log = place / "log"
    given = {
        "myhostname": "client.example.test",
        "smtp_tls_security_level": "may",
        "smtp_tlsrpt_enable": "yes",
        "smtp_tlsrpt_socket_name": "socket",
        "queue_directory": str(place),
        "trouble_nameserver": dns.address,
        "trouble_log_file": str(log),
        **values,
    }
    if lmtp:
        given = {k.replace("smtp_", "lmtp_"): v for k, v in given.items()}
    options = [word for n, v in given.items() for word in ("-o", f"{n}={v}")]
    words = ["--sender", "s@a.test", "--queue-id", "QID"]
    with ScriptedServer(script, certificates=str(certificates), lmtp=lmtp) as server:
        nexthop = f"[mx.example.test]:{server.port}"
        command = ["deliver", "--json", *options, *(["--lmtp"] if lmtp else [])]
        done = subprocess.run(
            [program, *command, *words, "--nexthop", nexthop, "--", "r@b.test"],
            input=message,
            capture_output=True,
            check=False,
        )
    return json.loads(done.stdout), log.read_text()


def status(result: dict[str, Any]) -> str:
    return str(result["recipients"][0]["status"])


def nothing_came(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        end.recv(65536)
    except BlockingIOError:
        return True
    return False


# --- a real collector ---------------------------------------------------------------


@contextmanager
def collector(place: Path) -> Iterator[Path]:
    """tlsrpt-collectd of tlsrpt-reporter; its database."""
    database, path = place / "database", place / "socket"
    program = Path(sys.executable).parent / "tlsrpt-collectd"
    arguments = {
        "storage": f"sqlite://{database}",
        "socketname": str(path),
        "sockettimeout": "1",
        "max_uncommited_datagrams": "1",
        "logfilename": str(place / "collector.log"),
    }
    options = [word for n, v in arguments.items() for word in (f"--{n}", v)]
    with subprocess.Popen([program, *options]) as running:
        try:
            wait(path.exists)
            yield database
        finally:
            running.terminate()


def counted(database: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as file:
        return file.execute(
            "SELECT domain, tlsrptrecord, policy, cntrtotal, cntrfailure"
            " FROM finalresults"
        ).fetchall()


def failures(database: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as file:
        return [json.loads(x) for (x,) in file.execute("SELECT reason FROM failures")]


def test_collector_counts_sessions(
    program: str, certificates: Path, place: Path
) -> None:
    garbage = {**TLS, "tls": {"handshake": "garbage"}}
    with serving(zone()) as dns, collector(place) as database:
        for script in (TLS, TLS, garbage):
            deliver(program, certificates, place, dns, script)
        wait(lambda: any(x[3] == 3 for x in counted(database)))
        ((domain, record, policy, total, failed),) = counted(database)
        (failure,) = failures(database)
    assert (domain, record, total, failed) == ("mx.example.test", RECORD, 3, 1)
    assert json.loads(policy) == {"policy-type": 9, "policy-domain": "mx.example.test"}
    assert (failure["c"], failure["f"]) == (205, "tls-handshake-failure")
    assert (failure["n"], failure["r"]) == ("mx.example.test", "127.0.0.1")


# --- who is told, and of what -------------------------------------------------------


def test_name_service_is_asked_only_where_reports_are_wanted(
    program: str, certificates: Path, place: Path
) -> None:
    with serving(zone()) as dns, reporter(place / "socket") as end:
        result, log = deliver(
            program, certificates, place, dns, smtp_tlsrpt_enable="no"
        )
        assert status(result) == "sent"
        assert dns.asked("TXT") == []
        assert nothing_came(end)
    assert "TLSRPT" not in log


UNTOLD: dict[str, dict[str, Any]] = {
    "no level": {"smtp_tls_security_level": "none"},
    "the sender does not want TLS": {"message": b"TLS-Required: no\n\nx\n"},
    "lmtp": {"lmtp": True},
}


@pytest.mark.parametrize("case", UNTOLD)
def test_nobody_is_told(
    program: str, certificates: Path, place: Path, case: str
) -> None:
    with serving(zone()) as dns, reporter(place / "socket") as end:
        result, log = deliver(program, certificates, place, dns, **UNTOLD[case])
        assert status(result) == "sent"
        assert dns.asked("TXT") == []
        assert nothing_came(end)
    assert "TLSRPT" not in log


def test_one_connection_is_one_result(
    program: str, certificates: Path, place: Path
) -> None:
    with serving(zone()) as dns, reporter(place / "socket") as end:
        result, log = deliver(program, certificates, place, dns)
        told = json.loads(end.recv(65536))
        assert nothing_came(end)
        assert dns.asked("TXT") == ["_smtp._tls.mx.example.test"]
    assert (status(result), told["policies"][0]["f"]) == ("sent", 0)
    where = "domain=mx.example.test, receiving_mx=mx.example.test[127.0.0.1]"
    assert f"QID: TLSRPT: status=success, {where}\n" in log


# --- nothing of it is the mail's business -------------------------------------------


def broken_place(place: Path, how: str) -> dict[str, Any]:
    """Make a socket that can't be written to; the settings for it."""
    path = place / "socket"
    if how == "file":
        path.touch()
    elif how == "nobody reads":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.bind(str(path))
    elif how == "stream":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.bind(str(path))
    elif how == "no name":
        return {"smtp_tlsrpt_socket_name": ""}
    elif how == "long name":
        return {"smtp_tlsrpt_socket_name": "x" * 200}
    return {}


@pytest.mark.parametrize(
    "how", ["missing", "file", "nobody reads", "stream", "no name", "long name"]
)
def test_socket_that_is_none_is_one_line_in_the_log(
    program: str, certificates: Path, place: Path, how: str
) -> None:
    values = broken_place(place, how)
    with serving(zone()) as dns:
        result, log = deliver(program, certificates, place, dns, **values)
    assert status(result) == "sent"
    assert log.count("warning: could not report TLS result to TLSRPT: ") == 1


def test_reporter_that_does_not_read_is_not_waited_for(
    program: str, certificates: Path, place: Path
) -> None:
    path = place / "socket"
    with (
        serving(zone()) as dns,
        reporter(path),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler,
    ):
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", str(path))
        result, log = deliver(program, certificates, place, dns)
    assert status(result) == "sent"
    assert "could not report TLS result to TLSRPT: Resource temporarily" in log


@pytest.mark.parametrize(
    "trouble", [{"rcode": "SERVFAIL"}, {"rcode": "REFUSED"}, {"TXT": ['"v=TLSRPTv1"']}]
)
def test_record_that_can_not_be_had_is_one_line_in_the_log(
    program: str, certificates: Path, place: Path, trouble: dict[str, Any]
) -> None:
    names = zone()
    names["_smtp._tls.mx.example.test"] = trouble
    with serving(names) as dns, reporter(place / "socket") as end:
        result, log = deliver(program, certificates, place, dns)
        assert nothing_came(end)
    assert status(result) == "sent"
    assert log.count("TLSRPT support") == 1
    assert "warning: TLSRPT support: mx.example.test: " in log


@pytest.mark.long
def test_name_service_that_is_silent_about_it_costs_seconds(
    program: str, certificates: Path, place: Path
) -> None:
    names = zone()
    names["_smtp._tls.mx.example.test"] = {"drop": True}
    with serving(names) as dns:
        values: dict[str, Any] = {"trouble_resolver_time_limit": "300s"}
        result, log = deliver(program, certificates, place, dns, **values)
    assert status(result) == "sent"
    assert "warning: TLSRPT support: mx.example.test: " in log
    # Seconds for everything before MAIL.
    assert result["recipients"][0]["delays"][2] < 30


def test_message_with_a_server_that_fails_is_told_of_each_connection(
    program: str, certificates: Path, place: Path
) -> None:
    refuses = {**TLS, "stages": {"starttls": "454 4.7.0 no"}}
    with serving(zone()) as dns, reporter(place / "socket") as end:
        result, log = deliver(program, certificates, place, dns, refuses)
        told = json.loads(end.recv(65536))["policies"][0]
        assert nothing_came(end)
    # At level may it goes in the clear.
    assert status(result) == "sent"
    assert told["failure-details"][0]["c"] == 201
    assert "failure_type=starttls_not_supported" in log


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, True),
        ({"trouble_postfix_version": "3.10"}, False),
        ({"smtp_tlsrpt_skip_reused_handshakes": "yes"}, False),
    ],
)
def test_session_of_before(place: Path, values: dict[str, str], told: bool) -> None:
    notes: list[str] = []
    with serving(zone()) as dns, reporter(place / "socket") as end:
        settings = Settings(
            {
                "smtp_tlsrpt_socket_name": "socket",
                "queue_directory": str(place),
                "trouble_nameserver": dns.address,
                **values,
            }
        )
        reports = TlsReports(
            settings,
            lambda left: Resolver(settings, left, notes.append),
            time_left=lambda: 60.0,
            note=notes.append,
        )
        destination = Destination("mx.example.test", "mx.example.test", 25)
        relay = Relay("mx.example.test", "127.0.0.1", 25)
        reports.prepare(destination)
        result = TlsResult(resumed=True)
        reports.tell(destination, relay, TlsPolicy(TlsLevel.MAY), result, "127.0.0.1")
        assert nothing_came(end) is not told
    assert len(notes) == told
