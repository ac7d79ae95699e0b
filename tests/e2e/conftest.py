"""The Postfix that the tests in this directory share, and its transports."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import both_clients
import contract
import dns_cases
import pytest
import real_cases
import real_server
import setting_cases
import side_by_side
import text_cases
import tls_cases
import tlsrpt_cases
import variants
from installation import install
from private_postfix import PrivatePostfix, transport

from fresh_checkout import open_place

ROOT = Path(__file__).parent.parent.parent
ACCOUNT = "nobody"

# What both clients are compared in.
GROUPS = {
    **dns_cases.GROUPS,
    **real_cases.GROUPS,
    **setting_cases.GROUPS,
    **text_cases.GROUPS,
    **tls_cases.GROUPS,
    **tlsrpt_cases.GROUPS,
}
CASES = {
    **dns_cases.CASES,
    **real_cases.CASES,
    **setting_cases.CASES,
    **text_cases.CASES,
    **text_cases.UNTOLD,
    **tls_cases.CASES,
    **tlsrpt_cases.CASES,
}

# Both clients read these from main.cf. Nobody who does something is so slow.
TIMEOUTS = {
    f"smtp_{stage}_timeout": "10s"
    for stage in (
        "connect",
        "helo",
        "mail",
        "rcpt",
        "data_init",
        "data_xfer",
        "data_done",
        "rset",
        "quit",
    )
}


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory that every account can read, with a short path."""
    with open_place() as directory:
        yield directory


@pytest.fixture(scope="session")
def installed(place: Path) -> Path:
    """The program, installed so that pipe(8)'s account can run it."""
    return install(place / "program")


@pytest.fixture(scope="session")
def our_log(place: Path) -> Path:
    """The file that the program logs to."""
    path = place / "trouble.log"
    path.touch()
    shutil.chown(path, ACCOUNT)
    return path


@pytest.fixture(scope="session")
def example(installed: Path, place: Path) -> str:
    """master.cf.example with the paths and the account of this test."""
    text = (ROOT / "master.cf.example").read_text()
    state = place / "state"
    state.mkdir(mode=0o700)
    shutil.chown(state, ACCOUNT)
    for standing, here in {
        "/usr/local/bin/postfix-trouble": str(installed),
        "/var/lib/postfix-trouble": str(state),
        "user=trouble": f"user={ACCOUNT}",
    }.items():
        assert standing in text
        text = text.replace(standing, here)
    return text


@pytest.fixture(scope="session")
def postfix(
    own_network: None, installed: Path, example: str, place: Path, our_log: Path
) -> Iterator[PrivatePostfix]:
    """A running Postfix with our transports and its own smtp(8)."""
    scripts = place / "contract"
    contract.write_scripts(scripts)
    bare = place / "bare-launcher"
    shutil.copy(installed, bare)
    recipe = transport(example, "trouble")
    instance = PrivatePostfix(
        place / "postfix",
        main={
            **TIMEOUTS,
            **contract.MAIN,
            **variants.settings(),
            **both_clients.main(GROUPS),
            "trouble_destination_recipient_limit": "1",
            "trouble_log_file": str(our_log),
            # For addresses that begin with a dash.
            "allow_min_user": "yes",
        },
        master=recipe
        + transport(example, "troubles")
        + variants.master(recipe, str(installed), str(bare))
        + both_clients.master(recipe, GROUPS, text_cases.FLAGS)
        + real_server.MASTER
        + contract.master(scripts, ACCOUNT),
        routes=contract.routes()
        + side_by_side.routes()
        + variants.routes()
        + both_clients.routes(CASES)
        + real_server.ROUTES,
    )
    instance.start()
    yield instance
    instance.stop()
