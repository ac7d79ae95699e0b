"""What Postfix's smtp_trouble(3) decides, as plain data.

Written down from the decision tables of Postfix, not from the code under test: the
tests go through all combinations and look up here what has to come out. ANY in a
column means that it does not matter. The first row that fits counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

ANY = None
KEEP, DEFER, BOUNCE = "keep", "defer", "bounce"


def row_for(table: list[tuple[Any, ...]], *inputs: object) -> tuple[Any, ...]:
    """Outputs of the first row whose leading columns fit the inputs."""
    for row in table:
        columns = row[: len(inputs)]
        if all(c is ANY or c == i for c, i in zip(columns, inputs, strict=True)):
            return row[len(inputs) :]
    raise LookupError(f"no row for {inputs}")


class EntryPoint(NamedTuple):
    """How an entry point differs from the others."""

    # The destination is in trouble if a recipient is deferred; None: as flags say.
    throttle: bool | None
    # Fills the report by itself (step 1).
    fills: bool
    # All recipients that are left, or one.
    bulk: bool = True


ENTRY_POINTS = {
    "sess_fail": EntryPoint(throttle=True, fills=False),
    "site_fail": EntryPoint(throttle=True, fills=True),
    "mesg_fail": EntryPoint(throttle=False, fills=True),
    "misc_fail": EntryPoint(throttle=None, fills=True),
    "rcpt_fail": EntryPoint(throttle=False, fills=True, bulk=False),
    "stream_except": EntryPoint(throttle=True, fills=False),
}

# Step 1, by code. A reply of the server with its default status:
# code, status in the report, "Protocol error: " in front, counts as protocol error.
BY_CODE = [
    ("000", "5.5.0", False, True),
    ("100", "5.5.0", False, True),
    ("199", "5.5.0", False, True),
    ("200", "5.5.0", True, True),
    ("250", "5.5.0", True, True),
    ("299", "5.5.0", True, True),
    ("300", "5.5.0", False, True),
    ("354", "5.5.0", False, True),
    ("399", "5.5.0", False, True),
    ("400", "4.0.0", False, False),
    ("421", "4.0.0", False, False),
    ("450", "4.0.0", False, False),
    ("499", "4.0.0", False, False),
    ("500", "5.0.0", False, True),
    ("503", "5.0.0", False, True),
    ("509", "5.0.0", False, True),
    ("510", "5.0.0", False, False),
    ("550", "5.0.0", False, False),
    ("552", "5.0.0", False, False),
    ("554", "5.0.0", False, False),
    ("555", "5.0.0", False, True),
    ("556", "5.0.0", False, False),
    ("599", "5.0.0", False, False),
    ("600", "5.5.0", False, True),
    ("999", "5.5.0", False, True),
]

# Step 2 for all recipients:
# class of the status, soft_bounce, soft-non-final flag, final host
#   -> what is decided, word in the log, class of the status there
BULK = [
    ("4", ANY, ANY, False, KEEP, "", ""),
    ("4", ANY, ANY, True, DEFER, "deferred", "4"),
    ("5", False, False, False, BOUNCE, "bounced", "5"),
    ("5", False, False, True, BOUNCE, "bounced", "5"),
    ("5", True, False, False, KEEP, "", ""),
    ("5", True, False, True, BOUNCE, "SOFTBOUNCE", "4"),
    ("5", False, True, False, KEEP, "", ""),
    ("5", False, True, True, BOUNCE, "bounced", "5"),
    ("5", True, True, False, KEEP, "", ""),
    ("5", True, True, True, BOUNCE, "SOFTBOUNCE", "4"),
    # Out of reach of the dialogue: step 1 makes it 5.5.0.
    ("2", False, ANY, ANY, BOUNCE, "bounced", "5"),
    ("2", True, ANY, ANY, BOUNCE, "SOFTBOUNCE", "4"),
]

# Step 2 for one recipient: class, soft_bounce, final host -> as above
ONE = [
    ("4", ANY, False, KEEP, "", ""),
    ("4", ANY, True, DEFER, "deferred", "4"),
    ("5", False, ANY, BOUNCE, "bounced", "5"),
    ("5", True, False, KEEP, "", ""),
    ("5", True, True, BOUNCE, "SOFTBOUNCE", "4"),
]

# The conversation breaks: how -> status, words, class of error for the postmaster,
# whether another try without TLS is thought of
STREAM = {
    "EOF": ("4.4.2", "lost connection with {} while {}", False, True),
    "TIME": ("4.4.2", "conversation with {} timed out while {}", False, True),
    "DATA": ("4.3.0", "local data error while talking to {}", True, False),
}

# The records: operation, class of the status, soft_bounce
#   -> word in the log, status for X.7.1, RFC 3464 action
APPEND = [
    ("defer", "4", ANY, "deferred", "4.7.1", "delayed"),
    ("defer", ANY, ANY, "deferred", "4.0.0", "delayed"),
    ("bounce", "5", False, "bounced", "5.7.1", "failed"),
    ("bounce", "5", True, "SOFTBOUNCE", "4.7.1", "delayed"),
    ("bounce", ANY, False, "bounced", "5.0.0", "failed"),
    ("bounce", ANY, True, "SOFTBOUNCE", "4.0.0", "delayed"),
    ("sent", "2", ANY, "sent", "2.7.1", "relayed"),
    ("sent", ANY, ANY, "sent", "2.0.0", "relayed"),
]

# smtp_delivery_status_filter: operation, class of its result, soft_bounce
#   -> word in the log, status for a result X.9.9; False: it is not allowed
FILTER = [
    ("defer", "4", ANY, "deferred", "4.9.9"),
    ("defer", "5", False, "bounced", "5.9.9"),
    ("defer", "5", True, "SOFTBOUNCE", "4.9.9"),
    ("bounce", "5", False, "bounced", "5.9.9"),
    ("bounce", "5", True, "SOFTBOUNCE", "4.9.9"),
    ("bounce", "4", ANY, "deferred", "4.9.9"),
    ("sent", "2", ANY, "sent", "2.9.9"),
    ("defer", ANY, ANY, False, ""),
    ("bounce", ANY, ANY, False, ""),
    ("sent", ANY, ANY, False, ""),
]

# What is left after the last host: class of the report (empty: none),
# last destination is a fallback relay, first one is the relayhost, the report is of a
# loop (X.4.6), best_mx_transport is set
#   -> status (None: as it was), warning
LEFT_OVER = [
    ("", ANY, ANY, ANY, ANY, "4.3.0", ""),
    ("4", ANY, ANY, ANY, ANY, None, ""),
    (ANY, True, ANY, ANY, ANY, "4.3.5", "smtp_fallback_relay configuration problem"),
    (ANY, ANY, True, ANY, ANY, "4.3.5", "relayhost configuration problem"),
    # Postfix passes it to that transport, which is out of reach here: deferred.
    (ANY, ANY, ANY, True, True, "4.3.5", "best_mx_transport"),
    (ANY, ANY, ANY, ANY, ANY, None, ""),
]
