"""The server's side of a dialogue: SMTP, LMTP or a look-up table, by a script."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from servers import tls
from servers.turn import PATIENCE, Turn

Script = Mapping[str, Any]

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


def address(line: bytes) -> str:
    """What is between the brackets of MAIL or RCPT; empty without."""
    inside = line.partition(b"<")[2].rpartition(b">")[0]
    return inside.decode("utf-8", "replace")


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
        self._turn = Turn()
        self._script = script
        self._stages: Mapping[str, Any] = script.get("stages", {})
        self._peer = peer
        self._lmtp = lmtp
        self._certificates = certificates
        # By certificate, of servers whose sessions may be resumed.
        self._contexts = contexts
        self._pending = b""
        self._times: dict[str, int] = {}
        self._sender: str | None = None
        self._accepted: list[tuple[int, str]] = []
        self._recipients = 0
        # With an idea of its own of where a line ends, and all that came then.
        self._line_end: bytes = script.get("line_end", b"")
        self.octets = b""

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
        if self._line_end:
            self.octets += octets
        return octets

    def _line(self) -> bytes:
        """The next command line, recorded."""
        line = self._until(self._line_end or b"\n")
        # What is left of CRLF, where half of it is enough.
        line = line.strip(b"\r\n") if self._line_end else line.removesuffix(b"\r")
        self._commands.append(_visible(line))
        return line

    def _until(self, end: bytes) -> bytes:
        while end not in self._pending:
            self._pending += self._receive()
        line, _, self._pending = self._pending.partition(end)
        return line

    def _look_ups(self, table: Mapping[str, Any]) -> None:
        """Answer requests in netstrings (socketmap_table(5)) until the end."""
        while True:
            size = self._until(b":")
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
            self._forget()
            if self._act(stage).startswith(b"2") and stage == "mail":
                self._sender = address(line)
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
        who = address(line)
        number = self._recipients
        if self._act(f"rcpt:{who}", f"rcpt#{number}", "rcpt").startswith(b"2"):
            self._accepted.append((number, who))

    def _message(self) -> None:
        early = self._choose("body")
        if isinstance(early, Mapping) and ("action" in early or "then" in early):
            if not self._pending:
                self._pending = self._receive()
            self._commands.append("<body>")
            self._play(early)
            return
        message = self._text()
        self._messages.append(message)
        self._commands.append(f"<message {len(message)} bytes>")
        self._answer_the_dot()
        self._forget()

    def _text(self) -> bytes:
        """The message, up to the final dot."""
        if self._line_end:
            lines = iter(partial(self._until, self._line_end), None)
            inside = takewhile(lambda line: line.strip(b"\r\n") != b".", lines)
            return b"".join(line + self._line_end for line in inside)
        # With a line end in front, an empty message ends like any other.
        text = bytearray(b"\r\n" + self._pending)
        looked_at = 0
        while (end := text.find(b"\r\n.\r\n", looked_at)) < 0:
            looked_at = max(0, len(text) - 4)
            text += self._receive()
        self._pending = bytes(text[end + 5 :])
        return bytes(text[2 : end + 2])

    def _answer_the_dot(self) -> None:
        if not self._lmtp:
            none = "554 5.5.1 Error: no valid recipients"
            self._act("eod", default=SUCCESS["eod"] if self._accepted else none)
        elif not self._accepted:
            self._play("503 5.5.1 no valid recipients")
        for number, who in self._accepted if self._lmtp else ():
            self._act(f"eod:{who}", f"eod#{number}", "eod")

    def _forget(self) -> None:
        """No transaction is under way."""
        self._sender, self._accepted, self._recipients = None, [], 0

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
            context = tls.context(script, Path(self._certificates), name)
            if script.get("resume"):
                self._contexts[name] = context
        if script.get("sni"):
            context.sni_callback = lambda _peer, host, _context: asked.append(host)
        return context
