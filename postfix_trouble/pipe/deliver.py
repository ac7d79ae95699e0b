"""`postfix-trouble deliver`: the program that pipe(8) runs.

Envelope on the command line, message on standard input; one status line and an exit
code as the answer, at the end and in one write. A usage error, a wrong setting, a
message that can't be read: all of it defers the mail. With a recipient on the line
there is no way to exit 0 without a delivery.
"""

from __future__ import annotations

import os

from postfix_trouble.config.settings import ConfigError
from postfix_trouble.core.afterwards import warn
from postfix_trouble.core.failure import TableError
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.sysexits import EX_TEMPFAIL
from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.message.message import Message
from postfix_trouble.pipe import command, options
from postfix_trouble.pipe.deadline import Deadline, Settled
from postfix_trouble.report import pipe8
from postfix_trouble.report.maillog import MailLog
from postfix_trouble.report.pipe8 import Exit, deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.client import Service
    from postfix_trouble.pipe.deadline import Waiting
    from postfix_trouble.pipe.options import CommandLine
    from postfix_trouble.pipe.request import PipeRequest


def run(argv: list[str], parent: int | None = None) -> int:
    """Deliver as the arguments after `deliver` say. Returns the exit code.

    `parent`: process id of the one who waits for the answer, if it is not the parent
    of now.
    """
    deadline = Deadline(os._exit, os.getppid() if parent is None else parent)
    try:
        line = options.read(argv)
    except options.UsageError as problem:
        deadline.finished()
        end = deferred("4.3.5", f"command line usage error: {problem}")
        if "--json" not in argv:
            return _write(end.output)
        from postfix_trouble.report import as_json

        return _write(f"{as_json.failure(end, '', '', '')}\n".encode())
    call = Call(line, deadline)
    end = call.run()
    try:
        _write(call.text(end))
    except Exception as bug:  # noqa: BLE001  the exit code says the same
        warn(call.note, "answer", bug)
    return end.code


def one_shot(line: CommandLine) -> Entry:
    """What a delivery by a process of its own needs. Raises ConfigError, UsageError."""
    from postfix_trouble.client.service import Service

    settings = command.read_settings(line)
    log = MailLog.of(settings, line.value("--log-file"))
    return Entry(log, Service(settings, log.write))


class Entry(Value):
    """The log and the service of requests with the same options."""

    log: MailLog
    service: Service


class Call:
    """One run of `deliver`."""

    def __init__(
        self,
        line: CommandLine,
        deadline: Waiting,
        entry: Callable[[CommandLine], Entry] = one_shot,
        message: Message | None = None,
    ) -> None:
        """`entry` finds the log and the service for the options of the line.
        `message`: None: it is on standard input."""
        self.line = line
        self.deadline = deadline
        self.log = MailLog("postfix-trouble", line.value("--log-file"))
        self.queue_id = line.value("--queue-id", "NOQUEUE")
        self._entry = entry
        self._message = message
        self.request: PipeRequest | None = None

    def note(self, text: str) -> None:
        """Log something about this request."""
        self.log.write(f"{self.queue_id}: {text}")

    def run(self) -> Exit:
        """Deliver, and say how it ended, whatever goes wrong. Raises what is a bug as
        long as nothing is known about anybody."""
        try:
            end = self.deliver()
            self.deadline.finished()
        except (Exception, Settled) as problem:  # noqa: BLE001  after() may raise it
            self.deadline.finished()
            return self.after(problem)
        return end

    def deliver(self) -> Exit:
        """Do it. Raises UsageError, ConfigError, TableError."""
        line = self.line
        if not line.recipients:
            raise options.UsageError("no recipients")
        self.log, service = self._entry(line)
        settings = service.settings
        self.deadline.start(settings.seconds("trouble_deadline"))
        settings.refuse_unusable()
        if self._message is None and os.isatty(0):
            os.write(2, b"Type the message, header first; end it with Ctrl-D.\n")
        message = self._message or Message.read(0, timeout=self.deadline.time_left())
        if isinstance(message, DSN):
            self.note(message.reason)
            return pipe8.answer(message)
        return self._deliver_message(service, message)

    def after(self, problem: Exception | Settled) -> Exit:
        """The answer when something of ours went wrong: whatever it was, who has the
        message has it. Raises it if nothing is known about anybody."""
        if isinstance(problem, Settled):
            why = DSN(EnhancedStatus("4.3.0"), "terminated by signal")
        elif isinstance(problem, TableError):
            why = DSN(EnhancedStatus("4.3.0"), f"table look-up error: {problem}")
        elif isinstance(problem, (options.UsageError, ConfigError)):
            text = f"mail system configuration error: {problem}"
            why = DSN(EnhancedStatus("4.3.5"), text)
        elif self.request is not None and self.request.outcomes:
            warn(self.note, "delivery broken off", problem)
            why = DSN(EnhancedStatus("4.3.0"), "internal error, see the log")
        else:
            raise problem
        report = self.request and self.request.so_far(why)
        return pipe8.result(report.outcomes) if report else pipe8.answer(why)

    def _deliver_message(self, service: Service, message: Message) -> Exit:
        from postfix_trouble.pipe.request import PipeRequest

        line = self.line
        request = command.read_request(line, service.settings, message)
        if isinstance(request, DSN):
            self.note(request.reason)
            return pipe8.answer(request)
        # What Postfix counts are queue file records: up to a byte more for each line.
        if line.switch("--size") and request.size > 2 * message.size:
            self.note(f"the message has {message.size} bytes, not {request.size}")
        problem = service.open_state(self.note)
        self.request = PipeRequest(
            service,
            request,
            message,
            self.deadline,
            self.log,
            age=command.time_in_queue(line, message),
            by_hand=line.switch("--json") and not self._behind_pipe8(),
            verbose=line.switch("-v"),
            problem=problem,
        )
        return self.request.deliver()

    def _behind_pipe8(self) -> bool:
        """Whether a JSON object is read by pipe(8), that does not understand it.

        Then the exit code alone is the answer, and one for all recipients: a queue id,
        no terminal, and what master(8) leaves in the environment of its processes.
        """
        if not self.line.value("--queue-id") or "MAIL_CONFIG" not in os.environ:
            return False
        if any(map(os.isatty, range(3))):
            return False
        self.note(
            "warning: --json behind pipe(8), which can't read it: take --json out of"
            " master.cf"
        )
        return True

    def text(self, end: Exit) -> bytes:
        """The answer: the status line, or the JSON object."""
        if not self.line.switch("--json"):
            return end.output
        from postfix_trouble.report import as_json

        request = self.request
        if request is not None and request.report is not None:
            text = as_json.render(request.report, end)
        else:
            line = self.line
            sender, nexthop = line.value("--sender"), line.value("--nexthop")
            text = as_json.failure(end, sender, nexthop, self.queue_id)
        return (text + "\n").encode("utf-8")


def _write(output: bytes) -> int:
    """Write the answer. A status line goes out in one piece.

    Returns the exit code of a deferral, for what fails before anything is tried.
    """
    try:
        while output:
            output = output[os.write(1, output) :]
    except OSError:
        # Nobody listens any more; the exit code says the same.
        pass
    return EX_TEMPFAIL
