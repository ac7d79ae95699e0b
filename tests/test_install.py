"""make install, make uninstall, make deb; then the program as pipe(8) runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

import needs
import postfix_trouble
from fresh_checkout import PIPE_ENVIRONMENT, fresh_checkout, open_place, run
from scripted_server import ScriptedServer
from test_readme import blocks

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.first, pytest.mark.long]

SHARE = {
    "bash-completion/completions/postfix-trouble",
    "fish/vendor_completions.d/postfix-trouble.fish",
    "man/man1/postfix-trouble.1",
    "man/man8/postfix-trouble.8",
    "zsh/site-functions/_postfix-trouble",
    *(
        f"doc/postfix-trouble/{path.name}"
        for path in ROOT.glob("[A-Z]*.md")
        if path.name != "CONTRIBUTING.md"
    ),
    *(f"doc/postfix-trouble/docs/{path.name}" for path in ROOT.glob("docs/*.[ms]*")),
    *(f"doc/postfix-trouble/examples/{path.name}" for path in ROOT.glob("contrib/*")),
    "doc/postfix-trouble/LICENSE",
    "doc/postfix-trouble/examples/master.cf.example",
}
# What a compiled program begins with.
ELF = b"\x7fELF"
MESSAGE = b"Subject: x\n\nx\n"
# Reply to RCPT TO, exit status, what the status line begins with.
CASES = (
    ("250 2.1.5 Ok", 0, b"250 2.0.0 "),
    ("450 4.2.0 Greylisted", 75, b"4.2.0 "),
    ("550 5.1.1 Unknown", 67, b"5.1.1 "),
)


NOBODY: Mapping[str, Any] = (
    {"user": "nobody", "group": "nogroup", "extra_groups": []}
    if os.geteuid() == 0
    else {}
)


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as path:
        yield path


def deliver(
    program: list[str], reply: str, account: Mapping[str, Any]
) -> subprocess.CompletedProcess[bytes]:
    """Have it run as an account that owns nothing, where nothing is set up."""
    with ScriptedServer({"stages": {"rcpt": reply}}) as server:
        return subprocess.run(
            [
                *(*program, "deliver", "--sender", "s@a.test", "--nexthop"),
                *(f"[127.0.0.1]:{server.port}", "--", "r@b.test"),
            ],
            input=MESSAGE,
            capture_output=True,
            env=PIPE_ENVIRONMENT,
            cwd="/",
            umask=0o077,
            check=False,
            **account,
        )


def assert_delivers(*program: str, account: Mapping[str, Any] = NOBODY) -> None:
    for reply, code, status in CASES:
        done = deliver(list(program), reply, account)
        assert (done.returncode, done.stderr) == (code, b"")
        assert done.stdout.startswith(status)


def files(top: Path) -> set[str]:
    """All that is not a directory."""
    found = (path for path in top.rglob("*") if path.is_symlink() or path.is_file())
    return {str(path.relative_to(top)) for path in found}


def assert_open(top: Path) -> None:
    """Everybody can read it, nobody but the owner can write."""
    for path in top.rglob("*"):
        if not path.is_symlink():
            wanted = 0o055 if path.is_dir() else 0o044
            assert path.stat().st_mode & 0o066 == wanted & 0o066, path
            assert path.is_file() or path.stat().st_mode & 0o011 == 0o011, path


def test_prefix(place: Path) -> None:
    tree = fresh_checkout(place)
    prefix = place / "prefix"
    library = prefix / "lib/postfix-trouble"
    # An older version, and what belongs to others.
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    stale = library / f"lib/{python}/site-packages/postfix_trouble/gone.py"
    foreign = prefix / "share/man/man1/other.1"
    for path in (stale, foreign):
        path.parent.mkdir(parents=True)
        path.touch()
    subprocess.run(["chmod", "-R", "go=rX", prefix], check=True)

    shown = run(tree, f"make install PREFIX={prefix}")
    assert shown == f"installed: {prefix}/bin/postfix-trouble\n"
    assert files(prefix / "share") == SHARE | {"man/man1/other.1"}
    assert not stale.exists()
    assert_open(prefix)
    assert_delivers(f"{prefix}/bin/postfix-trouble")
    launcher = library / "bin/postfix-trouble"
    assert launcher.read_bytes()[:4] == (b"#!/b" if needs.find("cc") is None else ELF)
    example = prefix / "share/doc/postfix-trouble/examples/master.cf.example"
    commands = re.findall(r"argv=(\S+)", example.read_text())
    assert set(commands) == {f"{prefix}/bin/postfix-trouble"}
    service = example.parent / "postfix-trouble-lmtp.service"
    assert f"ExecStart={prefix}/bin/postfix-trouble lmtp " in service.read_text()
    packages = stale.parent.parent
    assert not [*packages.glob("pip*"), *packages.glob("setuptools*")]

    run(tree, f"make uninstall PREFIX={prefix}")
    assert files(prefix) == {"share/man/man1/other.1"}
    assert not library.exists()
    assert not example.parent.parent.exists()


def test_destdir_without_a_compiler(place: Path) -> None:
    """A packager's directory must not be found in what is installed."""
    tree = fresh_checkout(place)
    stage = place / "the stage"
    run(tree, f"make install CC=false PREFIX=/opt/ours DESTDIR='{stage}'")
    assert [path.name for path in stage.iterdir()] == ["opt"]
    prefix = stage / "opt/ours"
    library = prefix / "lib/postfix-trouble"
    assert os.readlink(prefix / "bin/postfix-trouble") == (
        "../lib/postfix-trouble/bin/postfix-trouble"
    )
    for path in prefix.rglob("*"):
        if path.is_file():
            assert str(place).encode() not in path.read_bytes(), path
        elif path.is_symlink():
            assert str(place) not in os.readlink(path), path
    assert (library / "bin/postfix-trouble").read_bytes().startswith(b"#!/bin/sh\n")
    programs = {path.name for path in (library / "bin").iterdir()}
    assert {name for name in programs if not name.startswith("python")} == {
        "postfix-trouble"
    }
    sources = {
        path
        for path in library.rglob("postfix_trouble/**/*.py")
        if path.name != "__main__.py"
    }
    assert sources
    for path in sources:
        compiled = next((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))
        # Bytes 4 to 7: by hash, and not compared with the source (PEP 552).
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0", path
    assert_delivers(str(prefix / "bin/postfix-trouble"))

    run(tree, f"make uninstall PREFIX=/opt/ours DESTDIR='{stage}'")
    assert files(stage) == set()


def test_pip(place: Path) -> None:
    """As `pipx install .` does it: an environment of its own, and what goes with it."""
    tree = fresh_checkout(place)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    wheels = place / "wheels"
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(tree)]
    subprocess.run([*pip, *build], check=True)
    prefix = place / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    python = ["--python", str(prefix / "bin/python3")]
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, *python, "install", "--no-deps", str(wheel)], check=True)
    # What it depends on is there already, and no network is needed for it.
    packages = next(prefix.glob("lib/python3*/site-packages"))
    others = Path(click.__file__).parent.parent
    (packages / "others.pth").write_text(f"{others}\n")
    program = prefix / "bin/postfix-trouble"
    assert_delivers(str(program), account={})
    shown = [str(program), "explain", "450 4.7.1 Greylisted"]
    done = subprocess.run(shown, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert files(prefix / "share") == {
        *(name for name in SHARE if not name.startswith("doc/")),
        "doc/postfix-trouble/master.cf.example",
    }


def test_pipx(place: Path) -> None:
    """As README.md has it: `pipx install .`."""
    pipx = needs.tool("pipx")
    tree = fresh_checkout(place)
    programs = place / "programs"
    index = {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    places = {"PIPX_HOME": place / "pipx", "PIPX_BIN_DIR": programs}
    places["PIPX_MAN_DIR"] = place / "man"
    # The index may be named in a file of the home directory.
    environ = {name: os.environ[name] for name in ("PATH", "HOME")} | index
    environ |= {name: str(path) for name, path in places.items()}
    subprocess.run([pipx, "install", "."], cwd=tree, env=environ, check=True)
    assert_delivers(str(programs / "postfix-trouble"), account={})
    shown = [str(programs / "postfix-trouble"), "explain", "450 4.7.1 Greylisted"]
    assert subprocess.run(shown, capture_output=True, check=False).returncode == 0


# A Debian machine like this one, whose disk forgets. Says when it is ready, and ends
# with its input.
MACHINE = """\
set -eu
mount -t tmpfs none "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
mount -t proc proc root/proc
mount --rbind /dev root/dev
echo ready
read -r line || exit 0
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[list[str]]:
    """What to put before a command to have it run there, as root."""
    needs.root()
    place = tmp_path / "machine"
    place.mkdir()
    process = subprocess.Popen(
        ["unshare", "-m", "/bin/sh", "-c", MACHINE, "sh", str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    said = process.stdout.readline()
    if said != "ready\n":
        process.communicate()
        pytest.skip(f"no machine of its own: {said.strip()}")
    enter = ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt", "--"]
    yield [*enter, "/usr/sbin/chroot", str(place / "root")]
    process.communicate()


def there(machine: list[str], *command: str) -> str:
    done = subprocess.run(
        [*machine, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def package(place: Path) -> Path:
    """The Debian package."""
    needs.compiler()
    for tool in ("dpkg-buildpackage", "dh"):
        needs.tool(tool)
    tree = fresh_checkout(place)
    name = run(tree, "make deb").splitlines()[-1]
    return tree / name


def test_debian_package(package: Path, machine: list[str]) -> None:
    copied = there(machine, "mktemp", "/root/XXXXXX.deb").strip()
    with package.open("rb") as file:
        subprocess.run([*machine, "tee", copied], stdin=file, stdout=subprocess.DEVNULL)
    before = there(machine, "find", "/etc", "/usr", "/var/lib/dpkg/info")
    # The index of manual pages takes long.
    there(machine, "dpkg", "--no-triggers", "-i", copied)
    status = there(machine, "dpkg", "--status", "postfix-trouble")
    assert f"Version: {postfix_trouble.__version__}-1\n" in status
    listed = there(machine, "dpkg", "--listfiles", "postfix-trouble").split("\n")
    assert "/usr/bin/postfix-trouble" in listed
    assert {
        "/usr/share/man/man1/postfix-trouble.1.gz",
        "/usr/share/man/man8/postfix-trouble.8.gz",
        "/usr/share/bash-completion/completions/postfix-trouble",
        "/usr/share/fish/vendor_completions.d/postfix-trouble.fish",
        "/usr/share/zsh/vendor-completions/_postfix-trouble",
    } <= set(listed)
    assert "Architecture: all\n" not in status
    assert there(machine, "dpkg", "--verify", "postfix-trouble") == ""
    launcher = [*machine, "head", "-c4", "/usr/bin/postfix-trouble"]
    assert subprocess.run(launcher, capture_output=True, check=True).stdout == ELF
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    assert_delivers(*machine, *nobody, "/usr/bin/postfix-trouble", account={})
    there(machine, "dpkg", "--no-triggers", "--purge", "postfix-trouble")
    assert there(machine, "find", "/etc", "/usr", "/var/lib/dpkg/info") == before


def test_five_lines_of_the_readme(place: Path, machine: list[str]) -> None:
    """As they stand there, on a machine with Postfix; then it is what check wants."""
    for tool in ("postconf", "postmap"):
        needs.tool(tool)
    text = (ROOT / "README.md").read_text().partition("## Install it for Postfix")[2]
    block = next(lines for lines in blocks(text) if lines[0] == "make install")
    assert len(block) == 5
    # The root of that machine does not have what is mounted in this one.
    tree = there(machine, "mktemp", "-d", "/var/tmp/XXXXXX").strip()
    pack = ["tar", "-c", "-C", str(fresh_checkout(place)), "."]
    unpack = [*machine, "tar", "-x", "-C", tree]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as sources:
        subprocess.run(unpack, stdin=sources.stdout, check=True)
    assert sources.returncode == 0
    index = [f"{k}={v}" for k, v in os.environ.items() if k.startswith("PIP_")]
    path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    there(machine, "touch", "/etc/postfix/transport")
    for command in block[:-1]:
        script = f'cd "$1"; {command}'
        there(machine, "env", "-i", path, *index, "sh", "-ec", script, "sh", tree)
    shown = there(machine, "env", "-i", path, *block[-1].split(), "--no-dns", "--json")
    found = json.loads(shown)["findings"]
    assert [each for each in found if each["severity"] == "error"] == []
    entry = [each["problem"] for each in found if each["about"].startswith("trouble,")]
    assert "no mistakes in the entry" in entry


def test_versions_agree() -> None:
    first = (ROOT / "debian/changelog").read_text().splitlines()[0]
    assert first.split()[1] == f"({postfix_trouble.__version__}-1)"


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ("", "missing: python3 (3.11 or newer); on Debian: apt-get install python3"),
        ("python3", "missing: python3-venv; on Debian: apt-get install python3"),
    ],
    ids=["python", "venv"],
)
def test_missing_tool_is_named(place: Path, tools: str, said: str) -> None:
    tree = fresh_checkout(place)
    programs = place / "programs"
    programs.mkdir()
    for name in ("sh", "find", "make"):
        (programs / name).symlink_to(shutil.which(name, path="/usr/bin:/bin") or "")
    if tools:
        python = programs / "python3"
        python.write_text("#!/bin/sh\ncase $2 in *ensurepip*) exit 1 ;; esac\n")
        python.chmod(0o755)
    command = f"PATH='{programs}' make demo PYTHON={tools}"
    shown = run(tree, command, fails=True).splitlines()
    assert shown[0].startswith(said)
    assert len(shown) == 2  # the other one is make's own
