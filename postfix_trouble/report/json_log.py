"""Log records as JSON objects, for trouble_log_format = json. Loaded only then.

The members of a delivery record are the fields of Postfix's: queue_id, to, orig_to,
relay, conn_use, delay, delays, tls, dsn, status, and reason for what stands between the
brackets. Any other record has its text as message. All have time, name, pid, and
queue_id and level if there are such.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from postfix_trouble.report.log import Record, printable

_LEVELS = ("warning", "fatal")
# A queue id has a digit in it; words before a colon have none.
_QUEUE_ID = re.compile(r"(NOQUEUE|(?=[A-Za-z]*[0-9])[0-9A-Za-z]+): (.*)", re.DOTALL)


def rendered(record: str, origin: Mapping[str, Any]) -> str:
    """One record as one line. `origin`: members that say when and where it was made."""
    import json

    found = record.fields if isinstance(record, Record) else _members(record)
    members = {
        name: printable(value) if isinstance(value, str) else value
        for name, value in {**origin, **found}.items()
    }
    return json.dumps(members)


def _members(text: str) -> dict[str, Any]:
    """What a record in words says."""
    members: dict[str, Any] = {}
    named = _QUEUE_ID.fullmatch(text)
    if named:
        members["queue_id"], text = named.groups()
    level, colon, rest = text.partition(": ")
    if colon and level in _LEVELS:
        members["level"], text = level, rest
    return {**members, "message": text}
