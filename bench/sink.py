"""A fast SMTP server for the benchmark: takes everything, says when it listens.

usage: sink.py [SECONDS [CERTIFICATE]]
Prints its port, then serves until its standard input ends. It thinks for so many
seconds before it takes a message. With a certificate (and key) it offers STARTTLS.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time

DELAY = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
HELLO = b"250-sink.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250 8BITMIME\r\n"
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
if len(sys.argv) > 2:
    CONTEXT.load_cert_chain(sys.argv[2])
    HELLO = HELLO.replace(b"250 8BITMIME", b"250-STARTTLS\r\n250 8BITMIME")


def serve(peer: socket.socket) -> None:
    """One session, with no more work than it takes."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(b"220 sink.test ESMTP\r\n")
    pending, in_message = b"", False
    while octets := peer.recv(1 << 18):
        pending += octets
        answers = b""
        while pending:
            if in_message:
                end = pending.find(b"\r\n.\r\n")
                if end < 0:
                    pending = pending[-4:]
                    break
                pending, in_message = pending[end + 5 :], False
                if DELAY:
                    time.sleep(DELAY)
                answers += b"250 2.0.0 Ok: queued\r\n"
                continue
            line, found, rest = pending.partition(b"\n")
            if not found:
                break
            pending, verb = rest, line[:4].upper()
            if verb in (b"EHLO", b"HELO"):
                answers += HELLO
            elif verb == b"DATA":
                answers += b"354 go\r\n"
                # With a line end in front, an empty message ends like any other.
                pending, in_message = b"\r\n" + pending, True
                if pending == b"\r\n":
                    break
            elif verb == b"STAR":
                peer.sendall(b"220 2.0.0 go\r\n")
                peer = CONTEXT.wrap_socket(peer, server_side=True)
            elif verb == b"QUIT":
                peer.sendall(answers + b"221 2.0.0 Bye\r\n")
                return
            else:
                answers += b"250 2.0.0 Ok\r\n"
        if answers:
            peer.sendall(answers)


def serve_and_close(peer: socket.socket) -> None:
    with peer:
        try:
            serve(peer)
        except (OSError, ValueError):
            # It has gone; the figures are the client's.
            pass


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=serve_and_close, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
