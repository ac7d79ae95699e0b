import json
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from table_cases import KEYS, ask_postmap, table

from postfix_trouble.config.settings import Settings
from postfix_trouble.tables import (
    Maps,
    TableError,
    expressions,
    is_local,
    match_list,
    open_maps,
)
from postfix_trouble.tables.base import TableUnusable
from postfix_trouble.tables.sockets import SocketMapTable, TcpTable

RECORDED = json.loads((Path(__file__).parent / "data/lookups-3.7.11.json").read_text())
NOWHERE = "/nonexistent/postmap"


def maps_of(directory: Path, kind: str, name: str, text: str = "", **more: Any) -> Maps:
    if text:
        path = directory / "table"
        path.write_text(text)
        name = str(path)
    return open_maps(f"{kind}:{name}", "smtp_some_maps", **more)


def outcome(find: Callable[[], str | None]) -> str | None:
    """What a look-up gives, or `error: ` and why it gives nothing."""
    try:
        return find()
    except (TableError, TableUnusable) as error:
        return f"error: {error}"


def agree(real: str | None, expected: str | None) -> bool:
    """Whether an outcome is the expected one; of an error, a part will do."""
    if real is None or not real.startswith("error: "):
        return real == expected
    return expected is not None and expected != "" and expected in real


def found(maps: Maps, key: str) -> str | None:
    """As the recordings have it: an empty value is one that can't be used."""
    real = outcome(lambda: maps.find(key, fold=True))
    return "" if agree(real, "empty string result") else real


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["type"])
def test_finds_what_postmap_found(case: dict[str, Any], tmp_path: Path) -> None:
    kind, name, text = case["type"], case["name"], case["file"]
    maps = maps_of(tmp_path, kind, name, text, postmap=NOWHERE, utf8=True)
    keys = case["found"]
    assert {key: found(maps, key) for key in keys} == keys


@pytest.mark.e2e
def test_finds_what_postmap_finds(tmp_path: Path) -> None:
    # The same ones each time: others are for those who look for them.
    dice = random.Random(int(os.environ.get("POSTFIX_TROUBLE_SEED", "1")))
    for _ in range(60):
        kind, name, text = table(dice)
        keys = dice.sample(KEYS, 3)
        real = ask_postmap(tmp_path, kind, name, text, keys)
        if real is None:
            continue
        maps = maps_of(tmp_path, kind, name, text, utf8=True)
        os.utime(tmp_path / "table", (0, 0)) if text else None
        for key in keys:
            assert found(maps, key) == real.get(key), (kind, name or text, key)


@pytest.mark.e2e
def test_types_of_postfix_are_looked_up_by_postmap(tmp_path: Path) -> None:
    source = tmp_path / "indexed"
    source.write_text('a@example.com first\nb second words \n"x y" third\n')
    os.system(f"postmap hash:{source}")
    maps = open_maps(f"hash:{source}", "smtp_generic_maps")
    keys = ["A@EXAMPLE.COM", "b", '"x y"', "c", "", "-", "a\nb"]
    values = ["first", "second words", "third", None, None, None, None]
    assert [maps.find(key, fold=True) for key in keys] == values
    assert maps.find("B") is None


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("hash:/nonexistent/t", "/nonexistent/t.db: No such file or directory"),
        ("nosuchtype:x", "unsupported dictionary type: nosuchtype"),
    ],
)
def test_what_postmap_complains_of_is_an_error(spec: str, problem: str) -> None:
    with pytest.raises(TableError, match=problem):
        open_maps(spec, "p").find("a")


def script(directory: Path, text: str) -> str:
    path = directory / "postmap"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("printf 'k\\tv w\\n'", "v w"),
        ("exit 1", None),
        ("echo 'postmap: warning: something' >&2; exit 1", None),
        ("printf 'k\\tv\\n'; echo 'postmap: warning: something' >&2", "v"),
        ("echo 'postmap: fatal: it burns' >&2; exit 1", "it burns"),
        ("echo 'Traceback' >&2; exit 1", "Traceback"),
        ("exit 75", "exit status 75"),
        ("kill -9 $$", "exit status -9"),
        ("printf 'other\\tv\\n'", "unexpected answer"),
        ("printf 'k\\t\\n'", "lookup of k returns an empty string result"),
    ],
    ids=repr,
)
def test_answers_of_postmap(text: str, expected: str | None, tmp_path: Path) -> None:
    maps = maps_of(
        tmp_path, "hash", "x", postmap=script(tmp_path, f"cat >/dev/null; {text}")
    )
    assert agree(outcome(lambda: maps.find("k")), expected)


def test_postmap_has_the_library_that_we_have_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expressions, "_PCRE", "libnowhere.so")
    expressions._pcre_library.cache_clear()
    postmap = script(tmp_path, r"cat >/dev/null; printf 'k\tv\n'")
    assert maps_of(tmp_path, "pcre", "", "/k/ x", postmap=postmap).find("k") == "v"
    with pytest.raises(TableError, match="it is needed for pcre:"):
        maps_of(tmp_path, "pcre", "", "/k/ x", postmap=NOWHERE).find("k")


def test_no_postmap_is_an_error_not_a_missing_key() -> None:
    with pytest.raises(TableError) as caught:
        open_maps("hash:/etc/t", "smtp_sasl_password_maps", postmap=NOWHERE).find("k")
    assert str(caught.value) == (
        "smtp_sasl_password_maps: hash:/etc/t: /nonexistent/postmap: "
        "No such file or directory; it is needed for hash:/etc/t"
    )


def test_lists_are_searched_from_left_to_right(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("a from file\nc x\n")
    maps = open_maps(f"inline:{{a=1, b=2}}, texthash:{path} static:rest", "p")
    assert [maps.find(key) for key in "abcd"] == ["1", "2", "x", "rest"]
    failing = open_maps("inline:{a=1} fail:x static:rest", "p")
    assert failing.find("a") == "1"
    with pytest.raises(TableError, match="p: fail:x"):
        failing.find("b")
    piped = open_maps("pipemap:{inline:{a=1}, fail:x}", "p")
    assert piped.find("b") is None
    with pytest.raises(TableError, match="error as asked for"):
        piped.find("a")


def test_nothing_configured_finds_nothing() -> None:
    maps = open_maps("", "p")
    assert not maps
    assert maps.find("a") is None
    assert maps.find_address("a@b") is None
    assert maps.map_address("a@b") == "a@b"


def test_case_counts_unless_the_caller_says_otherwise(tmp_path: Path) -> None:
    maps = maps_of(tmp_path, "texthash", "", "Key value\n")
    assert maps.find("Key") == "value"
    assert maps.find("KEY") is None
    assert maps.find("KEY", fold=True) == "value"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("texthash:/nonexistent", "open /nonexistent: No such file or directory"),
        ("texthash:/etc", "open /etc: "),
        ("texthash:/dev/null", "not a regular file"),
        ("cidr:/nonexistent", "No such file"),
        ("inline:{}", "need inline:{name=value...}"),
        ("inline:a=b", "no '{' at start of text"),
        ("inline:{a=b", "missing '}'"),
        ("inline:{{a}}", "missing '=' after attribute name"),
        ("inline:{{a b = c}}", "missing '='"),
        ("static:{foo", "missing '}'"),
        ("regexp:{/a/ x}", "no '{' at start of text"),
        ("pipemap:{}", "need {type:name...}"),
        ("pipemap:{inline:{a=}}", "empty result"),
        ("unionmap:{inline:{a=}}", "empty result"),
        ("unionmap:{static:x, fail:y}", "error as asked for"),
        ("plain", 'expecting "type:name" form'),
        ("static:", 'expecting "type:name" form'),
        ("-q:x", 'expecting "type:name" form'),
        ("socketmap:inet:host", "expecting socketmap:inet:host:port:name"),
        ("socketmap:unix:/nonexistent:m", "No such file"),
    ],
    ids=repr,
)
def test_a_table_that_does_not_open_is_an_error(spec: str, problem: str) -> None:
    maps = open_maps(spec, "smtp_generic_maps")
    for _ in range(2):
        with pytest.raises(TableError) as caught:
            maps.find("a")
        assert str(caught.value).startswith("smtp_generic_maps: ")
        assert problem in str(caught.value)


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t")
    with pytest.raises(TableError, match="not a regular file"):
        open_maps(f"texthash:{tmp_path}/t", "p").find("a")


def test_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTFIX_TROUBLE_TEST", "here")
    maps = open_maps("environ:x", "p")
    assert maps.find("POSTFIX_TROUBLE_TEST") == "here"
    assert maps.find("a=b\0") is None


def test_lines_that_are_passed_over_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    text = " a b\nkey\nk 1\nk 2\n"
    maps = maps_of(tmp_path, "texthash", "", text, warn=told.append)
    assert maps.find("k") == "1"
    path = tmp_path / "table"
    assert told == [
        f"{path}, line 1: logical line must not start with whitespace",
        f"{path}, line 2: expected format: key whitespace value -- ignoring this line",
        f"{path}, line 4: duplicate entry",
    ]


# --- secrets


def test_a_password_file_that_anyone_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text("host user:pass\n")
    path.chmod(0o644)
    maps = open_maps(f"texthash:{path}", "smtp_sasl_password_maps", secret=True)
    with pytest.raises(TableError) as caught:
        maps.find("host")
    assert str(caught.value) == (
        f"smtp_sasl_password_maps: texthash:{path}: {path} holds passwords, "
        f"but anyone can read it; run: chmod o= {path}"
    )
    path.chmod(0o640)
    assert maps.find("host") == "user:pass"
    indexed = tmp_path / "indexed.db"
    indexed.touch(0o644)
    spec = f"hash:{tmp_path}/indexed"
    with pytest.raises(TableError, match=r"chmod o= .*indexed\.db"):
        open_maps(spec, "p", secret=True, postmap=NOWHERE).find("host")


@pytest.mark.parametrize(
    "spec",
    [
        "inline:{host=user:canary, broken}",
        "nosuchtype:{{/host/ canary}}",
        "pipemap:{inline:{a=canary}, fail:x}",
    ],
)
def test_what_stands_in_braces_is_never_shown(spec: str) -> None:
    maps = open_maps(spec, "p", postmap=NOWHERE)
    with pytest.raises(TableError) as caught:
        maps.find("a")
    assert "canary" not in str(caught.value)


def test_no_warning_shows_a_password(tmp_path: Path) -> None:
    text = ' host canary\nhost canary\nhost canary\n"host canary\n'
    told: list[str] = []
    maps = maps_of(tmp_path, "texthash", "", text, utf8=True, warn=told.append)
    maps.find("host")
    assert len(told) == 3
    assert "canary" not in "".join(told)


# --- addresses and domains

local_only: dict[str, Any] = {
    "is_local": lambda domain: domain == "local.example",
    "delimiters": "+",
}


@pytest.mark.parametrize(
    ("entries", "address", "value"),
    [
        ("u+e@d.example 1\nu@d.example 2\n@d.example 3\n", "u+e@d.example", "1"),
        ("u@d.example 2\n@d.example 3\n", "u+e@d.example", "2"),
        ("@d.example 3\nu+e 4\nu 5\n", "u+e@d.example", "3"),
        ("u+e 4\nu 5\n", "u+e@d.example", None),
        ("u+e 4\nu 5\n@local.example 6\n", "u+e@local.example", "4"),
        ("u 5\n@local.example 6\n", "u+e@local.example", "5"),
        ("@local.example 6\n", "u+e@local.example", "6"),
        ("u@local.example 1\nu+e 2\n", "u+e@local.example", "1"),
        ("u 1\n", "u", "1"),
        ("u 1\n", "u+e", "1"),
        ("u@d.example 1\n", "U@D.Example", "1"),
        ('"a b"@d.example 1\n', "a b@d.example", "1"),
        ("ü@d.example 1\n", "Ü@d.example", "1"),
        ("a@b@d.example 1\n", "a@b@d.example", "1"),
        ("+e@d.example 1\n", "+e@d.example", "1"),
    ],
)
def test_keys_of_an_address(
    entries: str, address: str, value: str | None, tmp_path: Path
) -> None:
    maps = maps_of(tmp_path, "texthash", "", entries, utf8=True)
    assert maps.find_address(address, **local_only) == value


def test_patterns_see_the_whole_address_only(tmp_path: Path) -> None:
    maps = maps_of(tmp_path, "regexp", "", "/^@|^u@/ part\n")
    assert maps.find_address("u+e@local.example", **local_only) is None
    assert maps.find_address("u@local.example", **local_only) == "part"


@pytest.mark.parametrize(
    ("entries", "address", "propagate", "result"),
    [
        ("u@d.example v@x.example\n", "u@d.example", False, "v@x.example"),
        ("u@d.example v@x.example\n", "w@d.example", False, "w@d.example"),
        ("@d.example @x.example\n", "u+e@d.example", False, "u+e@x.example"),
        ("@d.example v@x.example\n", "u+e@d.example", True, "v@x.example"),
        ("u@d.example v@x.example\n", "u+e@d.example", False, "v@x.example"),
        ("u@d.example v@x.example\n", "u+e@d.example", True, "v+e@x.example"),
        ("u@d.example v\n", "u@d.example", True, "v@origin.example"),
        ('u@d.example "a b"@x.example\n', "u@d.example", True, "a b@x.example"),
        ('u@d.example "a\\"b"@x\n', "u@d.example", True, 'a"b@x'),
        ("u@d.example v@x.example, w@y\n", "u@d.example", True, "v@x.example"),
    ],
)
def test_rewriting(
    entries: str, address: str, propagate: bool, result: str, tmp_path: Path
) -> None:
    maps = maps_of(tmp_path, "texthash", "", entries)
    mapped = maps.map_address(
        address, propagate=propagate, origin="origin.example", **local_only
    )
    assert mapped == result


# --- lists of words


def test_items_of_a_list(tmp_path: Path) -> None:
    file = tmp_path / "words"
    file.write_text("# some\none, two\n!three four # five\n")
    words = ["!Plain", "LOGIN", f"/{file}", "inline:{six=x}", "[::1]"]

    def named(subject: str) -> bool:
        return match_list(words, subject, "smtp_sasl_mechanism_filter")

    subjects = ["plain", "login", "TWO", "three", "four", "five", "SIX", "[::1]", "x"]
    expected = [False, True, True, False, True, False, True, True, False]
    assert [named(subject) for subject in subjects] == expected
    assert not match_list([], "x", "p")


def test_the_first_item_that_matches_decides() -> None:
    assert match_list(["a", "!a"], "a", "p")
    assert not match_list(["!a", "a"], "a", "p")
    assert not match_list(["!a", "static:all"], "a", "p")
    assert match_list(["!a", "static:all"], "b", "p")


@pytest.mark.parametrize(
    "item", ["/nonexistent/words", "texthash:/nonexistent", "fail:x"]
)
def test_an_item_that_can_not_be_read_is_an_error(item: str) -> None:
    assert match_list(["a", item], "a", "p")
    with pytest.raises(TableError, match=r"^p: "):
        match_list(["a", item], "b", "p")


def test_local_domains(tmp_path: Path) -> None:
    settings = Settings(
        {"mydestination": "$myhostname, !x.example, inline:{y.example=1}"},
        overrides={"myhostname": "mx.example", "myorigin": "origin.example"},
    )
    local = is_local(settings)
    names = ["MX.example", "Origin.Example", "y.example", "x.example", "z.example"]
    assert [local(name) for name in names] == [True, True, True, False, False]


# --- servers

Serve = Callable[[Callable[[bytes], bytes | None]], tuple[str, str]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that replies to each request; None: it hangs up."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def talk(listener: socket.socket, reply: Callable[[bytes], bytes | None]) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(60)
                while request := peer.recv(4096):
                    answer = reply(request)
                    if answer is None:
                        break
                    peer.sendall(answer)

    def start(reply: Callable[[bytes], bytes | None]) -> tuple[str, str]:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=talk, args=(listener, reply)))
        threads[-1].start()
        host, port = listener.getsockname()
        return host, str(port)

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(60)


def net(text: str) -> bytes:
    data = text.encode()
    return b"%d:%s," % (len(data), data)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (net("OK found it"), "found it"),
        (net("OK é"), "é"),
        (net("NOTFOUND "), None),
        (net("TEMP later"), "temporary error: later"),
        (net("TIMEOUT slow"), "timeout: slow"),
        (net("PERM never"), "permanent error: never"),
        (net("WHAT is this"), "unexpected reply"),
        (net("OK "), "empty string result"),
        (b"4:OK x;", "malformed reply"),
        (b"x:OK x,", "malformed"),
        (b"100001:", "too long"),
        (b"9" * 50, "too long"),
        (None, "lost connection"),
    ],
    ids=repr,
)
def test_socketmap(serve: Serve, reply: bytes | None, expected: str | None) -> None:
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes | None:
        requests.append(request)
        return reply

    host, port = serve(answer)
    maps = open_maps(f"socketmap:inet:{host}:{port}:map", "smtp_generic_maps")
    assert agree(outcome(lambda: maps.find("Some Key", fold=True)), expected)
    maps.close()
    # Once more, in case it was only the connection.
    assert requests == [b"12:map some key,"] * (2 if reply is None else 1)


def test_socketmap_keeps_its_connection_and_mends_a_broken_one(serve: Serve) -> None:
    replies = iter([net("OK 1"), net("OK 2"), None, net("OK 3")])
    table_ = SocketMapTable(serve(lambda _request: next(replies)), "map")
    assert [table_.find("a", False) for _ in range(3)] == ["1", "2", "3"]
    table_.close()


@pytest.mark.parametrize("odd", ["PERM never", "TEMP later", "WHAT is this"])
def test_socketmap_that_has_no_answer_is_asked_again(serve: Serve, odd: str) -> None:
    replies = iter([net(odd), net("OK 1"), None])
    table_ = SocketMapTable(serve(lambda _request: next(replies)), "map")
    with pytest.raises(TableUnusable):
        table_.find("a", False)
    assert table_.find("a", False) == "1"
    table_.close()


def test_socketmap_that_hangs_up_on_everybody(serve: Serve) -> None:
    requests: list[bytes] = []
    table_ = SocketMapTable(serve(requests.append), "map")
    for count in (2, 3):
        with pytest.raises(TableUnusable):
            table_.find("a", False)
        # Postfix has the connection that was lost last count as the next first one.
        assert len(requests) == count
    table_.close()


def test_socketmap_waits_no_longer_than_its_limit(serve: Serve) -> None:
    release = threading.Event()

    def answer(_request: bytes) -> None:
        release.wait(60)

    table_ = SocketMapTable(serve(answer), "map", time_limit=0.2)
    with pytest.raises(TableUnusable, match="timed out"):
        table_.find("a", False)
    release.set()


def test_socketmap_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(100)
                # In pieces.
                for byte in net("OK yes"):
                    peer.sendall(bytes([byte]))

        thread = threading.Thread(target=answer)
        thread.start()
        maps = open_maps(f"socketmap:unix:{path}:map", "p")
        assert maps.find("a") == "yes"
        thread.join(60)
        maps.close()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"200 found%20it\n", "found it"),
        (b"200 x\r\n", "x"),
        (b"500 not there\n", None),
        (b"400 try%20later\n", "try later"),
        (b"nonsense\n", "tcp server"),
        (b"200 %zz\n", "malformed"),
        (None, "lost connection"),
    ],
    ids=repr,
)
def test_tcp(serve: Serve, reply: bytes | None, expected: str | None) -> None:
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes | None:
        requests.append(request)
        return reply

    table_ = TcpTable(serve(answer))
    assert agree(outcome(lambda: table_.find("A %é", True)), expected)
    table_.close()
    assert requests == [b"get a%20%25%C3%A9\n"] * (2 if reply is None else 1)


def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for spec in (f"tcp:127.0.0.1:{port}", f"socketmap:inet:127.0.0.1:{port}:m"):
            with pytest.raises(TableError, match="Connection refused"):
                open_maps(spec, "p").find("a")
