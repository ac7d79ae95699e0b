"""A mail server that does what a script says, for every kind of trouble.

    with ScriptedServer({"stages": {"rcpt": "450 4.2.0 greylisted"}}) as server:
        ... deliver to [127.0.0.1]:server.port ...
    assert server.connections[0].commands[-1] == "QUIT"

One script is played per connection, the last one again and again. A script is a dict:

    host                name in the greeting and in the reply to EHLO
    keywords            of the EHLO reply; keywords_after_tls: those after STARTTLS
    tls                 cert (see certificates.py), chain (more of them, sent along),
                        handshake (close, reset, hang or garbage), wrapper, max_version,
                        sni (record the name asked for), resume (sessions may be
                        resumed: <TLS resumed>), ask (for a certificate signed by ca)
    stages              what happens at a stage; success where nothing is said
    stall_seconds       how long "stall" lasts
    socketmap           no mail server, but a look-up table: request to reply, or to
                        what happens; anything else is not found

Stages: connect (before the greeting), banner, ehlo, helo, lhlo, ehlo-after-tls,
helo-after-tls, starttls, auth, mail, rcpt, rcpt#N (the N-th of the transaction),
rcpt:ADDRESS, data, body (after the first bytes of the message), eod (LMTP: also eod#N,
eod:ADDRESS), rset, noop, quit, other verbs in lower case, unknown.

What happens is a reply (text; LF becomes CRLF, the last one is added), a list with one
entry for each time, or a dict: one of reply, raw (exact text), hex, or repeat with
times; delay (seconds before it, or a function that waits), drip (seconds between
bytes); then (or action) how it ends: close (orderly), reset, hang (no more answers),
stall (no more reading). For auth also {"challenge": True, "final": REPLY}: the dialogue
of the mechanism comes first.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import select
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

Script = Mapping[str, Any]

# Seconds that a server waits for a client, whatever the script says.
PATIENCE = 60.0
KEYWORDS = ("PIPELINING", "SIZE 10240000", "8BITMIME", "ENHANCEDSTATUSCODES")
SUCCESS = {
    "mail": "250 2.1.0 Ok",
    "rcpt": "250 2.1.5 Ok",
    "data": "354 End data with <CR><LF>.<CR><LF>",
    "eod": "250 2.0.0 Ok: queued as SAMPLE",
    "rset": "250 2.0.0 Ok",
    "noop": "250 2.0.0 Ok",
    "quit": "221 2.0.0 Bye",
    "starttls": "220 2.0.0 Ready to start TLS",
    "auth": "235 2.7.0 Authentication successful",
}
UNKNOWN = "500 5.5.2 Error: command not recognized"


class _Over(Exception):
    """The connection has ended; the argument says how."""


def _visible(line: bytes) -> str:
    """A command line as text in which every byte can be told."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _reply(text: str) -> bytes:
    lines: bytes = text.encode("utf-8", "surrogateescape").replace(b"\r\n", b"\n")
    return lines.removesuffix(b"\n").replace(b"\n", b"\r\n") + b"\r\n"


def _octets(action: Mapping[str, Any]) -> bytes:
    """What an action sends."""
    if "reply" in action:
        return _reply(action["reply"])
    if "raw" in action:
        return str(action["raw"]).encode("latin-1")
    if "hex" in action:
        return bytes.fromhex(action["hex"])
    if "repeat" in action:
        text = str(action["repeat"]) * int(action.get("times", 1)) + "\r\n"
        return text.encode("latin-1")
    return b""


class _Turn:
    """Whose turn it is: what is told of a server has all that its clients have done.

    A client that has ended may have said something last that is still to be read, which
    nobody waits for: QUIT, or that it is gone. So who looks waits until the server has
    nothing left to do but wait for the client.
    """

    def __init__(self) -> None:
        # What the thread waits for: descriptor and events, or nothing for a pause.
        self._waiting: list[tuple[int, int]] | None = None
        self._over = False

    def wait(self, peer: socket.socket, events: int, seconds: float | None) -> None:
        """Wait until the client has done something; TimeoutError if it has not."""
        if isinstance(peer, ssl.SSLSocket) and peer.pending():
            return
        self._waiting = [(peer.fileno(), events)]
        happened = _poll(self._waiting[0], seconds)
        self._waiting = None
        if not happened:
            raise TimeoutError

    def pause(self, until: Callable[[], object]) -> None:
        """Wait for something else, whatever the client does."""
        self._waiting = []
        until()
        self._waiting = None

    def over(self) -> None:
        """Nothing more is done."""
        self._over = True

    def settle(self) -> None:
        """Wait until it is the clients' turn, or all is over."""
        until = time.monotonic() + PATIENCE
        while not self._settled() and time.monotonic() < until:
            time.sleep(0.001)

    def _settled(self) -> bool:
        waiting = self._waiting
        if self._over or waiting is None:
            return self._over
        # In this order: what was there before is read only after it has gone on.
        return not any(_poll(each, 0) for each in waiting) and waiting is self._waiting


def _poll(what: tuple[int, int], seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(*what)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


class Connection:
    """One connection: what came in, and the thread's side of the dialogue."""

    def __init__(
        self,
        script: Script,
        peer: socket.socket,
        lmtp: bool,
        certificates: str,
        contexts: dict[str, ssl.SSLContext],
    ) -> None:
        # The client's address.
        self.client = peer.getpeername()[0] if peer.family != socket.AF_UNIX else ""
        # The client's certificate.
        self.shown: bytes | None = None
        self._commands: list[str] = []
        self._messages: list[bytes] = []
        self._tls = False
        self._end = ""
        self._turn = _Turn()
        self._script = script
        self._stages: Mapping[str, Any] = script.get("stages", {})
        self._peer = peer
        self._lmtp = lmtp
        self._certificates = certificates
        # By certificate, of servers whose sessions may be resumed.
        self._contexts = contexts
        self._pending = b""
        self._times: dict[str, int] = {}
        self._accepted: list[tuple[int, str]] = []
        self._recipients = 0

    @property
    def commands(self) -> list[str]:
        """What the client has said."""
        self._turn.settle()
        return self._commands

    @property
    def messages(self) -> list[bytes]:
        """Messages as they came, up to the final dot, dots still doubled."""
        self._turn.settle()
        return self._messages

    @property
    def tls(self) -> bool:
        """Whether TLS was agreed on."""
        self._turn.settle()
        return self._tls

    @property
    def end(self) -> str:
        """How: quit, client-close, tls-handshake-failed, or server- and what it did."""
        self._turn.settle()
        return self._end

    @property
    def digests(self) -> list[tuple[int, str]]:
        """Size and SHA-256 of each message."""
        return [(len(m), hashlib.sha256(m).hexdigest()) for m in self.messages]

    def serve(self) -> None:
        """Play the script to its end."""
        self._peer.settimeout(PATIENCE)
        try:
            if "socketmap" in self._script:
                self._look_ups(self._script["socketmap"])
            if self._tls_script().get("wrapper"):
                self._handshake()
            self._act("connect", default=None)
            self._act("banner", default=f"220 {self._host()} ESMTP")
            while True:
                self._command(self._line())
        except _Over as over:
            self._end = str(over)
        except (OSError, ssl.SSLError):
            self._end = "client-close"
        finally:
            with contextlib.suppress(OSError):
                self._peer.close()
            self._turn.over()

    # What the client says

    def _receive(self) -> bytes:
        self._turn.wait(self._peer, select.POLLIN, PATIENCE)
        octets = self._peer.recv(65536)
        if not octets:
            raise _Over("client-close")
        return octets

    def _line(self) -> bytes:
        """The next command line, recorded."""
        while b"\n" not in self._pending:
            self._pending += self._receive()
        line, _, self._pending = self._pending.partition(b"\n")
        line = line.removesuffix(b"\r")
        self._commands.append(_visible(line))
        return line

    def _look_ups(self, table: Mapping[str, Any]) -> None:
        """Answer requests in netstrings (socketmap_table(5)) until the end."""
        while True:
            while b":" not in self._pending:
                self._pending += self._receive()
            size, _, self._pending = self._pending.partition(b":")
            while len(self._pending) <= int(size):
                self._pending += self._receive()
            request = self._pending[: int(size)]
            self._pending = self._pending[int(size) + 1 :]
            self._commands.append(_visible(request))
            entry = table.get(request.decode(), "NOTFOUND ")
            if isinstance(entry, str):
                entry = {"raw": f"{len(entry.encode())}:{entry},"}
            self._play(entry)

    def _command(self, line: bytes) -> None:
        verb = line.replace(b":", b" ").split(b" ")[0].decode("ascii", "replace")
        stage = verb.lower()
        if stage in ("ehlo", "helo", "lhlo"):
            self._hello(stage)
        elif stage in ("mail", "rset"):
            self._accepted, self._recipients = [], 0
            self._act(stage)
        elif stage == "rcpt":
            self._recipient(line)
        elif stage == "data":
            if self._act("data").startswith(b"3"):
                self._message()
        elif stage == "starttls":
            if self._act("starttls").startswith(b"2"):
                self._handshake()
        elif stage == "auth":
            self._authenticate(line)
        elif stage == "quit":
            self._act("quit")
            raise _Over("quit")
        elif stage == "noop":
            self._act("noop")
        else:
            self._act(stage, "unknown", default=UNKNOWN)

    def _hello(self, verb: str) -> None:
        words = list(self._script.get("keywords", KEYWORDS))
        if self._tls:
            words = [w for w in words if w.upper() != "STARTTLS"]
            words = list(self._script.get("keywords_after_tls", words))
        lines = [self._host(), *([] if verb == "helo" else words)]
        marks = ["-"] * (len(lines) - 1) + [" "]
        text = "\n".join(f"250{m}{w}" for m, w in zip(marks, lines, strict=True))
        stages = [f"{verb}-after-tls"] if self._tls else []
        self._act(*stages, verb, default=text)

    def _recipient(self, line: bytes) -> None:
        self._recipients += 1
        inside = line.partition(b"<")[2].rpartition(b">")[0]
        address = inside.decode("utf-8", "replace")
        number = self._recipients
        if self._act(f"rcpt:{address}", f"rcpt#{number}", "rcpt").startswith(b"2"):
            self._accepted.append((number, address))

    def _message(self) -> None:
        early = self._choose("body")
        if isinstance(early, Mapping) and ("action" in early or "then" in early):
            if not self._pending:
                self._pending = self._receive()
            self._commands.append("<body>")
            self._play(early)
            return
        # With a line end in front, an empty message ends like any other.
        text = bytearray(b"\r\n" + self._pending)
        looked_at = 0
        while (end := text.find(b"\r\n.\r\n", looked_at)) < 0:
            looked_at = max(0, len(text) - 4)
            text += self._receive()
        message = bytes(text[2 : end + 2])
        self._pending = bytes(text[end + 5 :])
        self._messages.append(message)
        self._commands.append(f"<message {len(message)} bytes>")
        accepted, self._accepted, self._recipients = self._accepted, [], 0
        if not self._lmtp:
            none = "554 5.5.1 Error: no valid recipients"
            self._act("eod", default=SUCCESS["eod"] if accepted else none)
        elif not accepted:
            self._play("503 5.5.1 no valid recipients")
        else:
            for number, address in accepted:
                self._act(f"eod:{address}", f"eod#{number}", "eod")

    def _authenticate(self, line: bytes) -> None:
        _, mechanism, *initial = [*line.upper().split(), b""][:3]
        prompts = {
            b"LOGIN": ("VXNlcm5hbWU6", "UGFzc3dvcmQ6"),
            b"PLAIN": ("",),
            b"CRAM-MD5": (base64.b64encode(b"<1234.5678@mx.fake.test>").decode(),),
        }
        final = self._choose("auth")
        dialogue = final is None
        if isinstance(final, Mapping) and final.get("challenge"):
            dialogue, final = True, final["final"]
        given = any(initial) and mechanism != b"CRAM-MD5"
        if dialogue and not given:
            for prompt in prompts.get(mechanism, ()):
                self._play(f"334 {prompt}")
                if self._line() == b"*":
                    self._play("501 5.7.0 Authentication aborted")
                    return
        self._play(SUCCESS["auth"] if final is None else final)

    # What the script says

    def _host(self) -> str:
        return str(self._script.get("host", "mx.fake.test"))

    def _tls_script(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._script.get("tls", {})
        return found

    def _choose(self, *stages: str) -> Any:
        """The entry for the first of the stages that the script knows."""
        for stage in stages:
            entry = self._stages.get(stage)
            if isinstance(entry, list):
                time_before = self._times.get(stage, 0)
                self._times[stage] = time_before + 1
                return entry[min(time_before, len(entry) - 1)]
            if entry is not None:
                return entry
        return None

    def _act(self, *stages: str, default: str | None = "") -> bytes:
        """Do what the script says for a stage; returns the beginning of the reply."""
        entry = self._choose(*stages)
        if entry is None:
            entry = SUCCESS.get(stages[-1], UNKNOWN) if default == "" else default
        return b"" if entry is None else self._play(entry)

    def _play(self, entry: Any) -> bytes:
        action: Mapping[str, Any]
        action = {"reply": entry} if isinstance(entry, str) else entry
        if "delay" in action:
            delay = action["delay"]
            self._turn.pause(delay if callable(delay) else partial(time.sleep, delay))
        octets = _octets(action)
        # A client that has gone may have said more before, which is still to be read.
        with contextlib.suppress(OSError):
            if "drip" in action:
                for octet in octets:
                    self._peer.sendall(bytes([octet]))
                    self._turn.pause(partial(time.sleep, action["drip"]))
            else:
                self._peer.sendall(octets)
        ending = action.get("then") or action.get("action")
        if ending and ending != "continue":
            self._finish(ending)
        return octets[:3]

    # How it ends

    def _finish(self, ending: str) -> None:
        with contextlib.suppress(OSError):
            if ending == "close":
                # Our direction first: what is on its way must not cause a reset.
                self._peer.shutdown(socket.SHUT_WR)
                self._wait_for_end()
            elif ending == "hang":
                self._wait_for_end()
            elif ending == "stall":
                # The client may well be stuck in a write, so only its end can be seen.
                seconds = self._script.get("stall_seconds", 5)
                self._turn.wait(self._peer, select.POLLRDHUP, seconds)
            elif ending == "reset":
                time.sleep(0.1)  # or the reset overtakes the replies before it
                linger = struct.pack("ii", 1, 0)
                self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise _Over(f"server-{ending}")

    def _wait_for_end(self) -> None:
        """Read and forget until the client has gone."""
        until = time.monotonic() + PATIENCE
        while (left := until - time.monotonic()) > 0:
            self._turn.wait(self._peer, select.POLLIN, left)
            if not self._peer.recv(65536):
                return

    # TLS

    def _handshake(self) -> None:
        script = self._tls_script()
        failure = script.get("handshake", "")
        if failure and failure != "hang":
            # Once the client has begun, so that the order is always the same.
            with contextlib.suppress(OSError):
                self._peer.recv(1)
        if failure == "garbage":
            self._play({"raw": "this is not TLS at all\r\n" * 4, "then": "close"})
        if failure:
            self._finish(failure)
        self._pending = b""
        asked: list[str | None] = []
        try:
            context = self._context(script, asked)
            self._peer = context.wrap_socket(self._peer, server_side=True)
            resumed = self._peer.session_reused
            self.shown = self._peer.getpeercert(binary_form=True)
        except (OSError, ssl.SSLError) as problem:
            raise _Over("tls-handshake-failed") from problem
        self._tls = True
        words = ["<TLS", *([str(asked[0])] if script.get("sni") else [])]
        self._commands.append(" ".join([*words, *(["resumed"] * bool(resumed))]) + ">")

    def _context(
        self, script: Mapping[str, Any], asked: list[str | None]
    ) -> ssl.SSLContext:
        name = script.get("cert", "good")
        if name in self._contexts:
            context = self._contexts[name]
        else:
            context = self._new_context(script, name)
        if script.get("sni"):
            context.sni_callback = lambda _peer, host, _context: asked.append(host)
        return context

    def _new_context(self, script: Mapping[str, Any], name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        path = Path(self._certificates)
        with tempfile.NamedTemporaryFile() as shown:
            for one in (name, *script.get("chain", ())):
                shown.write((path / f"{one}.pem").read_bytes())
            shown.flush()
            context.load_cert_chain(shown.name, path / f"{name}-key.pem")
        if script.get("max_version") == "TLSv1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if script.get("ask"):
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(path / "ca.pem")
        if script.get("resume"):
            self._contexts[name] = context
        else:
            context.num_tickets = 0
        return context


class ScriptedServer:
    """Listens at an address (`HOST:PORT` or `unix:PATH`) from start() to stop()."""

    def __init__(
        self,
        *scripts: Script,
        listen: str = "127.0.0.1:0",
        lmtp: bool = False,
        certificates: str = "",
    ) -> None:
        self.scripts = scripts or ({},)
        self.listen = listen
        self.lmtp = lmtp
        self.certificates = certificates
        self.port = 0
        self._connections: list[Connection] = []
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._listener: socket.socket | None = None
        # Until somebody accepts, nobody has anything to do.
        self._turn = _Turn()
        self._turn.over()
        self._threads: list[threading.Thread] = []
        self._fillers: list[socket.socket] = []

    @property
    def connections(self) -> list[Connection]:
        """All that were made."""
        self._turn.settle()
        return self._connections

    def start(self) -> ScriptedServer:
        """Listen, and serve in threads."""
        self._listener = self._bound()
        self._listener.listen(64)
        self._turn = _Turn()
        self._serve_in_thread(self._accept)
        return self

    def start_full(self) -> ScriptedServer:
        """Listen with a full queue and never accept: attempts to connect time out."""
        self._listener = self._bound()
        self._listener.listen(0)
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(self._listener.getsockname())
            self._fillers.append(filler)
        return self

    def stop(self, patience: float = 3.0) -> list[Connection]:
        """No more connections; seconds for those that are left to end by themselves."""
        until = time.monotonic() + patience
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            # Not before: its descriptor may be another's next.
            for accepting in self._threads[:1]:
                accepting.join(max(0.0, until - time.monotonic()))
            self._listener.close()
        for filler in self._fillers:
            filler.close()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return self._connections

    def __enter__(self) -> ScriptedServer:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _bound(self) -> socket.socket:
        if self.listen.startswith("unix:"):
            path = self.listen[5:]
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            os.chmod(path, 0o666)
            return listener
        host, _, port = self.listen.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        self.port = listener.getsockname()[1]
        return listener

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                self._turn.wait(self._listener, select.POLLIN, None)
                peer, _ = self._listener.accept()
            except OSError:
                self._turn.over()
                return
            if peer.family != socket.AF_UNIX:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            script = self.scripts[min(len(self._connections), len(self.scripts) - 1)]
            connection = Connection(
                script, peer, self.lmtp, self.certificates, self._contexts
            )
            self._connections.append(connection)
            self._serve_in_thread(connection.serve)

    def _serve_in_thread(self, work: Any) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()
