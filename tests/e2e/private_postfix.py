"""A Postfix of the test's own: configuration, queue, data and log in one directory.

PrivatePostfix has to run in namespaces of its own (private_network.py): its
configuration is put over /etc/postfix there, so that all of Postfix's commands, those
of unprivileged users too, find it and not the machine's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, Self

from private_network import put_over
from waiting import wait

ETC = Path("/etc/postfix")
# Seconds to wait for something that takes a few tenths.
PATIENCE = 120.0
MESSAGE = b"From: sender@sender.test\nTo: list\nSubject: sample\n\nHello.\n.\nBye.\n"

MAIN = {
    "compatibility_level": "3.6",
    "myhostname": "client.example.test",
    "mydomain": "example.test",
    "mydestination": "",
    "mynetworks": "127.0.0.0/8",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "default_transport": "discard",
    "local_transport": "discard",
    "alias_maps": "",
    "notify_classes": "",
    "smtp_connection_cache_on_demand": "no",
    "biff": "no",
}
MASTER = """
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
smtp      unix  -       -       n       -       -       smtp
proxymap  unix  -       -       n       -       -       proxymap
postlog   unix-dgram n  -       n       -       1       postlogd
"""


class Delivery(NamedTuple):
    """One delivery record of the log."""

    service: str
    queue_id: str
    recipient: str
    relay: str
    dsn: str
    status: str
    reason: str


_RECORD = re.compile(
    r"\s(?P<tag>\S+)\[\d+\]: (?P<queue_id>\w+): to=<(?P<recipient>.*?)>,"
    r"( orig_to=<.*?>,)? relay=(?P<relay>\S+),( conn_use=\d+,)? delay=\S+, delays=\S+,"
    # From 3.11 on.
    r"( tls=\S+,)?"
    # A long reason is cut, with the parenthesis that ends it.
    r" dsn=(?P<dsn>[\d.]+), status=(?P<status>\w+) \((?P<reason>.*?)\)?$"
)


def deliveries(log: str) -> list[Delivery]:
    """The delivery records in the text of a log."""
    found = [m for line in log.splitlines() if (m := _RECORD.search(line))]
    return [
        Delivery(
            m["tag"].rpartition("/")[2],
            *m.group("queue_id", "recipient", "relay", "dsn", "status", "reason"),
        )
        for m in found
    ]


class Postfix:
    """start(), submit(), delivery(); stop() at the end.

    All commands are told where its configuration is: several can run at a time.
    """

    def __init__(
        self,
        directory: Path,
        main: Mapping[str, str],
        master: str,
        services: str = MASTER,
    ) -> None:
        self.directory = directory
        self.log_file = directory / "mail.log"
        self.etc = directory / "etc"
        for name in ("queue", "data"):
            (directory / name).mkdir()
        shutil.chown(directory / "data", "postfix")
        self.etc.mkdir(exist_ok=True)
        (self.etc / "master.cf").write_text(services + master)
        settings = {
            **_places(),
            **MAIN,
            "queue_directory": str(directory / "queue"),
            "data_directory": str(directory / "data"),
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(directory),
            **main,
        }
        (self.etc / "main.cf").write_text(_lines(settings))

    def start(self) -> None:
        """Start the master daemon."""
        self._run("postfix", "start")

    def reload(self) -> None:
        """Have it read its configuration again."""
        self._run("postfix", "reload")

    def stop(self) -> None:
        """Stop it, and wait until it has gone."""
        self._run("postfix", "abort")

    @contextmanager
    def running(self) -> Iterator[None]:
        """From start to stop."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    @contextmanager
    def rearranged(
        self, *, main: Mapping[str, str], routes: str = "", master: str = ""
    ) -> Iterator[Self]:
        """Have more in its files, and an empty queue. All as before afterwards."""
        names = ("main.cf", "transport", "master.cf")
        before = {name: (self.etc / name).read_text() for name in names}
        # A table with the same entry twice is no table for Postfix.
        known = before["transport"].splitlines()
        new = [line for line in routes.splitlines() if line not in known]
        added = "".join(f"{line}\n" for line in new)
        self.empty_queue()
        self.stop()
        try:
            for name, text in zip(names, (_lines(main), added, master), strict=True):
                (self.etc / name).write_text(before[name] + text)
            with self.running():
                yield self
                self.empty_queue()
        finally:
            for name, text in before.items():
                (self.etc / name).write_text(text)
            self.start()

    # --- mail

    def submit(
        self,
        *recipients: str,
        sender: str = "sender@sender.test",
        message: bytes = MESSAGE,
        options: Iterable[str] = (),
    ) -> None:
        """Hand in a message as sendmail(1) does."""
        argv = ("-i", *options, "-f", sender, "--", *recipients)
        self._run("sendmail", *argv, message=message)

    def log(self) -> str:
        """The log so far."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_text(errors="backslashreplace")

    def delivery(self, recipient: str) -> Delivery:
        """The first delivery record for a recipient, waited for."""
        return self.delivered([recipient])[recipient]

    def delivered(
        self, recipients: Iterable[str], status: str = ""
    ) -> dict[str, Delivery]:
        """The first delivery record (of a status) for each recipient, waited for."""
        wanted = set(recipients)

        def found() -> dict[str, Delivery]:
            records = [r for r in deliveries(self.log()) if status in ("", r.status)]
            return {r.recipient: r for r in reversed(records) if r.recipient in wanted}

        def missing() -> str:
            return f"nothing about {sorted(wanted - set(found()))} in:\n{self.log()}"

        wait(lambda: len(found()) == len(wanted), missing, patience=PATIENCE)
        return found()

    # --- the queue

    def flush(self, queue_id: str = "") -> None:
        """Try again one message, or all that is in the queue."""
        self._run("postqueue", *(["-i", queue_id] if queue_id else ["-f"]))

    def retry(self, *queue_ids: str) -> None:
        """Try again what is deferred, or these messages, once the attempt has ended.

        It is logged a moment before the queue manager has put the message aside.
        """

        def deferred() -> bool:
            wanted = (
                x for x in self.queue() if x["queue_id"] in queue_ids or not queue_ids
            )
            return all(x["queue_name"] == "deferred" for x in wanted)

        wait(deferred, self.log, patience=PATIENCE, pause=0.1)
        for queue_id in queue_ids or ("",):
            self.flush(queue_id)

    def queue(self) -> list[dict[str, Any]]:
        """What there is in the queue, as postqueue(1) has it."""
        return [json.loads(line) for line in self._run("postqueue", "-j").splitlines()]

    def delay_reason(self, recipient: str) -> str:
        """Why a recipient is still in the queue, in full."""
        found = chain.from_iterable(entry["recipients"] for entry in self.queue())
        entries = (x for x in found if x["address"] == recipient)
        return str(next(entries, {"": ""}).get("delay_reason", ""))

    def arrival(self, queue_id: str) -> float:
        """When a message in the queue arrived, in seconds since 1970."""
        entries = (x for x in self.queue() if x["queue_id"] == queue_id)
        return float(next(entries)["arrival_time"])

    def queued(self) -> int:
        """Messages in the queue, those that are just coming in too."""
        places = ("maildrop", "incoming", "active", "deferred")
        walks = chain(*(os.walk(self.directory / "queue" / x) for x in places))
        return sum(len(files) for _, _, files in walks)

    def run_queue(self) -> int:
        """Try again until all is done. Returns the number of queue runs."""
        for runs in count():
            if not self.queued():
                return runs
            assert runs < 2 * PATIENCE, self.log()[-5000:]
            self.flush()
            time.sleep(0.5)
        raise AssertionError

    def empty_queue(self) -> None:
        """Forget all that is in the queue."""
        self._run("postsuper", "-d", "ALL")

    def _run(self, command: str, *argv: str, message: bytes = b"") -> str:
        where = "-C" if command == "sendmail" else "-c"
        return _run(command, where, str(self.etc), *argv, message=message)


class PrivatePostfix(Postfix):
    """Its configuration is put over /etc/postfix, and all commands find it there."""

    def __init__(
        self, directory: Path, main: Mapping[str, str], master: str, routes: str
    ) -> None:
        etc = directory / "etc"
        shutil.copytree(ETC, etc, symlinks=True)
        (etc / "transport").write_text(routes)
        ours = {
            "transport_maps": f"texthash:{ETC}/transport",
            # Ours is compared with the Postfix that runs here.
            "trouble_postfix_version": version(),
        }
        super().__init__(directory, {**ours, **main}, master)
        put_over(etc, ETC)

    def _run(self, command: str, *argv: str, message: bytes = b"") -> str:
        return _run(command, *argv, message=message)


def transport(example: str, name: str) -> str:
    """One entry of a master.cf, continuation lines included."""
    lines = example.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"{name} "))
    end = start + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    return "\n".join(lines[start:end]) + "\n"


def version() -> str:
    """That of this system's Postfix, its first two numbers."""
    return ".".join(_run("postconf", "-dh", "mail_version").split(".")[:2])


def _lines(settings: Mapping[str, str]) -> str:
    """As main.cf has them."""
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


@cache
def _places() -> dict[str, str]:
    """Where this system's Postfix keeps its parts."""
    names = (
        "command_directory",
        "daemon_directory",
        "mail_owner",
        "setgid_group",
        "meta_directory",
        "shlib_directory",
        "sendmail_path",
        "mailq_path",
        "newaliases_path",
        "manpage_directory",
    )
    return {name: _run("postconf", "-h", name).strip() for name in names}


def _run(command: str, *argv: str, message: bytes = b"") -> str:
    path = shutil.which(command, path="/usr/sbin:/usr/lib:/usr/bin") or command
    done = subprocess.run(
        [path, *argv], input=message, capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{command} {argv}: {done.stderr.decode()}"
    return done.stdout.decode()
