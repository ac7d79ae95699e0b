"""`postfix-trouble deliver`: the door that pipe(8) comes through.

Envelope on the command line, message on standard input; one status line and an exit
code as the answer, at the end and in one write. A usage error, a wrong setting, a
message that can't be read: all of it puts the mail off. With a recipient on the line
there is no way to exit 0 without a delivery.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.edge.maillog import MailLog
from postfix_trouble.edge.message import Message
from postfix_trouble.frontends import options
from postfix_trouble.frontends.interrupts import Watch
from postfix_trouble.model.envelope import DeliveryRequest, Recipient
from postfix_trouble.model.failure import TableError
from postfix_trouble.model.verdict import DSN
from postfix_trouble.policy.address import unquote_local, unsendable
from postfix_trouble.reports import pipe8
from postfix_trouble.reports.log import delivery_record
from postfix_trouble.reports.pipe8 import Exit, deferred

if TYPE_CHECKING:
    from postfix_trouble.frontends.options import CommandLine
    from postfix_trouble.model.verdict import Report


def run(argv: list[str]) -> int:
    """Deliver as the arguments after `deliver` say. Returns the exit code."""
    watch = Watch(os._exit)
    try:
        line = options.read(argv)
    except options.UsageError as problem:
        return _write(deferred("4.3.5", f"command line usage error: {problem}"))
    call = _Call(line, watch)
    try:
        end = call.deliver()
    except (options.UsageError, ConfigError) as problem:
        end = deferred("4.3.5", f"mail system configuration error: {problem}")
    except TableError as problem:
        end = deferred("4.3.0", f"table look-up error: {problem}")
    watch.finished()
    return call.answer(end)


def _write(end: Exit) -> int:
    output = end.output
    try:
        os.write(1, output)
    except OSError:
        # Nobody listens any more; the exit code says the same.
        pass
    return end.code


class _Call:
    """One run of `deliver`."""

    def __init__(self, line: CommandLine, watch: Watch) -> None:
        self.line = line
        self.watch = watch
        self.log = MailLog("postfix-trouble", line.value("--log-file"))
        self.queue_id = line.value("--queue-id", "NOQUEUE")
        self.report: Report | None = None
        self.notices: tuple[str, ...] = ()

    def note(self, text: str) -> None:
        """Log something about this request."""
        self.log.write(f"{self.queue_id}: {text}")

    def deliver(self) -> Exit:
        """Do it. Raises UsageError, ConfigError, TableError."""
        line = self.line
        if not line.recipients:
            raise options.UsageError("no recipients")
        settings = read_settings(line)
        self.log = MailLog(
            settings.text("syslog_name"),
            line.value("--log-file") or settings.text("trouble_log_file"),
        )
        self.watch.start(settings.seconds("trouble_deadline"))
        settings.refuse_unsupported()
        message = Message.read(0, timeout=self.watch.left())
        if isinstance(message, DSN):
            self.note(message.reason)
            return pipe8.answer(message)
        request = read_request(line, settings, message)
        if isinstance(request, DSN):
            return pipe8.answer(request)
        if line.switch("--size") is False:
            pass
        elif request.size != message.size:
            self.note(f"size is {message.size}, not {request.size}")
        return self._attempt(settings, request, message)

    def _attempt(
        self, settings: Settings, request: DeliveryRequest, message: Message
    ) -> Exit:
        from postfix_trouble.agent import Agent, deliver_request

        agent = Agent(
            settings,
            request,
            message,
            left=self.watch.left,
            note=self.note,
            critical=self.watch.critical,
        )
        report = deliver_request(agent)
        self.report = report
        self.notices = notices(report, settings)
        external = settings.text("info_log_address_format") == "external"
        resolution = settings.integer("delay_logging_resolution_limit")
        for outcome in report.outcomes:
            self.log.write(
                delivery_record(
                    self.queue_id, outcome, external=external, resolution=resolution
                )
            )
        return pipe8.result(report.outcomes)

    def answer(self, end: Exit) -> int:
        """Print the answer: the status line, or the JSON object."""
        if not self.line.switch("--json"):
            return _write(end)
        from postfix_trouble.reports import as_json

        if self.report is not None:
            text = as_json.render(self.report, end, self.notices)
        else:
            text = as_json.failure(
                end,
                self.line.value("--sender"),
                self.line.value("--nexthop"),
                self.queue_id,
            )
        data = (text + "\n").encode("utf-8")
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError:
            pass
        return end.code


def notices(report: Report, settings: Settings) -> tuple[str, ...]:
    """The class of each postmaster notice, one for each session that calls for it."""
    sender = report.request.sender
    if not sender or sender.startswith(settings.text("double_bounce_sender") + "@"):
        return ()
    classes = settings.words("notify_classes")
    wanted = ([e for e in s.errors if e in classes] for s in report.servers)
    return tuple(errors[-1] for errors in wanted if errors)


def read_settings(line: CommandLine) -> Settings:
    """Parameters from --config and -o. Raises ConfigError, UsageError."""
    values: dict[str, str] = {}
    path = line.value("--config")
    if path:
        from postfix_trouble.config import maincf

        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                values, _warnings = maincf.parse(file.read(), path)
        except OSError as problem:
            raise ConfigError("", f"open {path}: {problem.strerror}") from None
    overrides = line.pairs("-o")
    if line.switch("--state-directory"):
        overrides["trouble_state_directory"] = line.value("--state-directory")
    return Settings(
        values,
        overrides=overrides,
        lmtp=line.switch("--lmtp"),
        system_hostname=os.uname().nodename,
    )


def read_request(
    line: CommandLine, settings: Settings, message: Message
) -> DeliveryRequest | DSN:
    """The delivery request that the command line describes.

    A DSN if it can't be one: an address that would break the protocol (5.1.3, 5.1.7).
    Raises UsageError.
    """
    inner = unquote_local if line.switch("--quoted") else str
    sender = line.value("--sender")
    sender = "" if sender == "<>" else inner(sender)
    if unsendable(sender):
        return pipe8_refusal("5.1.7", "bad sender address syntax")
    orcpt = line.pairs("--orcpt")
    original = line.value("--original-recipient")
    recipients = []
    for position, address in enumerate(line.recipients):
        address = inner(address)
        if not address or unsendable(address):
            return pipe8_refusal("5.1.3", "bad recipient address syntax")
        recipients.append(
            Recipient(
                address,
                original if len(line.recipients) == 1 else "",
                orcpt.get(address, ""),
                _notify(line.value("--notify")),
                position,
            )
        )
    nexthop = line.value("--nexthop")
    if not nexthop:
        raise options.UsageError("--nexthop is missing")
    ascii_only = sender.isascii() and all(r.address.isascii() for r in recipients)
    return DeliveryRequest(
        sender,
        tuple(recipients),
        nexthop,
        queue_id=line.value("--queue-id"),
        size=_number(line, "--size", message.size),
        envid=line.value("--envid"),
        ret=_one_of(line, "--ret", ("", "full", "hdrs")),
        encoding=_one_of(line, "--encoding", ("", "7bit", "8bit")) or message.encoding,
        smtputf8=line.switch("--smtputf8") or not ascii_only,
        utf8_header=message.utf8_header,
        age=_age(line, settings, message),
        attributes=line.pairs("--attribute"),
        lmtp=line.switch("--lmtp"),
    )


def pipe8_refusal(status: str, reason: str) -> DSN:
    """A report of our own about the request as such."""
    from postfix_trouble.model.status import EnhancedStatus

    return DSN(EnhancedStatus(status), reason)


def _number(line: CommandLine, name: str, default: int) -> int:
    text = line.value(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise options.UsageError(f"{name} {text}: a number expected")
    return int(text)


def _one_of(line: CommandLine, name: str, words: tuple[str, ...]) -> str:
    text = line.value(name).lower()
    if text not in words:
        raise options.UsageError(
            f"{name} {text}: one of {', '.join(words[1:])} expected"
        )
    return text


def _notify(text: str) -> str:
    """NOTIFY words in Postfix's order."""
    words = text.upper().replace(",", " ").split()
    order = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
    if not set(words) <= set(order):
        raise options.UsageError(f"--notify {text}: bad value")
    return ",".join(word for word in order if word in words)


def _age(line: CommandLine, settings: Settings, message: Message) -> float:
    """Seconds since the message came; 0 if that can't be told.

    pipe(8) doesn't say, so the topmost Received: header does. A date that no message
    in the queue can have is not the date of its arrival here.
    """
    if line.switch("--age"):
        return float(_number(line, "--age", 0))
    received = message.received()
    if received is None:
        return 0.0
    age = time.time() - received
    life = (
        "bounce_queue_lifetime"
        if not line.value("--sender")
        else ("maximal_queue_lifetime")
    )
    oldest = settings.seconds(life) + settings.seconds("maximal_backoff_time")
    return age if 0.0 <= age <= oldest else 0.0
