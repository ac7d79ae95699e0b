"""The Python API does what its page says, and stays as it is."""

from __future__ import annotations

import ast
import doctest
import inspect
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import postfix_trouble
from postfix_trouble import api
from scripted_server import ScriptedServer

PAGE = Path(__file__).parent.parent / "docs/python-api.md"
MESSAGE = b"Subject: x\n\nHello\n"
REFUSING = {"stages": {"rcpt:nobody@example.com": "550 5.1.1 User unknown"}}


def test_the_page() -> None:
    with ScriptedServer(REFUSING) as server:
        names = {"server": f"[127.0.0.1]:{server.port}"}
        failed, tried = doctest.testfile(
            str(PAGE), module_relative=False, globs=names, verbose=False
        )
    assert (failed, tried > 30) == (0, True)


def test_each_name_has_an_example() -> None:
    examples = doctest.DocTestParser().get_examples(PAGE.read_text())
    source = "".join(example.source for example in examples)
    used = {
        node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)
    }
    assert set(api.__all__) <= used


def test_names() -> None:
    assert postfix_trouble.__all__ == api.__all__
    for name in api.__all__:
        assert getattr(postfix_trouble, name) is getattr(api, name)
        assert inspect.getdoc(getattr(api, name))
        assert name in dir(postfix_trouble)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        postfix_trouble.nonsense  # noqa: B018


def test_signatures() -> None:
    """What callers may rely on. A change here is a change of version."""
    assert list(inspect.signature(api.deliver).parameters) == [
        "message",
        "sender",
        "recipients",
        "nexthop",
        "settings",
        "lmtp",
        "queue_id",
        "smtputf8",
        "envid",
        "ret",
        "notify",
        "age",
        "time_limit",
        "note",
    ]
    assert list(inspect.signature(api.explain).parameters) == [
        "text",
        "stage",
        "lmtp",
        "settings",
        "age",
    ]
    assert list(inspect.signature(api.settings).parameters) == [
        "values",
        "config",
        "lmtp",
    ]


def test_the_package_loads_nothing_until_asked() -> None:
    code = "import sys, postfix_trouble; print('postfix_trouble.api' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_types_are_shipped() -> None:
    assert (Path(postfix_trouble.__file__).parent / "py.typed").exists()


# --- deliver ------------------------------------------------------------------------


def test_line_ends_and_parameters() -> None:
    script = {"keywords": ["DSN", "SIZE", "8BITMIME"]}
    with ScriptedServer(script) as server:
        delivery = api.deliver(
            b"Subject: x\r\n\r\n.dot\r\n",
            sender='"a b"@example.org',
            recipients=["c d@example.com"],
            nexthop=f"[127.0.0.1]:{server.port}",
            envid="id",
            ret="HDRS",
            notify="failure, success",
        )
    assert delivery.sent
    (connection,) = server.connections
    assert connection.messages == [b"Subject: x\r\n\r\n..dot\r\n"]
    assert connection.commands[1:3] == [
        'MAIL FROM:<"a b"@example.org> SIZE=17 ENVID=id RET=HDRS',
        'RCPT TO:<"c d"@example.com> NOTIFY=SUCCESS,FAILURE',
    ]


def test_lmtp() -> None:
    with ScriptedServer({"stages": {"eod#2": "452 4.2.2 full"}}, lmtp=True) as server:
        delivery = api.deliver(
            MESSAGE,
            sender="",
            recipients=["a@example.com", "b@example.com"],
            nexthop=f"[127.0.0.1]:{server.port}",
            lmtp=True,
        )
    assert [result.status for result in delivery.results] == ["sent", "deferred"]
    assert delivery.exit_status == 75


def test_settings_as_values_and_as_settings(tmp_path: Path) -> None:
    config = tmp_path / "main.cf"
    config.write_text("soft_bounce = yes\nunknown = 1\n")
    script = {"stages": {"mail": "550 5.7.1 no"}}
    for chosen in ({"soft_bounce": "yes"}, api.settings(config=str(config))):
        with ScriptedServer(script) as server:
            delivery = api.deliver(
                MESSAGE,
                sender="a@example.org",
                recipients=["b@example.com"],
                nexthop=f"[127.0.0.1]:{server.port}",
                settings=chosen,
            )
        (result,) = delivery.results
        assert (result.status, result.dsn) == ("deferred", "4.7.1")
        assert result.soft_bounced


def test_a_time_limit() -> None:
    with ScriptedServer({"stages": {"banner": {"action": "hang"}}}) as server:
        delivery = api.deliver(
            MESSAGE,
            sender="a@example.org",
            recipients=["b@example.com"],
            nexthop=f"[127.0.0.1]:{server.port}",
            time_limit=0.2,
        )
    assert delivery.results[0].dsn == "4.4.2"
    assert "timed out" in delivery.results[0].reason


def test_a_table_that_can_not_be_searched_defers() -> None:
    notes: list[str] = []
    with ScriptedServer() as server:
        delivery = api.deliver(
            MESSAGE,
            sender="a@example.org",
            recipients=["b@example.com"],
            nexthop=f"[127.0.0.1]:{server.port}",
            settings={"smtp_generic_maps": "texthash:/no/such/file"},
            note=notes.append,
        )
    assert delivery.results[0].status == "deferred"
    assert delivery.results[0].dsn == "4.3.0"


def test_who_has_the_message_is_not_deferred_with_the_others() -> None:
    """A table that fails when the first server has taken the mail for one of two."""
    first = ScriptedServer({"stages": {"rcpt": ["250 ok", "450 4.2.0 later"]}})
    second = ScriptedServer()
    with socket.create_server(("127.0.0.1", 0)) as listening, first, second:

        def look_up() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as keys:
                while keys.readline():
                    taken = first.connections and first.connections[0].messages
                    reply = b"400 no more\n" if taken else b"500 not found\n"
                    connection.sendall(reply)

        table = threading.Thread(target=look_up)
        table.start()
        port = listening.getsockname()[1]
        delivery = api.deliver(
            MESSAGE,
            sender="a@example.org",
            recipients=["b@example.com", "c@example.com"],
            nexthop=f"[127.0.0.1]:{first.port},[127.0.0.1]:{second.port}",
            settings={"smtp_generic_maps": f"tcp:127.0.0.1:{port}"},
        )
        table.join(60)
    assert [each.status for each in delivery.results] == ["sent", "deferred"]
    assert delivery.results[1].dsn == "4.3.0"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"recipients": []}, "must not be empty"),
        ({"recipients": [""]}, "must not be empty"),
        ({"recipients": "b@example.com"}, "not a string"),
        ({"nexthop": ""}, "must not be empty"),
        ({"sender": "a\n@x"}, "control characters"),
        ({"recipients": ["b\0@x"]}, "control characters"),
        ({"ret": "all"}, "none of full, hdrs"),
        ({"notify": "sometimes"}, "none of NEVER"),
    ],
)
def test_arguments_that_make_no_sense(changed: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {
        "sender": "a@example.org",
        "recipients": ["b@example.com"],
        "nexthop": "[127.0.0.1]:9",
    }
    with pytest.raises(ValueError, match=words):
        api.deliver(MESSAGE, **{**arguments, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"no_such": "1"},
        {"soft_bounce": "maybe"},
        {"smtp_tls_dcert_file": "/x"},
    ],
)
def test_settings_that_can_not_be_used(values: dict[str, str]) -> None:
    with pytest.raises(api.ConfigError):
        api.deliver(
            MESSAGE,
            sender="a@example.org",
            recipients=["b@example.com"],
            nexthop="[127.0.0.1]:9",
            settings=values,
        )


def test_a_missing_config() -> None:
    with pytest.raises(api.ConfigError, match="No such file"):
        api.settings(config="/no/such/main.cf")


def test_explain_takes_no_nonsense() -> None:
    with pytest.raises(ValueError, match="no such stage"):
        api.explain("450 x", stage="noon")
    with pytest.raises(api.ConfigError):
        api.explain("450 x", settings={"soft_bounce": "maybe"})
