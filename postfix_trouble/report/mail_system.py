"""How mail that we write ourselves looks: what bounces and notices share.

They go through sendmail -G, which adds nothing to a header: it has to be complete,
and addresses in it need their domains.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Iterable

from postfix_trouble.core.value import Value
from postfix_trouble.report.log import printable


class MailSystem(Value):
    """In whose name we write."""

    # myhostname, and myorigin: the domain of addresses that have none.
    hostname: str
    origin: str
    # mail_name
    name: str = "Postfix"
    # header_from_format = obsolete
    obsolete_from: bool = False

    def mailbox(self, address: str, name: str) -> str:
        """An address with a name, as it stands in From: and To:."""
        full = self.qualified(address)
        return f"{full} ({name})" if self.obsolete_from else f"{name} <{full}>"

    def qualified(self, address: str) -> str:
        """The address with a domain."""
        return address if "@" in address else f"{address}@{self.origin}"

    def opening(self, now: float, queue_id: str, subject: str) -> list[tuple[str, str]]:
        """Message-ID, Date and From of a mail that we write now (since 1970).

        Not Postfix's own form of the id: the message that this is about has that,
        perhaps of this second. `subject` tells apart what else is written about it.
        """
        from datetime import UTC, datetime
        from hashlib import sha256

        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d%H%M%S")
        about = sha256(printable(subject).encode()).hexdigest()[:12]
        unique = f"{stamp}.{queue_id}.{about}" if queue_id else f"{stamp}.{about}"
        return [
            ("Message-ID", f"<{unique}@{self.hostname}>"),
            ("Date", date(now)),
            ("From", self.mailbox("MAILER-DAEMON", "Mail Delivery System")),
        ]


def date(moment: float) -> str:
    """A date as in mail headers, in UTC: the local zone is the environment's."""
    from datetime import UTC, datetime
    from email.utils import format_datetime

    return format_datetime(datetime.fromtimestamp(int(moment), UTC))


def header(fields: Iterable[tuple[str, str]]) -> bytes:
    """Format a mail header, up to and with its empty line. UTF-8 stays UTF-8."""
    from email.policy import compat32

    # 8bit: what is not ASCII is for the readers of RFC 6532, as from Postfix.
    policy = compat32.clone(max_line_length=None, cte_type="8bit")
    lines = []
    for name, value in fields:
        raw = printable(value).encode().decode("ascii", "surrogateescape")
        lines.append(policy.fold_binary(name, raw))
    return b"".join(lines) + b"\n"


def wrapped(text: str, width: int = 79) -> str:
    """Break a line at blanks, and indent what follows (Postfix line_wrap).

    Words are never broken: a reader may search for one.
    """
    from textwrap import wrap

    return "\n".join(
        wrap(
            printable(text),
            width,
            subsequent_indent="    ",
            expand_tabs=False,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )
