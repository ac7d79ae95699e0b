"""What is fuzzed: functions that take any bytes and raise if something is wrong.

Each compares a parser with a slow and obvious model of it, or holds it to what it
promises. Nothing here needs the fuzzer: tests/test_corpus.py plays the kept inputs.
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Callable, Iterator

from models import lmtp_text, mime_converted, replies_of, wire_text

from postfix_trouble.config import main_cf as maincf
from postfix_trouble.config import settings
from postfix_trouble.config.expansion import ExpansionError, expand
from postfix_trouble.config.lines import logical_lines
from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.failure import ContentError
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import Authenticated, AuthFailed
from postfix_trouble.dns import nexthop, resolv_conf
from postfix_trouble.dns import packet as dns_packet
from postfix_trouble.lmtp import dialogue as lmtp
from postfix_trouble.lmtp.input import DataReader
from postfix_trouble.message import headers
from postfix_trouble.message.generic import rewrite_header
from postfix_trouble.message.lines import outgoing, unix_lines
from postfix_trouble.message.mime import Parser, Place
from postfix_trouble.sasl import log_in as sasl
from postfix_trouble.sasl.choose import Credentials, Options
from postfix_trouble.smtp import address, capabilities
from postfix_trouble.smtp.replies import ReplyReader, status_of
from postfix_trouble.tables import text as text_table
from postfix_trouble.tables.expressions import perl, posix
from postfix_trouble.tables.patterns import parse as pattern_table
from postfix_trouble.tls import certificate, mta_sts

RELAY = Relay("mx.test", "192.0.2.1", 25)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """Pieces of a text."""
    return (data[at : at + size] for at in range(0, len(data), size))


def options(data: bytes, count: int) -> tuple[list[int], bytes]:
    """Numbers that the input begins with, and the rest of it."""
    head = data[:count].ljust(count, b"\0")
    return list(head), data[count:]


def text_of(data: bytes) -> str:
    """A text as it comes from a file or a server."""
    return data.decode("utf-8", "surrogateescape")


# --- what a server says -------------------------------------------------------------


def replies(data: bytes) -> None:
    """However the bytes come, the replies are those of the model."""
    (size, limit, utf8), data = options(data, 3)
    limit = limit % 60 + 8
    reader = ReplyReader(limit=limit, utf8=bool(utf8 & 1))
    found: list[Reply] = []
    for piece in cut(data, size % 17 + 1):
        reader.feed(piece)
        while (reply := reader.next()) is not None:
            found.append(reply)
    for reply in found:
        assert 0 <= reply.code <= 999
        assert reply.status[0] in "245"
        assert not re.search(r"[\0-\x09\x0b-\x1f\x7f\udc80-\udcff]", reply.text)
    if max(map(len, data.split(b"\n"))) < limit:
        model = replies_of(data, limit, utf8=bool(utf8 & 1))
        assert [(r.code, r.text, r.garbled) for r in found] == model, (found, model)


def ehlo(data: bytes) -> None:
    """Keywords are found line by line, whatever else is there."""
    text = text_of(data)
    discard = capabilities.discarded(text.partition("\n")[0])
    assert discard <= frozenset(capabilities.DISCARDABLE)
    found = capabilities.parse(text, discard)
    assert 0 <= found.size_limit < 1 << 63
    words: dict[str, str] = {}
    name = None
    for line in text.split("\n"):
        rest = re.sub(r"\A[- ]*[^- ]*[- ]?", "", line, flags=re.DOTALL)
        word = re.match(r"[ \t=]*([^ \t=]*)[ \t=]?(.*)", rest, re.DOTALL)
        assert word
        if name is None:
            name = word[1] or None
        elif (keyword := word[1].lower()) not in discard:
            value, before = word[2].strip(" \t"), words.get(keyword)
            if keyword in ("auth", "xforward") and before is not None:
                # Several lines count together.
                same = before.lower() == value.lower()
                value = value if same else f"{before} {value}".strip(" ")
            words[keyword] = value
    assert found.helo_name == (name or "")
    for keyword in ("pipelining", "starttls", "dsn", "smtputf8", "size"):
        assert getattr(found, keyword) is (keyword in words), keyword
    assert found.eightbitmime is ("8bitmime" in words)
    assert found.auth == words.get("auth")
    assert found.xforward == frozenset(words.get("xforward", "").upper().split())


def enhanced_status(data: bytes) -> None:
    """The status that a text begins with, by a regular expression."""
    text = text_of(data)
    model = re.match(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|$)", text)
    found = EnhancedStatus.leading(text)
    assert found == (model[1] if model else None), (found, model)
    for code in (220, 354, 450, 550, 999):
        status = status_of(code, f"{code} {text}")
        assert status[0] == (str(code)[0] if code // 100 in (2, 4, 5) else "5")
        assert EnhancedStatus.leading(status) == status


def dns(data: bytes) -> None:
    """Any packet can be read, and holds nothing that can't be shown."""
    asked = dns_packet.question(0x1234, "d.test", "MX")
    (reply,), data = options(data, 1)
    packet = data
    if reply & 1:
        packet = asked[:2] + b"\x81\x80\0\1\0\3\0\0\0\0" + asked[12:] + data
    if dns_packet.answers(packet, asked):
        assert packet[:2] == asked[:2]
        found = dns_packet.read(packet)
        assert len(found.records) <= dns_packet.MAX_RECORDS
        for record in found.records:
            assert str(record).isascii()
            assert str(record).isprintable()
        dns_packet.truncated(packet)


def der(data: bytes) -> None:
    """A certificate or nothing; the key is the one that others find in it."""
    found = certificate.parse(data)
    text = text_of(data)
    with contextlib.suppress(ValueError):
        for _kind, block in certificate.pem_blocks(text):
            certificate.parse(block)
    if found is None:
        return
    assert found.der == data
    for name, value in found.details:
        assert name.isprintable()
        assert value.isprintable(), value
    wanted = certificate.references(("nexthop", "dot-nexthop"), "d.test", "mx.d.test")
    certificate.names_match(found, wanted)
    assert found.public_key in data


def challenges(data: bytes) -> None:
    """A server that answers anything can't make a log-in raise, or tell a secret."""
    (which,), data = options(data, 1)
    names = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER")
    name = names[which % len(names)]
    left = data.split(b"\n")[:12]
    secret = "canary-3141"

    def exchange(line: bytes) -> Reply | Lost:
        assert not set(line) & set(b"\r\n\0"), line
        if not left:
            return Lost.EOF
        reader = ReplyReader()
        reader.feed(left.pop(0)[:2000] + b"\n")
        return reader.next() or Lost.TIME

    answer = sasl.authenticate(
        exchange, (name,), Credentials("user", secret), RELAY, Options(frozenset())
    )
    assert isinstance(answer, (Authenticated, AuthFailed, Lost)), answer
    if secret.encode() not in data:
        assert secret not in str(answer)


# --- what the administrator wrote ---------------------------------------------------


def main_cf(data: bytes) -> None:
    """A file is taken, or refused with its place; values have their kind or don't."""
    text = text_of(data)
    try:
        values, _ = maincf.parse(text, "main.cf")
    except ConfigError as error:
        if not str(error).startswith("main.cf, line "):
            raise
        return
    for name, value in values.items():
        assert name
        assert value == value.strip(" \t\n\v\f\r")
    found = settings.Settings(values)
    for name, read in (
        ("soft_bounce", found.flag),
        ("smtp_mx_session_limit", found.integer),
        ("smtp_helo_timeout", found.seconds),
        ("smtp_fallback_relay", found.words),
        ("relayhost", found.text),
    ):
        with contextlib.suppress(ConfigError):
            read(name)
    with contextlib.suppress(ExpansionError):
        expand(text, values.get)


def tables(data: bytes) -> None:
    """A table answers, or says what is wrong with it."""
    (kind,), data = options(data, 1)
    text = text_of(data)
    entries, _ = text_table.text_table(text, "/etc/table", utf8=True)
    for key, value in entries.items():
        assert key
        assert value == value.strip(" \t\n\v\f\r")
    for read in (
        text_table.inline_table,
        text_table.inline_lines,
        text_table.table_names,
    ):
        with contextlib.suppress(text_table.SyntaxProblem):
            read(text)
    name = ("cidr", "regexp", "pcre")[kind % 3]
    # An expression may take for ever, as it may in Postfix; not so short a one.
    if len(text) > 200:
        return
    compiles = {"regexp": posix, "pcre": perl}.get(name)
    table = pattern_table(logical_lines(text), "/etc/table", name, compiles)
    for key in ("user@example.test", "192.0.2.1", "2001:db8::1", "", "\udcff"):
        answer = table.find(key)
        assert answer is None or isinstance(answer, str)


def resolv(data: bytes) -> None:
    """Whatever the file, the numbers keep to their limits."""
    found = resolv_conf.parse(text_of(data))
    assert 1 <= len(found.nameservers) <= 3
    assert 1 <= found.timeout <= 30
    assert 1 <= found.attempts <= 5
    assert 0 <= found.ndots <= 15


# --- what Postfix hands on ----------------------------------------------------------


def lines(data: bytes) -> None:
    """The wire form of a text, by the model, however it is cut."""
    (size, limit, crlf), data = options(data, 3)
    limit %= 40
    limit = 2 if limit == 1 else limit
    chunks = cut(data, size % 31 + 1)
    if crlf & 1:
        chunks = unix_lines(chunks)
    found = b"".join(outgoing(chunks, limit))
    assert found == wire_text(data, limit, crlf=bool(crlf & 1)), found
    assert not re.search(rb"(?<!\r)\n", found)
    assert b"\r\n.\r\n" not in b"\r\n" + found
    if crlf & 1:
        assert not re.search(rb"\r(?!\n)", found)


def mime(data: bytes) -> None:
    """A message converted to 7 bits, by the model, however it is cut."""
    (size, downgrade), data = options(data, 2)
    if b"\n" not in data or max(map(len, data.split(b"\n"))) >= 2048:
        return
    parser = Parser(downgrade=bool(downgrade & 1), nesting_limit=5)
    found = None
    with contextlib.suppress(ContentError):
        found = b"".join(parser.run(cut(data, size % 61 + 1)))
    model = mime_converted(data, downgrade=bool(downgrade & 1), nesting_limit=5)
    assert found == model, (found, model)


def message_header(data: bytes) -> None:
    """Facts of a header, and a header rewritten: bounded, and always a header."""
    found = headers.facts([data])
    assert found.encoding in ("", "8bit")
    when = found.received()
    assert when is None or isinstance(when, float)
    text = data.decode("ascii", "replace")
    when = headers.date(text)
    assert when is None or isinstance(when, float)
    header = b"To: " + data.replace(b"\0", b"")
    header = re.sub(rb"\n(?![ \t])", b"\n ", header)
    same = rewrite_header(header, Place.MESSAGE, b"to", lambda each: each)
    other = rewrite_header(header, Place.MESSAGE, b"to", lambda each: "x@y")
    for result in (same, other):
        assert result.lower().startswith(b"to:")
        assert not re.search(rb"\n[^ \t]", result), result


def lmtp_input(data: bytes) -> None:
    """Any client gets answers; its data are those of the model."""
    (size,), data = options(data, 1)
    reader, text = DataReader(), b""
    pieces = list(cut(data, size % 29 + 1))
    while pieces and not reader.ended:
        text += reader.feed(pieces.pop(0))
    wanted, rest = lmtp_text(data)
    if rest is None:
        assert not reader.ended
        assert wanted.startswith(text)
    else:
        assert (text, reader.rest + b"".join(pieces)) == (wanted, rest)
    dialogue = lmtp.Dialogue("me.test")
    for line in data.split(b"\n"):
        reply, then = dialogue.answer(line.removesuffix(b"\r"))
        assert reply
        for each in reply:
            assert re.fullmatch(rb"[2345][0-9][0-9][- ][ -~]*", each), each
        if then is lmtp.Then.CLOSE:
            break
        if then is lmtp.Then.DATA:
            assert dialogue.request.recipients
            dialogue.reset()


def addresses(data: bytes) -> None:
    """Quoting can be undone and hides nothing; any nexthop has an answer."""
    text = text_of(data)
    if not address.unsendable(text):
        quoted = address.quote_local(text)
        assert address.unquote_local(quoted) == text or text.startswith('"'), quoted
        inside = re.sub(r'"(?:[^"\\]|\\.)*"', "", quoted.rpartition("@")[0])
        assert not set(inside) & set('<>(),;:" \r\n'), quoted
        assert quoted.rpartition("@")[2] == text.rpartition("@")[2] or "@" not in text
    encoded = address.xtext(text)
    assert re.fullmatch(r"[!-~]*", encoded)
    assert binascii.unhexlify(
        re.sub(
            r"\+([0-9A-F]{2})|(.)",
            lambda found: found[1] or f"{ord(found[2]):02X}",
            encoded,
        )
    ) == address.to_bytes(text)
    for is_lmtp in (False, True):
        found = nexthop.destinations(
            text,
            default_port="24" if is_lmtp else "smtp",
            lmtp=is_lmtp,
            service_port=lambda name: 25 if name == "smtp" else None,
        )
        if isinstance(found, DSN):
            assert found.status in ("4.1.2", "4.3.5")
            continue
        for each in found:
            assert isinstance(each, Destination)
            assert is_lmtp or not each.socket, each


def sts(data: bytes) -> None:
    """A policy is whole, and the same when it comes out of the cache, or there is none;
    an id is one that RFC 8461 allows."""
    found = mta_sts.parse("d.test", data)
    if isinstance(found, mta_sts.NoPolicy):
        assert found.problem.isprintable()
        assert found.failure
    else:
        assert found.mode in ("enforce", "testing", "none")
        assert found.mx or found.mode == "none"
        assert 0 <= found.max_age <= mta_sts.MOST_AGE
        kept = mta_sts.Cached("1", 1.5, 2.5, found)
        assert mta_sts.unpacked("d.test", mta_sts.packed(kept)) == kept
        entry = mta_sts.entry(found)
        assert (entry is None) is (found.mode != "enforce")
        assert not any(mta_sts.matches("", pattern) for pattern in found.mx)
    text = text_of(data)
    mta_sts.unpacked("d.test", text)
    identity = mta_sts.identity(text.split("\n"))
    if isinstance(identity, str):
        assert re.fullmatch(r"[0-9A-Za-z]{1,32}", identity)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "replies": replies,
    "ehlo": ehlo,
    "status": enhanced_status,
    "dns": dns,
    "certificate": der,
    "sasl": challenges,
    "maincf": main_cf,
    "tables": tables,
    "resolvconf": resolv,
    "lines": lines,
    "mime": mime,
    "header": message_header,
    "lmtp": lmtp_input,
    "address": addresses,
    "sts": sts,
}
