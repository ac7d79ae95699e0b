"""A web server by TLS that answers with what a test gives it, byte by byte."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from waiting import PATIENCE


def page(
    body: bytes,
    *more: str,
    status: str = "200 OK",
    kind: str = "text/plain",
    size: int | None = None,
) -> bytes:
    """An answer with a body. `more`: lines of its header; `size`: a wrong one."""
    lines = [
        f"HTTP/1.1 {status}",
        *([f"Content-Type: {kind}"] if kind else []),
        f"Content-Length: {len(body) if size is None else size}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class HttpsServer:
    """`answer`: sent to whoever asks; may be changed. `requests`: what was asked."""

    def __init__(self, certificate: Path, answer: bytes) -> None:
        self.answer = answer
        # After the answer: "close", "hang" until the client goes, or "cut": no word of
        # TLS that this is the end.
        self.then = "close"
        self.requests: list[str] = []
        self.names: list[str] = []
        self.port = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = certificate.with_name(f"{certificate.stem}-key.pem")
        self._context.load_cert_chain(certificate, key)
        self._context.sni_callback = self._named

    def _named(self, _sock: object, name: str | None, _context: object) -> None:
        self.names.append(name or "")

    def serve(self, sock: socket.socket) -> None:
        """Answer one connection."""
        sock.settimeout(PATIENCE)
        with suppress(OSError), self._context.wrap_socket(sock, True) as secured:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                piece = secured.recv(65536)
                if not piece:
                    return
                request += piece
            self.requests.append(request.decode())
            secured.sendall(self.answer)
            if self.then == "hang":
                secured.recv(1)
            elif self.then == "close":
                secured.unwrap()


@contextmanager
def https_serving(
    certificate: Path, answer: bytes, host: str = "127.0.0.1", port: int = 0
) -> Iterator[HttpsServer]:
    """A running server. Port 0: one that is free."""
    server = HttpsServer(certificate, answer)
    listener = socket.create_server((host, port))
    server.port = listener.getsockname()[1]
    stop = threading.Event()
    thread = threading.Thread(target=_accept, args=(server, listener, stop))
    thread.start()
    try:
        yield server
    finally:
        stop.set()
        # It waits for a connection: this is the last one.
        socket.create_connection((host, server.port), PATIENCE).close()
        thread.join()
        listener.close()


def _accept(server: HttpsServer, listener: Any, stop: threading.Event) -> None:
    """One connection after the other."""
    while True:
        sock, _ = listener.accept()
        with sock:
            if stop.is_set():
                return
            server.serve(sock)
