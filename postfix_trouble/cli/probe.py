"""`postfix-trouble probe`: look at the servers of a destination; send nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from postfix_trouble.cli import live, outcome_table, probe_report, user_input
from postfix_trouble.cli.outcome_table import OutcomeRow, outcome_rows
from postfix_trouble.cli.session_options import read_session, session_options
from postfix_trouble.cli.trace import Recorder, RecordingTrace, time_left
from postfix_trouble.client import Caller, Service
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.sysexits import EX_OK, NAMES
from postfix_trouble.report import as_json, pipe8
from postfix_trouble.smtp.interfaces import Addressless
from postfix_trouble.smtp.probing import Depth, ProbeResult
from postfix_trouble.terminal import screen
from postfix_trouble.terminal.help_text import ExplainedCommand
from postfix_trouble.terminal.waiting import Waiting

EXAMPLES = [
    ("Who takes mail for this domain, and how?", "postfix-trouble probe example.com"),
    ("Would they take mail for her? (Nothing is sent.)",
     "postfix-trouble probe --from me@example.org --to you@example.com"),
    ("All of them, with TLS as strict as it gets",
     "postfix-trouble probe --all --tls secure example.com"),
    ("One server, as far as its greeting",
     "postfix-trouble probe --server mail.example.com:587 --quit-after greeting"),
    ("", "postfix-trouble probe --json example.com | jq '.servers[].extensions'"),
]  # fmt: skip
STAGES = tuple(depth.name.lower() for depth in Depth)


@click.command(
    "probe",
    cls=ExplainedCommand,
    help="""Ask the servers of a destination, in Postfix's order, what they can do,
    until one of them would take mail. DESTINATION is what a transport table has after
    the colon: a domain, domain:port, [host]:port, several with commas. Default: the
    domain of --to. No message is sent.""",
    epilog="""Exit status: 0 a server would take mail, as far as was asked; otherwise
    as after a delivery: 75 Postfix would try again; 65, 67, 68, 69, 76, 77 it would
    return the message; 64 wrong usage; 78 wrong configuration.""",
    examples=EXAMPLES,
)
@click.argument("destination", required=False, default="")
@click.option(
    "--to",
    "recipients",
    metavar="ADDRESS",
    multiple=True,
    help="Ask for this recipient (RCPT, then RSET); repeatable.",
)
@click.option(
    "--from",
    "sender",
    metavar="ADDRESS",
    help="Ask for this sender (MAIL); <> is the null sender. Default with --to: you,"
    " at $myorigin.",
)
@click.option(
    "--size",
    metavar="BYTES",
    type=click.IntRange(0),
    default=1024,
    show_default=True,
    help="Size to tell to a server that wants to know.",
)
@click.option(
    "--quit-after",
    metavar="STAGE",
    type=click.Choice(STAGES),
    help=f"Go no further than: {', '.join(STAGES)}. Default: rcpt with --to, mail with"
    " --from, else auth.",
)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Ask the servers that are left, too, each as if it were the only one.",
)
@session_options
@click.option("-q", "--quiet", is_flag=True, help="Print nothing: the exit code tells.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Show the dialogue, its times, and rules."
)
def command(**given: Any) -> int:
    """Probe, and return the exit code."""
    return _Probing(given).run()


class _Probing:
    """One run of `probe`."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        recipients = user_input.recipients(given["recipients"], ())
        if given["destination"]:
            user_input.destination(given["destination"], lmtp=given["lmtp"])
        self.depth = _depth(given)
        self.session = read_session(given)
        self.settings = settings = self.session.settings
        sender = user_input.sender(given["sender"], settings)
        user_input.check(
            [*recipients, *([sender] if given["sender"] else [])],
            settings,
            server=given["server"] or given["destination"],
            strict=given["strict_addresses"],
            deliverable=False,
        )
        self.nexthop = _nexthop(given, self.session.nexthop, recipients)
        self.request = self._request(sender, recipients)
        self.recorder = Recorder(self._show, Waiting(wanted=not given["quiet"]))
        self.findings: list[ProbeResult] = []
        self.relays: list[Relay] = []
        # Those and the hosts without an address.
        self.exchangers: list[probe_report.Exchanger] = []
        self.paint = screen.painter()
        self.width = screen.line_width()

    def _request(
        self, sender: user_input.Address, recipients: Sequence[user_input.Address]
    ) -> DeliveryRequest:
        # Without a recipient the destination stands for one that is never asked for.
        whom = [one.inner for one in recipients] or [self.nexthop]
        wide = not all(x.isascii() for x in (sender.inner, *whom))
        return DeliveryRequest(
            sender.inner,
            tuple(Recipient(text, position=n) for n, text in enumerate(whom)),
            self.nexthop,
            size=self.given["size"],
            smtputf8=wide,
            lmtp=self.session.lmtp,
            auth_required=self.session.credentials is not None
            and self.depth >= Depth.AUTH,
            server_named=bool(self.session.nexthop),
        )

    def run(self) -> int:
        """Ask, and show what was learnt."""
        report = Service(self.settings, lambda record: None).probe(
            self.request,
            Caller(
                time_left=time_left(self.settings),
                note=self.recorder.note,
                trace=RecordingTrace(self.recorder, self.settings, 0),
                credentials=self.session.credentials,
            ),
            depth=self.depth,
            found=self._found,
            listed=self._listed,
            every=self.given["every"],
        )
        rows = outcome_rows(report, self.settings, probed=True) if report else []
        code = pipe8.result([row.outcome for row in rows]).code if rows else EX_OK
        self._conclude(rows, code)
        return code

    # --- what is shown

    def _show(self, event: live.Event) -> None:
        if self.given["verbose"] and not self._silent():
            screen.write_lines(live.event_lines(event, self.width, self.paint))

    def _silent(self) -> bool:
        return bool(self.given["quiet"] or self.given["as_json"])

    def _listed(
        self,
        destination: Destination,
        relays: Sequence[Relay],
        addressless: Addressless,
    ) -> None:
        self.relays += relays
        hosts = probe_report.exchangers(relays, addressless)
        self.exchangers += hosts
        if not self._silent():
            lines = probe_report.exchanger_lines(
                destination.text, hosts, self.width, self.paint
            )
            screen.write_lines([*lines, ""] if lines else [])

    def _found(self, finding: ProbeResult) -> None:
        self.findings.append(finding)
        if not self._silent():
            number, width = len(self.findings), self.width
            if self.given["verbose"]:
                screen.write_lines([""])
            timings = self.recorder.timings
            known = timings and timings[-1].server == finding.relay.namaddrport
            stages = timings[-1].stages if known else ()
            block = probe_report.finding_lines(
                finding, number, stages, width, self.paint
            )
            screen.write_lines([*block, ""])

    def _conclude(self, rows: Sequence[OutcomeRow], code: int) -> None:
        if self.given["as_json"]:
            screen.write_json(self._object(rows, code))
            return
        if self.given["quiet"]:
            return
        width = self.width
        if self.given["verbose"]:
            screen.write_lines(live.time_line(self.recorder.timings, width, self.paint))
            screen.write_lines([""])
        if len(self.relays) > 1:
            lines = probe_report.summary(
                self.relays, self.findings, self.depth, width, self.paint
            )
            screen.write_lines([*lines, ""])
        if rows:
            screen.write_lines(
                outcome_table.table(
                    rows,
                    width,
                    self.paint,
                    rules=self.given["verbose"],
                    whose="RECIPIENT" if self.given["recipients"] else "DESTINATION",
                )
            )
            user_input.hint(
                [row.outcome.dsn.reason for row in rows], self.session.verified_unasked
            )
        else:
            stage = self.depth.name.lower()
            text = f"{self.nexthop}: a server would take mail, asked up to: {stage}"
            screen.write_lines(probe_report.sentence(text, width, self.paint))

    def _object(self, rows: Sequence[OutcomeRow], code: int) -> dict[str, object]:
        return {
            "version": as_json.VERSION,
            "exit_status": code,
            "exit_name": NAMES[code],
            "destination": self.nexthop,
            "quit_after": self.depth.name.lower(),
            "exchangers": [
                {
                    "host": relay.host,
                    "address": relay.address or None,
                    "port": relay.port,
                    "preference": relay.preference if relay.exchange else None,
                    "problem": problem,
                }
                for relay, problem in self.exchangers
            ],
            "servers": [probe_report.finding_object(one) for one in self.findings],
            "recipients": [
                {
                    "status": row.word,
                    "dsn": row.outcome.dsn.status,
                    "relay": row.outcome.relay,
                    "reason": row.outcome.dsn.reason,
                    **outcome_table.as_object(row),
                }
                for row in rows
            ],
            **live.as_object(self.recorder.events, self.recorder.timings),
        }


def _depth(given: dict[str, Any]) -> Depth:
    """How far to go. Raises click.UsageError."""
    if given["quit_after"] is None:
        if given["recipients"]:
            return Depth.RCPT
        return Depth.AUTH if given["sender"] is None else Depth.MAIL
    depth = Depth[given["quit_after"].upper()]
    if depth is Depth.RCPT and not given["recipients"]:
        raise click.UsageError("--quit-after rcpt needs a recipient: --to ADDRESS")
    return depth


def _nexthop(
    given: dict[str, Any], server: str, recipients: Sequence[user_input.Address]
) -> str:
    """Where to look. Raises click.UsageError."""
    if server and given["destination"]:
        raise click.UsageError("either DESTINATION or --server, not both")
    if server or given["destination"]:
        return server or str(given["destination"])
    domains = {one.domain.lower() for one in recipients}
    if len(domains) > 1:
        raise click.UsageError(
            f"recipients in several domains ({', '.join(sorted(domains))}):"
            " say which, as DESTINATION"
        )
    if not domains:
        raise click.UsageError("where? Add a DESTINATION, --to or --server.")
    return domains.pop()
