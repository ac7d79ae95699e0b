"""A Postfix of the test's own: configuration, queue, data and log in one directory.

It has to run in namespaces of its own (private_network.py): its configuration is put
over /etc/postfix there, so that all of Postfix's commands, those of unprivileged users
too, find it and not the machine's.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from private_network import put_over

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


class PrivatePostfix:
    """start(), submit(), delivery(); stop() at the end."""

    def __init__(
        self, directory: Path, main: Mapping[str, str], master: str, routes: str
    ) -> None:
        self.directory = directory
        self.log_file = directory / "mail.log"
        etc = directory / "etc"
        shutil.copytree(ETC, etc, symlinks=True)
        for name in ("queue", "data"):
            (directory / name).mkdir()
        shutil.chown(directory / "data", "postfix")
        (etc / "transport").write_text(routes)
        (etc / "master.cf").write_text(MASTER + master)
        settings = {
            **_places(),
            **MAIN,
            "queue_directory": str(directory / "queue"),
            "data_directory": str(directory / "data"),
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(directory),
            "transport_maps": f"texthash:{ETC}/transport",
            # Ours is compared with the Postfix that runs here.
            "trouble_postfix_version": version(),
            **main,
        }
        text = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (etc / "main.cf").write_text(text)
        put_over(etc, ETC)

    def start(self) -> None:
        """Start the master daemon."""
        _run("postfix", "start")

    def stop(self) -> None:
        """Stop it, and wait until it has gone."""
        _run("postfix", "abort")

    def reload(self) -> None:
        """Have it read its configuration again."""
        _run("postfix", "reload")

    def submit(
        self,
        *recipients: str,
        sender: str = "sender@sender.test",
        message: bytes = MESSAGE,
    ) -> None:
        """Hand in a message as sendmail(1) does."""
        _run("sendmail", "-i", "-f", sender, "--", *recipients, message=message)

    def log(self) -> str:
        """The log so far."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_text(errors="backslashreplace")

    def delay_reason(self, recipient: str) -> str:
        """Why a recipient is still in the queue, in full."""
        for line in _run("postqueue", "-j").splitlines():
            for entry in json.loads(line)["recipients"]:
                if entry["address"] == recipient:
                    return str(entry.get("delay_reason", ""))
        return ""

    def arrival(self, queue_id: str) -> float:
        """When a message in the queue arrived, in seconds since 1970."""
        found = map(json.loads, _run("postqueue", "-j").splitlines())
        return next(
            float(e["arrival_time"]) for e in found if e["queue_id"] == queue_id
        )

    def delivery(self, recipient: str) -> Delivery:
        """The first delivery record for a recipient, waited for."""
        return self.delivered([recipient])[recipient]

    def delivered(
        self, recipients: Iterable[str], status: str = ""
    ) -> dict[str, Delivery]:
        """The first delivery record (of a status) for each recipient, waited for."""
        wanted = set(recipients)
        until = time.monotonic() + PATIENCE
        while True:
            found: dict[str, Delivery] = {}
            for record in deliveries(self.log()):
                if record.recipient in wanted and status in ("", record.status):
                    found.setdefault(record.recipient, record)
            if len(found) == len(wanted):
                return found
            missing = sorted(wanted - set(found))
            assert time.monotonic() < until, (
                f"nothing about {missing} in:\n{self.log()}"
            )
            time.sleep(0.02)

    def flush(self, queue_id: str = "") -> None:
        """Try again one message, or all that is in the queue."""
        _run("postqueue", *(["-i", queue_id] if queue_id else ["-f"]))


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
