"""pflogsumm counts our delivery records as it counts Postfix's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import needs
from scripted_server import ScriptedServer

REPLIES = {
    "delivered": "250 2.1.5 Ok",
    "deferred": "450 4.2.0 later",
    "bounced": "550 5.1.1 no such user",
}


@pytest.fixture
def pflogsumm() -> str:
    return needs.tool("pflogsumm")


# A pflogsumm as old as this one does not know tls=; CHANGES.md says so.
@pytest.mark.parametrize(
    "setting", ["smtp_log_tls_feature_status=no", "trouble_postfix_version=3.10"]
)
def test_counts(pflogsumm: str, program: str, tmp_path: Path, setting: str) -> None:
    log = tmp_path / "mail.log"
    for word, reply in REPLIES.items():
        with ScriptedServer({"stages": {"rcpt": reply}}) as server:
            nexthop = f"[127.0.0.1]:{server.port}"
            argv = [
                "deliver",
                "-o",
                "syslog_name=postfix/trouble",
                "-o",
                setting,
                "--sender",
                "s@a.test",
            ]
            argv += [
                "--log-file",
                str(log),
                "--queue-id",
                "4SAMPLE",
                "--nexthop",
                nexthop,
            ]
            subprocess.run(
                [program, *argv, "--", f"{word}@b.test"],
                input=b"Subject: x\n\nx\n",
                capture_output=True,
                check=False,
            )
    text = log.read_text()
    counted = summary(pflogsumm, text)
    totals = re.search(r"Grand Totals.*?bytes", counted, re.DOTALL)
    assert totals
    for word in REPLIES:
        assert re.search(rf"^ +1 +{word}", totals[0], re.MULTILINE)
    assert counted == summary(pflogsumm, text.replace("/trouble[", "/smtp["))


def summary(pflogsumm: str, log: str) -> str:
    """What it makes of a log; the names of daemons in it do not matter."""
    done = subprocess.run(
        [pflogsumm], input=log, capture_output=True, text=True, check=True
    )
    return re.sub(r"\b(trouble|smtp)\b", "client", done.stdout)
