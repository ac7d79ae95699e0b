"""With TLS and TLSRPT: the reporter has been told long before the final dot."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from after_the_dot import Job, Runs
from test_after_the_dot import SAMPLE, Pipe, arguments, failing

from dns_server import DnsServer, serving
from scripted_server import ScriptedServer

ZONE = {
    "mx.example.test": {"A": ["127.0.0.1"]},
    "_smtp._tls.mx.example.test": {"TXT": ['"v=TLSRPTv1; rua=mailto:a@example.test"']},
}


class PipeTls(Pipe):
    """pipe(8), one recipient, over TLS, to a domain that asks for reports."""

    def __init__(self, place: Path, certificates: Path, dns: DnsServer) -> None:
        super().__init__(place)
        script = {
            "keywords": ["STARTTLS"],
            "stages": {"eod": "250 2.0.0 Ok: queued as SAMPLE"},
        }
        self.server = ScriptedServer(script, certificates=str(certificates))
        self.settings = {
            "myhostname": "me.test",
            "smtp_tls_security_level": "may",
            "smtp_tlsrpt_enable": "yes",
            "smtp_tlsrpt_socket_name": "socket",
            "queue_directory": str(place),
            "trouble_nameserver": dns.address,
        }

    def job(self) -> Job:
        log, where = f"--log-file={self.log}", f"[mx.example.test]:{self.server.port}"
        argv = ["deliver", log, *arguments(self.settings), "--queue-id=4SAMPLE"]
        job = super().job()
        rest = ["--sender=s@x.test", f"--nexthop={where}", "--", *self.recipients]
        return job._replace(arguments=[*argv, *rest])


@pytest.fixture
def way(certificates: Path) -> Iterator[PipeTls]:
    with (
        # Not tmp_path: the path of a socket has to be short.
        tempfile.TemporaryDirectory(prefix="postfix-trouble-") as directory,
        serving(ZONE) as dns,
        PipeTls(Path(directory), certificates, dns).server as server,
    ):
        found = PipeTls(Path(directory), certificates, dns)
        found.server = server
        yield found


def test_nothing_about_reports_is_called_after_the_dot(way: PipeTls) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reporter, Runs() as runs:
        reporter.bind(str(way.directory / "socket"))
        wrong, clean = way.check(runs)
        assert not wrong
        reporter.setblocking(False)
        assert b'"f":0' in reporter.recv(65536)
        assert "TLSRPT: status=success" in way.log.read_text()
    assert len(clean.sites) > 50
    assert not [site for site in clean.sites if "tlsrpt" in site or "reports" in site]


@pytest.mark.parametrize("reader", [True, False])
def test_some_calls_after_the_dot_fail_with_reports(way: PipeTls, reader: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reporter, Runs() as runs:
        if reader:
            reporter.bind(str(way.directory / "socket"))
        # Nobody reads: after ten of them there is no room for more.
        found, _ = failing(way, runs, "RuntimeError", SAMPLE)
    assert not found
