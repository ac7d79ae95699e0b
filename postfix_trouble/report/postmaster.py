"""What the postmaster hears: transcripts of sessions that went wrong."""

from __future__ import annotations

import time

from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.report import notice
from postfix_trouble.report.mail_system import MailSystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.config.settings import Settings
    from postfix_trouble.core.outcome import Report, ServerRecord
    from postfix_trouble.report.rate_limit import RareNotices


def mail_system(settings: Settings) -> MailSystem:
    """In whose name bounces and notices are written."""
    return MailSystem(
        settings.text("myhostname"),
        settings.text("myorigin"),
        settings.text("mail_name"),
        settings.text("header_from_format") == "obsolete",
    )


def tell(
    report: Report,
    settings: Settings,
    notices: RareNotices,
    note: Callable[[str], None],
    *,
    by_mail: bool,
    verbose: bool,
) -> tuple[str, ...]:
    """Log transcripts, and mail them where that is wanted.

    Returns the class of each notice that is wanted, one for each session. A notice
    that can't be sent changes nothing.
    """
    classes = settings.words("notify_classes")
    origin = settings.text("double_bounce_sender")
    double_bounce = f"{origin}@{settings.text('myhostname')}"
    wanted = []
    for server in report.servers:
        if verbose or server.errors:
            for line in notice.log_lines(server):
                note(line)
        if notice.wanted(server, classes, report.request.sender, double_bounce):
            shown = [error for error in server.errors if error in classes]
            wanted.append(shown[-1])
            if by_mail:
                _mail(report, server, settings, notices, note, double_bounce)
    return tuple(wanted)


def _mail(
    report: Report,
    server: ServerRecord,
    settings: Settings,
    notices: RareNotices,
    note: Callable[[str], None],
    sender: str,
) -> None:
    from postfix_trouble.report.sendmail import submit

    if not notices.due(report.request.nexthop):
        return
    recipient = settings.text("error_notice_recipient")
    message = notice.build(
        server,
        mail_system(settings),
        recipient,
        now=time.time(),
        queue_id=report.request.queue_id,
        lmtp=report.request.lmtp,
    )
    submit(
        message,
        sender,
        [recipient],
        sendmail_path=settings.text("sendmail_path"),
        note=note,
    )
