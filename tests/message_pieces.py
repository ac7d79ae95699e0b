"""What the messages of message_kinds.py are made of, with what may be odd about it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Maker = Callable[[Random], bytes]
# By name.
KINDS: dict[str, Maker] = {}


def kind(make: Maker) -> Maker:
    """A function that makes messages of one kind."""
    KINDS[make.__name__.replace("_", "-")] = make
    return make


ENCODINGS = (
    "7bit",
    "8bit",
    "8BIT",
    "binary",
    "BINARY",
    "base64",
    "quoted-printable",
    "x-uuencode",
    "8 bit",
    "8bits",
    "8-bit",
    "utf-8",
    '"8bit"',
    "8bit;",
    "8bit (as it is)",
    "(what else) 8bit",
    " 8bit ",
    "\t8bit\t",
    "\n 8bit",
    "\n\t\n 8bit",
    "8bit\n ",
    "",
)
CHARSETS = ("utf-8", "iso-8859-1", "koi8-r", "iso-2022-jp", "us-ascii", "unknown")
_TEXT = """
lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod From To begin 644
grüße déjà čaj привет 你好 = =3D =? ?= . .. -- --= <p> & 100% \\ " ' ( ) end 😀 ﬁ
http://example.test/?a=b&c=%20
"""
WORDS = _TEXT.split()
ASCII = tuple(word for word in WORDS if word.isascii())
SUBJECTS = (
    "sample",
    "=?utf-8?Q?Gr=C3=BC=C3=9Fe?=",
    "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\n =?ISO-8859-2?B?dQ==?=",
    "=?utf-8?Q?not ended",
    "=?utf-8?X?unknown?= =?utf-8?Q??=",
    "=?unknown-8bit?q?=E4?= (comment",
    "Re: Re: Re: \n\tfolded\n\tagain",
    "",
    " ",
    "\n ",
    "ends with a blank ",
)
NEXT = "----=_NextPart_000_0047_01C8.{}"
BOUNDARIES = (
    "b",
    "outer",
    "=_%s",
    NEXT,
    "a (b)",
    "b'()+_,-./:=?",
    "with blank inside",
    "b" * 70,
    "b" * 200,
    "-",
    "--",
)


def words(rng: Random, count: int, ascii_only: bool = False) -> str:
    return " ".join(rng.choice(ASCII if ascii_only else WORDS) for _ in range(count))


def prose(rng: Random, ascii_only: bool = False, charset: str = "utf-8") -> bytes:
    """Some lines, a few of them odd."""
    lines = []
    for _ in range(rng.randrange(1, 9)):
        lines.append(words(rng, rng.randrange(12), ascii_only))
        lines[-1] += rng.choice(("", "", "", " ", "\t", "  \t "))
    text = "\n".join(lines) + "\n"
    return text.encode(charset, "replace")


def head(rng: Random, *more: str) -> bytes:
    """A header with the usual, in any order, and more."""
    lines = [
        f"From: {rng.choice(('s@sender.test', 'S <s@sender.test>'))}",
        "To: r@example.test",
        f"Subject: {rng.choice(SUBJECTS)}",
        "Date: Fri, 21 Nov 1997 09:55:06 -0600",
        f"Message-ID: <{rng.randrange(10**9)}@sender.test>",
        rng.choice(("MIME-Version: 1.0", "Mime-Version: 1.0 (a comment)", "X-A: b")),
        *(line for line in more if line),
    ]
    rng.shuffle(lines)
    return "\n".join(lines).encode() + b"\n"


def encoding(rng: Random) -> str:
    """A header, in one of its forms, or none."""
    name = rng.choice(
        ("Content-Transfer-Encoding", "content-transfer-encoding", "CONTENT-TRANSFER-"
         "ENCODING", "Content-Transfer-encoding ", "Content-Transfer_Encoding")
    )  # fmt: skip
    if rng.randrange(4) == 0:
        return ""
    return f"{name}:{rng.choice((' ', '', '  ', ' '))}{rng.choice(ENCODINGS)}"


def boundary(rng: Random) -> str:
    return rng.choice(BOUNDARIES).format(rng.randrange(10**6))


def multipart(mark: str, subtype: str = "mixed", quote: str = '"') -> str:
    return f"Content-Type: multipart/{subtype}; boundary={quote}{mark}{quote}"


def text_type(rng: Random) -> str:
    subtype = rng.choice(("plain", "html", "enriched", "x-unknown", "calendar"))
    return f"Content-Type: text/{subtype}; charset={rng.choice(CHARSETS)}"


def block(*lines: str) -> bytes:
    """A header of a part; those without text are left out."""
    return "".join(f"{line}\n" for line in lines if line).encode()


def leaf(rng: Random) -> bytes:
    """A part without parts: its header and its body, which need not agree."""
    types = (text_type(rng), "Content-Type: application/octet-stream; name=a.bin", "")
    disposition = "Content-Disposition: attachment; filename*=utf-8''%C3%A4.txt"
    lines = [rng.choice(types), encoding(rng), rng.choice(("", disposition))]
    rng.shuffle(lines)
    return block(*lines) + b"\n" + prose(rng, rng.random() < 0.4)


def joined(mark: str, *parts: bytes, end: bytes = b"--\n") -> bytes:
    """Parts with their boundaries."""
    dashes = b"--" + mark.encode()
    return b"".join(dashes + b"\n" + part for part in parts) + dashes + end


def in_parts(
    rng: Random, mark: str, *parts: bytes, subtype: str = "mixed", end: bytes = b"--\n"
) -> bytes:
    """A whole message of parts."""
    return head(rng, multipart(mark, subtype)) + b"\n" + joined(mark, *parts, end=end)
