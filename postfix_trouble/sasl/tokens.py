"""OAuth tokens, printed by a command of the administrator's choice.

What is printed is the token itself, or the JSON of a token endpoint (RFC 6749 5.1). A
token that tells when it expires (a JWT, or expires_in) is kept until shortly before
that, if there is a place to keep it.
"""

from __future__ import annotations

import binascii
import os
import signal
from contextlib import suppress

from postfix_trouble.core.value import TYPE_CHECKING, Value
from postfix_trouble.sasl.redaction import Concealer

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

# Seconds. A person who has to be asked for consent won't be there in more either.
TIME_LIMIT = 10.0
# Lines of the command's complaints that are worth a log line each.
_COMPLAINTS = 10
# Bytes that the command may print, and as many to complain; a token has some thousand.
_LONGEST = 1 << 20


class Store(Value):
    """A place for tokens between requests."""

    # Key to token, empty if there is none or it has expired.
    get: Callable[[str], str]
    # Key, token, when it expires (seconds of the wall clock).
    put: Callable[[str, str, float], None]


def token(
    command: str,
    username: str,
    host: str,
    *,
    now: float,
    margin: float,
    note: Callable[[str], None],
    store: Store | None = None,
    limit: float = TIME_LIMIT,
) -> str | None:
    """The token for a user, None if there is none; why not has been noted then.

    `command` is split like a shell would do it, but no shell sees it; {username} and
    {host} in its words stand for those. It runs for `limit` seconds at most, without
    input, and what it writes to its standard error goes to `note`, never to ours.
    `now`: the wall clock. `margin`: seconds before its end that a token is dropped.
    """
    import shlex

    try:
        words = shlex.split(command)
    except ValueError as problem:
        words = []
        note(f"trouble_sasl_token_command: {problem}")
    if not words:
        return None
    known = {"{username}": username, "{host}": host}
    argv = [_filled(word, known) for word in words]
    key = token_key(command, username, host)
    kept = store.get(key) if store else ""
    if kept:
        return kept
    output = _output(argv, limit, note)
    if output is None:
        return None
    found, expires = _read(output, now)
    if not found:
        note(f"trouble_sasl_token_command: no token in what {argv[0]} printed")
        return None
    if store and expires - margin > now:
        store.put(key, found, expires - margin)
    return found


def token_key(command: str, username: str, host: str) -> str:
    """Under which a token is kept: to drop one that a server has refused."""
    return "\0".join((command, username, host))


def _filled(word: str, known: dict[str, str]) -> str:
    for mark, value in known.items():
        word = word.replace(mark, value)
    return word


# --- the command --------------------------------------------------------------------


def _output(argv: list[str], limit: float, note: Callable[[str], None]) -> bytes | None:
    import subprocess

    try:
        # A session of its own, so that what it starts can be ended with it.
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or problem
        note(f"trouble_sasl_token_command: {argv[0]}: {why}")
        return None
    heard = _heard(child, limit)
    if isinstance(heard, str):
        _kill(child)
        note(f"trouble_sasl_token_command: {argv[0]} {heard}")
        return None
    output, complaints = heard
    _complain(argv[0], output, complaints, note)
    if child.returncode:
        note(f"trouble_sasl_token_command: {argv[0]} failed: {child.returncode}")
        return None
    return output


def _heard(child: Popen[bytes], limit: float) -> tuple[bytes, bytes] | str:
    """Output and complaints of a command that has ended, else what is wrong with it.

    communicate() would keep whatever comes, until there is no memory left.
    """
    import select
    import time

    assert child.stdout
    assert child.stderr
    end = time.monotonic() + limit
    texts = {child.stdout.fileno(): b"", child.stderr.fileno(): b""}
    poll = select.poll()
    for descriptor in texts:
        poll.register(descriptor, select.POLLIN)
    left = len(texts)
    while left:
        ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
        if not ready:
            return f"took more than {limit:g}s"
        for descriptor, _ in ready:
            piece = os.read(descriptor, 65536)
            if not piece:
                poll.unregister(descriptor)
                left -= 1
            texts[descriptor] += piece
            if len(texts[descriptor]) > _LONGEST:
                return f"printed more than {_LONGEST} bytes"
    if not _ended(child, end - time.monotonic()):
        return f"took more than {limit:g}s"
    child.stdout.close()
    child.stderr.close()
    output, complaints = texts.values()
    return output, complaints


def _ended(child: Popen[bytes], seconds: float) -> bool:
    from subprocess import TimeoutExpired

    try:
        child.wait(max(0.0, seconds))
    except TimeoutExpired:
        return False
    return True


def _kill(child: Popen[bytes]) -> None:
    """End the command and what it has started, and let go of its pipes."""
    with suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _complain(
    name: str, output: bytes, complaints: bytes, note: Callable[[str], None]
) -> None:
    conceal = Concealer()
    for word in output.split():
        conceal.add(word.decode("utf-8", "replace"))
    found, _ = _read(output, 0.0)
    conceal.add(found)
    for line in complaints.decode("utf-8", "replace").splitlines()[:_COMPLAINTS]:
        text = "".join(c if c.isprintable() else "?" for c in conceal(line)[:500])
        note(f"trouble_sasl_token_command: {name}: {text}")


# --- what it printed ----------------------------------------------------------------


def _read(output: bytes, now: float) -> tuple[str, float]:
    """Token, and when it expires; 0 if it does not say. An empty token is none."""
    text = output.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        answer = _json(text.encode())
        found = str(answer.get("access_token", ""))
        lasts = _number(answer.get("expires_in"))
        expires = now + lasts if lasts else _jwt_expiry(found)
    else:
        found, expires = text, _jwt_expiry(text)
    # One word of printable ASCII (RFC 6750 2.1), or it would end the line it is in.
    whole = found.isascii() and found.isprintable() and " " not in found
    return (found, expires) if whole else ("", 0.0)


def _jwt_expiry(text: str) -> float:
    """`exp` of a JWT (RFC 7519 4.1.4). Not verified: we only save ourselves a run."""
    parts = text.split(".")
    if len(parts) != 3:
        return 0.0
    claims = parts[1].replace("-", "+").replace("_", "/")
    try:
        decoded = binascii.a2b_base64(claims + "=" * (-len(claims) % 4))
    except ValueError:
        return 0.0
    return _number(_json(decoded).get("exp"))


def _json(text: bytes) -> dict[str, object]:
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float:
    """A number, some servers write it as text; 0 if it is none."""
    try:
        number = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return 0.0
    return number if 0.0 < number < 1e12 else 0.0
