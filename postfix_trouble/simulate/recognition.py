"""What went wrong, from the words in which it was written down.

A reply as a server sends it, a line of Postfix's log (or of ours), the reason in a
bounce, or "lost connection" and "timeout": each says what happened, and most of them
where. The words are those that smtp/ and Postfix's smtp_proto.c write.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re

from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.steps import Phase
from postfix_trouble.core.value import Value


class Logged(Value):
    """What a record of a delivery says of its end."""

    # sent, deferred, bounced or SOFTBOUNCE; empty: a host was only skipped.
    word: str = ""
    dsn: str = ""


class Heard(Value):
    """What happened, as far as the words tell."""

    # A reply, its lines separated by newlines; or empty.
    reply: str = ""
    lost: Lost | None = None
    # A reason of Postfix's own: no reply and no broken connection.
    own_reason: str = ""
    # For such a reason: the entry point of policy/trouble.py behind it, if known.
    entry: str = ""
    # And its status, if it does not stand in the text.
    status: str = ""
    # A name of simulate/session.STAGES; empty: not told.
    stage: str = ""
    relay: Relay | None = None
    lmtp: bool = False
    # None: no record of a delivery.
    logged: Logged | None = None


_RECORD = re.compile(
    r"(?:\bto=<[^>]*>, .*?relay=(?P<relay>[^,]+), .*?)?"
    r"\bdsn=(?P<dsn>[245]\.\d{1,3}\.\d{1,3}), "
    r"status=(?P<word>sent|deferred|bounced|SOFTBOUNCE) \((?P<reason>.*)\)\s*$",
    re.DOTALL,
)
# What stands before the text of a record that tells of a host that was skipped.
_PREFIX = re.compile(
    r"^.*?(?:[\w/.-]*(?:smtp|lmtp|trouble)[\w/.-]*\[\d+\]|^): (?:[0-9A-Za-z]{5,25}: )?"
)
_NAMADDR = re.compile(r"(?P<host>[^\s\[]+)\[(?P<address>[^\]]+)\](?::(?P<port>\d+))?")
# In place of an entry point: no session came of it.
NOT_IN_STS = "MTA-STS"
_SUSPENDED = "delivery temporarily suspended: "

_SAID = re.compile(
    r"^(?:Protocol error: )?host (?P<where>\S+) said: (?P<reply>.*)"
    r" \(in reply to (?P<command>.+) command\)$",
    re.DOTALL,
)
_REFUSED = re.compile(r"^host (?P<where>\S+) refused to talk to me: (?P<reply>.*)$")
_NO_TLS = re.compile(
    r"^TLS is required, but host (?P<where>\S+) refused to start TLS: (?P<reply>.*)$"
)
_AUTH = re.compile(
    r"^SASL authentication failed; server (?P<where>\S+) said: (?P<reply>.*)$"
)
_LOST = re.compile(r"^lost connection with (?P<where>\S+) while (?P<doing>.+)$")
_TIMED_OUT = re.compile(
    r"^conversation with (?P<where>\S+) timed out while (?P<doing>.+)$"
)
_LOCAL_DATA = re.compile(r"^local data error while talking to (?P<where>\S+)$")
_CONNECT = re.compile(r"^connect to (?P<where>\S+): .+$")
_STS = re.compile(
    r"^(?:warning: )?(?P<text>MX name '[^']*' does not match STS MX pattern for '.*')$"
)
# A reply alone, with what Postfix puts behind it.
_ANSWER = re.compile(
    r"^(?P<reply>\d{3}(?:[ -].*)?) \(in reply to (?P<command>.+) command\)$", re.DOTALL
)
# What stands before a reason in a delivery report (bounce(8), RFC 3464 2.3.6).
_WORDS = re.IGNORECASE | re.DOTALL
_REPORTED = re.compile(
    r"^(?:Diagnostic-Code:\s*)?(?:smtp|x-postfix);\s*"
    r"|^<[^<>]*>(?: \(expanded\s+from\s+<[^<>]*>\))?:\s+",
    re.IGNORECASE,
)
_FOLD = re.compile(r"\r?\n[ \t]+")
_CODE = re.compile(r"\d{3}(?=[ -]|$)")
_LAST_LINE = re.compile(r" [2-5]\d\d (?!.* [2-5]\d\d )", re.DOTALL)

# Decisions of the client itself, by how their reasons begin or end.
_OWN = (
    (re.compile(r"^message size \d+ exceeds size limit "), "mesg_fail"),
    (re.compile(r"^SMTPUTF8 is required, but "), "mesg_fail"),
    (re.compile(r"^TLS is required, but "), "site_fail"),
    (re.compile(r"^Server certificate not "), "site_fail"),
    (re.compile(r"^mail for \S+ loops back to myself$"), "site_fail"),
    (re.compile(r"^unexpected server message$"), "site_fail"),
)

# Reasons of those who found no server; how others name a relay does not matter then.
_NO_SERVER = re.compile(
    "Host or domain name not found|Name service error|Domain |unable to look up host"
    "|server unavailable|all network protocols are disabled"
)

_PLAIN_WORDS = {
    "lost connection": Lost.EOF,
    "connection lost": Lost.EOF,
    "eof": Lost.EOF,
    "timeout": Lost.TIME,
    "timed out": Lost.TIME,
    "local data error": Lost.DATA,
}
_COMMANDS = {
    phase.command.removesuffix(" command"): phase.name.lower() for phase in Phase
}
# How people say where it happened.
_PLACES = {
    **{command.lower(): stage for command, stage in _COMMANDS.items() if command},
    **{phase.name.lower(): phase.name.lower() for phase in Phase},
    **{"banner": "greeting", "mail from": "mail", "rcpt to": "rcpt", "eod": "dot"},
    **{"end of data": "dot", "connecting": "connect", "connect": "connect"},
    **{"tls handshake": "handshake", "auth": "auth"},
}
_PLACE = "|".join(sorted(map(re.escape, _PLACES), key=len, reverse=True))
_BEFORE = re.compile(rf"^(?P<place>{_PLACE})(?: command)?: *(?P<text>.+)$", _WORDS)
_REPLY_TO = re.compile(
    rf"^(?P<text>.+?),? \(?in (?:reply|response) to (?:the )?(?P<place>{_PLACE})"
    r"(?: command)?\)?$",
    _WORDS,
)
_AFTER = re.compile(
    rf"^(?P<text>.+?),? (?:after|at|during) (?P<place>{_PLACE})$", _WORDS
)
_WHILE = re.compile(r"^(?P<text>.+?),? while (?P<doing>.+)$", _WORDS)
# What the system says of a server that it did not reach.
_UNREACHED = re.compile(
    "connection refused|connection timed out|no route to host|network is unreachable"
    "|host is unreachable|operation timed out",
    re.IGNORECASE,
)
# No server was found: words, and the status that Postfix gives it.
_NOT_FOUND = (
    (re.compile("does not accept mail", re.IGNORECASE), "5.1.0"),
    (re.compile("host not found, try again", re.IGNORECASE), "4.4.3"),
    (re.compile("loops back to myself", re.IGNORECASE), "5.4.6"),
    (re.compile("(host|domain name|name) not found", re.IGNORECASE), "5.4.4"),
)
# Reasons of ours that pipe(8) repeats.
_OURS = re.compile(
    "delivery time limit exceeded|ledger unavailable|table look-up error: "
    "|mail system configuration error: |command line usage error"
    "|internal error, see the log|system resource problem|insufficient system storage"
    "|message is incomplete|timeout reading message|error reading message"
)
_DOINGS = {phase.doing: phase.name.lower() for phase in Phase}


def recognise(text: str) -> Heard | None:
    """Take apart what somebody pasted. None if it tells of no failure we know."""
    text = _unwrapped(text.strip())
    if not text:
        return None
    record = _RECORD.search(text)
    if record is not None:
        logged = Logged(record["word"], record["dsn"])
        found = _reason(record["reason"].strip(), logged)
        if found.own_reason and _of_others(record, found):
            return None
        relay = _relay(record["relay"] or "") or found.relay
        lmtp = found.lmtp or bool(re.search(r"\blmtp\[", text))
        return found._replace(logged=logged, relay=relay, lmtp=lmtp)
    if _CODE.match(text):
        return _reply_alone(text, "")
    if text.lower() in _PLAIN_WORDS:
        return Heard(lost=_PLAIN_WORDS[text.lower()])
    return _without_status(text) or _in_words(text)


def _in_words(text: str) -> Heard | None:
    """Words that no program writes so, or that no SMTP client says alone."""
    found = _BEFORE.match(text) or _REPLY_TO.match(text) or _AFTER.match(text)
    doing = _WHILE.match(text)
    stage = _PLACES[found["place"].lower()] if found else ""
    if doing and not found:
        found, stage = doing, _while(doing["doing"])
    if found and stage:
        heard = recognise(found["text"])
        if heard is not None and not heard.own_reason:
            return heard._replace(stage=stage, lmtp=heard.lmtp or stage == "lhlo")
    if _UNREACHED.fullmatch(text):
        return Heard(own_reason=text, stage="connect")
    for words, status in _NOT_FOUND:
        if words.search(text):
            return Heard(own_reason=text, stage="lookup", status=status)
    return None


def _while(doing: str) -> str:
    """The stage for `sending RCPT TO`; empty: there is none."""
    for words, stage in _DOINGS.items():
        if doing.lower() == words.partition(" -- ")[0].lower():
            return stage
    return ""


def _unwrapped(text: str) -> str:
    """A reason without what a delivery report, or mailq(1), has around it."""
    found = _REPORTED.match(text)
    if found:
        # A long one is folded there.
        return _FOLD.sub(" ", text[found.end() :])
    if text.startswith("(") and text.endswith(")"):
        return text[1:-1]
    return text


def _reply_alone(text: str, stage: str) -> Heard:
    """A reply without a host; `stage` if it does not tell its own."""
    found = _ANSWER.match(text)
    if not found:
        place = _REPLY_TO.match(text)
        if place and not stage:
            stage = _PLACES[place["place"].lower()]
            return Heard(place["text"], stage=stage, lmtp=stage == "lhlo")
        return Heard(separate_lines(text), stage=stage)
    stage = _COMMANDS.get(found["command"], stage)
    return Heard(separate_lines(found["reply"]), stage=stage, lmtp=stage == "lhlo")


def _of_others(record: re.Match[str], found: Heard) -> bool:
    """Whether a record is of a success, or of an agent that is no SMTP client."""
    if record["word"] == "sent":
        return True
    relay = record["relay"] or "none"
    known = found.stage or found.entry or _NO_SERVER.match(found.own_reason)
    known = known or _OURS.match(found.own_reason)
    return not (known or relay == "none" or _relay(relay))


def _without_status(text: str) -> Heard | None:
    """A reason alone, or the record of a host that was skipped."""
    for candidate in (text, _PREFIX.sub("", text)):
        found = _reason(candidate, Logged())
        if not found.own_reason or found.stage:
            logged = Logged() if candidate is not text else None
            return found._replace(logged=logged)
    return None


def separate_lines(text: str) -> str:
    """A reply of several lines, in one: the log joins them with blanks.

    Lines are told by the code of the first one. If no last line is among them, it has
    another code, or was cut off; then the code of the first line has to do.
    """
    if "\n" in text or (_CODE.match(text) and text[3:4] != "-"):
        return text
    lines = re.sub(rf" (?={re.escape(text[:3])}(?:[- ]|$))", "\n", text).split("\n")
    if re.match(r"\d{3}(?: |$)", lines[-1]):
        return "\n".join(lines)
    found = _LAST_LINE.search(text)
    if found:
        return f"{text[: found.start()]}\n{text[found.start() + 1 :]}"
    return f"{text[:3]} {text[4:]}" if _CODE.match(text) else text


def _reason(reason: str, logged: Logged) -> Heard:
    reason = reason.removeprefix(_SUSPENDED)
    for pattern, stage in ((_SAID, ""), (_REFUSED, ""), (_NO_TLS, "starttls")):
        found = pattern.match(reason)
        if found:
            place = stage or _stage_of(found, logged)
            return _replied(found, place)
    found = _AUTH.match(reason)
    if found:
        return _replied(found, "auth")
    for pattern, lost in ((_LOST, Lost.EOF), (_TIMED_OUT, Lost.TIME)):
        found = pattern.match(reason)
        if found:
            stage = _DOINGS.get(found["doing"], "")
            lmtp = stage == "lhlo"
            return Heard(
                lost=lost, stage=stage, relay=_relay(found["where"]), lmtp=lmtp
            )
    found = _LOCAL_DATA.match(reason)
    if found:
        return Heard(lost=Lost.DATA, relay=_relay(found["where"]))
    if _CODE.match(reason):
        return _reply_alone(reason, "dot")
    found = _STS.match(reason)
    if found:
        return Heard(own_reason=found["text"], entry=NOT_IN_STS, stage="lookup")
    if reason.startswith("Cannot start TLS: "):
        return Heard(own_reason=reason, stage="handshake")
    stage = "connect" if _CONNECT.match(reason) else ""
    entry = next((entry for words, entry in _OWN if words.match(reason)), "")
    return Heard(own_reason=reason, entry=entry, stage=stage)


def _replied(found: re.Match[str], stage: str) -> Heard:
    return Heard(
        separate_lines(found["reply"]),
        stage=stage,
        relay=_relay(found["where"]),
        lmtp=stage == "lhlo",
    )


def _stage_of(found: re.Match[str], logged: Logged) -> str:
    command = found.groupdict().get("command")
    if command is not None:
        return _COMMANDS.get(command, "")
    # "refused to talk to me": the greeting, EHLO and HELO share these words. Only a
    # greeting has its 5xx softened (smtp_skip_5xx_greeting).
    softened = found["reply"][:1] == logged.dsn[:1]
    return "helo" if softened and found["reply"].startswith("5") else "greeting"


def _relay(text: str) -> Relay | None:
    found = _NAMADDR.fullmatch(text.strip())
    if not found:
        return None
    return Relay(found["host"], found["address"], int(found["port"] or 25))
