"""Mistakes that somebody could make in the heart of the program, one at a time.

Each is an edit to a copy of the package. The tests named with it have to notice:
tests/policy/test_seeded_mistakes.py holds them to that. As a script this prints, for
each mistake, whether they did.
"""

from __future__ import annotations

import compileall
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent.parent / "postfix_trouble"
# Children at a time.
PARALLEL = 2


class Mistake(NamedTuple):
    """An edit: in this file, this text becomes that one."""

    file: str
    text: str
    becomes: str


TESTS = {
    "policy/trouble.py": ("policy/test_trouble.py",),
    "smtp/replies.py": ("policy/test_replies.py",),
    "smtp/recipients.py": ("engine/test_attempt.py", "engine/test_delivery.py"),
    "smtp/delivery.py": ("engine/test_delivery.py", "engine/test_reuse.py"),
    "smtp/handshake.py": (
        "engine/test_session.py",
        "engine/test_session_security.py",
        "engine/test_delivery.py",
    ),
    "smtp/transaction.py": ("engine/test_transaction.py", "engine/test_delivery.py"),
    "smtp/session.py": ("engine/test_delivery.py", "engine/test_session.py"),
}

MISTAKES = [
    # --- the decision
    Mistake(
        "policy/trouble.py",
        "if soft_here and not now.final_server:",
        "if soft and not now.final_server:",
    ),
    Mistake(
        "policy/trouble.py",
        "if soft_here and not now.final_server:",
        "if soft_here:",
    ),
    Mistake(
        "policy/trouble.py",
        "return Action.DEFER if soft else Action.BOUNCE",
        "return Action.DEFER if soft_here else Action.BOUNCE",
    ),
    Mistake(
        "policy/trouble.py",
        "return Action.DEFER if soft else Action.BOUNCE",
        "return Action.DEFER",
    ),
    Mistake("policy/trouble.py", "and why.status.hard and not now.final_server", ""),
    Mistake("policy/trouble.py", " and finish and not now.complete", " and finish"),
    Mistake(
        "policy/trouble.py",
        "Fail.THROTTLE in flags and finish",
        "finish",
    ),
    Mistake("policy/trouble.py", "(Fail.THROTTLE | Fail.DONT_CACHE)", "Fail.THROTTLE"),
    Mistake(
        "policy/trouble.py",
        "verdict = misc_fail(now, Fail.THROTTLE, reply, reason)",
        "verdict = misc_fail(now, Fail.NONE, reply, reason)",
    ),
    Mistake(
        "policy/trouble.py",
        "verdict = misc_fail(now, Fail.NONE, reply, reason)",
        "verdict = misc_fail(now, Fail.THROTTLE, reply, reason)",
    ),
    # --- the report
    Mistake(
        "policy/trouble.py",
        "if not (status.soft or status.hard):",
        "if reply.klass not in (4, 5):",
    ),
    Mistake("policy/trouble.py", "500 <= code <= 509", "500 <= code < 509"),
    Mistake("policy/trouble.py", "500 <= code <= 509", "500 <= code <= 510"),
    Mistake("policy/trouble.py", " or code == 555", ""),
    Mistake("policy/trouble.py", "code < 400 or", "code <= 400 or"),
    Mistake("policy/trouble.py", "code > 599", "code >= 599"),
    Mistake(
        "policy/trouble.py",
        "retry = lost is not Lost.DATA and now.plaintext_fallback",
        "retry = now.plaintext_fallback",
    ),
    Mistake(
        "policy/trouble.py",
        '"4.3.0" if lost is Lost.DATA else "4.4.2"',
        '"4.4.2"',
    ),
    # --- the end of a recipient
    Mistake("policy/trouble.py", "    if why.status.hard:\n", "    if False:\n"),
    Mistake(
        "policy/trouble.py",
        "why._replace(status=why.status.softened())",
        "why",
    ),
    Mistake(
        "policy/trouble.py",
        "    if fallback:\n        return why._replace(status=local)",
        '    if fallback:\n        return why._replace(reason="")',
    ),
    Mistake("policy/trouble.py", "        self.deliver_done = now\n", "        pass\n"),
    Mistake(
        "policy/trouble.py",
        "if self.setup_done is None:\n            self.setup_done = now",
        "self.setup_done = now",
    ),
    # --- replies
    Mistake(
        "smtp/replies.py",
        'if klass not in ("2", "4", "5"):',
        'if klass not in "2345":',
    ),
    Mistake("smtp/replies.py", "said is not None and said[0] == klass", "said"),
    Mistake("smtp/replies.py", "self._garbled = self.garbage = True", "pass"),
    Mistake("smtp/replies.py", "if self._stored < self._limit:", "if True:"),
    Mistake("smtp/replies.py", 'line = line.partition(b"\\0")[0]', "pass"),
    Mistake("smtp/replies.py", "return self.consumed > REPLY_LIMIT", "return False"),
    # --- the books
    Mistake(
        "smtp/recipients.py",
        "if self.unmarked:\n            raise",
        "if 0:\n            raise",
    ),
    Mistake(
        "smtp/recipients.py",
        "sorted(self._kept, key=lambda rcpt: rcpt.position)",
        "self._kept",
    ),
    Mistake(
        "smtp/recipients.py", "verdict.throttle and put_off and", "verdict.throttle and"
    ),
    Mistake("smtp/recipients.py", 'relay.namaddrport if relay else "none"', '"none"'),
    Mistake(
        "smtp/recipients.py",
        "            self.skip(verdict.dsn.reason)\n            self._kept += ",
        "            self._kept += ",
    ),
    Mistake(
        "smtp/recipients.py",
        "if verdict.action is Action.DEFER\n",
        "if verdict.action is Action.BOUNCE\n",
    ),
    # --- hosts
    Mistake(
        "smtp/delivery.py",
        "0 < addresses <= self.addresses",
        "0 < addresses < self.addresses",
    ),
    Mistake(
        "smtp/delivery.py",
        "0 < sessions <= self.sessions",
        "0 < sessions < self.sessions",
    ),
    Mistake(
        "smtp/delivery.py",
        "return self.last or self.route.last_resort\n",
        "return True\n",
    ),
    Mistake(
        "smtp/delivery.py",
        " or not self.attempt.unmarked or route.last_resort\n",
        " or not self.attempt.unmarked\n",
    ),
    Mistake(
        "smtp/delivery.py", "policy = policy._replace(level=TlsLevel.NONE)", "pass"
    ),
    Mistake("smtp/delivery.py", "self.sessions -= counted", "pass"),
    Mistake("smtp/delivery.py", "self.addresses -= 1", "pass"),
    Mistake("smtp/delivery.py", "elif self.attempt.unmarked and not", "elif not"),
    Mistake("smtp/delivery.py", ", complete=attempt.complete", ""),
    Mistake(
        "smtp/delivery.py", "not lmtp and relayhost in first", "relayhost in first"
    ),
    # --- the dialogue
    Mistake(
        "smtp/handshake.py",
        "session.lmtp or reply.code == 421",
        "session.lmtp or reply.klass == 4",
    ),
    Mistake(
        "smtp/handshake.py",
        "reply = reply._replace(status=reply.status.softened())\n        _refused",
        "_refused",
    ),
    Mistake(
        "smtp/handshake.py",
        'status = "5.4.6" if session.relay.best',
        'status = "5.4.6" if True',
    ),
    Mistake(
        "smtp/handshake.py",
        "return (yield from _introduce(session, esmtp=True))",
        "return (yield from _log_in(session))",
    ),
    Mistake(
        "smtp/handshake.py",
        "if session.lmtp or session.destination.port != 25:",
        "if session.lmtp:",
    ),
    Mistake(
        "smtp/handshake.py",
        "session.capabilities = capabilities.Capabilities()",
        "pass",
    ),
    Mistake("smtp/transaction.py", "return course.sender_rejected\n", "return False\n"),
    Mistake(
        "smtp/transaction.py",
        "Phase.DATA and not course.accepted",
        "Phase.DATA and False",
    ),
    Mistake("smtp/transaction.py", "data.klass == 3", "data.code == 354"),
    Mistake(
        "smtp/transaction.py",
        "if reply.klass != 3 and course.accepted:",
        "if reply.klass != 3:",
    ),
    Mistake(
        "smtp/transaction.py",
        "len(accepted) if session.lmtp and accepted else 1",
        "len(accepted)",
    ),
    Mistake("smtp/transaction.py", "0 < limit < size", "0 < limit <= size"),
    Mistake(
        "smtp/transaction.py",
        "session.attempt.complete |= alive",
        "session.attempt.complete = True",
    ),
    Mistake(
        "smtp/transaction.py", "Lost.EOF if phase is Phase.BODY else reply", "reply"
    ),
    Mistake(
        "smtp/transaction.py",
        "if course.sender_rejected:\n            return course",
        "if False:\n            return course",
    ),
    Mistake("smtp/transaction.py", "size > _WINDOW", "size > 100 * _WINDOW"),
    Mistake("smtp/session.py", "now = now._replace(final_server=False)\n", "pass\n"),
    Mistake("smtp/session.py", "and bool(self.attempt.unmarked)\n", "\n"),
    Mistake(
        "smtp/session.py", "            self.tls is not None\n", "            True\n"
    ),
]


def seed(mistake: Mistake, original: Path, directory: Path) -> None:
    """Copy the package to a directory, with one mistake in it."""
    shutil.copytree(original, directory / PACKAGE.name)
    file = directory / PACKAGE.name / mistake.file
    source = file.read_text()
    if source.count(mistake.text) != 1:
        raise LookupError(f"not once in {mistake.file}: {mistake.text!r}")
    file.write_text(source.replace(mistake.text, mistake.becomes))


def noticed(mistake: Mistake, original: Path) -> bool:
    """Whether the tests fail with this mistake. For a process of its own."""
    import pytest

    tests = [f"tests/{name}" for name in TESTS[mistake.file]]
    with tempfile.TemporaryDirectory() as directory:
        seed(mistake, original, Path(directory))
        sys.path.insert(0, directory)
        sys.dont_write_bytecode = True
        plain = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
        code = pytest.main([*plain, *tests])
        import postfix_trouble

        where = str(postfix_trouble.__file__)
        assert where.startswith(directory), where
    return code == pytest.ExitCode.TESTS_FAILED


def compiled(directory: Path) -> Path:
    """A copy of the package that need not be compiled for each mistake."""
    copy = directory / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns(".*_cache"))
    compileall.compile_dir(copy, quiet=1)
    return copy


def main(original: Path) -> None:
    """Print a line for each mistake: its number, and whether it was noticed."""
    # What all children need is loaded once; the package itself is not.
    import hypothesis.strategies
    import pytest  # noqa: F401

    import certificates  # noqa: F401

    assert hypothesis.strategies
    assert "postfix_trouble" not in sys.modules
    running: dict[int, int] = {}
    for number, mistake in enumerate(MISTAKES):
        if len(running) >= PARALLEL:
            _report(running)
        child = os.fork()
        if not child:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            try:
                os._exit(0 if noticed(mistake, original) else 1)
            except BaseException:  # noqa: BLE001  a child must not go on in the loop
                os._exit(2)
        running[child] = number
    while running:
        _report(running)


def _report(running: dict[int, int]) -> None:
    child, status = os.wait()
    word = {0: "noticed", 1: "missed"}.get(os.waitstatus_to_exitcode(status), "broken")
    print(running.pop(child), word, flush=True)


if __name__ == "__main__":
    os.chdir(PACKAGE.parent)
    with tempfile.TemporaryDirectory() as place:
        main(compiled(Path(place)))
