"""Delivery records as Postfix logs them (log_adhoc), one line per recipient."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.smtp.address import quote_local

if TYPE_CHECKING:
    from typing import Any

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.outcome import Delays, Outcome


def seconds(value: float, resolution: int = 2) -> str:
    """A time as in `delay=`: two significant digits (Postfix format_tv).

    resolution: delay_logging_resolution_limit, digits after the point.
    """
    if value >= 10:
        return str(round(value))
    digits = min(resolution, 2 if value < 1 else 1)
    text = f"{max(value, 0.0):.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def delays(times: Delays, resolution: int = 2) -> str:
    """`a/b/c/d` as after `delays=`."""
    return "/".join(seconds(part, resolution) for part in times)


def printable(text: str) -> str:
    """One line, without control characters: nobody forges a second record."""
    if text.isprintable():
        return text
    return "".join(
        "?" if c < " " or "\x7f" <= c < "\xa0" or "\ud800" <= c <= "\udfff" else c
        for c in text
    )


class Record(str):
    """A delivery record, and what it says by the names of its fields."""

    fields: dict[str, Any]


def delivery_records(
    queue_id: str, outcomes: tuple[Outcome, ...], settings: Settings
) -> list[Record]:
    """The records of recipients, in the form that the settings ask for."""
    external = settings.text("info_log_address_format") == "external"
    resolution = settings.integer("delay_logging_resolution_limit")
    tls = settings.follows("3.11") and settings.flag("smtp_log_tls_feature_status")
    return [
        delivery_record(
            queue_id, outcome, external=external, resolution=resolution, tls=tls
        )
        for outcome in outcomes
    ]


def delivery_record(
    queue_id: str,
    outcome: Outcome,
    *,
    external: bool = True,
    resolution: int = 2,
    tls: bool = False,
) -> Record:
    """The record for one recipient.

    external: info_log_address_format, addresses as in mail headers. resolution:
    delay_logging_resolution_limit. tls: smtp_log_tls_feature_status.
    """
    form = quote_local if external else str
    recipient, dsn = outcome.recipient, outcome.dsn
    fields: dict[str, Any] = {"queue_id": queue_id, "to": form(recipient.address)}
    words = [f"{queue_id}: to=<{fields['to']}>"]
    original = recipient.original
    if original and original.lower() != recipient.address.lower():
        fields["orig_to"] = form(original)
        words.append(f"orig_to=<{fields['orig_to']}>")
    named: dict[str, Any] = {"relay": outcome.relay}
    if outcome.connection_use > 1:
        named["conn_use"] = outcome.connection_use
    named["delay"] = seconds(outcome.delays.total, resolution)
    named["delays"] = delays(outcome.delays, resolution)
    if tls and outcome.tls:
        named["tls"] = str(outcome.tls)
    named["dsn"] = str(dsn.status)
    word = "SOFTBOUNCE" if outcome.soft_bounce else outcome.disposition.value
    named["status"] = word
    words += [f"{name}={value}" for name, value in named.items()]
    record = Record(printable(f"{', '.join(words)} ({dsn.reason})"))
    named["delay"] = float(named["delay"])
    named["delays"] = [float(part) for part in named["delays"].split("/")]
    record.fields = {**fields, **named, "reason": dsn.reason}
    return record
