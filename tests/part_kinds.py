"""Messages of parts, each of a kind: what is odd in their structure."""

from __future__ import annotations

from random import Random

from message_pieces import (
    ENCODINGS,
    block,
    boundary,
    encoding,
    head,
    in_parts,
    joined,
    kind,
    leaf,
    multipart,
    prose,
    text_type,
)


@kind
def parts(rng: Random) -> bytes:
    """The outer header says nothing of 8 bits, or does."""
    mark = boundary(rng)
    lines = (multipart(mark), rng.choice(("", encoding(rng))))
    body = joined(mark, *(leaf(rng) for _ in range(rng.randrange(1, 5))))
    preamble = rng.choice((b"", b"\n", b"This is a message in MIME format.\n\xe4\n"))
    return head(rng, *lines) + b"\n" + preamble + body + rng.choice((b"", prose(rng)))


@kind
def one_part_of_8bit(rng: Random) -> bytes:
    """As most mailers do: only the header of the part says so."""
    mark = boundary(rng)
    part = block(text_type(rng), f"Content-Transfer-Encoding: {rng.choice(ENCODINGS)}")
    text = part + b"\n" + prose(rng)
    return in_parts(rng, mark, text, leaf(rng), subtype="alternative")


@kind
def nested(rng: Random) -> bytes:
    depth = rng.randrange(2, 7)
    text = leaf(rng)
    for level in range(depth):
        mark = f"{boundary(rng)}{level}"[-70:]
        lines = (multipart(mark), rng.choice(("", encoding(rng))))
        text = block(*lines) + b"\n" + joined(mark, text, leaf(rng))
    return head(rng) + text


@kind
def same_boundary_inside(rng: Random) -> bytes:
    mark = boundary(rng)
    inner = block(multipart(mark), encoding(rng)) + b"\n" + joined(mark, leaf(rng))
    return in_parts(rng, mark, inner, leaf(rng), leaf(rng))


@kind
def boundary_begins_another(rng: Random) -> bytes:
    mark = boundary(rng)
    longer = mark + rng.choice(("x", "-", "--", "2"))
    outer, inner = rng.sample((mark, longer), 2)
    text = block(multipart(inner)) + b"\n" + joined(inner, leaf(rng), leaf(rng))
    return in_parts(rng, outer, text, leaf(rng))


@kind
def no_last_boundary(rng: Random) -> bytes:
    mark = boundary(rng)
    end = rng.choice((b"", b"-", b"\n", b"--", b" --\n", b"\n\n"))
    return in_parts(rng, mark, leaf(rng), leaf(rng), end=end)


@kind
def boundary_not_found(rng: Random) -> bytes:
    mark = boundary(rng)
    other = rng.choice(("other", mark.upper(), mark[:-1], " " + mark, "-" + mark))
    return head(rng, multipart(mark), encoding(rng)) + b"\n" + joined(other, leaf(rng))


@kind
def no_boundary_parameter(rng: Random) -> bytes:
    line = rng.choice(
        (
            "Content-Type: multipart/mixed",
            "Content-Type: multipart/mixed;",
            "Content-Type: multipart/mixed; boundary",
            "Content-Type: multipart",
            "Content-Type: multipart/mixed; boundary=",
            "Content-Type: multipart; boundary=b",
            'Content-Type: multipart/mixed; boundary=""',
        )
    )
    return head(rng, line, encoding(rng)) + b"\n" + joined("b", leaf(rng), leaf(rng))


@kind
def boundary_written_oddly(rng: Random) -> bytes:
    mark = boundary(rng)
    line = rng.choice(
        (
            multipart(mark, quote=""),
            multipart(mark).replace("; ", ";\n\t"),
            multipart(mark).replace("=", " = "),
            multipart(mark).upper(),
            f"Content-Type: (a) multipart (b) / (c) x; (d) boundary (e) = {mark} (f)",
            f"Content-Type: multipart/mixed; charset=x; x-a=\"b;c\"; boundary='{mark}'",
            f'Content-Type: multipart/mixed; boundary="{mark}',
            f'Content-Type: multipart/mixed boundary="{mark}"',
            f'Content-Type: multipart/mixed; boundary="{mark}"; boundary=b',
            f'Content-Type: multipart/mixed; boundary="\\{mark}"',
            f'Content-Type: multipart/mixed; boundary*0="{mark[:1]}"; boundary*1="x"',
            f'Content-Type: multipart/mixed; boundary="{mark} "',
        )
    )
    body = joined(mark, leaf(rng), leaf(rng)) + joined("b", leaf(rng))
    return head(rng, line) + b"\n" + body


@kind
def boundary_line_oddly(rng: Random) -> bytes:
    mark = boundary(rng)
    tails = (" ", "\t \t", " x", "x", "-", "--", "--x", "-- ")
    body = "".join(f"--{mark}{t}\n" for t in rng.sample(tails, 2)).encode()
    return (
        head(rng, multipart(mark)) + b"\n" + body + leaf(rng) + joined(mark, leaf(rng))
    )


@kind
def types_twice(rng: Random) -> bytes:
    lines = rng.sample((multipart("b"), multipart("c"), text_type(rng), ""), 3)
    body = joined("b", leaf(rng), joined("c", leaf(rng)))
    return head(rng, *lines, encoding(rng)) + b"\n" + body


@kind
def part_without_header(rng: Random) -> bytes:
    mark = boundary(rng)
    odd = rng.choice(
        (b"\n" + prose(rng), prose(rng), b"", b"\n", b" x\n", b"no: \n y\n")
    )
    return in_parts(rng, mark, odd, leaf(rng), odd)


@kind
def part_header_broken(rng: Random) -> bytes:
    mark = boundary(rng)
    odd = rng.choice(
        (b"no header\n", b"A b: c\n", b">From x\n", b": x\n", b"\xe4: x\n")
    )
    first, _, rest = leaf(rng).partition(b"\n")
    return in_parts(rng, mark, first + b"\n" + odd + rest)


@kind
def digest(rng: Random) -> bytes:
    mark = boundary(rng)
    part = rng.choice((b"", block(encoding(rng)), block(text_type(rng)))) + b"\n"
    inner = head(rng, encoding(rng)) + b"\n" + prose(rng)
    bodies = (part + inner, leaf(rng), part + leaf(rng))
    return in_parts(rng, mark, *bodies, subtype="digest")


@kind
def forwarded(rng: Random) -> bytes:
    """A message in a part, with parts of its own."""
    outer, inner = f"{boundary(rng)}1"[-70:], f"{boundary(rng)}2"[-70:]
    types = ("message/rfc822", "message/rfc822; name=x", "Message/RFC822")
    text = block(f"Content-Type: {rng.choice(types)}", encoding(rng)) + b"\n"
    text += in_parts(rng, inner, leaf(rng), leaf(rng))
    return in_parts(rng, outer, leaf(rng), text, leaf(rng))


@kind
def forwarded_utf8(rng: Random) -> bytes:
    """The same with headers of UTF-8 (RFC 6532)."""
    mark = boundary(rng)
    subtype = rng.choice(("global", "GLOBAL", "global-headers", "rfc822"))
    text = block(f"Content-Type: message/{subtype}", encoding(rng)) + b"\n"
    text += head(rng, "X-Text: grüße", encoding(rng)) + b"\n" + prose(rng)
    if rng.randrange(2):
        return head(rng) + text
    return in_parts(rng, mark, leaf(rng), text, leaf(rng))


@kind
def message_types(rng: Random) -> bytes:
    subtype = rng.choice(
        (
            "rfc822",
            "partial; id=a; number=1; total=2",
            "external-body; access-type=ftp",
            "delivery-status",
            "news",
            "",
            "global",
            "rfc822; x",
            "x-unknown",
        )
    )
    inner = head(rng, encoding(rng)) + b"\n" + prose(rng)
    lines = (f"Content-Type: message/{subtype}", rng.choice(("", encoding(rng))))
    return head(rng, *lines) + b"\n" + inner


@kind
def report(rng: Random) -> bytes:
    """A bounce, as mail servers write it."""
    mark = boundary(rng)
    note = block("Content-Description: Notification", text_type(rng), encoding(rng))
    status = block("Content-Type: message/delivery-status", encoding(rng)) + b"\n"
    status += b"Reporting-MTA: dns; a.test\n\nFinal-Recipient: rfc822; r@a.test\n\n"
    back = rng.choice(
        ("message/rfc822", "text/rfc822-headers", "message/rfc822-headers")
    )
    returned = block(f"Content-Type: {back}", encoding(rng)) + b"\n" + head(rng)
    bodies = (note + b"\n" + prose(rng), status, returned)
    return in_parts(rng, mark, *bodies, subtype="report; report-type=delivery-status")


@kind
def signed(rng: Random) -> bytes:
    mark = boundary(rng)
    signature = (
        block("Content-Type: application/pgp-signature") + b"\n-----BEGIN\n- --x\n"
    )
    subtype = 'signed; protocol="application/pgp-signature"; micalg=pgp-sha256'
    return in_parts(rng, mark, leaf(rng), signature, subtype=subtype)


@kind
def attached_in_base64(rng: Random) -> bytes:
    mark = boundary(rng)
    part = block(
        'Content-Type: image/png; name="=?utf-8?q?=C3=A4?=.png"',
        f"Content-Transfer-Encoding: {rng.choice(('base64', 'BASE64', 'base64;'))}",
    )
    lines = b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAC0l\n" * rng.randrange(
        900
    )
    return in_parts(rng, mark, leaf(rng), part + b"\n" + lines, subtype="related")


@kind
def binary_part(rng: Random) -> bytes:
    mark = boundary(rng)
    data = bytes(rng.randrange(256) for _ in range(rng.randrange(3000)))
    part = block("Content-Type: application/octet-stream", encoding(rng)) + b"\n" + data
    return in_parts(rng, mark, part + b"\n", leaf(rng))


@kind
def anything(rng: Random) -> bytes:
    """Pieces of all of these, in no order."""
    pieces = (
        head(rng),
        b"\n",
        b"\n\n",
        leaf(rng),
        prose(rng),
        b"--b\n",
        b"--b--\n",
        b"--c\n",
        block(multipart("b")),
        block(multipart("c", "digest")),
        block(encoding(rng)),
        block("Content-Type: message/rfc822"),
        b"\xe4" * 90,
        b"\r",
        b"\0",
        b" x\n",
        b".\n",
        b"x" * 2048,
        block(encoding(rng), encoding(rng)),
        b"From x\n",
        b"X-A:",
    )
    return b"".join(rng.choice(pieces) for _ in range(rng.randrange(30)))
