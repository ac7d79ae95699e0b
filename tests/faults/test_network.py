"""Name service and servers that are silent, gone, or out of their minds."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deliveries import Client, Done

from dns_server import serving
from fickle_server import FickleServer
from private_network import NAME_SERVER, impatient, loopback
from scripted_server import Script, ScriptedServer


def scripted(program: str, place: Path, script: Script, *options: str) -> Done:
    with ScriptedServer(script) as server:
        client = Client(program, place, f"[127.0.0.1]:{server.port}")
        return client.run(*options)


# --- name service ---------------------------------------------------------------------

RESOLV = {
    "empty": "",
    "garbage": "nameserver \0\n\xff\n",
    "no address": "nameserver nowhere\n",
    "options": "nameserver 127.0.0.53\noptions timeout:x attempts:-1 ndots:\n",
}


@pytest.mark.fault("20 resolv.conf missing or wrong")
@pytest.mark.parametrize("name", [*RESOLV, "missing"])
def test_resolv_conf(
    own_network: None, program: str, tmp_path: Path, name: str
) -> None:
    """Nobody answers, whatever is in it."""
    path = tmp_path / "resolv.conf"
    if name == "missing":
        hidden = "mkdir -p $0 && mount --bind $0 /etc && "
        where = str(tmp_path / "etc")
    else:
        path.write_text(RESOLV[name], encoding="latin-1")
        hidden = "mount --bind $0 /etc/resolv.conf && "
        where = str(path)
    around = ("unshare", "-m", "sh", "-c", hidden + 'exec "$@"', where)
    done = Client(program, tmp_path, "b.test").run(around=around)
    assert done.answer == (75, "4.4.3")


@pytest.mark.fault("21 a name server that is silent")
def test_silent_name_server(own_network: None, program: str, tmp_path: Path) -> None:
    with impatient(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((NAME_SERVER, 53))
        begun = time.monotonic()
        done = Client(program, tmp_path, "b.test").run()
    assert done.answer == (75, "4.4.3")
    assert b"Name service error for name=b.test type=MX" in done.output
    assert time.monotonic() - begun < 20


@pytest.mark.fault("21, 22 answers of name servers")
@pytest.mark.parametrize(
    ("zone", "code", "status"),
    [
        pytest.param({"b.test": {"rcode": "SERVFAIL"}}, 75, "4.4.3", id="SERVFAIL"),
        pytest.param({"b.test": {"rcode": "REFUSED"}}, 75, "4.4.3", id="REFUSED"),
        pytest.param({"b.test": {"raw": lambda _: b"?" * 99}}, 75, "4.4.3", id="noise"),
        pytest.param({}, 68, "5.4.4", id="NXDOMAIN"),
        pytest.param({"b.test": {"TXT": ['"x"']}}, 68, "5.4.4", id="no address"),
        pytest.param({"b.test": {"MX": ["0 ."]}}, 69, "5.1.0", id="null MX"),
        pytest.param(
            {"b.test": {"MX": ["1 m.test"]}, "m.test": {"rcode": "SERVFAIL"}},
            75,
            "4.4.3",
            id="MX without address",
        ),
    ],
)
def test_name_service(
    own_network: None,
    program: str,
    tmp_path: Path,
    zone: dict[str, dict[str, object]],
    code: int,
    status: str,
) -> None:
    with impatient(), serving(zone, NAME_SERVER, 53):
        done = Client(program, tmp_path, "b.test").run()
    assert done.answer == (code, status)


# --- connections ----------------------------------------------------------------------


@pytest.mark.fault("23 refused, unreachable, no answer to SYN")
@pytest.mark.parametrize("kind", ["refused", "unreachable", "silent"])
def test_no_connection(
    own_network: None, program: str, tmp_path: Path, kind: str
) -> None:
    place = {"refused": "[127.0.0.1]:1", "unreachable": "[192.0.2.1]"}.get(kind)
    server = ScriptedServer()
    if place is None:
        server.start_full()
        place = f"[127.0.0.1]:{server.port}"
    client = Client(program, tmp_path, place)
    done = client.run("-o", "smtp_connect_timeout=1s")
    if kind == "silent":
        server.stop()
    assert done.answer == (75, "4.4.1")
    assert done.output.startswith(b"4.4.1 connect to ")


@pytest.fixture
def network(own_network: None) -> Iterator[None]:
    yield
    loopback(up=True)


@pytest.mark.fault("24 half-open TCP: the network is gone")
@pytest.mark.parametrize("stage", ["mail", "body", "dot"])
def test_half_open(program: str, tmp_path: Path, network: None, stage: str) -> None:
    """From one moment on no packet arrives, in no direction."""

    def interfere(now: str) -> None:
        if now == stage:
            loopback(up=False)

    options = [
        word
        for name in ("mail", "rcpt", "data_init", "data_xfer", "data_done")
        for word in ("-o", f"smtp_{name}_timeout=1s")
    ]
    with FickleServer(interfere=interfere) as server:
        done = Client(program, tmp_path, server).run(*options)
    assert done.answer == (75, "4.4.2"), done
    assert b"timed out" in done.output


@pytest.mark.fault("24 a server that is silent, at each stage")
@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data", "eod"])
def test_silent_server(program: str, tmp_path: Path, stage: str) -> None:
    options = [
        word
        for name in ("helo", "mail", "rcpt", "data_init", "data_done")
        for word in ("-o", f"smtp_{name}_timeout=1s")
    ]
    done = scripted(
        program, tmp_path, {"stages": {stage: {"action": "hang"}}}, *options
    )
    assert done.answer == (75, "4.4.2")
    assert re.search(rb"timed out while (receiving|performing|sending)", done.output)


# --- the reply to the dot -------------------------------------------------------------


@pytest.mark.fault("26 odd replies to the dot")
@pytest.mark.parametrize(
    ("said", "code", "status"),
    [
        pytest.param({"raw": "what?\r\n", "then": "close"}, 75, "4.4.2", id="garbage"),
        pytest.param({"raw": "250-half", "then": "close"}, 75, "4.4.2", id="half"),
        pytest.param("451 4.3.0 later", 75, "4.3.0", id="451"),
        pytest.param("554 5.6.0 spam", 65, "5.6.0", id="554"),
        # As Postfix, which takes the server at its word that it is not 2xx.
        pytest.param("354 go on", 76, "5.5.0", id="354"),
        pytest.param("150 well", 76, "5.5.0", id="150"),
        pytest.param("what?\n250 2.0.0 ok", 0, "250", id="garbage, then 250"),
    ],
)
def test_reply_to_the_dot(
    program: str, tmp_path: Path, said: object, code: int, status: str
) -> None:
    done = scripted(program, tmp_path, {"stages": {"eod": said}})
    assert done.code == code, done
    if code:
        assert done.answer == (code, status)


# --- TLS and log-in -------------------------------------------------------------------

STARTTLS = {"keywords": ["STARTTLS"], "tls": {"handshake": "garbage"}}


@pytest.mark.fault("27 TLS fails: in plaintext under `may`, else deferred")
@pytest.mark.parametrize(
    ("level", "script", "code", "status"),
    [
        # A message that has waited for a while: see Postfix on opportunistic TLS.
        ("may", STARTTLS, 0, "250"),
        ("encrypt", STARTTLS, 75, "4.7.5"),
        ("encrypt", {}, 75, "4.7.4"),
        ("secure", {}, 75, "4.7.4"),
    ],
)
def test_tls(
    program: str, tmp_path: Path, level: str, script: Script, code: int, status: str
) -> None:
    with ScriptedServer(script, {}) as server:
        client = Client(program, tmp_path, f"[127.0.0.1]:{server.port}")
        done = client.run("--age", "4000", "-o", f"smtp_tls_security_level={level}")
    assert done.code == code, done
    if code:
        assert done.answer == (code, status)


@pytest.mark.fault("28 log-in refused")
@pytest.mark.parametrize(
    ("said", "status"), [("535 5.7.8 no", "4.7.8"), ("454 4.7.0 later", "4.7.0")]
)
def test_log_in(program: str, tmp_path: Path, said: str, status: str) -> None:
    script = {"keywords": ["AUTH PLAIN"], "stages": {"auth": said}}
    with ScriptedServer(script) as server:
        passwords = tmp_path / "passwords"
        passwords.write_text(f"[127.0.0.1]:{server.port} user:secret\n")
        passwords.chmod(0o600)
        client = Client(program, tmp_path, f"[127.0.0.1]:{server.port}")
        done = client.run(
            *("-o", "smtp_sasl_auth_enable=yes"),
            *("-o", "smtp_sasl_security_options="),
            *("-o", f"smtp_sasl_password_maps=texthash:{passwords}"),
        )
    assert done.answer == (75, status)
    assert b"secret" not in done.output
