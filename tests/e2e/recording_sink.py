"""An SMTP server that takes mail, writes down whose, and can be killed at any moment.

usage: recording_sink.py PORT FILE [SECONDS]
The number in a recipient's name says what happens to it: ending in 3, refused for ever;
in 7, deferred the first time; else taken, after so many seconds. A line of FILE is
"RECIPIENT taken" (written before the reply) or "RECIPIENT put-off".
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time

HELLO = b"250-sink.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250 8BITMIME\r\n"
NUMBER = re.compile(rb"<r?(\d*)")


class Record:
    """The file, and what stands in it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        with open(path, "rb") as before:
            self._put_off = {x.split()[0] for x in before if b"put-off" in x}

    def write(self, recipient: bytes, word: bytes) -> None:
        os.write(self._file, recipient + b" " + word + b"\n")

    def reply(self, recipient: bytes) -> bytes:
        """The reply to RCPT TO."""
        found = NUMBER.match(recipient)
        last = found[1][-1:] if found else b""
        if last == b"3":
            return b"550 5.1.1 nobody here\r\n"
        if last == b"7" and recipient not in self._put_off:
            self._put_off.add(recipient)
            self.write(recipient, b"put-off")
            return b"450 4.2.0 come again\r\n"
        return b"250 2.1.5 Ok\r\n"


def serve(peer: socket.socket, record: Record, delay: float) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(b"220 sink.test ESMTP\r\n")
    lines = peer.makefile("rb")
    recipients: list[bytes] = []
    while line := lines.readline():
        verb = line[:4].upper()
        if verb in (b"EHLO", b"HELO"):
            answer = HELLO
        elif verb == b"RCPT":
            recipient = line[8:].split()[0]
            answer = record.reply(recipient)
            if answer.startswith(b"2"):
                recipients.append(recipient)
        elif verb == b"DATA":
            peer.sendall(b"354 go\r\n")
            while lines.readline().rstrip(b"\r\n") != b".":
                pass
            if delay:
                time.sleep(delay)
            for recipient in recipients:
                record.write(recipient, b"taken")
            none = b"554 5.5.1 no valid recipients\r\n"
            answer = b"250 2.0.0 Ok: queued\r\n" if recipients else none
        elif verb == b"QUIT":
            peer.sendall(b"221 2.0.0 Bye\r\n")
            return
        else:
            answer = b"250 2.0.0 Ok\r\n"
        if verb in (b"MAIL", b"RSET"):
            recipients = []
        peer.sendall(answer)


def serve_and_close(peer: socket.socket, record: Record, delay: float) -> None:
    try:
        with peer:
            serve(peer, record, delay)
    except OSError:
        pass


def main() -> None:
    port, path, *rest = sys.argv[1:]
    record = Record(path)
    delay = float(rest[0]) if rest else 0.0
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=200)
    print(listener.getsockname()[1], flush=True)
    while True:
        peer, _ = listener.accept()
        threading.Thread(
            target=serve_and_close, args=(peer, record, delay), daemon=True
        ).start()


if __name__ == "__main__":
    main()
