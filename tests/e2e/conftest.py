"""The Postfix that the tests in this directory share, and its transports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import contract
import pytest
import side_by_side
from installation import install
from private_postfix import PrivatePostfix, transport

ROOT = Path(__file__).parent.parent.parent
ACCOUNT = "nobody"

# Both clients read these from main.cf. So short that a hanging server is no nuisance.
TIMEOUTS = {
    f"smtp_{stage}_timeout": "2s"
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory that every account can read, with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="postfix-trouble-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def installed(place: Path) -> Path:
    """The program, installed so that pipe(8)'s account can run it."""
    return install(place / "program")


def example_entries(program: Path, place: Path) -> str:
    """Both transports of master.cf.example, with the paths of this test."""
    example = (ROOT / "master.cf.example").read_text()
    state = place / "state"
    state.mkdir()
    shutil.chown(state, ACCOUNT)
    for standing, here in {
        "/usr/local/bin/postfix-trouble": str(program),
        "/var/lib/postfix-trouble": str(state),
        "user=trouble": f"user={ACCOUNT}",
    }.items():
        assert standing in example
        example = example.replace(standing, here)
    return transport(example, "trouble") + transport(example, "troubles")


@pytest.fixture(scope="session")
def postfix(
    own_network: None, installed: Path, place: Path
) -> Iterator[PrivatePostfix]:
    """A running Postfix with our transports and its own smtp(8)."""
    scripts = place / "contract"
    contract.write_scripts(scripts)
    our_log = place / "trouble.log"
    our_log.touch()
    shutil.chown(our_log, ACCOUNT)
    instance = PrivatePostfix(
        place / "postfix",
        main={
            **TIMEOUTS,
            **contract.MAIN,
            "trouble_destination_recipient_limit": "1",
            "trouble_log_file": str(our_log),
        },
        master=example_entries(installed, place) + contract.master(scripts, ACCOUNT),
        routes=contract.routes() + side_by_side.routes(),
    )
    instance.start()
    yield instance
    instance.stop()
