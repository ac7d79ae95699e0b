"""The JSON object of a delivery: public, and versioned."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from typing import Any

from postfix_trouble.core import sysexits
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from postfix_trouble.core.outcome import Outcome, Report, ServerRecord
    from postfix_trouble.report.pipe8 import Exit

VERSION = 1


def render(report: Report, end: Exit) -> str:
    """All of a report, and how the program ends."""
    import json

    return json.dumps(as_dict(report, end))


def failure(end: Exit, sender: str, nexthop: str, queue_id: str) -> str:
    """The object where there was no delivery at all."""
    import json

    return json.dumps(_empty(end, sender, nexthop, queue_id))


def refusal(code: int, error: str) -> dict[str, Any]:
    """What a command for people has instead of a result."""
    return {
        "version": VERSION,
        "exit_status": code,
        "exit_name": sysexits.NAMES[code],
        "error": error,
    }


def as_dict(report: Report, end: Exit) -> dict[str, Any]:
    """The same as `render`, not yet written out."""
    request = report.request
    return {
        **_empty(end, request.sender, request.nexthop, request.queue_id),
        "recipients": [_recipient(outcome) for outcome in report.outcomes],
        "skipped": list(report.skipped),
        "throttled": report.throttled is not None,
        "notices": list(report.notices),
        "servers": [_server(server) for server in report.servers],
    }


def _empty(end: Exit, sender: str, nexthop: str, queue_id: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "queue_id": queue_id,
        "sender": sender,
        "nexthop": nexthop,
        "exit_status": end.code,
        "exit_name": sysexits.NAMES.get(end.code, ""),
        "status_line": end.output.decode("utf-8"),
        "recipients": [],
        "skipped": [],
        "throttled": False,
        "notices": [],
        "servers": [],
    }


def _recipient(outcome: Outcome) -> dict[str, Any]:
    dsn = outcome.dsn
    shown: dict[str, Any] = {
        "recipient": outcome.recipient.address,
        "original_recipient": outcome.recipient.original,
        "status": outcome.disposition.value,
        "action": outcome.action,
        "dsn": dsn.status,
        "relay": outcome.relay,
        "reason": dsn.reason,
        "remote_mta": f"dns; {dsn.remote_mta}" if dsn.remote_mta else "",
        "diagnostic_code": (
            f"{dsn.diagnostic_type}; {dsn.diagnostic}" if dsn.diagnostic else ""
        ),
        "delays": [round(part, 3) for part in outcome.delays],
        "tls": outcome.tls,
    }
    if outcome.soft_bounce:
        shown["soft_bounced"] = True
    return shown


def _server(server: ServerRecord) -> dict[str, Any]:
    tls = server.tls
    return {
        "relay": server.relay.namaddrport,
        "tls": tls and {**tls._asdict(), "details": dict(tls.details)},
        "reused": server.reused,
        "commands": [line for way, line in server.transcript if way == "Out:"],
    }
