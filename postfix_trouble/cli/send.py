"""`postfix-trouble send`: a delivery by hand, and what Postfix would do about it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from postfix_trouble.cli import live, outcome_table, own_message, user_input
from postfix_trouble.cli.live import Way
from postfix_trouble.cli.outcome_table import OutcomeRow, outcome_rows
from postfix_trouble.cli.own_message import OwnMessage
from postfix_trouble.cli.session_options import (
    SessionSettings,
    read_session,
    session_options,
)
from postfix_trouble.cli.trace import Recorder, RecordingTrace, time_left, waited_for
from postfix_trouble.cli.user_input import Address
from postfix_trouble.client import Caller, Service
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import Report
from postfix_trouble.core.sysexits import NAMES
from postfix_trouble.message.message import Message
from postfix_trouble.report import as_json, pipe8
from postfix_trouble.terminal import screen
from postfix_trouble.terminal.help_text import ExplainedCommand
from postfix_trouble.terminal.waiting import Waiting

EXAMPLES = [
    ("A test message, to where mail for that domain goes",
     "postfix-trouble send --to you@example.com"),
    ("Through a server that wants a password",
     "postfix-trouble send --to you@example.com --server mail.example.org:587"
     " --tls verify --auth-user me"),
    ("A message of your own, with Postfix's settings",
     "postfix-trouble send --to you@example.com --message test.eml"
     " --config /etc/postfix/main.cf"),
    ("A test message of another kind",
     "postfix-trouble send you@example.com --header 'Subject: Report' --attach x.pdf"),
    ("To those whom the message names, as sendmail -t",
     "postfix-trouble send --message test.eml"),
    ("In a script: nothing but the exit code, or everything",
     "postfix-trouble send -qq --to you@example.com || echo $?"),
    ("", "postfix-trouble send --json --to you@example.com | jq .recipients"),
]  # fmt: skip


@click.command(
    "send",
    cls=ExplainedCommand,
    help="""Send a message by hand. Shows the dialogue as it goes, how long each part of
    it took, and what Postfix would do about each recipient, and why.""",
    epilog="""Exit status: 0 sent; 75 Postfix would try again; 65, 67, 68, 69, 76, 77
    it would return the message; 64 wrong usage; 78 wrong configuration.""",
    examples=EXAMPLES,
)
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1)
@click.option(
    "--to",
    "recipients",
    metavar="ADDRESS",
    multiple=True,
    help="Recipient; repeatable, and several with commas. Default: To, Cc and Bcc of"
    " the message (Bcc is removed), or its Resent- fields.",
)
@click.option(
    "--from",
    "sender",
    metavar="ADDRESS",
    help="Envelope sender; <> is the null sender. Default: you, at $myorigin.",
)
@click.option(
    "--message",
    metavar="FILE",
    type=click.Path(),
    help="Send this; - is standard input. Default: a message that says it is a test.",
)
@click.option(
    "--header",
    "fields",
    metavar="FIELD",
    multiple=True,
    help="Header field 'Name: value', in place of what the message has under that name;"
    " repeatable.",
)
@click.option("--body", metavar="TEXT", help="Text of the test message.")
@click.option(
    "--attach",
    "attached",
    metavar="FILE",
    multiple=True,
    type=click.Path(),
    help="Attach this to the test message; repeatable.",
)
@click.option(
    "--notify",
    metavar="WORDS",
    callback=lambda _context, _option, text: _notify(text),
    help="DSN: never, or some of success,failure,delay.",
)
@click.option(
    "--ret",
    type=click.Choice(("full", "hdrs")),
    help="DSN: what of the message a bounce returns.",
)
@click.option("--envid", metavar="TEXT", default="", help="DSN: envelope ID.")
@click.option(
    "--smtputf8", is_flag=True, help="Ask for SMTPUTF8 though no address needs it."
)
@session_options
@click.option(
    "--check-deliverability",
    is_flag=True,
    help="Look in the DNS whether their domains take mail at all.",
)
@click.option(
    "-q",
    "--quiet",
    count=True,
    help="Show only the result; twice: nothing, the exit code tells.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Show the message, and rules of the policy."
)
def command(**given: Any) -> int:
    """Send, and return the exit code."""
    return _Sending(given).run()


def _notify(text: str | None) -> str:
    """NOTIFY as RFC 3461 (4.1) has it. Raises click.BadParameter."""
    words = (text or "").upper().split(",")
    some = {"SUCCESS", "FAILURE", "DELAY"}
    if text is not None and words != ["NEVER"] and not some.issuperset(words):
        raise click.BadParameter("never, or some of success,failure,delay expected")
    return ",".join(words)


class _Sending:
    """One run of `send`."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.json: bool = given["as_json"]
        self.quiet: int = given["quiet"]
        self.verbose: bool = given["verbose"]
        self.notify: str = given["notify"]
        self.ret: str = given["ret"] or ""
        self.envid: str = given["envid"]
        own = own_message.given(
            given["message"], given["fields"], given["body"], given["attached"]
        )
        recipients = user_input.recipients(given["recipients"], given["addresses"])
        if not recipients:
            recipients, own = _addressees(own)
        self.session: SessionSettings = read_session(given)
        settings = self.session.settings
        self.sender = user_input.sender(given["sender"], settings)
        self.warnings = user_input.check(
            [*recipients, *([self.sender] if given["sender"] else [])],
            settings,
            server=given["server"],
            strict=given["strict_addresses"],
            deliverable=given["check_deliverability"],
        )
        self.parts = _by_destination(recipients, self.session.nexthop)
        everybody = (self.sender, *recipients)
        self.utf8: bool = given["smtputf8"] or not all(
            one.inner.isascii() for one in everybody
        )
        self.message = self._message(own, recipients)
        self.paint = screen.painter()
        self.width = screen.line_width()
        self.recorder = Recorder(self._show, Waiting(wanted=not self.quiet))

    def _message(self, own: OwnMessage, recipients: Sequence[Address]) -> Message:
        content = own.content
        if content is None:
            host = self.session.settings.text("smtp_helo_name")
            to = [one.inner for one in recipients]
            content = own_message.sample_message(
                self.sender.inner, to, host, time.time(), own.body, own.attachments
            )
        content = own_message.with_fields(content, own.fields, utf8=self.utf8)
        if not own_message.has_header(content):
            self.warnings.append("the message has no header")
            screen.complain("warning: the message has no header")
        return Message.from_bytes(content)

    def run(self) -> int:
        """Deliver to all destinations, one after the other."""
        reports: list[Report] = []
        for nexthop, recipients in self.parts.items():
            if len(self.parts) > 1:
                self.recorder.tell(Way.ABOUT, f"mail for {nexthop}")
            reports.append(self._deliver(nexthop, recipients))
        settings = self.session.settings
        rows = [row for report in reports for row in outcome_rows(report, settings)]
        code = pipe8.result([row.outcome for row in rows]).code
        if self.json:
            screen.write_json(self._object(reports, rows, code))
        else:
            self._conclude(rows)
        return code

    def _deliver(self, nexthop: str, recipients: Sequence[Address]) -> Report:
        settings, message = self.session.settings, self.message
        request = self._request(nexthop, recipients)
        trace = RecordingTrace(self.recorder, settings, message.size)
        try:
            return Service(settings, lambda record: None).deliver(
                request,
                message,
                Caller(
                    time_left=time_left(settings),
                    note=self.recorder.note,
                    on_final_dot=trace.on_final_dot,
                    abandoned=waited_for(),
                    trace=trace,
                    credentials=self.session.credentials,
                    mail_notices=False,
                ),
            )
        except KeyboardInterrupt:
            if trace.in_doubt:
                screen.complain("warning: the message may have been sent already")
            raise

    def _request(self, nexthop: str, recipients: Sequence[Address]) -> DeliveryRequest:
        message, sender = self.message, self.sender.inner
        whom = tuple(
            Recipient(one.inner, notify=self.notify, position=n)
            for n, one in enumerate(recipients)
        )
        return DeliveryRequest(
            sender,
            whom,
            nexthop,
            size=message.size,
            envid=self.envid,
            ret=self.ret,
            encoding=message.encoding(),
            smtputf8=self.utf8,
            utf8_header=self.utf8 and message.utf8_header(),
            lmtp=self.session.lmtp,
            auth_required=self.session.credentials is not None,
            server_named=bool(self.session.nexthop),
        )

    # --- what is shown

    def _show(self, event: live.Event) -> None:
        if self.quiet or self.json:
            return
        screen.write_lines(live.event_lines(event, self.width, self.paint))
        if self.verbose and event.way is Way.OUT and event.text.startswith("("):
            text = b"".join(self.message.chunks()).decode("utf-8", "replace")
            for line in text.splitlines():
                shown = event._replace(text=line)
                screen.write_lines(live.event_lines(shown, self.width, self.paint))

    def _conclude(self, rows: Sequence[OutcomeRow]) -> None:
        """The time line, and the table."""
        if self.quiet > 1:
            return
        width = self.width
        if not self.quiet:
            bars = live.time_line(self.recorder.timings, width, self.paint)
            screen.write_lines(["", *bars, ""] if bars else [""])
        screen.write_lines(
            outcome_table.table(rows, width, self.paint, rules=self.verbose)
        )
        user_input.hint(
            [row.outcome.dsn.reason for row in rows], self.session.verified_unasked
        )

    def _object(
        self, reports: Sequence[Report], rows: Sequence[OutcomeRow], code: int
    ) -> dict[str, object]:
        deliveries = [
            as_json.as_dict(report, pipe8.result(report.outcomes)) for report in reports
        ]
        told = [whom for one in deliveries for whom in one["recipients"]]
        return {
            "version": as_json.VERSION,
            "exit_status": code,
            "exit_name": NAMES[code],
            "warnings": self.warnings,
            "recipients": [
                {**whom, **outcome_table.as_object(row)}
                for whom, row in zip(told, rows, strict=True)
            ],
            "deliveries": deliveries,
            **live.as_object(self.recorder.events, self.recorder.timings),
        }


def _by_destination(
    recipients: Sequence[Address], nexthop: str
) -> dict[str, list[Address]]:
    """Recipients by where they go; the order is that in which they were typed."""
    parts: dict[str, list[Address]] = {}
    for one in recipients:
        parts.setdefault(nexthop or one.domain.lower(), []).append(one)
    return parts


def _addressees(own: OwnMessage) -> tuple[list[Address], OwnMessage]:
    """Whom the message names, and the message without Bcc. Raises click.UsageError."""
    found = own_message.addressees(own.header)
    if not found:
        raise click.UsageError(
            "no recipient given: add --to ADDRESS, or a message with To, Cc or Bcc"
        )
    return [user_input.address(one, "in the header:") for one in found], own.public()
