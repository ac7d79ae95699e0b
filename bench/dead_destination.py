"""A destination that answers nobody: how often it is asked, and how long that takes.

Messages for one nexthop that does not answer, through a private Postfix: by its own
smtp(8), and by our program without and with a state directory, and with an engine. What
is counted are connection attempts (SYN packets, less those that the kernel sends
again), and the time until each message has been deferred for the first time.

It needs root and Linux: the Postfix is a private one, in namespaces of its own.

usage: dead_destination.py [MESSAGES]
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "e2e")]
    sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]
    sys.path[:0] = [str(Path(__file__).parents[1])]

from installation import install
from private_postfix import PrivatePostfix, deliveries, transport
from resident_engine import ResidentEngine

import private_network

ROOT = Path(__file__).parents[1]
ACCOUNT = "nobody"
MESSAGES = 200
CONNECT_TIMEOUT = 5
PORT = 2525
# Client, and what it is called in the table. Each has a server of its own.
CLIENTS = {
    "smtp": "smtp(8)",
    "troubles": "recipe 2: ten recipients, state",
    "remembering": "recipient limit 1, state",
    "trouble": "recipe 1: recipient limit 1, no state",
    "engine": "recipient limit 1, engine",
}
# Attempts of the engine, at most.
FEW = 6
MAX_PROCESSES = 20


class Result(NamedTuple):
    attempts: int
    seconds: float


class Sniffer(threading.Thread):
    """Counts connection attempts to each address on loopback."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seen: set[tuple[str, int]] = set()
        # ETH_P_IP
        self._sock = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)
        )
        self._sock.bind(("lo", 0x0800))

    def run(self) -> None:
        while True:
            packet = self._sock.recv(128)
            head = (packet[0] & 15) * 4
            syn = packet[head + 13] & 0x12 == 0x02
            # What the kernel sends again has the same source port.
            if packet[9] == socket.IPPROTO_TCP and syn:
                source = int.from_bytes(packet[head : head + 2], "big")
                target = int.from_bytes(packet[head + 2 : head + 4], "big")
                if target == PORT:
                    self._seen.add((socket.inet_ntoa(packet[16:20]), source))

    def attempts(self, address: str) -> int:
        return sum(target == address for target, _ in self._seen)


def address(client: str) -> str:
    """Routed to where nobody is: no packet is answered."""
    return f"10.99.0.{list(CLIENTS).index(client) + 1}"


def postfix(place: Path, installed: Path, engine: ResidentEngine) -> PrivatePostfix:
    """A transport for each client, with a domain and a dead server."""
    state = place / "state"
    state.mkdir(mode=0o700)
    shutil.chown(state, ACCOUNT)
    text = (ROOT / "master.cf.example").read_text()
    text = text.replace("/usr/local/bin/postfix-trouble", str(installed))
    text = text.replace("/var/lib/postfix-trouble", str(state))
    text = text.replace("user=trouble", f"user={ACCOUNT}")
    with_state = transport(text, "troubles")
    # A limit of 1 is for a maxproc of its own.
    body = with_state.partition("\n")[2]
    remembering = f"remembering unix - n n - {MAX_PROCESSES} pipe\n{body}"
    run = f"argv={installed} deliver"
    by_engine = transport(text, "trouble").replace(
        run, f"{run} --engine={engine.path} -o trouble_destination_retry_time=300s"
    )
    by_engine = f"engine{by_engine.removeprefix('trouble')}"
    return PrivatePostfix(
        place / "postfix",
        main={
            "smtp_connect_timeout": f"{CONNECT_TIMEOUT}s",
            "trouble_destination_recipient_limit": "1",
            "remembering_destination_recipient_limit": "1",
            "engine_destination_recipient_limit": "1",
            "queue_run_delay": "1000s",
            "trouble_log_file": "/dev/null",
        },
        master=transport(text, "trouble") + with_state + remembering + by_engine,
        routes="".join(
            f"{client}.test {client}:[{address(client)}]:{PORT}\n" for client in CLIENTS
        ),
    )


def measure(
    instance: PrivatePostfix, client: str, messages: int, sniffer: Sniffer
) -> Result:
    begun = time.monotonic()
    for number in range(messages):
        instance.submit(f"r{number}@{client}.test")
    while True:
        done = {
            record.recipient
            for record in deliveries(instance.log())
            if record.recipient.endswith(f"@{client}.test")
        }
        if len(done) == messages:
            break
        time.sleep(0.2)
    took = time.monotonic() - begun
    return Result(sniffer.attempts(address(client)), took)


def main() -> int:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES
    if os.geteuid() != 0 or not shutil.which("postfix", path="/usr/sbin"):
        print("not measured: a dead destination (needs root and a Postfix)")
        return 0
    place = Path(tempfile.mkdtemp(prefix="postfix-trouble-", dir="/var/tmp"))
    place.chmod(0o755)
    (place / "etc").mkdir()
    try:
        private_network.enter(place / "etc")
    except private_network.NotAllowed as reason:
        print(f"not measured: {reason}")
        return 0
    nowhere = ["ip", "route", "add", "10.99.0.0/16", "dev", "lo"]
    subprocess.run(nowhere, check=True)
    installed = install(place / "program")
    engine = ResidentEngine(installed, place / "engine", ACCOUNT)
    engine.start()
    instance = postfix(place, installed, engine)
    instance.start()
    sniffer = Sniffer()
    sniffer.start()
    results: dict[str, Result] = {}
    print(
        f"{messages} messages to a server that does not answer,"
        f" time-out {CONNECT_TIMEOUT} s\n\n"
        f"{'':38} attempts  ratio  seconds  ratio"
    )
    try:
        for client, name in CLIENTS.items():
            results[client] = found = measure(instance, client, messages, sniffer)
            model = results["smtp"]
            print(
                f"{name:38} {found.attempts:8} {found.attempts / model.attempts:6.1f}"
                f" {found.seconds:8.1f} {found.seconds / model.seconds:6.1f}",
                flush=True,
            )
            subprocess.run(["postsuper", "-d", "ALL"], check=True, capture_output=True)
    finally:
        instance.stop()
        engine.drain()
        shutil.rmtree(place)
    good = results["troubles"].attempts <= 2 * results["smtp"].attempts
    good &= results["remembering"].attempts <= MAX_PROCESSES + 1
    good &= results["engine"].attempts <= FEW
    print("\nas wanted" if good else "\nNOT as wanted: see the targets in this script")
    return not good


if __name__ == "__main__":
    sys.exit(main())
