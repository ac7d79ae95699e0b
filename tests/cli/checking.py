"""`check` in this process, and an entry of master.cf without mistakes."""

from __future__ import annotations

import contextlib
import io
import json

from postfix_trouble.cli import main as cli_main

SOUND = (
    "argv=/usr/bin/postfix-trouble deliver --queue-id ${queue_id} --nexthop ${nexthop}"
    " --sender ${sender} -- ${recipient}"
)
START = "user=nobody null_sender= "


def findings(*argv: str) -> tuple[list[dict[str, str]], int]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = cli_main.main(["check", "--json", "--no-dns", *argv])
    return json.loads(output.getvalue())["findings"], code


def about(found: list[dict[str, str]], name: str) -> dict[str, str]:
    (one,) = [f for f in found if f["about"] == name]
    return one
