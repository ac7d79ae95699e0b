"""explain says what Postfix did, in every form in which one may ask."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "conformance"))
from policy_picture import draw
from policy_tables import BORDERS, named, row_for_code
from pseudo_terminal import assert_golden, piped, run, widest
from recorded import COMMON, families, scenarios

from postfix_trouble.simulate.answer import Explanation, NotExplained, explain
from postfix_trouble.simulate.session import STAGES, Setting


def explained(text: str, **named: Any) -> Explanation:
    found = explain(text, **named)
    assert isinstance(found, Explanation), found
    return found


# --- what a real Postfix did --------------------------------------------------------


def values_of(scenario: dict[str, Any]) -> dict[str, str]:
    """The parameters of a scenario but for tables: explain opens none."""
    values = {**COMMON, **scenario.get("params", {})}
    return {n: v for n, v in values.items() if "{" not in v and "_maps" not in n}


def failures() -> Iterator[Any]:
    """All recipients that did not get the mail, in all recorded deliveries."""
    for family in families():
        for scenario in scenarios(family):
            if "smtp_delivery_status_filter" in scenario.get("params", {}):
                continue
            for recipient in scenario["expected"]["recipients"]:
                if recipient["status"] != "sent":
                    yield scenario, recipient


def log_line(recipient: dict[str, str], word: str) -> str:
    return (
        "Nov 22 11:00:00 mail postfix/smtp[4711]: 4SAMPLE: "
        f"to=<{recipient['recipient']}>, relay={recipient['relay']}, delay=0.4,"
        f" delays=0/0/0.1/0.3, dsn={recipient['dsn']},"
        f" status={word} ({recipient['reason']})"
    )


def test_every_recorded_log_line_is_explained_as_it_ended() -> None:
    count = 0
    for scenario, recipient in failures():
        values = values_of(scenario)
        word = recipient["status"]
        # The recordings don't tell SOFTBOUNCE from deferred; both were tried.
        words = [word, "SOFTBOUNCE"] if values.get("soft_bounce") == "yes" else [word]
        lmtp = scenario.get("protocol") == "lmtp"
        assert any(
            explained(log_line(recipient, each), values=values, lmtp=lmtp).agrees
            for each in words
        ), (scenario["name"], recipient)
        count += 1
    assert count > 500


# Stage of the scripted server, and ours.
SCRIPTED = {
    "banner": "greeting",
    "ehlo": "ehlo",
    "helo": "helo",
    "lhlo": "lhlo",
    "starttls": "starttls",
    "auth": "auth",
    "mail": "mail",
    "rcpt": "rcpt",
    "data": "data",
    "eod": "dot",
}
HANGS_UP = ({"action": "close"}, {"then": "close"}, {"action": "reset"})
# Scenarios in which something else matters, too.
OTHERWISE = {
    "fallback-450": "a fallback relay follows",
    "helo-own-name-ehlo-25": "the reason names the nexthop",
    "helo-own-name-ehlo-25-backup": "the reason names the nexthop",
}


def single_replies() -> Iterator[Any]:
    """Recorded deliveries in which one server says one thing wrong."""
    for family in families():
        for scenario in scenarios(family):
            servers = scenario.get("servers", [])
            scripts = servers[0].get("connections", []) if servers else []
            if len(servers) not in (1, 2) or len(scripts) != 1 or scenario.get("dns"):
                continue
            stages = scripts[0].get("stages", {})
            if len(stages) != 1 or any(s.get("down") for s in servers):
                continue
            if len(servers) == 2 and servers[1].get("connections", [{}])[0].get(
                "stages"
            ):
                continue
            if scenario["name"] in OTHERWISE:
                continue
            if ("," in scenario["nexthop"]) != (len(servers) == 2):
                continue
            if not all(re.match(r"127\.[\d.]+:", s["listen"]) for s in servers):
                continue
            if any("maps" in n or "filter" in n for n in scenario.get("params", {})):
                continue
            ((stage, reply),) = stages.items()
            if stage in SCRIPTED and (isinstance(reply, str) or reply in HANGS_UP):
                yield scenario, SCRIPTED[stage], reply


SINGLE = list(single_replies())


@pytest.mark.parametrize(
    ("scenario", "stage", "reply"), SINGLE, ids=[s["name"] for s, _, _ in SINGLE]
)
def test_a_single_reply_ends_as_recorded(
    scenario: dict[str, Any], stage: str, reply: Any
) -> None:
    text = reply.rstrip("\n") if isinstance(reply, str) else "lost connection"
    found = explained(
        text,
        stage=stage,
        lmtp=scenario.get("protocol") == "lmtp",
        values=values_of(scenario),
    )
    expected = scenario["expected"]
    first = scenario["servers"][0]["listen"].rpartition(":")[0]
    another = len(scenario["servers"]) == 2
    case = found.cases[0 if another else 1]
    if case.effect == "continue":
        assert all(r["status"] == "sent" for r in expected["recipients"])
        return
    if case.effect == "keep":
        assert expected["skipped"], "the next host was not tried"
        assert all(r["status"] == "sent" for r in expected["recipients"])
    for recipient in expected["recipients"]:
        if case.effect != "keep":
            assert (
                recipient["status"]
                == {
                    "defer": "deferred",
                    "bounce": "bounced",
                    "sent": "sent",
                }[case.effect]
            )
            assert recipient["dsn"] == case.status
            ours = case.reason.replace("mx.example.com", first)
            ours = ours.replace("192.0.2.1", first)
            assert recipient["reason"] == ours
    assert expected.get("throttled", False) == case.throttled
    wanted = values_of(scenario)["notify_classes"].replace(",", " ").split()
    assert expected.get("notices", []) == [n for n in found.notices if n in wanted]


def test_there_are_many_of_them() -> None:
    assert len(SINGLE) > 150


# --- words in, words out ------------------------------------------------------------

HOST = "mx.example.com[192.0.2.1]"
RECORD = (
    "4ABCDEF: to=<u@example.com>, relay=mx.example.com[192.0.2.1]:25, delay=1,"
    " delays=0/0/0/1, dsn={}, status={} ({})"
)


@pytest.mark.parametrize(
    ("text", "stage", "effects"),
    [
        ("450 4.7.1 Greylisted", "rcpt", "keep defer"),
        ("550 5.1.1 unknown", "rcpt", "bounce bounce"),
        ("250 2.1.5 Ok", "rcpt", "continue continue"),
        ("250 2.0.0 Ok", "dot", "sent sent"),
        ("250 what?", "data", "bounce bounce"),
        ("354 go on", "data", "continue continue"),
        ("554 no", "greeting", "keep defer"),
        ("500 what?", "ehlo", "continue continue"),
        ("421 busy", "ehlo", "keep defer"),
        ("500 what?", "helo", "bounce bounce"),
        ("454 not now", "starttls", "keep defer"),
        ("535 5.7.8 wrong", "auth", "keep defer"),
        ("334 UGFzc3dvcmQ6", "auth", "bounce bounce"),
        ("lost connection", "dot", "keep defer"),
        ("timeout", "body", "keep defer"),
        ("timeout", "connect", "keep defer"),
        ("lost connection", "handshake", "keep defer"),
        ("local data error", "mail", "keep defer"),
        ("local data error while talking to mx.a[192.0.2.1]", "mail", "keep defer"),
    ],
)
def test_effect(text: str, stage: str, effects: str) -> None:
    found = explained(text, stage=stage)
    assert " ".join(case.effect for case in found.cases) == effects


@pytest.mark.parametrize(
    ("text", "stage", "subject"),
    [
        pytest.param(
            RECORD.format(
                "5.1.1",
                "bounced",
                f"host {HOST} said: 550-5.1.1 no 550 5.1.1 such user"
                " (in reply to RCPT TO command)",
            ),
            "rcpt",
            "550-5.1.1 no\n550 5.1.1 such user",
            id="several-lines",
        ),
        pytest.param(
            RECORD.format(
                "4.7.1",
                "deferred",
                "delivery temporarily suspended: "
                f"host {HOST} refused to talk to me: 421 4.7.1 busy",
            ),
            "greeting",
            "421 4.7.1 busy",
            id="suspended",
        ),
        pytest.param(
            f"Nov 22 11:00:00 h postfix/smtp[123]: 4ABCDEF: host {HOST} said:"
            " 450 4.7.1 wait (in reply to end of DATA command)",
            "dot",
            "450 4.7.1 wait",
            id="passed-over",
        ),
        pytest.param(
            f"host {HOST} said: 452 4.3.1 full (in reply to MAIL FROM command)",
            "mail",
            "452 4.3.1 full",
            id="reason-alone",
        ),
        pytest.param(
            f"Protocol error: host {HOST} said: 250 hm (in reply to DATA command)",
            "data",
            "250 hm",
            id="protocol-error",
        ),
        pytest.param(
            f"lost connection with {HOST} while performing the EHLO handshake",
            "ehlo",
            "the connection is lost",
            id="lost",
        ),
        pytest.param(
            f"connect to {HOST}:25: Connection refused",
            "connect",
            f"connect to {HOST}:25: Connection refused",
            id="connect",
        ),
        pytest.param(
            RECORD.format(
                "5.3.4",
                "bounced",
                f"message size 9 exceeds size limit 1 of server {HOST}",
            ),
            "rcpt",
            f"message size 9 exceeds size limit 1 of server {HOST}",
            id="size",
        ),
        pytest.param(
            "dsn=4.4.1, status=deferred (host mx[1.2.3.4] said: 450 x"
            " (in reply to RCPT TO command))",
            "rcpt",
            "450 x",
            id="only-the-end",
        ),
    ],
)
def test_what_is_recognised(text: str, stage: str, subject: str) -> None:
    found = explained(text)
    assert (found.stage, found.subject) == (stage, subject)


@pytest.mark.parametrize(
    ("text", "named", "words"),
    [
        ("hello", {}, '"hello" is no reply'),
        ("", {}, "is no reply"),
        (
            "to=<u@x>, relay=local, delay=0, delays=0/0/0/0, dsn=2.0.0,"
            " status=sent (delivered to mailbox)",
            {},
            "no log line of an SMTP client",
        ),
        (
            "to=<u@x>, relay=local, delay=0, delays=0/0/0/0, dsn=5.1.1,"
            ' status=bounced (unknown user: "u")',
            {},
            "no log line of an SMTP client",
        ),
        ("450 x", {"stage": "body"}, "no reply to message text"),
        ("450 x", {"stage": "noon"}, "no such stage: noon"),
        ("450 x", {"stage": "lhlo"}, "add --lmtp"),
        (
            "450 x",
            {"stage": "starttls", "values": {"smtp_never_send_ehlo": "yes"}},
            "never comes to starttls",
        ),
    ],
)
def test_what_is_not_understood(text: str, named: dict[str, Any], words: str) -> None:
    found = explain(text, **named)
    assert isinstance(found, NotExplained)
    assert words in found
    assert "\n" not in found


@given(st.text(max_size=200))
def test_any_text_is_explained_or_refused(text: str) -> None:
    found = explain(text)
    assert isinstance(found, NotExplained) or len(found.cases) == 2


@given(
    st.integers(0, 999),
    st.text(alphabet=st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(sorted(set(STAGES) - {"lhlo"})),
)
def test_any_reply_at_any_stage(code: int, text: str, stage: str) -> None:
    found = explain(f"{code:03} {text}", stage=stage)
    assert isinstance(found, NotExplained | Explanation)


def test_settings_count() -> None:
    values = {"smtp_skip_5xx_greeting": "no"}
    assert (
        explained("554 no", stage="greeting", values=values).cases[1].effect == "bounce"
    )
    found = explained("554 5.7.1 no", stage="rcpt", values={"soft_bounce": "yes"})
    assert [case.effect for case in found.cases] == ["keep", "defer"]
    assert found.cases[1].status == "4.7.1"
    assert found.cases[1].soft_bounce


def test_a_failed_handshake_is_tried_again_without_tls_later_on() -> None:
    values = {"smtp_tls_security_level": "may"}
    young = explained("timeout", stage="handshake", values=values)
    old = explained("timeout", stage="handshake", values=values, age=300)
    assert [case.effect for case in young.cases] == ["keep", "defer"]
    assert [case.effect for case in old.cases] == ["plaintext", "plaintext"]


def test_a_soft_bounce_in_the_log() -> None:
    said = f"host {HOST} said: 550 5.1.1 no (in reply to RCPT TO command)"
    found = explained(RECORD.format("4.1.1", "SOFTBOUNCE", said))
    assert found.cases[1].soft_bounce
    assert found.agrees


@pytest.mark.parametrize(
    ("dsn", "reason", "effects"),
    [
        # No other destination is tried after that.
        ("5.4.6", "mail for example.com loops back to myself", "bounce bounce"),
        ("5.4.4", "Host or domain name not found. Name service error", "keep bounce"),
        ("4.4.3", "Host or domain name not found. Name service error", "keep defer"),
    ],
)
def test_no_server(dsn: str, reason: str, effects: str) -> None:
    line = f"to=<u@x>, relay=none, delay=1, dsn={dsn}, status=deferred ({reason})"
    found = explained(line)
    assert " ".join(case.effect for case in found.cases) == effects


def test_a_log_that_says_something_else() -> None:
    line = RECORD.format(
        "4.1.1",
        "deferred",
        f"host {HOST} said: 550 5.1.1 no (in reply to RCPT TO command)",
    )
    assert explained(line).agrees is False
    assert explained("550 5.1.1 no").agrees is None


# --- tables and the picture ---------------------------------------------------------


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "data"])
def test_codes_between_borders_change_nothing(stage: str) -> None:
    setting = Setting({"smtp_tls_security_level": "encrypt"})
    rows = [row_for_code(code, stage, setting) for code in range(1000)]
    changes = {
        place
        for code, (before, row) in enumerate(pairwise(rows))
        if before != row
        for place in (code, code + 1)
    }
    assert changes <= set(BORDERS)


def test_names_of_sets_of_codes() -> None:
    groups: dict[str, list[int]] = {}
    for code in BORDERS:
        wrong = code == 555 or 500 <= code <= 509
        kind = "wrong" if wrong else "hard" if code // 100 == 5 else str(code // 400)
        kind = "2" if code == 600 else kind
        groups.setdefault(kind, []).append(code)
    assert named(groups) == {
        "0": "0xx, 1xx, 2xx, 3xx",
        "1": "4xx",
        "2": "6xx, 7xx, 8xx, 9xx",
        "hard": "other 5xx",
        "wrong": "500-509, 555",
    }


def test_the_picture_is_well_formed() -> None:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(draw())
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    for word in (
        "keep",
        "defer",
        "bounce",
        "go on",
        "again",
        "RCPT TO",
        "TLS handshake",
    ):
        assert word in texts


# --- the command --------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("rcpt", ["450 4.7.1 Greylisted", "--stage", "rcpt"]),
        ("assumed", ["550", "5.1.1", "User unknown"]),
        ("final", ["421 busy", "--stage", "greeting", "--final", "--soft-bounce"]),
        ("lost", ["timeout", "--stage", "dot"]),
        ("log", [RECORD.format("5.5.0", "bounced", "Protocol error: host "
                 f"{HOST} said: 250 hm (in reply to DATA command)")]),
        ("lmtp", ["450 no", "--stage", "dot", "--lmtp"]),
        ("help", ["--help"]),
    ],
)  # fmt: skip
def test_on_a_terminal(name: str, argv: list[str], columns: int) -> None:
    screen = run("explain", *argv, columns=columns)
    assert screen.code == 0
    assert widest(screen.plain.splitlines()) <= columns
    assert_golden(f"explain-{name}-{columns}", screen.plain)


def test_lines_from_standard_input() -> None:
    done = piped("explain", "--json", text="450 4.7.1 wait\n\nnonsense\n550 no\n")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [f["last_host"]["exit_status"] for f in found] == [75, 69]
    assert done.stderr.startswith('postfix-trouble explain: "nonsense" is no reply')
    assert done.returncode == 64


def test_json() -> None:
    done = piped("explain", "--json", "--stage", "rcpt", "450 4.7.1 Greylisted")
    found = json.loads(done.stdout)
    assert found["next_host_tried"] is True
    assert found["another_host_left"]["verdict"] == "keep"
    assert found["last_host"] == {
        "verdict": "defer",
        "status": "4.7.1",
        "reason": f"host {HOST} said: 450 4.7.1 Greylisted"
        " (in reply to RCPT TO command)",
        "soft_bounce": False,
        "rule": "rcpt_fail: soft, last host, deferred",
        "exit_status": 75,
        "exit_name": "EX_TEMPFAIL",
        "status_line": f"4.7.1 host {HOST} said: 450 4.7.1 Greylisted"
        " (in reply to RCPT TO command)",
    }


def test_config_and_overrides(tmp_path: Path) -> None:
    config = tmp_path / "main.cf"
    config.write_text("soft_bounce = yes\nunknown_name = 1\n")
    asked = ("explain", "--json", "550 5.1.1 no", "--config", str(config))
    assert json.loads(piped(*asked).stdout)["last_host"]["exit_status"] == 75
    back = piped(*asked, "-o", "soft_bounce=no")
    assert json.loads(back.stdout)["last_host"]["exit_status"] == 67


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--stage", "noon", "450 x"], 64, "'noon' is not one of"),
        (["-o", "soft_bounce", "450 x"], 64, "NAME=VALUE expected"),
        (["-o", "soft_bounce=maybe", "450 x"], 78, "bad boolean configuration"),
        (["-o", "no_such=1", "450 x"], 78, "unknown parameter: no_such"),
        (
            ["--config", "/no/such/file", "450 x"],
            78,
            "open /no/such/file: No such file",
        ),
        (["--bogus"], 64, "--bogus"),
        ([__file__], 64, f"is a file; did you mean: explain < {__file__}"),
    ],
)
def test_errors_say_what_to_do(argv: list[str], code: int, words: str) -> None:
    done = piped("explain", *argv)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_json_also_says_what_is_not_understood() -> None:
    done = piped("explain", "--json", "lunch")
    assert done.returncode == json.loads(done.stdout)["exit_status"] == 64
    assert '"lunch" is no reply' in json.loads(done.stdout)["error"]
