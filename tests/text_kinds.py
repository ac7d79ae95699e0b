"""Messages without parts, each of a kind: what is odd in their headers and texts."""

from __future__ import annotations

from random import Random

from message_pieces import (
    SUBJECTS,
    boundary,
    encoding,
    head,
    joined,
    kind,
    leaf,
    multipart,
    prose,
    text_type,
    words,
)

# --- texts, and what they are declared ------------------------------------------------


@kind
def ascii_text(rng: Random) -> bytes:
    return head(rng) + b"\n" + prose(rng, ascii_only=True)


@kind
def undeclared_8bit(rng: Random) -> bytes:
    return head(rng) + b"\n" + prose(rng, charset=rng.choice(("utf-8", "latin-1")))


@kind
def declared(rng: Random) -> bytes:
    return head(rng, text_type(rng), encoding(rng)) + b"\n" + prose(rng)


@kind
def declared_several_times(rng: Random) -> bytes:
    lines = (encoding(rng), text_type(rng), encoding(rng), encoding(rng))
    return head(rng, *lines) + b"\n" + prose(rng)


@kind
def quoted_printable(rng: Random) -> bytes:
    body = b"Gr=C3=BC=C3=9Fe=\n soft=20\n=\n=zz =3d=3D bad=\n\n=C3" + prose(rng)
    line = "Content-Transfer-Encoding: quoted-printable"
    return head(rng, text_type(rng), line) + b"\n" + body


@kind
def base64_text(rng: Random) -> bytes:
    lines = [b"R3LDvMOfZQ" * rng.randrange(1, 9) + b"=" * rng.randrange(4)] * 5
    line = f"Content-Transfer-Encoding: {rng.choice(('base64', 'Base64 ', 'base-64'))}"
    tail = rng.choice((b"", b"\nnot base64 \xe4\n", b"\n\n"))
    return head(rng, text_type(rng), line) + b"\n" + b"\n".join(lines) + tail


@kind
def uuencoded(rng: Random) -> bytes:
    lines = [f"M{words(rng, 9, True)[:60]:<60}" for _ in range(5)]
    text = "\n".join(["text", "begin 644 a.bin", *lines, "`", "end", ""])
    return head(rng, rng.choice(("", encoding(rng)))) + b"\n" + text.encode()


@kind
def iso_2022_jp(rng: Random) -> bytes:
    text = ("こんにちは" * rng.randrange(1, 30)).encode("iso2022_jp")
    line = "Content-Type: text/plain; charset=ISO-2022-JP"
    return head(rng, line, encoding(rng)) + b"\n" + text + b"\n"


@kind
def control_characters(rng: Random) -> bytes:
    some = bytes(rng.randrange(32) for _ in range(40)).replace(b"\n", b"")
    return head(rng, encoding(rng)) + b"\nx" + some + b"\n\0\0\n" + some + b"\xe4\0"


@kind
def stray_cr(rng: Random) -> bytes:
    pieces = [b"\r", b"\r\r", b"\r.", b"\r\0", b"a", b"\n", b".", b"\n.", b"\n\r", b" "]
    body = b"".join(rng.choice(pieces) for _ in range(60))
    return head(rng, encoding(rng)) + b"\n" + body


@kind
def crlf_throughout(rng: Random) -> bytes:
    mark = boundary(rng)
    text = head(rng, multipart(mark), encoding(rng)) + b"\n"
    text += joined(mark, leaf(rng), leaf(rng))
    return text.replace(b"\n", b"\r\n")


@kind
def crlf_here_and_there(rng: Random) -> bytes:
    text = head(rng, text_type(rng), encoding(rng)) + b"\n" + prose(rng) + prose(rng)
    lines = text.split(b"\n")
    return b"".join(x + rng.choice((b"\n", b"\n", b"\r\n", b"\r\r\n")) for x in lines)


@kind
def cr_where_chunks_meet(rng: Random) -> bytes:
    start = head(rng, encoding(rng)) + b"\n"
    fill = b"x" * 63 + b"\n"
    size = rng.choice((2048, 4096, 65536)) - len(start) + rng.randrange(-3, 3)
    body = (fill * (size // 64 + 1))[:size]
    return (
        start + body + rng.choice((b"\r", b"\r\n", b"\r.", b"\n.\r\n", b"\r\r\n")) * 3
    )


@kind
def dots(rng: Random) -> bytes:
    lines = [rng.choice((".", "..", ". ", ".x", "..x", "x.", "")) for _ in range(30)]
    tail = rng.choice(("", ".", "\n.", "\n.\n", "\n."))
    body = "\n".join(lines) + tail
    return head(rng, encoding(rng)) + b"\n" + body.encode()


@kind
def long_lines(rng: Random) -> bytes:
    lengths = (76, 77, 990, 997, 998, 999, 1000, 1996, 2047, 2048, 2049, 4096, 5000)
    lines = []
    for _ in range(4):
        filler = rng.choice(("x", "ä", ".", " ", "=", "word ", "\t"))
        lines.append((filler * 9000).encode()[: rng.choice(lengths)])
    text = b"\n".join(lines) + rng.choice((b"\nend", b"\n"))
    return head(rng, text_type(rng), encoding(rng)) + b"\n" + text


@kind
def no_newline_at_the_end(rng: Random) -> bytes:
    tail = rng.choice((b"end", b"end ", b"=", b".", b"\xe4", b" ", b"--b--", b"\r"))
    return head(rng, encoding(rng)) + b"\n" + prose(rng) + tail


@kind
def blank_lines(rng: Random) -> bytes:
    body = "\n".join(rng.choice(("", " ", "\t", "x ")) for _ in range(20))
    return head(rng, encoding(rng)) + b"\n\n\n" + body.encode()


# --- headers ------------------------------------------------------------------------


@kind
def header_8bit(rng: Random) -> bytes:
    raw = words(rng, 8).encode(rng.choice(("utf-8", "latin-1")), "replace")
    return head(rng, encoding(rng)) + b"X-Text: " + raw + b"\n\n" + prose(rng)


@kind
def encoded_words(rng: Random) -> bytes:
    lines = [f"X-{n}: {rng.choice(SUBJECTS)} {rng.choice(SUBJECTS)}" for n in range(6)]
    return head(rng, *lines) + b"\n" + prose(rng)


@kind
def addresses(rng: Random) -> bytes:
    odd = (
        '"Joe Q. Public" <john.q.public@example.com>',
        "A Group:Chris Jones <c@a.test>,joe@where.test;",
        "undisclosed-recipients:;",
        "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
        "<@node.test,@other.test:mary@example.net>",
        "a@b, , c@d,",
        "no address at all",
        '"unended <a@b.test>',
        "a@b@c",
        "<>",
        "jürgen@münchen.test",
        "=?utf-8?q?J=C3=BCrgen?= <j@example.test>, \n k@example.test",
        "r@[127.0.0.1]",
        "host!user",
        "user%host@example.test",
    )
    lines = [
        f"{name}: {', '.join(rng.sample(odd, 3))}"
        for name in rng.sample(("To", "Cc", "Reply-To", "Sender", "Resent-To"), 3)
    ]
    return head(rng, *lines) + b"\n" + prose(rng, ascii_only=True)


@kind
def folded_oddly(rng: Random) -> bytes:
    folds = ("\n ", "\n\t", " \n  ", "\n  \n ", "\n \n \n\t", "\n .", "\n \t")
    lines = [f"X-{n}: a{rng.choice(folds)}b{rng.choice(folds)}" for n in range(5)]
    type_ = f"Content-Type:{rng.choice(folds)}text/plain;{rng.choice(folds)}charset=x"
    line = f"Content-Transfer-Encoding:{rng.choice(folds)}8bit"
    return head(rng, *lines, type_, line) + b"\n" + prose(rng)


@kind
def blank_before_the_colon(rng: Random) -> bytes:
    lines = ("X-A : b", "X-B\t: b", "X-C \t : b", "Content-Transfer-Encoding : 8bit")
    return head(rng, *rng.sample(lines, 3)) + b"\n" + prose(rng)


@kind
def no_header_line(rng: Random) -> bytes:
    odd = rng.choice(
        (
            "no colon here",
            ": no name",
            "X Y: blank in the name",
            "\u00e4: name",
            ">From x",
            "X-\x7f: control",
            "==",
            "<html>",
            "--b",
            ".",
        )
    )
    lines = head(rng, encoding(rng)).splitlines(keepends=True)
    lines.insert(rng.randrange(1, len(lines)), odd.encode() + b"\n")
    return b"".join(lines) + b"\n" + prose(rng)


@kind
def no_separator(rng: Random) -> bytes:
    """The body follows the header at once."""
    return head(rng, encoding(rng)) + b"this is the body\n" + prose(rng)


@kind
def no_header(rng: Random) -> bytes:
    return rng.choice((b"", b"\n", b"\n\n", b" ", b"\t\n")) + prose(rng)


@kind
def no_body(rng: Random) -> bytes:
    end = rng.choice(
        (b"", b"\n", b"\n\n", b" folded", b" folded\n", b"X-End:", b"\0\n")
    )
    return head(rng, encoding(rng)) + end


@kind
def begins_with_blanks(rng: Random) -> bytes:
    return b" folded, but after what?\n" + head(rng, encoding(rng)) + b"\n" + prose(rng)


@kind
def from_line(rng: Random) -> bytes:
    """What an mbox file leaves behind."""
    first = rng.choice(
        (
            b"From s@sender.test Fri Nov 21 09:55:06 1997\n",
            b">From s@sender.test\n",
            b"From - Mon\n>From x\n",
            b">>From y\n",
            b"From \n",
            b"FROM s\n",
        )
    )
    body = b"From the start\n>From here\n\nFrom s@x Fri Nov 21 09:55:06 1997\nTo: x\n\n"
    return first + head(rng, encoding(rng)) + b"\n" + body + prose(rng)


@kind
def mbox_headers(rng: Random) -> bytes:
    lines = (
        "Status: RO",
        "X-UID: 17",
        "Content-Length: 3",
        "Lines: 0",
        "X-Mozilla-Status: 0001",
        "Return-Path: <s@sender.test>",
        "Delivered-To: other@example.test",
        "X-From-Line: s@x Mon",
        "Bcc: hidden@example.test",
    )
    return head(rng, *rng.sample(lines, 6), encoding(rng)) + b"\n" + prose(rng)


@kind
def huge_header(rng: Random) -> bytes:
    size = rng.choice((998, 999, 2048, 2049, 5000, 60000, 102400, 110000, 150000))
    one = "X-Long: " + "y" * size
    many = "X-Folded:" + "".join(f"\n z{n}" for n in range(size // 8))
    return head(rng, rng.choice((one, many)), encoding(rng)) + b"\n" + prose(rng)


@kind
def many_headers(rng: Random) -> bytes:
    lines = [f"Received: from a{n} by b{n}; never" for n in range(rng.randrange(40))]
    lines += [f"X-{n}: {words(rng, 5)}" for n in range(rng.randrange(300))]
    return head(rng, *lines, encoding(rng)) + b"\n" + prose(rng)


@kind
def control_in_header(rng: Random) -> bytes:
    some = rng.choice((b"\0", b"a\0b", b"\r", b"a\rb", b"\x1b[0m", b"\x7f", b"\v\f"))
    line = b"X-Odd: a" + some + b"b" + rng.choice((b"", b"\n c" + some)) + b"\n"
    name = b"X-" + some.replace(b"\r", b"") + b": c\n"
    return line + head(rng, encoding(rng)) + name + b"\n" + prose(rng)
