"""Messages per second through a real Postfix: by this program, and by other means.

The queue of a private Postfix is filled, then timed while it is emptied. The ways take
turns, so that whatever else the machine does hits all of them; figures are medians,
ratios are to Postfix's own smtp(8) with its default connection cache. Needs root, and
a machine that does nothing else.

usage: throughput.py PATH-OF-POSTFIX-TROUBLE [--messages N] [--rounds N] [--at-once N]
                     [--delay MS]... [--only NAME]... [--directory TMPFS]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from postfix_queue import PATIENCE, Queue, Run

HERE = Path(__file__).parent
SIZE = 4096
ACCOUNT = "nobody"
MEASURE = "smtp(8)"
MEASURE_TLS = "smtp(8), TLS"
ENGINE = "pipe(8) to the engine, client in C"
PLAIN = "plain smtplib by pipe(8)"
ENCRYPT = "smtp_tls_security_level=encrypt"
REUSE = "smtp_tls_connection_reuse"


class Place(NamedTuple):
    """What a way needs to know."""

    program: str
    home: Path
    port: int


class Way(NamedTuple):
    """How mail gets from the queue to the server."""

    # Of the messages, this part is enough for a figure.
    part: float
    transport: Callable[[Place], str]
    master: Callable[[Place], str] = lambda place: ""
    server: Callable[[Place], list[str]] = lambda place: []
    # Where that listens.
    socket: str = "lmtpd"
    # Whether the server offers STARTTLS: a table of its own.
    tls: bool = False


def _pipe(argv: Callable[[Place], str], part: float) -> Way:
    return Way(
        part,
        lambda place: f"bench:[127.0.0.1]:{place.port}",
        lambda place: (
            f"bench unix - n n - - pipe\n"
            f"  user={ACCOUNT} null_sender= argv={argv(place)}\n"
        ),
    )


def _lmtpd(place: Place) -> str:
    return (
        f"{place.program} lmtp --nexthop [127.0.0.1]:{place.port}"
        f" -o myhostname=client.test --log-file {place.home}/ours"
    )


def _msmtp(place: Place) -> str:
    return (
        f"msmtp -C /dev/null --host=127.0.0.1 --port={place.port}"
        " --from=${sender} -- ${recipient}"
    )


def _in_python(place: Place) -> str:
    """What the shell script starts, beside the interpreter and the package."""
    venv = Path(place.program).parent.parent
    (place.home / "shell/bin").mkdir(parents=True)
    (place.home / "shell/lib").symlink_to(venv / "lib")
    (place.home / "shell/bin/python3").symlink_to(venv / "bin/python3")
    copied = shutil.copy(HERE.parent / "bin/postfix-trouble", place.home / "shell/bin")
    return str(copied)


def _msmtp_tls(place: Place) -> str:
    tls = "--tls=on --tls-starttls=on --tls-certcheck=off"
    return _msmtp(place).replace(" --from", f" {tls} --from")


def _smtp_tls(*settings: str) -> Way:
    options = "".join(f" -o {setting}" for setting in (ENCRYPT, *settings))
    return Way(
        1.0,
        lambda place: f"bench:[127.0.0.1]:{place.port}",
        lambda place: f"bench unix - - n - - smtp{options}\n",
        tls=True,
    )


def _in_c(place: Place) -> str:
    return f"{place.home}/client"


def _alone(options: str = "") -> Callable[[Place], str]:
    """One process for each mail."""
    return lambda place: (
        f"{place.program} deliver --sender ${{sender}} --nexthop ${{nexthop}}"
        " --queue-id ${queue_id} --size ${size} -o myhostname=client.test"
        f"{options} --log-file {place.home}/ours -- ${{recipient}}"
    )


def _engine(client: Callable[[Place], str], options: str = "") -> Way:
    """pipe(8) to an engine that stays, which runs as the same account."""
    by_pipe = _pipe(
        lambda place: (
            f"{client(place)} deliver --engine={place.home}/engine/socket"
            " --sender ${sender} --nexthop ${nexthop}"
            " --queue-id ${queue_id} --size ${size} -o myhostname=client.test"
            f"{options.format(home=place.home)}"
            f" --log-file {place.home}/ours -- ${{recipient}}"
        ),
        1.0,
    )
    return by_pipe._replace(
        server=lambda place: [
            *("setpriv", f"--reuid={ACCOUNT}", "--regid=nogroup", "--clear-groups"),
            *(place.program, "serve", f"--listen=unix:{place.home}/engine/socket"),
            f"--log-file={place.home}/ours",
        ],
        socket="engine/socket",
    )


WAYS = {
    MEASURE: Way(1.0, lambda place: f"smtp:[127.0.0.1]:{place.port}"),
    "lmtp(8) to our listener": Way(
        1.0,
        lambda place: f"lmtp:unix:{place.home}/lmtpd",
        server=lambda place: [
            *_lmtpd(place).split(),
            f"--listen=unix:{place.home}/lmtpd",
        ],
    ),
    "lmtp(8) to us by spawn(8)": Way(
        1.0,
        lambda place: "lmtp:unix:private/lmtpd",
        lambda place: (
            f"lmtpd unix - n n - - spawn\n  user={ACCOUNT} argv={_lmtpd(place)}\n"
        ),
    ),
    ENGINE: _engine(_in_c),
    f"{ENGINE}, state directory": _engine(_in_c, " --state-directory {home}/state"),
    "pipe(8) to the engine, client in Python": _engine(_in_python)._replace(part=0.3),
    "pipe(8) to /bin/true": _pipe(lambda place: "/bin/true", 1.0),
    "msmtp by pipe(8)": _pipe(_msmtp, 0.3),
    "ours by pipe(8)": _pipe(_alone(), 0.1),
    PLAIN: _pipe(
        lambda place: (
            f"{_interpreter(place.program)} {place.home}/plain_smtplib.py {place.port}"
            " ${sender} ${recipient}"
        ),
        0.1,
    ),
    MEASURE_TLS: _smtp_tls(),
    f"{MEASURE_TLS}, {REUSE}": _smtp_tls(f"{REUSE}=yes"),
    f"{ENGINE}, TLS": _engine(_in_c, f" -o {ENCRYPT}")._replace(tls=True),
    f"{ENGINE}, TLS, {REUSE}": _engine(_in_c, f" -o {ENCRYPT} -o {REUSE}=yes")._replace(
        tls=True
    ),
    "msmtp by pipe(8), TLS": _pipe(_msmtp_tls, 0.3)._replace(tls=True),
    "ours by pipe(8), TLS": _pipe(_alone(f" -o {ENCRYPT}"), 0.1)._replace(tls=True),
}
# Way, delay of the server (ms), least ratio to smtp(8).
TARGETS = [
    (ENGINE, 0, 0.5),
    (ENGINE, 100, 0.95),
    (f"{ENGINE}, state directory", 0, 0.33),
    ("lmtp(8) to our listener", 0, 0.72),
    ("lmtp(8) to our listener", 100, 0.97),
    ("lmtp(8) to us by spawn(8)", 0, 0.8),
    ("lmtp(8) to us by spawn(8)", 100, 0.95),
]
# MiB of the listener with 20 connections.
MEMORY_LIMIT = 40.0
# Least ratio of the engine's rate to that of msmtp, both by pipe(8).
MSMTP_TARGET = 2.5
# Least ratio of our rate by pipe(8) to that of the plain script.
PIPE_TARGET = 1.8


def _interpreter(program: str) -> str:
    found = Path(program).resolve().parent / "python3"
    return str(found) if found.exists() else sys.executable


# --- one run --------------------------------------------------------------------------


@contextlib.contextmanager
def sink(delay: int, certificate: Path | None) -> Iterator[int]:
    """A server that takes everything, `delay` ms after the final dot. Its port.

    smtp-sink(1) is the faster one, but knows no delays below a second, and no TLS.
    """
    command = [sys.executable, str(HERE / "sink.py"), str(delay / 1000)]
    if certificate is not None:
        command.append(str(certificate))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            if delay or certificate is not None:
                yield port
        finally:
            process.communicate("")
    if not delay and certificate is None:
        # The port was free a moment ago.
        where = f"127.0.0.1:{port}"
        command = ["smtp-sink", "-u", ACCOUNT, "-m", "1000", where, "1000"]
        with subprocess.Popen(command) as process:
            try:
                _wait_for(port)
                yield port
            finally:
                process.terminate()


def _wait_for(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < until, "smtp-sink does not listen"
            time.sleep(0.01)


@contextlib.contextmanager
def listening(command: list[str], path: Path) -> Iterator[tuple[int, ...]]:
    """Our server on a socket, if there is one. Its process id."""
    if not command:
        yield ()
        return
    with subprocess.Popen(command) as process:
        try:
            until = time.monotonic() + PATIENCE
            while not path.exists():
                assert process.poll() is None, "it did not start"
                assert time.monotonic() < until, "it does not listen"
                time.sleep(0.01)
            path.chmod(0o666)
            yield (process.pid,)
        finally:
            process.terminate()


def _certificate(home: Path) -> Path:
    """One for the server, with its key."""
    path = home / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=sink.test", "-keyout", path, "-out", home / "public.pem"]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as file:
        file.write((home / "public.pem").read_text())
    return path


def measure(
    name: str, program: str, where: str, delay: int, messages: int, at_once: int
) -> Run:
    """Fill the queue and empty it."""
    way = WAYS[name]
    home = Path(tempfile.mkdtemp(prefix="throughput-", dir=where))
    home.chmod(0o755)
    (home / "ours").touch()
    shutil.chown(home / "ours", ACCOUNT)
    shutil.copy(HERE / "plain_smtplib.py", home)
    for folder, mode in {"engine": 0o755, "state": 0o700}.items():
        (home / folder).mkdir(mode=mode)
        shutil.chown(home / folder, ACCOUNT)
    certificate = _certificate(home) if way.tls else None
    if "client in C" in name:
        launcher = HERE.parent / "launcher/compile"
        subprocess.run([launcher, home / "client"], check=True)
    try:
        with sink(delay, certificate) as port:
            place = Place(program, home, port)
            # tlsproxy(8) ends by a signal where only smtp(8) is told.
            more = {"smtp_tls_security_level": "encrypt"} if way.tls else {}
            master = way.master(place)
            queue = Queue(home, way.transport(place), master, at_once, more)
            path = home / way.socket
            with listening(way.server(place), path) as others, queue.running():
                queue.fill(messages, SIZE)
                return queue.empty(messages, others)
    finally:
        shutil.rmtree(home)


# --- all of them ----------------------------------------------------------------------


def compare(options: argparse.Namespace, delay: int, tls: bool) -> dict[str, Run]:
    """Medians for a server that takes so many ms for a message."""
    names = [name for name in WAYS if not options.only or name in options.only]
    names = [name for name in names if WAYS[name].tls == tls]
    if not shutil.which("msmtp"):
        print("msmtp is not installed, so it is not among them")
        names = [name for name in names if not name.startswith("msmtp")]
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            way = WAYS[name]
            count = max(100, int(options.messages * way.part))
            run = measure(
                name, options.program, options.directory, delay, count, options.at_once
            )
            print(f"  {name}: {run.rate:.0f}/s", file=sys.stderr)
            runs[name].append(run)
    return {
        name: Run(*(median(column) for column in zip(*found, strict=True)))
        for name, found in runs.items()
    }


def show(title: str, results: dict[str, Run]) -> None:
    """A table, as docs/performance.md has it."""
    print(
        f"\n| {title} | messages/s | ratio | CPU ms/message | MiB | MiB not Postfix |"
    )
    print("|---|---|---|---|---|---|")
    base = results.get(MEASURE) or results.get(MEASURE_TLS)
    for name, run in results.items():
        ratio = f"{run.rate / base.rate:.2f}" if base else ""
        print(
            f"| {name} | {run.rate:.0f} | {ratio} | {run.cpu:.2f}"
            f" | {run.memory:.0f} | {run.ours:.0f} |"
        )


def judge(results: dict[int, dict[str, Run]]) -> bool:
    """Say which targets are met. True if all of those that were measured are."""
    checks = []
    for name, delay, least in TARGETS:
        found = results.get(delay, {})
        if name in found and MEASURE in found:
            ratio = found[name].rate / found[MEASURE].rate
            what = f"{name}, {delay} ms: {ratio:.2f} of {MEASURE}, at least {least}"
            checks.append((ratio >= least, what))
            if "listener" in name:
                memory = found[name].ours
                what = f"{name}: {memory:.0f} MiB, at most {MEMORY_LIMIT:.0f}"
                checks.append((memory <= MEMORY_LIMIT, what))
    quick = results.get(0, {})
    if ENGINE in quick and "msmtp by pipe(8)" in quick:
        ratio = quick[ENGINE].rate / quick["msmtp by pipe(8)"].rate
        what = f"{ENGINE}: {ratio:.1f} of msmtp, at least {MSMTP_TARGET}"
        checks.append((ratio >= MSMTP_TARGET, what))
    if PLAIN in quick and "ours by pipe(8)" in quick:
        ratio = quick["ours by pipe(8)"].rate / quick[PLAIN].rate
        what = f"ours by pipe(8): {ratio:.2f} of {PLAIN}, at least {PIPE_TARGET}"
        checks.append((ratio >= PIPE_TARGET, what))
    print()
    for good, what in checks:
        print("met   " if good else "MISSED", what)
    return all(good for good, _ in checks)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--delay", type=int, action="append", help="ms; 0 and 100")
    parser.add_argument("--only", action="append")
    parser.add_argument("--directory", default="/dev/shm")
    options = parser.parse_args(argv)
    # Postfix runs it in a directory of its own.
    options.program = os.path.abspath(options.program)
    if os.geteuid() != 0 or not shutil.which("postfix", path="/usr/sbin"):
        print("not measured: messages per second (needs root and a Postfix)")
        return 0
    results = {}
    for delay in options.delay or [0, 100]:
        results[delay] = compare(options, delay, tls=False)
        if results[delay]:
            show(f"server answers after {delay} ms", results[delay])
    if found := compare(options, 0, tls=True):
        show("TLS, to a server in Python", found)
    return 0 if judge(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
