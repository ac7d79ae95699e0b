"""The Python API: deliver a message, or ask what Postfix would do.

    from postfix_trouble import deliver, explain, settings

The names in __all__ are stable: they, their arguments and the fields of what they
return stay as they are within a major version; new ones may come. Everything else in
the package may change. docs/python-api.md has an example of each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import Disposition, Outcome, Report
from postfix_trouble.core.sysexits import EX_OK, EX_TEMPFAIL
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.simulate import answer
from postfix_trouble.simulate.answer import Case, Explanation
from postfix_trouble.terminal.parameters import make_settings, read_config

if TYPE_CHECKING:
    from postfix_trouble.message.message import Message

__all__ = [
    "Case",
    "ConfigError",
    "Delivery",
    "Explanation",
    "Result",
    "Settings",
    "deliver",
    "explain",
    "settings",
]


class Result(Value):
    """How one recipient ended. There is exactly one for each."""

    recipient: str
    #: "sent", "deferred" or "bounced", as after `status=` in Postfix's log.
    status: str
    #: Enhanced status code, X.Y.Z.
    dsn: str
    #: Why; for what was sent, the server's reply.
    reason: str
    #: `host[address]:port` of the server that decided, or "none".
    relay: str
    #: "relayed", "delivered", "delayed" or "failed" (RFC 3464).
    action: str
    #: Name of the server whose reply this is; empty if it was decided here.
    remote_mta: str
    #: That reply in full; empty if there was none.
    diagnostic: str
    #: Deferred only because soft_bounce turned a bounce into that.
    soft_bounced: bool
    #: Seconds: before, in the queue, connection set-up, transmission.
    delays: tuple[float, float, float, float]


class Delivery(Value):
    """All that came of a delivery."""

    #: In the order of the recipients.
    results: tuple[Result, ...]
    #: Why servers or recipients were skipped in favour of another server.
    skipped: tuple[str, ...]
    #: The destination is in trouble, not only this message.
    throttled: bool
    #: What `postfix-trouble deliver` would end with, and print.
    exit_status: int
    status_line: str
    #: The same as JSON object (`postfix-trouble deliver --json`).
    json: str

    @property
    def sent(self) -> bool:
        """Whether every recipient has the message."""
        return all(result.status == "sent" for result in self.results)


def settings(
    values: Mapping[str, str] = {}, *, config: str = "", lmtp: bool = False
) -> Settings:
    """Make settings of main.cf parameters.

    `values` by their main.cf names; an unknown name, or a value that can't be used, is
    a ConfigError. `config`: path of a main.cf; names there that are not ours are passed
    over. `lmtp`: the lmtp_ parameters are those that count.
    """
    found = read_config(config)[0] if config else {}
    return make_settings(found, config=config, overrides=values, lmtp=lmtp)


def deliver(
    message: bytes,
    *,
    sender: str,
    recipients: Sequence[str],
    nexthop: str,
    settings: Settings | Mapping[str, str] | None = None,
    lmtp: bool = False,
    queue_id: str = "",
    smtputf8: bool = False,
    envid: str = "",
    ret: str = "",
    notify: str = "",
    age: float = 0.0,
    time_limit: float | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Delivery:
    """Try once to deliver a message. Never raises for what servers or networks do.

    `message`: header and body, lines end in CR LF or LF. `sender`: empty for the null
    sender. `nexthop`: a domain, [host]:port, or several with commas, as in Postfix's
    transport table. `lmtp`: speak LMTP; a Settings must have been made for it.
    `smtputf8`: asked for (it is, in any case, if an address is not ASCII). `envid`,
    `ret` (full or hdrs), `notify` (NEVER, or SUCCESS,FAILURE,DELAY): RFC 3461. `age`:
    seconds since the message arrived; a fresh one is not sent in the clear where TLS
    failed. `time_limit`: seconds for all of it; default: trouble_deadline. `note` is
    told what Postfix would log. Nothing is kept between calls.

    Raises ConfigError for settings that can't be used, ValueError for an empty or
    unsendable address and for a bad `ret` or `notify`. A KeyboardInterrupt passes, with
    a note (PEP 678) of each recipient whose end was known by then.
    """
    from postfix_trouble.client import Caller, Service
    from postfix_trouble.message.lines import unix_lines
    from postfix_trouble.message.message import Message

    chosen = settings if isinstance(settings, Settings) else _made(settings or {}, lmtp)
    chosen.refuse_unusable()
    content = Message.from_bytes(b"".join(unix_lines([message])))
    request = _request(content, sender, recipients, nexthop, smtputf8)
    request = _with_dsn(request, envid, ret, notify)
    request = request._replace(lmtp=lmtp, queue_id=queue_id, age=age)
    seconds = chosen.seconds("trouble_deadline") if time_limit is None else time_limit
    last = time.monotonic() + seconds
    ended: list[Outcome] = []
    caller = Caller(lambda: last - time.monotonic(), note, ended.extend)
    service = Service(chosen, lambda record: None)
    try:
        report = service.deliver(request, content, caller._replace(mail_notices=False))
    except KeyboardInterrupt as interrupt:
        _tell(interrupt, ended)
        raise
    try:
        return _delivery(report)
    except Exception as bug:  # noqa: BLE001  it is known how each recipient ended
        warn(note, "report", bug)
        return _short(report)


def explain(
    text: str,
    *,
    stage: str = "",
    lmtp: bool = False,
    settings: Mapping[str, str] = {},
    age: float = 0.0,
) -> Explanation:
    """Say what Postfix would do about a reply, a log line or a broken connection.

    `text`: a reply as the server sends it, a line of Postfix's log, "lost connection"
    or "timeout". `stage`: what it was the answer to (greeting, ehlo, helo, lhlo,
    starttls, handshake, auth, mail, rcpt, data, body, dot); default: what a log line
    says, else rcpt. `settings`: main.cf parameters by name. `age`: seconds since the
    message arrived.

    Raises ValueError if the text is not understood, ConfigError for bad settings.
    """
    _made(settings, lmtp)
    found = answer.explain(text, stage=stage, lmtp=lmtp, values=settings, age=age)
    if isinstance(found, answer.NotExplained):
        raise ValueError(str(found))
    return found


# --- inside -------------------------------------------------------------------------

# The argument `settings` hides the function of that name.
_made_of = settings


def _made(values: Mapping[str, str], lmtp: bool) -> Settings:
    return _made_of(values, lmtp=lmtp)


def _request(
    content: Message,
    sender: str,
    recipients: Sequence[str],
    nexthop: str,
    smtputf8: bool,
) -> DeliveryRequest:
    from postfix_trouble.smtp.address import unquote_local, unsendable

    if isinstance(recipients, str):
        raise ValueError("recipients must be a list of addresses, not a string")
    if not recipients or not all(recipients) or not nexthop:
        raise ValueError("recipients and nexthop must not be empty")
    for address in (sender, *recipients):
        if unsendable(address):
            raise ValueError(
                f"an address must not have control characters: {address!r}"
            )
    found = tuple(
        Recipient(unquote_local(address), position=position)
        for position, address in enumerate(recipients)
    )
    utf8 = smtputf8 or not (sender + "".join(recipients)).isascii()
    return DeliveryRequest(
        unquote_local(sender),
        found,
        nexthop,
        size=content.size,
        encoding=content.encoding(),
        smtputf8=utf8,
        utf8_header=utf8 and content.utf8_header(),
    )


def _with_dsn(
    request: DeliveryRequest, envid: str, ret: str, notify: str
) -> DeliveryRequest:
    _word(ret.lower(), ("", "full", "hdrs"), "ret")
    words = notify.upper().replace(",", " ").split()
    order = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
    for word in words:
        _word(word, order, "notify")
    joined = ",".join(word for word in order if word in words)
    recipients = tuple(each._replace(notify=joined) for each in request.recipients)
    return request._replace(recipients=recipients, envid=envid, ret=ret.lower())


def _word(word: str, words: tuple[str, ...], name: str) -> str:
    if word not in words:
        raise ValueError(
            f"{name}: {word!r} is none of {', '.join(filter(None, words))}"
        )
    return word


def _tell(interrupt: KeyboardInterrupt, ended: list[Outcome]) -> None:
    for end in ended:
        words = f"{end.disposition.value} ({end.dsn.status} {end.dsn.reason})"
        interrupt.add_note(f"{end.recipient.address}: {words}")


def _delivery(report: Report) -> Delivery:
    from postfix_trouble.report import as_json, pipe8

    end = pipe8.result(report.outcomes)
    return Delivery(
        tuple(map(_result, report.outcomes)),
        report.skipped,
        report.throttled is not None,
        end.code,
        end.output.decode("utf-8"),
        as_json.render(report, end),
    )


def _short(report: Report) -> Delivery:
    """The same without what takes words, where those can't be found."""
    sent = all(end.disposition is Disposition.SENT for end in report.outcomes)
    code = EX_OK if sent else EX_TEMPFAIL
    return Delivery(tuple(map(_result, report.outcomes)), (), False, code, "", "")


def _result(outcome: Outcome) -> Result:
    dsn, delays = outcome.dsn, outcome.delays
    values: dict[str, Any] = {
        "recipient": outcome.recipient.address,
        "status": outcome.disposition.value,
        "dsn": str(dsn.status),
        "reason": dsn.reason,
        "relay": outcome.relay,
        "action": outcome.action,
        "remote_mta": dsn.remote_mta,
        "diagnostic": dsn.diagnostic,
        "soft_bounced": outcome.soft_bounce,
        "delays": tuple(delays),
    }
    return Result(**values)
