from __future__ import annotations

import hashlib
import os
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfix_trouble.core.failure import ContentError
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.message.message import Message, parent_gone
from postfix_trouble.message.stages import Stages

TEXT = b"Subject: x\nContent-Transfer-Encoding: 8bit\n\n.one\ntwo\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def feed(fd: int, content: bytes) -> threading.Thread:
    def write() -> None:
        with os.fdopen(fd, "wb") as stream:
            stream.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    return writer


def read(pipe: tuple[int, int], content: bytes, **options: object) -> Message | DSN:
    writer = feed(pipe[1], content)
    try:
        return Message.read(pipe[0], answer_fd=None, **options)  # type: ignore[arg-type]
    finally:
        os.close(pipe[0])
        writer.join()


@pytest.mark.parametrize("size", [0, 1, 1000, 70000, 300000])
@pytest.mark.parametrize("limit", [0, 1000, 1 << 20])
def test_a_message_is_read_and_can_be_read_again(
    pipe: tuple[int, int], tmp_path: Path, size: int, limit: int
) -> None:
    content = os.urandom(size)
    message = read(pipe, content, limit_in_memory=limit, directory=str(tmp_path))
    assert isinstance(message, Message)
    assert message.size == size
    first, second = message.chunks(), message.chunks()
    begin = next(first, b"")
    assert b"".join(second) == content
    assert begin + b"".join(first) == content
    assert message.digest() == hashlib.sha256(content).hexdigest()
    assert not list(tmp_path.iterdir()), "the file has no name"
    message.close()


def test_facts_and_text() -> None:
    message = Message.from_bytes(TEXT)
    assert message.size == len(TEXT)
    assert message.encoding() == "8bit"
    assert not message.utf8_header()
    assert message.received() is None
    assert b"".join(message.outgoing()).endswith(b"\r\n\r\n..one\r\ntwo\r\n")


MULTIPART = b"Content-Type: multipart/mixed; boundary=b\n"
NESTED = b"Content-Type: message/rfc822\n"
EIGHT = b"Content-Transfer-Encoding: 8Bit\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (MULTIPART + b"\n--b\n" + EIGHT + b"\nx\n--b--\n", "8bit"),
        (MULTIPART + b"\n--b\n" + EIGHT.replace(b"8B", b"8 B") + b"\nx\n", ""),
        (MULTIPART + b"\n--b\n\n" + EIGHT, ""),
        (MULTIPART + b"\n" + EIGHT + b"--b\n\n", ""),
        (MULTIPART + b"\n--b\n" + NESTED + b"\n" + EIGHT, "8bit"),
        (NESTED + b"\n" + EIGHT + b"\n", "8bit"),
        (NESTED.replace(b"rfc822", b"global") + b"\n" + EIGHT + b"\n", "8bit"),
        (NESTED.replace(b"rfc822", b"partial") + b"\n" + EIGHT + b"\n", ""),
        (b"Content-Type: text/plain\n\n--b\n" + EIGHT + b"\nx\n", ""),
        # The word itself where chunks meet.
        (
            MULTIPART + b"\n--b\n".rjust(65536 - 48 - len(EIGHT), b"\n") + EIGHT * 3,
            "8bit",
        ),
    ],
)
def test_encoding_of_parts(text: bytes, encoding: str) -> None:
    """As cleanup(8) counts them; see tests/e2e/test_messages.py."""
    assert Message.from_bytes(text).encoding() == encoding


@pytest.mark.parametrize("cut", range(1, 6))
def test_encoding_where_chunks_meet(cut: int) -> None:
    end = MULTIPART + b"\n--b\nContent-Transfer-Encoding: binary"
    fill = (65536 - len(end) + cut) // 2
    start = b"A: b\n" + b"B:" + b"x" * (2 * fill - 8) + b"\n"
    message = Message.from_bytes(start + end + b"\n\nx\n")
    first = next(message.chunks())
    assert b"binary" not in first[-5:]
    assert first[-1:] in b"binary"
    assert message.encoding() == "8bit"


def test_encoding_where_parts_are_not_looked_at() -> None:
    """disable_mime_input_processing and mime_nesting_limit of cleanup(8)."""
    deep = (
        MULTIPART + b"\n--b\n" + MULTIPART.replace(b"=b", b"=c") + b"\n--c\n"
        b"Content-Type: multipart/mixed; boundary=d\n\n--d\n"
        b"Content-Type: multipart/mixed; boundary=e\n\n--e\n" + EIGHT + b"\nx\n"
    )
    message = Message.from_bytes(deep)
    assert message.encoding() == "8bit"
    assert message.encoding(nesting_limit=1) == ""
    assert message.encoding(structure=False) == ""
    assert Message.from_bytes(EIGHT).encoding(structure=False) == "8bit"


def test_utf8_where_parts_are_not_looked_at() -> None:
    message = Message.from_bytes(NESTED + b"\nA: \xe4\n\n")
    assert message.utf8_header()
    assert not message.utf8_header(structure=False)


def test_a_broken_line_is_noted_once_for_all_servers() -> None:
    message = Message.from_bytes(b"\n" + b"x" * 100)
    notes: list[str] = []
    for _ in range(2):
        assert b"".join(message.outgoing(50, note=notes.append)).count(b"\r\n") == 4
    assert notes == ["breaking line > 50 bytes with <CR><LF>SPACE"]


def test_a_message_goes_through_the_stages_that_are_wanted() -> None:
    message = Message.from_bytes(TEXT.replace(b"one", b"\xe4"))
    sent = b"".join(message.outgoing(stages=Stages(downgrade=True)))
    assert sent == (
        b"Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\n"
        b"\r\n..=E4\r\ntwo\r\n"
    )
    assert b"\xe4" in b"".join(message.outgoing(stages=Stages()))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"A: \xe4\n\n", True),
        (b"A: a\n\n\xe4", False),
        (b"Content-Type: message/rfc822\n\nA: \xe4\n\n", True),
    ],
)
def test_utf8_header(text: bytes, found: bool) -> None:
    assert Message.from_bytes(text).utf8_header() is found


def test_slow_input_is_deferred(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"Subject: x\n")
    assert Message.read(pipe[0], timeout=0.05) == DSN(
        EnhancedStatus("4.3.0"), "timeout reading message"
    )


def test_input_without_blocking_is_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[0], False)
    message = read(pipe, TEXT, timeout=5)
    assert isinstance(message, Message)
    assert b"".join(message.chunks()) == TEXT


def test_unreadable_input_is_deferred(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    assert Message.read(directory) == DSN(
        EnhancedStatus("4.3.0"), "error reading message: Is a directory"
    )
    os.close(directory)
    assert Message.read(directory) == DSN(
        EnhancedStatus("4.3.0"), "error reading message: Bad file descriptor"
    )


def test_a_full_disk_defers(pipe: tuple[int, int], tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, before[1]))
    try:
        result = read(pipe, b"x" * 20000, limit_in_memory=100, directory=str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result == DSN(EnhancedStatus("4.3.1"), "insufficient system storage")


def test_no_directory_to_spool_to_defers(pipe: tuple[int, int]) -> None:
    result = read(pipe, b"x" * 20000, limit_in_memory=100, directory="/nonexistent")
    assert result == DSN(
        EnhancedStatus("4.3.0"), "error reading message: No such file or directory"
    )


def test_a_message_is_not_delivered_when_pipe8_is_gone(pipe: tuple[int, int]) -> None:
    answer_from, answer_to = os.pipe()
    os.close(pipe[1])
    complete = Message.read(pipe[0], answer_fd=answer_to)
    assert isinstance(complete, Message)
    assert not parent_gone(answer_to)
    os.close(answer_from)
    assert parent_gone(answer_to)
    assert Message.read(pipe[0], answer_fd=answer_to) == DSN(
        EnhancedStatus("4.3.0"), "message is incomplete: its sender has gone"
    )
    os.close(answer_to)


def test_an_answer_that_goes_to_no_pipe_has_nobody_to_lose(tmp_path: Path) -> None:
    file = os.open(tmp_path / "answer", os.O_CREAT | os.O_WRONLY)
    assert not parent_gone(file)
    os.close(file)
    assert not parent_gone(file)


def test_a_spool_that_has_shrunk_is_an_error(
    pipe: tuple[int, int], tmp_path: Path
) -> None:
    message = read(pipe, b"x" * 99, limit_in_memory=9, directory=str(tmp_path))
    assert isinstance(message, Message)
    message.size += 1
    with pytest.raises(ContentError) as error:
        list(message.chunks())
    assert (error.value.status, error.value.reason) == (
        "4.3.0",
        "error reading message",
    )
    message.close()


def test_fifty_megabytes_of_dots_stay_small(tmp_path: Path) -> None:
    import subprocess

    script = f"""
from postfix_trouble.message.message import Message
message = Message.read(0, answer_fd=None, directory={str(tmp_path)!r})
assert sum(map(len, message.outgoing())) == {50 << 21}
print(*(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=b".\n" * (50 << 19),
        capture_output=True,
        check=True,
    )
    assert int(done.stdout.split()[1]) < 64 * 1024, "KiB"
