"""The failsafe: whatever happens below, the mail is deferred, not lost.

pipe(8) bounces on most exit codes and believes a 0, so nothing may leave here by
chance: every path ends in os._exit() with a code that was chosen. A status for pipe(8)
is one write at the end; warnings and tracebacks go to syslog.
"""

from __future__ import annotations

import os
import sys

EX_OK = 0
EX_USAGE = 64
EX_TEMPFAIL = 75
EX_CONFIG = 78
PIPE_CODES = (EX_OK, 65, 67, 68, 69, EX_TEMPFAIL, 76, 77)
HAND_CODES = (*PIPE_CODES, EX_USAGE, EX_CONFIG)
# Commands that a person types; bin/postfix-trouble has the same list.
HAND_COMMANDS = ("send", "probe", "explain", "check", "lmtp", "serve")

# Those end by SIGINT, so that a shell's loop around them ends too.
INTERRUPTIBLE = ("send", "probe", "explain", "check")

# The launcher's mark, with its process id, and what it takes for success: a 0 that
# comes from somewhere else means nothing to it.
LAUNCHER = "@launcher="
LAUNCHED_OK = 100
# Its other mark: it has asked for the engine, and why there is none.
NO_ENGINE = "@no-engine="

# Words that click answers when they stand alone.
_ALONE = (["-h"], ["--help"], ["--version"])
# After `help`; with an address there it may stand in master.cf.
HELP_ASKED = ([], ["deliver"], *([name] for name in HAND_COMMANDS))

# Only as the first word after `deliver`: elsewhere it may be the value of an option, an
# address that somebody else chose.
ENGINE = "--engine="

# Made beforehand: there may be no memory left when they are needed.
INTERNAL_ERROR = b"4.3.0 internal error, see the log"
NO_MEMORY = b"4.3.0 system resource problem: out of memory"
TERMINATED = b"4.3.0 terminated by signal"
USAGE = "4.3.5 command line usage error: "


def main() -> None:
    """Run the command on the command line. Does not return."""
    argv = sys.argv[1:]
    ok = EX_OK
    command = ""
    code: object = EX_TEMPFAIL
    try:
        parent = os.getppid()
        if argv and argv[0].startswith(LAUNCHER):
            parent = int(argv.pop(0)[len(LAUNCHER) :])
            ok = LAUNCHED_OK
        no_engine = ""
        if argv and argv[0].startswith(NO_ENGINE):
            no_engine = argv.pop(0)[len(NO_ENGINE) :]
        command = argv[0] if argv else ""
        if command == "deliver" and not asks_for_help(argv):
            launched = ok != EX_OK
            code = deliver(argv[1:], parent, launched=launched, no_engine=no_engine)
        else:
            code = by_hand(argv)
    except MemoryError:
        answer(NO_MEMORY)
    except KeyboardInterrupt:
        if command in INTERRUPTIBLE:
            interrupted()
        answer(TERMINATED)
    except BaseException:  # noqa: BLE001 - nobody else will catch it
        answer(INTERNAL_ERROR)
        log_traceback()
    typed = command in HAND_COMMANDS or (command != "deliver" and at_terminal())
    allowed = HAND_CODES if typed else PIPE_CODES
    if type(code) is not int or code not in allowed:
        code = EX_TEMPFAIL
    os._exit(ok if code == EX_OK else code)


def deliver(argv: list[str], parent: int, *, launched: bool, no_engine: str) -> int:
    """The way of every mail: nothing but the answer may be printed, no time be lost.

    `parent`: the process that waits for the answer. Without it nothing is sent.
    `no_engine`: why the launcher found none, if it has looked.
    """
    import gc

    gc.disable()  # one delivery makes little garbage; 1 ms
    silence_stderr()
    answer_signals(launched=launched)
    if argv and argv[0].startswith(ENGINE):
        from postfix_trouble.engine import client

        path = argv.pop(0)[len(ENGINE) :]
        if no_engine:
            client.warn(path, no_engine)
        else:
            code = client.deliver(path, argv, parent)
            if code is not None:
                return code
            answer_signals(launched=launched)
    from postfix_trouble.pipe.deliver import run

    return run(argv, parent)


def by_hand(argv: list[str]) -> int:
    """All other commands. What may be a mistake in master.cf defers: without a
    terminal a command that does not exist is no usage error, which would bounce."""
    if not argv or argv[0] not in HAND_COMMANDS:
        # `--help` by itself is fine; `--help deliver ... -- RCPT` is no success.
        alone = argv in _ALONE or (argv[:1] == ["help"] and argv[1:] in HELP_ASKED)
        if not alone and not at_terminal():
            from postfix_trouble.cli.meant import command_problem

            # `help` is there; what it was asked for is not.
            words = argv[1:] if argv[:1] == ["help"] else argv
            return answer((USAGE + command_problem(words)).encode("ascii", "replace"))
        silence_stderr()
    open_standard_streams()
    if sys.flags.no_site:
        import site

        site.main()
    if argv and argv[0] == "lmtp" and not asks_for_help(argv):
        from postfix_trouble.lmtp.command import run as lmtp

        return lmtp(argv[1:])
    if argv and argv[0] == "serve" and not asks_for_help(argv):
        from postfix_trouble.engine.command import run as serve

        return serve(argv[1:])
    from postfix_trouble.cli.main import main as run

    try:
        code = run(argv)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else EX_TEMPFAIL
    sys.stdout.flush()
    return code


def open_standard_streams() -> None:
    """Have all three: what is closed would be the number of the next socket."""
    for number, name, mode in (
        (0, "stdin", "r"),
        (1, "stdout", "w"),
        (2, "stderr", "w"),
    ):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def interrupted() -> None:
    """Die as whoever does not catch SIGINT. Returns where that can't be."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def at_terminal() -> bool:
    """A person is there. pipe(8) gives its programs no terminal."""
    return any(map(os.isatty, (0, 1, 2)))


def asks_for_help(argv: list[str]) -> bool:
    """Somebody sits there and wants to read. In master.cf that must not end with 0."""
    return argv[1:] in (["-h"], ["--help"]) and os.isatty(0)


def silence_stderr() -> None:
    """Keep what libraries may say from pipe(8), for which stderr is the answer too."""
    if not os.isatty(2):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)


def answer_signals(*, launched: bool) -> None:
    """Until somebody knows better, a signal ends the delivery as a deferral."""
    # Not `signal`: what that adds in Python takes 5 ms.
    import _signal as signal  # type: ignore[import-not-found]

    # A signal for the whole group comes twice: once more from the launcher.
    once = [TERMINATED]

    def terminated(_number: int, _frame: object) -> None:
        try:
            text = once.pop()
        except IndexError:
            return
        answer(text)
        os._exit(EX_TEMPFAIL)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        ignored = signal.getsignal(number) == signal.SIG_IGN  # nohup
        # A shell has background commands ignore it.
        if not ignored or (launched and number == signal.SIGINT):
            signal.signal(number, terminated)


def answer(status: bytes) -> int:
    """Give pipe(8) a status line for a deferral; returns the exit code for it."""
    try:
        os.write(1, status)
    except OSError:
        pass  # nobody listens; the exit code says the same
    return EX_TEMPFAIL


def log_traceback() -> None:
    """Put the current exception into syslog, best effort, and on a terminal."""
    try:
        import signal
        import syslog
        import traceback

        # The answer is out. A syslog daemon that does not read must not keep us.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)

        text = traceback.format_exc()
        syslog.openlog("postfix-trouble", syslog.LOG_PID, syslog.LOG_MAIL)
        for line in text.splitlines():
            shown = "".join(c if c.isprintable() else "?" for c in line)
            syslog.syslog(syslog.LOG_ERR, shown)
        if os.isatty(2):
            os.write(2, text.encode(errors="replace"))
    except BaseException:  # noqa: BLE001 - the mail comes first, and it is deferred
        pass
