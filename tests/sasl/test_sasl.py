"""Log-ins, mechanism by mechanism, against a server that is a list of replies."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import scramp  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.relay import Relay
from postfix_trouble.core.reply import Lost, Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import Authenticated, AuthFailed
from postfix_trouble.sasl import log_in as sasl_log_in
from postfix_trouble.sasl.choose import Credentials, Options

RELAY = Relay("mx.test", "192.0.2.1", 587)
ANY = Options(frozenset())
SECRET = "canary-päss-3141"
WELCOME = "235 2.7.0 welcome"
CANNOT = (
    "SASL authentication failed; cannot authenticate to server mx.test[192.0.2.1]: "
)


def reply(text: str) -> Reply:
    said = EnhancedStatus.leading(text[4:])
    return Reply(int(text[:3]), said or EnhancedStatus(f"{text[0]}.0.0"), text)


def b64(text: str | bytes) -> str:
    octets = text.encode() if isinstance(text, str) else text
    return base64.b64encode(octets).decode()


class Server:
    """Answers with what it was given, or what that says to the line."""

    def __init__(self, *answers: str | Lost | Callable[[str], str]) -> None:
        self.lines: list[str] = []
        self._answers = list(answers)

    def __call__(self, line: bytes) -> Reply | Lost:
        self.lines.append(line.decode("ascii"))
        answer = self._answers.pop(0)
        if isinstance(answer, Lost):
            return answer
        return reply(answer if isinstance(answer, str) else answer(self.lines[-1]))


def log_in(
    server: Server,
    offered: str,
    *,
    password: str = "secret",
    username: str = "user",
    options: Options = ANY,
    cache: sasl_log_in.Cache | None = None,
) -> Authenticated | AuthFailed | Lost:
    mine = Credentials(username, password)
    words = tuple(offered.split())
    return sasl_log_in.authenticate(server, words, mine, RELAY, options, cache=cache)


# --- what is sent -------------------------------------------------------------------

PLAIN = "AUTH PLAIN AHVzZXIAc2VjcmV0"
SENT = [
    ("PLAIN", [WELCOME], [PLAIN]),
    ("LOGIN", ["334 VXNlcjo=", "334 UGFzczo=", WELCOME],
     ["AUTH LOGIN", "dXNlcg==", "c2VjcmV0"]),
    ("LOGIN", ["334", "334 ", WELCOME], ["AUTH LOGIN", "dXNlcg==", "c2VjcmV0"]),
    ("CRAM-MD5", ["334 " + b64("<1896.697170952@postoffice>"), WELCOME],
     ["AUTH CRAM-MD5", b64("user " + hmac.digest(
         b"secret", b"<1896.697170952@postoffice>", "md5").hex())]),
    ("XOAUTH2", [WELCOME],
     ["AUTH XOAUTH2 " + b64("user=user\1auth=Bearer secret\1\1")]),
    ("OAUTHBEARER", [WELCOME],
     ["AUTH OAUTHBEARER "
      + b64("n,a=user,\1host=mx.test\1port=587\1auth=Bearer secret\1\1")]),
]  # fmt: skip


@pytest.mark.parametrize(("offered", "answers", "lines"), SENT)
def test_dialogues(offered: str, answers: list[str], lines: list[str]) -> None:
    server = Server(*answers)
    assert log_in(server, offered) == Authenticated(offered)
    assert server.lines == lines


def test_external_says_nothing_of_its_own() -> None:
    server = Server(WELCOME)
    options = Options(frozenset(), ("external",))
    assert log_in(server, "EXTERNAL", options=options) == Authenticated("EXTERNAL")
    assert server.lines == ["AUTH EXTERNAL ="]


def test_authorization_identity() -> None:
    server = Server(WELCOME)
    log_in(server, "PLAIN", options=ANY._replace(authzid=True))
    assert server.lines == ["AUTH PLAIN " + b64("user\0user\0secret")]


def test_passwords_are_utf8() -> None:
    server = Server(WELCOME)
    assert isinstance(log_in(server, "PLAIN", password=SECRET), Authenticated)
    assert server.lines == ["AUTH PLAIN " + b64(f"\0user\0{SECRET}")]


def test_a_bearer_user_may_have_any_name() -> None:
    server = Server(WELCOME)
    log_in(server, "OAUTHBEARER", username="a=b,c")
    assert base64.b64decode(server.lines[0].split()[2]).startswith(b"n,a=a=3Db=2Cc,")


@pytest.mark.parametrize("name", ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("known", [True, False], ids=["right", "wrong"])
def test_scram_against_another_implementation(name: str, known: bool) -> None:
    mechanism = scramp.ScramMechanism(name)
    stored = mechanism.make_auth_info(SECRET if known else "other", salt=b"salt" * 4)
    peer = mechanism.make_server(lambda user: stored)

    def first(line: str) -> str:
        peer.set_client_first(base64.b64decode(line.split()[2]).decode())
        return "334 " + b64(peer.get_server_first())

    def final(line: str) -> str:
        try:
            peer.set_client_final(base64.b64decode(line).decode())
        except scramp.ScramException:
            return "535 5.7.8 no"
        return "334 " + b64(peer.get_server_final())

    server = Server(first, final, WELCOME)
    found = log_in(server, name, password=SECRET)
    if known:
        assert found == Authenticated(name)
        assert server.lines[-1] == ""
    else:
        assert isinstance(found, AuthFailed)


@pytest.mark.parametrize("salt", [b"s", b"sodium", b"elevenbytes"])
def test_scram_with_a_short_salt(salt: bytes) -> None:
    # From RFC 5802 itself, since the library's own server takes no such salt.
    key = hashlib.pbkdf2_hmac("sha256", b"secret", salt, 4096)
    said = []

    def first(line: str) -> str:
        bare = base64.b64decode(line.split()[2]).decode().removeprefix("n,,")
        nonce = bare.rpartition("r=")[2] + "more"
        said.extend([bare, f"r={nonce},s={b64(salt)},i=4096"])
        return "334 " + b64(said[1])

    def final(line: str) -> str:
        said.append(base64.b64decode(line).decode().partition(",p=")[0])
        server_key = hmac.digest(key, b"Server Key", "sha256")
        return "334 " + b64(
            "v=" + b64(hmac.digest(server_key, ",".join(said).encode(), "sha256"))
        )

    server = Server(first, final, WELCOME)
    assert log_in(server, "SCRAM-SHA-256") == Authenticated("SCRAM-SHA-256")


@pytest.mark.parametrize(
    ("offered", "used"),
    [
        ("LOGIN,PLAIN", "PLAIN"),
        ("=LOGIN", "LOGIN"),
        ("X/PLAIN;LOGIN", "PLAIN"),
        ("CRAM-MD5.LOGIN", "CRAM-MD5"),
        ("X_PLAIN PLAIN_X login", "LOGIN"),
    ],
)
def test_what_separates_mechanisms(offered: str, used: str) -> None:
    server = Server("535 5.7.8 no")
    log_in(server, offered)
    assert server.lines[0].split()[1] == used


def test_a_server_must_know_the_password_too() -> None:
    def first(line: str) -> str:
        nonce = base64.b64decode(line.split()[2]).decode().rpartition("r=")[2]
        return "334 " + b64(f"r={nonce}x,s={b64('salt' * 4)},i=4096")

    server = Server(first, "334 " + b64("v=" + b64(bytes(20))))
    found = log_in(server, "SCRAM-SHA-1")
    problem = "server failed mutual authentication step"
    assert found == AuthFailed(None, "4.7.0", CANNOT + problem, f"x-sasl; {problem}")


# --- long responses -----------------------------------------------------------------


def test_a_long_response_waits_for_an_empty_challenge() -> None:
    # 8 bytes besides mechanism and response: "AUTH ", " ", CRLF.
    for size, waits in ((364, False), (367, True)):
        server = Server("334 ", WELCOME)
        response = b64(f"\0user\0{'x' * size}")
        assert (len("PLAIN") + len(response) + 8 > 512) is waits
        log_in(server, "PLAIN", password="x" * size)
        expected = ["AUTH PLAIN", response] if waits else [f"AUTH PLAIN {response}"]
        assert server.lines[: len(expected)] == expected


def test_both_first() -> None:
    server = Server("334 Zm9v")
    found = log_in(server, "PLAIN", password="x" * 400)
    text = (
        "SASL authentication failed; non-empty initial PLAIN challenge from server "
        "mx.test[192.0.2.1]"
    )
    assert found == AuthFailed(None, "4.7.0", text, "x-sasl; protocol error")


# --- failures -----------------------------------------------------------------------

BROKEN = [
    ("LOGIN", ["334 !!!bad"], "bad protocol / cancel"),
    ("CRAM-MD5", ["334 !!!bad"], "bad protocol / cancel"),
    ("CRAM-MD5", ["334-Zm9v\n334 Zm9v"], "bad protocol / cancel"),
    ("CRAM-MD5", ["334 é"], "bad protocol / cancel"),
    ("SCRAM-SHA-1", ["334 Zm9v"], "bad protocol / cancel"),
    ("SCRAM-SHA-1", ["334 /w=="], "bad protocol / cancel"),
    ("PLAIN", ["334 "], "generic failure"),
    ("PLAIN", ["334 Zm9v"], "generic failure"),
    ("LOGIN", ["334 ", "334 ", "334 "], "generic failure"),
    ("XOAUTH2", ["334 ", "334 "], "generic failure"),
    ("GSSAPI", [], "no mechanism available"),
]


@pytest.mark.parametrize(("offered", "answers", "problem"), BROKEN)
def test_our_side_gives_up(offered: str, answers: list[str], problem: str) -> None:
    found = log_in(Server(*answers), offered)
    assert found == AuthFailed(None, "4.7.0", CANNOT + problem, f"x-sasl; {problem}")


def test_nothing_is_left_of_the_offer() -> None:
    options = Options(mechanisms=("plain",))
    for offered in ("", "GSSAPI"):
        found = log_in(Server(), offered, options=options)
        assert found == AuthFailed(
            None,
            "4.7.0",
            "SASL authentication failed: server mx.test[192.0.2.1] offered no "
            "compatible authentication mechanisms for this type of connection "
            "security",
        )


def test_no_password_in_the_clear_by_default() -> None:
    server = Server()
    found = log_in(server, "PLAIN LOGIN", options=Options())
    assert isinstance(found, AuthFailed)
    assert found.diagnostic == "x-sasl; no mechanism available"
    assert server.lines == []


@pytest.mark.parametrize(
    "text", ["535 5.7.8 no", "421 4.3.0 bye", "100 hm", "535-a\n535 b"]
)
def test_one_try_and_the_reply_is_reported(text: str) -> None:
    server = Server(text)
    assert log_in(server, "CRAM-MD5 PLAIN LOGIN") == AuthFailed(reply(text))
    assert server.lines == ["AUTH CRAM-MD5"]


@pytest.mark.parametrize("lost", list(Lost))
def test_a_lost_connection_is_that(lost: Lost) -> None:
    assert log_in(Server(lost), "PLAIN") is lost
    assert log_in(Server("334 ", lost), "LOGIN") is lost


def test_an_endless_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def asks_for_ever(*arguments: object) -> sasl_log_in.Dialogue:
        while True:
            yield b"x"

    monkeypatch.setitem(sasl_log_in._DIALOGUES, "PLAIN", asks_for_ever)
    server = Server(*["334 "] * 101)
    found = log_in(server, "PLAIN")
    assert isinstance(found, AuthFailed)
    assert (found.status, len(server.lines)) == ("4.3.0", 101)
    assert found.text.endswith(
        "authentication protocol loop with server mx.test[192.0.2.1]"
    )
    assert isinstance(log_in(Server(*["334 "] * 100, WELCOME), "PLAIN"), Authenticated)


COMPLAINT = json.dumps({"status": "400", "schemes": "Bearer"})
BEARERS = [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")]


@pytest.mark.parametrize(("name", "answer"), BEARERS)
def test_what_is_wrong_with_a_token_is_told(name: str, answer: str) -> None:
    server = Server("334 " + b64(COMPLAINT), "535 5.7.8 no")
    found = log_in(server, name)
    assert server.lines[1] == answer
    assert found == AuthFailed(reply(f"535 5.7.8 no {COMPLAINT}"))


def test_a_complaint_is_cut_and_cleaned() -> None:
    server = Server("334 " + b64("{\r\n\0" + "x" * 9999), "535 5.7.8 no")
    found = log_in(server, "XOAUTH2")
    assert isinstance(found, AuthFailed)
    assert found.reply is not None
    assert found.reply.text.startswith("535 5.7.8 no { ?xxx")
    assert len(found.reply.text) < 600


@given(
    st.lists(st.text(max_size=30), max_size=6),
    st.sampled_from(sorted(sasl_log_in._DIALOGUES)),
)
def test_no_server_can_raise(texts: list[str], name: str) -> None:
    answers = [f"334 {text}" for text in texts]
    server = Server(*answers, *["334 "] * 101)
    options = Options(frozenset(), (name,))
    assert isinstance(log_in(server, name, options=options), AuthFailed)


# --- the cache of refusals ----------------------------------------------------------


def test_a_refused_password_is_not_sent_again() -> None:
    known: dict[str, tuple[str, str]] = {}
    cache = sasl_log_in.Cache(
        known.get, lambda key, status, text: known.update({key: (status, text)})
    )
    for text in ("454 4.7.0 later", "550 5.7.1 no", WELCOME):
        log_in(Server(text), "PLAIN", cache=cache)
    assert not known
    log_in(Server("535 5.7.8 no"), "PLAIN", cache=cache)
    silent = Server()
    for soft, status in ((True, "4.7.8"), (False, "5.7.8")):
        options = ANY._replace(soft_bounce=soft)
        assert log_in(silent, "PLAIN", cache=cache, options=options) == AuthFailed(
            None,
            status,
            "SASL [CACHED] authentication failed; server mx.test said: 535 5.7.8 no",
            "smtp; 535 5.7.8 no",
        )
    # Another password, or another user, is worth a try.
    for username, password in (("user", "other"), ("other", "secret")):
        found = log_in(
            Server(WELCOME), "PLAIN", cache=cache, username=username, password=password
        )
        assert isinstance(found, Authenticated)
    assert "secret" not in str(known)


# --- secrets ------------------------------------------------------------------------


def leaks(text: str) -> bool:
    """Whether a text holds the secret in a form that a dialogue uses."""
    forms = [SECRET, b64(SECRET), b64(f"\0user\0{SECRET}")]
    forms += [b64(f"user=user\1auth=Bearer {SECRET}\1\1")]
    return any(form in text for form in forms)


@pytest.mark.parametrize(
    "name", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "SCRAM-SHA-1"]
)
def test_no_secret_in_what_is_returned(name: str) -> None:
    def repeats(line: str) -> str:
        return f"535 5.7.8 what is {line}, {SECRET}, {server.lines}?"

    known: dict[str, tuple[str, str]] = {}
    cache = sasl_log_in.Cache(
        known.get, lambda key, status, text: known.update({key: (status, text)})
    )
    for challenges in range(3):
        server = Server(*["334 "] * challenges, repeats)
        found = log_in(server, name, password=SECRET, cache=cache)
        sent = [line.split()[-1] for line in server.lines if line.split()[2:]]
        sent += server.lines[1:]
        assert isinstance(found, AuthFailed)
        assert not leaks(str(found) + str(known))
        assert not any(line in str(found) for line in sent if len(line) > 3)
        known.clear()


def test_no_secret_where_both_go_first() -> None:
    found = log_in(Server("334 Zm9v"), "PLAIN", password=SECRET * 40)
    assert "canary" not in str(found)
    assert b64("canary")[:7] not in str(found)


# --- before connecting --------------------------------------------------------------


def test_a_password_table_must_be_named() -> None:
    found = sasl_log_in.unready(Settings({"smtp_sasl_auth_enable": "yes"}))
    assert found is not None
    assert found.status == "4.3.5"
    assert found.reason == (
        "specify a password table via the `smtp_sasl_password_maps' "
        "configuration parameter"
    )


@pytest.mark.parametrize("index", ["", ".db", ".lmdb"])
def test_passwords_must_not_be_open_to_everybody(tmp_path: Path, index: str) -> None:
    table = tmp_path / "sasl_passwd"
    settings = Settings({"smtp_sasl_password_maps": f"static:x, proxy:hash:{table}"})
    assert sasl_log_in.unready(settings) is None
    for name in ("sasl_passwd", f"sasl_passwd{index}"):
        (tmp_path / name).write_text("x y:z")
        (tmp_path / name).chmod(0o640)
    assert sasl_log_in.unready(settings) is None
    secret = tmp_path / f"sasl_passwd{index}"
    secret.chmod(0o644)
    found = sasl_log_in.unready(settings)
    assert found is not None
    assert (found.status, found.reason.split(": ")[1]) == (
        "4.3.5",
        f"chmod o-rwx {secret}",
    )
