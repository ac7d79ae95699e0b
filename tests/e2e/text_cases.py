"""Messages and envelopes that are not ASCII, to servers that can take them or not."""

from __future__ import annotations

from typing import NamedTuple

from both_clients import Case

HOST = "127.42.0.1"
GROUPS: dict[str, dict[str, str]] = {
    "text": {},
    "text-as-it-is": {"disable_mime_output_conversion": "yes"},
    "text-utf8": {},
}
# sendmail(1) asks for SMTPUTF8 if there is 8-bit text in a header. pipe(8) does not
# pass that on: we go by the addresses, or by what the entry in master.cf says.
FLAGS = {"text-utf8": "--smtputf8"}
SERVERS = {
    "plain": ("ENHANCEDSTATUSCODES",),
    "8bit": ("ENHANCEDSTATUSCODES", "8BITMIME", "SIZE 10240000"),
    "utf8": ("ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"),
    # Against RFC 6531 3.1, and met all the same.
    "utf8-alone": ("ENHANCEDSTATUSCODES", "SMTPUTF8"),
}


class Mail(NamedTuple):
    """What is sent. `utf8`: a server without SMTPUTF8 can't have it."""

    header: bytes
    body: bytes
    sender: str = "sender@sender.test"
    local: str = "r"
    utf8: bool = False


_FIRST = b"From: sender@sender.test\nTo: list\nSubject: sample\n"
_MIME = _FIRST + b"MIME-Version: 1.0\n"
_EIGHT = _MIME + b"Content-Type: text/plain; charset=utf-8\n"
_TEXT = "Grüße = gréetings \t \n.\n..two dots\nä".encode()
_PARTS = "\n".join(
    (
        "preamble ä",
        "--outer",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        "Grüße = so \t",
        "From here on",
        "--outer",
        "Content-Type: text/plain",
        "",
        "seven bits = stay",
        "--outer",
        "Content-Type: application/octet-stream",
        "Content-Transfer-Encoding: base64",
        "",
        "w6Q=",
        "--outer",
        'Content-Type: multipart/alternative; boundary="in ner"',
        "Content-Transfer-Encoding: 8bit",
        "",
        "--in ner",
        "Content-Type: text/html; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        "<p>" + "ö" * 100,
        "--in ner--",
        "--outer",
        "Content-Type: message/rfc822",
        "Content-Transfer-Encoding: 8bit",
        "",
        "Subject: inner",
        "MIME-Version: 1.0",
        "Content-Transfer-Encoding: 8bit",
        "",
        "inner ü",
        "--outer--",
        "epilogue",
    )
).encode()

MAILS = {
    "ascii": Mail(_FIRST, b"Hello.\n"),
    "declared": Mail(_EIGHT + b"Content-Transfer-Encoding: 8bit\n", _TEXT),
    "no-encoding": Mail(_EIGHT, _TEXT),
    "no-mime": Mail(_FIRST, _TEXT),
    "latin1": Mail(
        _MIME + b"Content-Transfer-Encoding: 8bit\n"
        b"Content-Type: text/plain; charset=iso-8859-1\n",
        b"Gr\xfc\xdfe\n",
    ),
    "declared-for-nothing": Mail(
        _EIGHT + b"Content-Transfer-Encoding: 8bit\n", b"seven\n"
    ),
    "binary": Mail(_MIME + b"Content-Transfer-Encoding: binary\n", b"\xff\xfe\x00\n"),
    "quoted": Mail(
        _EIGHT + b"Content-Transfer-Encoding: quoted-printable\n", b"Gr=C3=BC=C3=9Fe\n"
    ),
    "multipart": Mail(
        _MIME + b"Content-Type: multipart/mixed; boundary=outer\n"
        b"Content-Transfer-Encoding: 8bit\n",
        _PARTS,
    ),
    "unended": Mail(
        _MIME + b"Content-Type: multipart/mixed; boundary=outer\n"
        b"Content-Transfer-Encoding: 8bit\n",
        _PARTS.partition(b"--in ner--")[0],
    ),
    "long-lines": Mail(
        _EIGHT + b"Content-Transfer-Encoding: 8bit\n", "ä".encode() * 1500 + b"\n"
    ),
    "latin1-header": Mail(_MIME + b"X-Text: Gr\xfc\xdfe\n", b"Hello.\n", utf8=True),
    "utf8-header": Mail(
        "From: sender@sender.test\nSubject: Grüße\n".encode(), b"Hi\n", utf8=True
    ),
    "utf8-sender": Mail(_FIRST, b"Hello.\n", sender="jürgen@sender.test", utf8=True),
    "utf8-sender-domain": Mail(
        _FIRST, b"Hello.\n", sender="sender@grüße.test", utf8=True
    ),
    "utf8-recipient": Mail(_FIRST, b"Hello.\n", local="用户", utf8=True),
    # No UTF-8: nobody can have asked for SMTPUTF8. (No recipient gets so far.)
    "latin1-sender": Mail(_FIRST, b"Hello.\n", sender="j\udcfcrgen@sender.test"),
    "utf8-all": Mail(
        _EIGHT + "Content-Transfer-Encoding: 8bit\nSubject: ä\n".encode(),
        _TEXT,
        sender="jürgen@sender.test",
        local="jürgen",
        utf8=True,
    ),
}
CASES: dict[str, Case] = {}
# Where the two differ, since we were not told what the sender asked for.
UNTOLD: dict[str, Case] = {}


def _case(mail: str, server: str, group: str) -> Case:
    it = MAILS[mail]
    port = 2600 + len(CASES) + len(UNTOLD)
    case = Case(
        group,
        f"[{HOST}]:{port}",
        {f"{HOST}:{port}": {"keywords": SERVERS[server]}},
        sender=it.sender,
        local=it.local,
        message=it.header + b"\n" + it.body,
    )
    if not it.utf8 or "SMTPUTF8" in SERVERS[server]:
        return case
    return case._replace(status="bounced", dsn="5.6.7", words="SMTPUTF8 is required")


for _mail in MAILS:
    for _server in SERVERS:
        _group = "text-utf8" if _mail.endswith("-header") else "text"
        CASES[f"{_mail}-to-{_server}"] = _case(_mail, _server, _group)
for _mail in ("declared", "multipart"):
    CASES[f"{_mail}-as-it-is"] = _case(_mail, "plain", "text-as-it-is")
for _server in ("plain", "utf8"):
    UNTOLD[f"untold-to-{_server}"] = _case("utf8-header", _server, "text")
# With smtputf8_enable = no.
OFF: dict[str, Case] = {}
for _mail in ("utf8-header", "utf8-sender", "utf8-recipient", "utf8-all"):
    for _server in ("plain", "utf8"):
        _port = 2600 + len(CASES) + len(UNTOLD) + len(OFF)
        OFF[f"off-{_mail}-to-{_server}"] = _case(_mail, _server, "text")._replace(
            nexthop=f"[{HOST}]:{_port}",
            servers={f"{HOST}:{_port}": {"keywords": SERVERS[_server]}},
            status="sent",
            dsn="2.0.0",
            words="",
        )
