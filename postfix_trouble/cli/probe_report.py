"""What a probe learnt of servers, for people and for JSON."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from postfix_trouble.cli.live import Stage
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Reply
from postfix_trouble.core.steps import Authenticated, HandshakeFailed
from postfix_trouble.core.tls import StsPolicy, TlsFacts, TlsLevel
from postfix_trouble.report.log import printable
from postfix_trouble.smtp.capabilities import Capabilities, parse
from postfix_trouble.smtp.interfaces import Addressless
from postfix_trouble.smtp.probing import Depth, ProbeResult
from postfix_trouble.terminal.columns import Field, Paint, fields, table, wrapped
from postfix_trouble.tls.mta_sts import matches

_COLOURS = {2: "green", 4: "yellow", 5: "red"}


def finding_lines(
    finding: ProbeResult, number: int, stages: Sequence[Stage], width: int, paint: Paint
) -> list[str]:
    """One server: its name, what is known of it, and how long that took."""
    title = f"{number}. {finding.relay.namaddrport}"
    # What a server said may hold a C1 control as UTF-8, which terminals obey.
    rows = [row._replace(text=printable(row.text)) for row in _rows(finding)]
    if stages:
        took = (f"{stage.name} {stage.seconds:.3f}" for stage in stages)
        rows.append(Field("seconds", ", ".join(took)))
    return [
        *(paint("bold", piece) for piece in wrapped(title, width)),
        *("  " + line for line in fields(rows, width - 2, paint)),
    ]


# A server, or a host without an address and why it has none.
Exchanger = tuple[Relay, str]


def exchangers(relays: Sequence[Relay], addressless: Addressless) -> list[Exchanger]:
    """Servers in order; hosts without an address where their preference puts them."""
    found = [(relay, "") for relay in relays]
    for host, why in addressless:
        better = [relay.preference <= host.preference for relay, _ in found]
        place = better.index(False) if False in better else len(found)
        # What has no address for now may have one later: that is worth its words.
        soft = f": {why.reason}" if why.status.soft else ""
        found.insert(place, (host, f"no address{soft}"))
    return found


def exchanger_lines(
    destination: str, relays: Sequence[Exchanger], width: int, paint: Paint
) -> list[str]:
    """Where mail for a destination goes, in order: preference, host and addresses.

    Nothing where one host was named, so that nobody needs to be told.
    """
    if not any(relay.exchange for relay, _ in relays) and len(relays) < 2:
        return []
    hosts: dict[tuple[str, str], list[str]] = {}
    for relay, problem in relays:
        key = (_preference(relay), relay.host)
        hosts.setdefault(key, []).append(relay.address or problem)
    rows = [
        [Field("", host), Field("", preference), _addresses(addresses)]
        for (preference, host), addresses in hosts.items()
    ]
    title = f"Servers of {printable(destination)}"
    head = ("HOST", "PREF", "ADDRESSES")
    return [
        *(paint("bold", piece) for piece in wrapped(title, width)),
        *table(head, rows, width, paint),
    ]


def _addresses(found: Sequence[str]) -> Field:
    bad = found[0].startswith("no address")
    return Field("", printable(", ".join(found)), "red" if bad else "")


def _preference(relay: Relay) -> str:
    return str(relay.preference) if relay.exchange else ""


def summary(
    relays: Sequence[Relay],
    findings: Sequence[ProbeResult],
    depth: Depth,
    width: int,
    paint: Paint,
) -> list[str]:
    """One line for each server: was it reached, and would it take mail."""
    known = {finding.relay: finding for finding in findings}
    rows = []
    for relay in dict.fromkeys(relays):
        finding = known.get(relay)
        reached = "" if finding is None else "no" if finding.problem else "yes"
        colour = "red" if reached == "no" else ""
        rows.append(
            [
                Field("", relay.namaddrport),
                Field("", _preference(relay)),
                Field("", reached or "not asked", colour),
                _result(finding, depth),
            ]
        )
    return list(table(("SERVER", "PREF", "REACHED", "RESULT"), rows, width, paint))


def _result(finding: ProbeResult | None, depth: Depth) -> Field:
    if finding is None:
        return Field("", "")
    if finding.willing:
        refused = sum(reply.klass != 2 for _, reply in finding.recipients)
        if refused:
            text = f"{refused} of {len(finding.recipients)} recipients refused"
            return Field("", text, "yellow")
        return Field("", f"would take mail, up to {depth.name}", "green")
    # The last thing that was learnt, unless something is wrong with TLS before that.
    wrong = [row for row in _rows(finding) if row.colour in ("red", "yellow")]
    if not wrong:
        return Field("", "would not take mail", "red")
    label, text, colour = wrong[-1]
    said = text if label == "problem" else f"{label}: {text}"
    said = said.removeprefix(f"connect to {finding.relay.namaddrport}: ")
    return Field("", printable(said), colour)


def sentence(text: str, width: int, paint: Paint) -> list[str]:
    """Good news, in one sentence."""
    return [paint("green", piece) for piece in wrapped(text, width)]


def _rows(finding: ProbeResult) -> list[Field]:
    rows = [] if finding.sts is None else [_sts(finding.sts, finding.relay.host)]
    if finding.problem:
        return [*rows, Field("problem", finding.problem, "red")]
    if finding.greeting:
        rows.append(_said("greeting", finding.greeting))
    if finding.hello:
        rows += _capabilities(finding)
    if finding.tls:
        rows += _tls(finding)
    if finding.login:
        rows.append(_login(finding))
    if finding.mail:
        rows.append(_said("MAIL", finding.mail))
    for line, reply in finding.recipients:
        address = line.partition(":")[2].partition("> ")[0].rstrip(">") + ">"
        rows.append(Field("RCPT", f"{address}  {reply.oneline}", _colour(reply)))
    if finding.lost:
        rows.append(Field("problem", finding.lost, "red"))
    return rows or [Field("connected", "yes")]


def _sts(policy: StsPolicy, host: str) -> Field:
    """What the domain's MTA-STS policy is, and whether the server fits it."""
    if not policy.mode:
        why = f"no policy: {policy.problem}"
        return Field("MTA-STS", why, "yellow" if policy.failure else "")
    text = f"{policy.mode}; max_age {policy.max_age} s"
    if policy.mx:
        text += f"; mx {' '.join(policy.mx)}"
        if not any(matches(host, x) for x in policy.mx):
            text += "; this server is not among them"
    if policy.problem:
        text += f"; from the cache: {policy.problem}"
    return Field("MTA-STS", text)


def _said(label: str, reply: Reply) -> Field:
    return Field(label, reply.oneline, _colour(reply))


def _colour(reply: Reply) -> str:
    return _COLOURS.get(reply.klass, "red") if reply.klass != 2 else ""


# --- EHLO ---------------------------------------------------------------------------


def extensions(hello: Reply) -> list[str]:
    """The lines of a reply to EHLO after the first one."""
    return [line[4:] for line in hello.text.split("\n")[1:] if line[4:]]


def _offered(hello: Reply) -> Capabilities:
    return parse(hello.text, frozenset())


def _capabilities(finding: ProbeResult) -> list[Field]:
    hello = finding.hello
    assert hello is not None
    if hello.klass != 2:
        return [_said("hello", hello)]
    rows = [Field("extensions", ", ".join(extensions(hello)) or "none")]
    clear = finding.hello_in_clear
    if clear is not None and clear.klass == 2:
        before = [x for x in extensions(clear) if x.upper() != "STARTTLS"]
        if before != extensions(hello):
            rows.append(Field("before TLS", ", ".join(before) or "none"))
    offered = _offered(hello)
    mechanisms = "not offered" if offered.auth is None else offered.auth or "none"
    rows.append(Field("AUTH", mechanisms))
    if finding.tls is None:
        rows.append(_no_tls(finding, offered))
    return rows


def _no_tls(finding: ProbeResult, offered: Capabilities) -> Field:
    if finding.starttls is not None and finding.starttls.klass != 2:
        return _said("TLS", finding.starttls)
    if not offered.starttls:
        return Field("TLS", "not offered", "yellow")
    policy = finding.policy
    unwanted = policy is not None and policy.level is TlsLevel.NONE
    return Field("TLS", f"offered, not used{' (level none)' if unwanted else ''}")


# --- TLS ----------------------------------------------------------------------------


def _tls(finding: ProbeResult) -> list[Field]:
    tls = finding.tls
    if isinstance(tls, HandshakeFailed):
        return [Field("TLS", f"handshake failed: {tls.reason}", "red")]
    assert tls is not None
    level = finding.policy.level if finding.policy else TlsLevel.NONE
    rows = [Field("TLS", f"{tls.protocol}, {tls.cipher}, {tls.bits} bits")]
    if not tls.certificate:
        return [*rows, Field("certificate", "none")]
    known = dict(tls.details)
    rows.append(
        Field(
            "certificate",
            f"{known.get('subject', 'no name')}, issued by"
            f" {known.get('issuer', 'nobody')}, until {_day(known.get('expires', ''))}",
        )
    )
    if known.get("names"):
        rows.append(Field("names", known["names"]))
    return [*rows, _trust(tls, level)]


def _day(text: str) -> str:
    """YYYYMMDDHHMMSSZ as a date."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if text[:8].isdigit() else text


def _instant(text: str) -> str:
    """The same as ISO 8601 has it."""
    if not re.fullmatch(r"\d{14}Z", text):
        return text
    return f"{_day(text)}T{text[8:10]}:{text[10:12]}:{text[12:]}"


def _trust(tls: TlsFacts, level: TlsLevel) -> Field:
    problem = dict(tls.details).get("problem", "")
    if level is TlsLevel.FINGERPRINT:
        text = "the fingerprint matches" if tls.matched else problem
        return Field("trust", text, "green" if tls.matched else "red")
    if level in (TlsLevel.DANE, TlsLevel.DANE_ONLY):
        text = "a TLSA record matches" if tls.matched else problem
        return Field("trust", text, "green" if tls.matched else "red")
    if not tls.trusted:
        return Field("trust", f"not trusted: {problem or 'not verified'}", "yellow")
    if level < TlsLevel.VERIFY:
        text = f"trusted; names are not compared at level {level.word}"
        return Field("trust", text)
    if tls.matched:
        return Field("trust", f"trusted, the name matches at {level.word}", "green")
    return Field("trust", f"trusted, but {problem} at {level.word}", "red")


def _login(finding: ProbeResult) -> Field:
    login = finding.login
    assert login is not None
    if isinstance(login, Authenticated):
        return Field("log-in", f"accepted, by {login.mechanism}", "green")
    said = login.reply.oneline if login.reply else login.text
    return Field("log-in", f"failed: {said}", "red")


# --- JSON ---------------------------------------------------------------------------


def finding_object(finding: ProbeResult) -> dict[str, Any]:
    """The same, for JSON. What was not come to is null."""
    hello, tls, login = finding.hello, finding.tls, finding.login
    known = hello is not None and hello.klass == 2
    offered = _offered(hello) if hello is not None and known else None
    auth = offered.auth if offered is not None else None
    relay = finding.relay
    return {
        "host": relay.host,
        "address": relay.address,
        "port": relay.port,
        "preference": relay.preference,
        "connected": not finding.problem,
        "problem": finding.problem or finding.lost,
        "greeting": finding.greeting and finding.greeting.text,
        "hello": hello and hello.text,
        "extensions": extensions(hello) if hello is not None and known else [],
        "auth": None if auth is None else auth.split(),
        "tls_level": finding.policy and finding.policy.level.word,
        "tls": _tls_object(tls),
        "mta_sts": finding.sts and finding.sts._asdict(),
        "login": None if login is None else isinstance(login, Authenticated),
        "mail": finding.mail and finding.mail.text,
        "rcpt": [{"command": x, "reply": y.text} for x, y in finding.recipients],
    }


def _tls_object(tls: TlsFacts | HandshakeFailed | None) -> dict[str, Any] | None:
    if tls is None:
        return None
    if isinstance(tls, HandshakeFailed):
        return {"problem": tls.reason}
    details: dict[str, Any] = dict(tls.details)
    if "names" in details:
        details["names"] = details["names"].split()
    if "expires" in details:
        details["expires"] = _instant(details["expires"])
    return {**tls._asdict(), "details": details}
