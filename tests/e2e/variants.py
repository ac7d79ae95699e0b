"""The transport of master.cf.example with one thing changed in each."""

from __future__ import annotations

import re
from typing import NamedTuple

PORT = 2525
CONFIG = "--config /etc/postfix/main.cf"


class Variant(NamedTuple):
    """A text in the entry, and what stands in its place."""

    old: str
    new: str


VARIANTS = {
    "plain": Variant("deliver", "deliver"),
    "unknown-option": Variant("deliver", "deliver --no-such-option"),
    "unknown-setting": Variant("deliver", "deliver -o no_such_setting=1"),
    "bad-setting": Variant("deliver", "deliver -o soft_bounce=maybe"),
    "no-config": Variant(CONFIG, "--config /nonexistent/main.cf"),
    "no-nexthop": Variant("--nexthop ${nexthop}", ""),
    "no-command": Variant("deliver ", ""),
    "misspelt": Variant("deliver", "delivre"),
    "help": Variant("deliver", "--help deliver"),
    "help-behind": Variant("deliver", "deliver --help"),
    "soft": Variant("deliver", "deliver -o soft_bounce=yes"),
    "patient": Variant(CONFIG, "-o myhostname=client.example.test"),
    "deadline": Variant(
        CONFIG, "-o myhostname=client.example.test -o trouble_deadline=2s"
    ),
    # The launcher by itself, with no package and no interpreter beside it.
    "bare": Variant("", ""),
}


def master(entry: str, program: str, bare_program: str) -> str:
    """The master.cf entries of all variants."""
    entries = []
    for name, (old, new) in VARIANTS.items():
        assert old in entry
        text = entry.replace(old, new, 1) if old else entry
        text = re.sub(r"\A\S+", name, text)
        entries.append(text.replace(program, bare_program) if name == "bare" else text)
    return "".join(entries)


def settings() -> dict[str, str]:
    """What main.cf needs for them."""
    return {f"{name}_destination_recipient_limit": "1" for name in VARIANTS}


def address(name: str) -> str:
    """Where the server of a variant listens."""
    return f"127.31.0.{list(VARIANTS).index(name) + 1}:{PORT}"


def recipient(name: str) -> str:
    """A recipient whose mail takes a variant's transport."""
    return f"r@{name}.variant.test"


def routes() -> str:
    """The transport table for all variants."""
    lines = []
    for name in VARIANTS:
        host, _, port = address(name).rpartition(":")
        lines.append(f"{name}.variant.test {name}:[{host}]:{port}\n")
    return "".join(lines)
