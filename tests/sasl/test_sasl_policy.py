"""Credentials, mechanisms, and the reports of failed log-ins."""

from __future__ import annotations

import pickle

import pytest

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.relay import Destination, Relay
from postfix_trouble.core.reply import Reply
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import AuthFailed
from postfix_trouble.core.tls import TlsFacts
from postfix_trouble.sasl import choose
from postfix_trouble.sasl.choose import Credentials, Options
from postfix_trouble.sasl.redaction import Concealer, exposure

RELAY = Relay("mx.example.test", "192.0.2.1", 587)
DESTINATION = Destination("[mx.example.test]:587", "mx.example.test", 587)
SECRET = "canary-3141"


# --- credentials --------------------------------------------------------------------

LOOKUPS = [
    # tables, sender-dependent, expected user
    ({}, False, None),
    ({"mx.example.test": "host:x"}, False, "host"),
    ({"[mx.example.test]:587": "exact:x"}, False, "exact"),
    ({"mx.example.test": "host:x", "[mx.example.test]:587": "exact:x"}, False, "host"),
    ({"me@sender.test": "sender:x", "mx.example.test": "host:x"}, False, "host"),
    ({"me@sender.test": "sender:x", "mx.example.test": "host:x"}, True, "sender"),
    ({"mx.example.test": "host:x"}, True, "host"),
    ({"example.test": "parent:x", "192.0.2.1": "address:x"}, True, None),
]


@pytest.mark.parametrize(("table", "by_sender", "user"), LOOKUPS)
def test_keys(table: dict[str, str], by_sender: bool, user: str | None) -> None:
    flag = "yes" if by_sender else "no"

    def find(parameter: str, key: str, fold: bool) -> str | None:
        assert (parameter, fold) == ("smtp_sasl_password_maps", True)
        return table.get(key)

    found = choose.credentials(
        Settings({"smtp_sender_dependent_authentication": flag}),
        DESTINATION,
        RELAY,
        "me@sender.test",
        find,
    )
    assert (found.username if found else None) == user


def test_the_null_sender_has_no_password_of_its_own() -> None:
    def find(parameter: str, key: str, fold: bool) -> str | None:
        assert key
        return None

    settings = Settings({"smtp_sender_dependent_authentication": "yes"})
    assert choose.credentials(settings, DESTINATION, RELAY, "", find) is None


def test_a_sender_is_looked_up_in_all_its_forms() -> None:
    found = choose.credentials(
        Settings({"smtp_sender_dependent_authentication": "yes"}),
        DESTINATION,
        RELAY,
        "me+x@sender.test",
        lambda parameter, key, fold: "host:x",
        find_sender=lambda address: "all:x" if address == "me+x@sender.test" else None,
    )
    assert found is not None
    assert found.username == "all"


ENTRIES = [
    ("user:secret", "user", "secret"),
    ("user:se:cr:et", "user", "se:cr:et"),
    ("user", "user", ""),
    ("user:", "user", ""),
    (":secret", "", "secret"),
]


@pytest.mark.parametrize(("entry", "username", "password"), ENTRIES)
def test_an_entry_is_split_at_the_first_colon(
    entry: str, username: str, password: str
) -> None:
    found = choose.credentials(
        Settings(), DESTINATION, RELAY, "", lambda parameter, key, fold: entry
    )
    assert found is not None
    assert (found.username, found.password) == (username, password)


def test_another_delimiter() -> None:
    settings = Settings({"smtp_sasl_password_result_delimiter": "|"})
    found = choose.credentials(
        settings, DESTINATION, RELAY, "", lambda parameter, key, fold: "user:x|secret"
    )
    assert found is not None
    assert (found.username, found.password) == ("user:x", "secret")


def test_a_lookup_that_fails_is_not_a_missing_password() -> None:
    def find(parameter: str, key: str, fold: bool) -> str | None:
        raise LookupError(key)

    with pytest.raises(LookupError):
        choose.credentials(Settings(), DESTINATION, RELAY, "", find)


def test_credentials_show_no_password() -> None:
    mine = Credentials("user", SECRET)
    shown = (repr(mine), str(mine), f"{mine}", repr([mine.with_token(SECRET)]))
    assert not any(SECRET in text for text in shown)
    assert repr(mine) == "Credentials('user', ...)"
    with pytest.raises(TypeError):
        iter(mine)  # type: ignore[call-overload]
    assert pickle.loads(pickle.dumps(mine)).password == SECRET


# --- mechanisms ---------------------------------------------------------------------

FILTERS = [
    ("PLAIN LOGIN", "", "PLAIN LOGIN"),
    ("PLAIN LOGIN", "plain", "PLAIN"),
    ("PLAIN LOGIN", "!plain", ""),
    ("PLAIN LOGIN", "!plain static:all", "LOGIN"),
    ("PLAIN LOGIN", "plain !plain login", "PLAIN LOGIN"),
    ("PLAIN LOGIN", "/file", "LOGIN"),
    ("PLAIN LOGIN", "!/file, static:all", "PLAIN"),
    ("PLAIN LOGIN", "!!plain", "PLAIN"),
    ("XOAUTH2 PLAIN", "XOAUTH2", "XOAUTH2"),
    ("GSSAPI", "plain", ""),
    ("", "plain", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("offered", "allowed", "left"), FILTERS)
def test_filter(offered: str, allowed: str, left: str) -> None:
    tables = {"static:all": {"plain", "login"}, "/file": {"login"}}
    found = choose.usable(
        offered.split(),
        tuple(allowed.replace(",", " ").split()),
        lambda table, word: word in tables[table],
    )
    assert found == tuple(left.split())


NOANONYMOUS = frozenset(("noanonymous",))
CHOICES = [
    # offered, security options, mechanism
    ("LOGIN PLAIN", "noanonymous", "PLAIN"),
    ("LOGIN", "noanonymous", "LOGIN"),
    ("CRAM-MD5 SCRAM-SHA-1", "noplaintext", "SCRAM-SHA-1"),
    ("CRAM-MD5 SCRAM-SHA-1", "mutual_auth", "SCRAM-SHA-1"),
    ("PLAIN LOGIN", "noanonymous", "PLAIN"),
    ("PLAIN CRAM-MD5", "noanonymous", "CRAM-MD5"),
    ("PLAIN SCRAM-SHA-1 SCRAM-SHA-256", "noanonymous", "SCRAM-SHA-256"),
    ("SCRAM-SHA-512 SCRAM-SHA-256", "noanonymous", "SCRAM-SHA-512"),
    ("SCRAM-SHA-1-PLUS SCRAM-SHA-1 CRAM-MD5", "noanonymous", "SCRAM-SHA-1"),
    ("ANONYMOUS PLAIN", "noanonymous", "PLAIN"),
    ("plain", "noanonymous", "PLAIN"),
    ("PLAIN LOGIN", "noplaintext noanonymous", None),
    ("PLAIN CRAM-MD5", "noplaintext", "CRAM-MD5"),
    ("PLAIN CRAM-MD5 SCRAM-SHA-1", "noactive", "SCRAM-SHA-1"),
    ("PLAIN CRAM-MD5", "mutual_auth", None),
    ("PLAIN CRAM-MD5 SCRAM-SHA-1", "nodictionary", None),
    ("PLAIN", "forward_secrecy", None),
    ("GSSAPI NTLM DIGEST-MD5", "", None),
    ("EXTERNAL PLAIN", "", "PLAIN"),
    ("EXTERNAL", "", None),
    ("XOAUTH2 PLAIN", "", "PLAIN"),
    ("XOAUTH2", "", "XOAUTH2"),
    ("XOAUTH2", "noplaintext", None),
    ("", "", None),
]


@pytest.mark.parametrize(("offered", "security", "expected"), CHOICES)
def test_choice(offered: str, security: str, expected: str | None) -> None:
    options = Options(frozenset(security.split()))
    mine = Credentials("user", SECRET)
    assert choose.choose(offered.split(), options, mine) == expected


def test_a_token_goes_by_bearer_mechanisms_only() -> None:
    mine = Credentials("user", SECRET).with_token("token")
    options = Options(NOANONYMOUS)
    offered = ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
    assert choose.choose(offered, options, mine) is None
    assert choose.choose([*offered, "XOAUTH2"], options, mine) == "XOAUTH2"
    offered += ["XOAUTH2", "OAUTHBEARER"]
    assert choose.choose(offered, options, mine) == "OAUTHBEARER"


def test_external_must_be_asked_for() -> None:
    options = Options(NOANONYMOUS, ("plain", "external"))
    mine = Credentials("user", "")
    assert choose.choose(["EXTERNAL", "PLAIN"], options, mine) == "EXTERNAL"
    strict = options._replace(security=frozenset(("noplaintext", "nodictionary")))
    assert choose.choose(["EXTERNAL", "PLAIN"], strict, mine) == "EXTERNAL"


def test_security_options_depend_on_the_connection() -> None:
    settings = Settings(
        {
            "smtp_sasl_security_options": "noplaintext, noanonymous",
            "smtp_sasl_tls_security_options": "noanonymous",
            "smtp_sasl_tls_verified_security_options": "",
            "smtp_sasl_mechanism_filter": "plain, login",
            "smtp_sasl_auth_soft_bounce": "no",
            "send_cyrus_sasl_authzid": "yes",
        }
    )
    stranger = TlsFacts("TLSv1.3", "X", 256, trusted=True)
    clear = choose.options(settings, None)
    assert clear == Options(
        frozenset(("noplaintext", "noanonymous")), ("plain", "login"), False, True
    )
    assert choose.options(settings, stranger).security == NOANONYMOUS
    verified = stranger._replace(matched=True)
    assert choose.options(settings, verified).security == frozenset()


def test_security_options_by_default() -> None:
    tls = TlsFacts("TLSv1.3", "X", 256, matched=True)
    expected = frozenset(("noplaintext", "noanonymous"))
    assert choose.options(Settings(), None).security == expected
    assert choose.options(Settings(), tls).security == expected
    assert Options() == choose.options(Settings(), None)


def test_offers_worth_a_warning() -> None:
    where = "mx[192.0.2.1]:25"
    assert choose.offer_problem("PLAIN", ("PLAIN",), where) == ""
    null = f"{where} offered null AUTH mechanism list"
    assert choose.offer_problem("", (), where) == null
    none = f"{where} offered no supported AUTH mechanisms: 'GSSAPI X'"
    assert choose.offer_problem("GSSAPI X", (), where) == none


# --- failure ------------------------------------------------------------------------


def refused(text: str) -> AuthFailed:
    status = EnhancedStatus.leading(text[4:]) or EnhancedStatus(f"{text[0]}.0.0")
    return AuthFailed(Reply(int(text[:3]), status, text))


SAID = "SASL authentication failed; server mx.example.test[192.0.2.1] said: "
FAILURES = [
    ("535 5.7.8 no", True, "4.7.8"),
    ("535 5.7.8 no", False, "5.7.8"),
    ("454 4.7.0 later", False, "4.7.0"),
    ("535-5.7.8 a\n535 5.7.8 b", True, "4.7.8"),
]


@pytest.mark.parametrize(("text", "soft", "status"), FAILURES)
def test_what_a_refusal_means(text: str, soft: bool, status: str) -> None:
    found = choose.failure(refused(text), RELAY, soft=soft, program="lmtp")
    expected = (status, SAID + text, "mx.example.test", "lmtp", text)
    assert found == DSN(EnhancedStatus(status), *expected[1:])


def test_a_reply_out_of_the_protocol_is_hard() -> None:
    failed = AuthFailed(Reply(100, EnhancedStatus("5.5.0"), "100 hm"))
    assert choose.failure(failed, RELAY, soft=True, program="smtp").status == "5.5.0"


def test_what_our_own_side_has_to_say() -> None:
    status, text = choose.cannot_authenticate(RELAY, choose.NO_MECHANISM)
    failed = AuthFailed(None, status, text, "x-sasl; no mechanism available")
    assert choose.failure(failed, RELAY, soft=True, program="smtp") == DSN(
        EnhancedStatus("4.7.0"),
        "SASL authentication failed; cannot authenticate to server "
        "mx.example.test[192.0.2.1]: no mechanism available",
        "",
        "x-sasl",
        "no mechanism available",
    )


def test_nobody_to_name_where_nobody_spoke() -> None:
    failed = AuthFailed(None, "4.7.0", "x")
    found = choose.failure(failed, RELAY, soft=True, program="smtp")
    assert found == DSN(EnhancedStatus("4.7.0"), "x")


def test_a_remembered_refusal() -> None:
    for soft, status in ((True, "4.7.8"), (False, "5.7.8")):
        found = choose.cached(RELAY, "5.7.8", "535 5.7.8 no", soft)
        assert found == (
            status,
            "SASL [CACHED] authentication failed; server mx.example.test said: "
            "535 5.7.8 no",
        )
        failed = AuthFailed(None, *found, "smtp; 535 5.7.8 no")
        dsn = choose.failure(failed, RELAY, soft=soft, program="smtp")
        assert (dsn.remote_mta, dsn.diagnostic_type) == ("mx.example.test", "smtp")


# --- secrets ------------------------------------------------------------------------

MODES = [(0o600, True), (0o640, True), (0o440, True), (0o644, False), (0o602, False)]


@pytest.mark.parametrize(("mode", "fine"), MODES)
def test_modes_of_secret_files(mode: int, fine: bool) -> None:
    problem = exposure("/etc/x", 0o100000 | mode)
    assert (problem == "") is fine
    assert fine or problem.endswith("chmod o-rwx /etc/x")


def test_secrets_are_hidden_wherever_they_turn_up() -> None:
    conceal = Concealer()
    for secret in (
        "hunter22",
        "hunter22-longer",
        "zebra",
        "a-zebra",
        "abcd",
        "abc",
        "",
    ):
        conceal.add(secret)
    said = "no hunter22-longer, hunter22hunter22 abc"
    assert conceal(said) == "no <hidden>, <hidden><hidden> abc"
    assert conceal("a-zebra") == conceal("abcd") == "<hidden>"


def test_a_secret_is_not_shown_without_its_odd_bytes_either() -> None:
    conceal = Concealer()
    conceal.add("vögel-3141")
    assert conceal("535 v??gel-3141 is vögel-3141") == "535 <hidden> is <hidden>"
