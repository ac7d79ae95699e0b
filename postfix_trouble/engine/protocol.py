"""What is said between the engine and `deliver --engine=PATH`, on a Unix socket.

The engine greets with a line: version of the protocol, of the program, how many seconds
a request may take, and how many it delivers at once. Then frames, each a letter, four
bytes of length (big endian) and the data. The client sends the ARGUMENTS of its
command line (each with a NUL behind it), PIECEs of the message, and END; after that a
SIGNAL if one comes. A client that is killed sends no END, so nothing is delivered. The
engine sends one ANSWER: a byte of exit status (success is 100, a number that nobody
sends by accident), then the text for pipe(8).

No descriptors are passed: one that waits in a socket that nobody reads would keep the
reader of the answer from seeing its end. launcher/postfix-trouble.c is the other
client.
"""

from __future__ import annotations

import os

from postfix_trouble import __version__

ARGUMENTS, PIECE, END, SIGNAL, ANSWER = b"a", b"m", b"e", b"s", b"r"
HEAD = 5

#: The greeting, up to the seconds.
GREETING = b"postfix-trouble engine 2 " + __version__.encode() + b" "
#: Seconds until a client that was not greeted delivers by itself.
GREETED_WITHIN = 2.0
#: Seconds that a client waits beyond the limit that the greeting names, or once it has
#: got a signal.
AFTER = 15.0
#: The part of that limit for which a request may wait for a free delivery.
PATIENCE = 0.3
#: Bytes of an answer, at most.
MOST_ANSWER = 64 << 20
#: The exit status that means success on the way to pipe(8); see the launcher.
SUCCESS = 100
#: All that an answer may have: what pipe(8) takes for what we mean by it.
STATUSES = (SUCCESS, 65, 67, 68, 69, 75, 76, 77)


def greeting(seconds: float, deliveries: int) -> bytes:
    """The first line of the engine, which always has the same length."""
    return GREETING + b"%06d %06d\n" % (seconds, deliveries)


def greeted(line: bytes) -> tuple[int, int] | None:
    """What a first line says: seconds, deliveries. None: it is of another version."""
    numbers = line.removeprefix(GREETING).split()
    known = line.startswith(GREETING) and line.endswith(b"\n") and len(numbers) == 2
    if not known or not all(each.isdigit() and len(each) < 7 for each in numbers):
        return None
    seconds, deliveries = (int(each) for each in numbers)
    return (seconds, deliveries) if seconds else None


def frame(kind: bytes, data: bytes = b"") -> bytes:
    """One frame, as bytes."""
    return kind + len(data).to_bytes(4, "big") + data


def arguments(words: list[bytes]) -> bytes:
    """The frame that says a command line."""
    return frame(ARGUMENTS, b"".join(word + b"\0" for word in words))


def words(data: bytes) -> list[str]:
    """A command line, out of its frame."""
    return os.fsdecode(data[:-1]).split("\0") if data else []


def answer(status: int, text: bytes) -> bytes:
    """The frame that ends a request. `status`: an exit code of `deliver`."""
    return frame(ANSWER, bytes([status or SUCCESS]) + text)


def sound(status: int, text: bytes, json: bool) -> bool:
    """Whether an answer makes sense: the text has the class of the exit status.

    pipe(8) goes by the text, so that one which does not fit could bounce what was to be
    deferred. `json`: an object was asked for.
    """
    if status not in STATUSES:
        return False
    if json:
        return text[:1] == b"{"
    if status == SUCCESS:
        return text[1:2] != b"." or text[:1] not in (b"2", b"3", b"4", b"5")
    return len(text) >= 7 and text[:2] == (b"4." if status == 75 else b"5.")
