"""A network of the test's own: only loopback, and our name server.

enter() moves this process into fresh network and mount namespaces (Linux, root), in
which any address below 127 and any port can be used, /etc/resolv.conf leads to
127.0.0.53 and nothing outside can be reached. There is no way back, and none is needed:
no test wants more of a network than loopback.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import needs

NAME_SERVER = "127.0.0.53"
FILES = {
    # What a busy machine answers late is not taken for silence: see impatient().
    "resolv.conf": f"nameserver {NAME_SERVER}\noptions timeout:5 attempts:2\n",
    "hosts": "127.0.0.1 localhost\n127.66.0.1 inhosts.test\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n"
    "networks: files\nprotocols: files\nservices: files\n",
}
_NEW_MOUNTS = 0x00020000
_NEW_NETWORK = 0x40000000
# <linux/sockios.h>, <linux/if.h>
_SET_INTERFACE_FLAGS = 0x8914
_UP = 0x1
_RUNNING = 0x40


class NotAllowed(Exception):
    """Namespaces can't be made here; the text says why."""


def enter(directory: Path) -> None:
    """Enter new namespaces. The directory keeps the files that are put over /etc."""
    if os.geteuid() != 0:
        raise NotAllowed(needs.NOT_ROOT)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS | _NEW_NETWORK) != 0:
        raise NotAllowed(f"unshare: {os.strerror(ctypes.get_errno())}")
    _run("mount", "--make-rprivate", "/")
    loopback(up=True)
    for name, text in FILES.items():
        if not Path("/etc", name).exists():
            wanted = f"/etc/{name} is missing: touch /etc/{name}"
            raise NotAllowed(needs.NO_HOSTS if name == "hosts" else wanted)
        path = directory / name
        path.write_text(text)
        put_over(path, Path("/etc") / name)


def put_over(source: Path, place: Path) -> None:
    """Let a file or directory be seen in place of another, in this namespace only."""
    _run("mount", "--bind", str(source), str(place))


@contextmanager
def impatient() -> Iterator[None]:
    """Ask once and wait a second: for a name server that is going to be silent."""
    path = Path("/etc/resolv.conf")
    path.write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
    try:
        yield
    finally:
        path.write_text(FILES["resolv.conf"])


def loopback(*, up: bool) -> None:
    """Start or stop the network: when it is down, no packet arrives."""
    with socket.socket() as any_socket:
        flags = struct.pack("16sh", b"lo", _UP | _RUNNING if up else 0)
        fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, flags)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotAllowed(f"{command[0]} is not installed") from None
    if done.returncode:
        raise NotAllowed(f"{' '.join(command)}: {done.stderr.strip()}")
