import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.config.settings import ConfigError, Settings
from postfix_trouble.config.types import split_words


def test_command_line_goes_before_file_goes_before_default() -> None:
    file = {"smtp_helo_timeout": "10s", "smtp_mail_timeout": "20s"}
    settings = Settings(file, overrides={"smtp_helo_timeout": "1s"})
    names = ("smtp_helo_timeout", "smtp_mail_timeout", "smtp_rcpt_timeout")
    assert [settings.seconds(name) for name in names] == [1, 20, 300]
    assert [settings.given(name) for name in names] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("smtp_helo_timeout", "5", 5),
        ("smtp_helo_timeout", "5s", 5),
        ("smtp_helo_timeout", "5m", 300),
        ("smtp_helo_timeout", "2h", 7200),
        ("smtp_helo_timeout", "1d", 86400),
        ("smtp_helo_timeout", "1w", 604800),
        ("smtp_helo_timeout", "+5m", 300),
        # Only the first letter counts, as in Postfix 3.7.
        ("smtp_helo_timeout", "10seconds", 10),
        ("smtp_helo_timeout", "10s # a comment that is none", 10),
        ("smtp_connect_timeout", "s", 0),
        ("smtp_connect_timeout", "0", 0),
        # Without a letter: the unit of the default.
        ("maximal_queue_lifetime", "5", 432000),
        ("delay_warning_time", "4", 14400),
        ("smtp_sasl_auth_cache_time", "1", 86400),
        ("trouble_give_up_age", "", 0),
        ("trouble_give_up_age", "90", 90),
    ],
)
def test_times(name: str, value: str, seconds: float) -> None:
    assert Settings({name: value}).seconds(name) == seconds


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("soft_bounce", "maybe", "bad boolean configuration: soft_bounce = maybe"),
        ("soft_bounce", "", "bad boolean configuration: soft_bounce = "),
        ("soft_bounce", "yes ", "bad boolean configuration: soft_bounce = yes "),
        *[
            (
                "smtp_helo_timeout",
                value,
                f"parameter smtp_helo_timeout: bad time value or unit: {value}",
            )
            for value in (
                *("", "x", "5x", "5M", "-5", "5 s", "1.5h", "0x10", "9" * 5000),
                *("99999999999s", "4000w", "é"),
            )
        ],
        ("smtp_helo_timeout", "0", "invalid smtp_helo_timeout: 0 (min 1)"),
        (
            "maximal_queue_lifetime",
            "101d",
            "invalid maximal_queue_lifetime: 8726400 (max 8640000)",
        ),
        *[
            (
                "smtp_mx_address_limit",
                value,
                f"bad numerical configuration: smtp_mx_address_limit = {value}",
            )
            for value in ("", "x", "5x", "5 ", "1.5", "2147483648", "9" * 5000, "٣")
        ],
        (
            "smtp_mx_address_limit",
            "-1",
            "invalid smtp_mx_address_limit parameter value -1 < 0",
        ),
        (
            "line_length_limit",
            "511",
            "invalid line_length_limit parameter value 511 < 512",
        ),
        (
            "delay_logging_resolution_limit",
            "7",
            "invalid delay_logging_resolution_limit parameter value 7 > 6",
        ),
        ("smtp_helo_name", "", "bad string length 0 < 1: smtp_helo_name = "),
        (
            "smtp_sasl_password_result_delimiter",
            "::",
            "bad string length 2 > 1: smtp_sasl_password_result_delimiter = ::",
        ),
        (
            "smtp_tls_security_level",
            "halfdane",
            'invalid setting: "smtp_tls_security_level = halfdane"',
        ),
        (
            "notify_classes",
            "bounce, everything",
            'unknown notify_classes value "everything" in "bounce, everything"',
        ),
        (
            "smtp_helo_name",
            "${myhostname",
            'parameter smtp_helo_name: truncated macro reference: "${myhostname"',
        ),
        ("no_such_name", "1", "unknown parameter: no_such_name = 1"),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_a_wrong_value_on_the_command_line_is_refused_at_once(
    name: str, value: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(overrides={name: value})
    assert caught.value.parameter == name
    assert str(caught.value) == caught.value.problem == problem


def test_a_wrong_value_in_the_file_counts_only_when_it_is_used() -> None:
    settings = Settings({"soft_bounce": "maybe", "smtpd_banner": "${", "mine": "x"})
    assert settings.seconds("smtp_helo_timeout") == 300
    with pytest.raises(ConfigError, match="soft_bounce = maybe"):
        settings.flag("soft_bounce")


def test_values_are_expanded_through_names_of_the_administrators_own() -> None:
    file = {"mine": "a.example", "myhostname": "mx.$mine", "smtp_helo_name": "${none}x"}
    settings = Settings(file, overrides={"relayhost": "[$myhostname]"})
    assert settings.text("relayhost") == "[mx.a.example]"
    assert settings.text("smtp_helo_name") == "x"
    assert settings.words("mydestination")[1] == "localhost.a.example"


@pytest.mark.parametrize(
    ("given_values", "system", "hostname", "domain"),
    [
        ({}, "mx.example.com", "mx.example.com", "example.com"),
        ({}, "mx", "mx.localdomain", "localdomain"),
        ({}, "", "localhost.localdomain", "localdomain"),
        ({"mydomain": "b.example"}, "mx", "mx.b.example", "b.example"),
        ({"myhostname": "mx"}, "other.example", "mx", "localdomain"),
        ({"myhostname": "a.b.c"}, "other.example", "a.b.c", "b.c"),
        ({"myhostname": "mx.$mydomain"}, "x", "mx.localdomain", "localdomain"),
        (
            {"myhostname": "mx.$mydomain", "mydomain": "b.example"},
            "x",
            "mx.b.example",
            "b.example",
        ),
    ],
)
def test_own_name(
    given_values: dict[str, str], system: str, hostname: str, domain: str
) -> None:
    settings = Settings(given_values, system_hostname=system)
    assert settings.text("myhostname") == hostname
    assert settings.text("mydomain") == domain
    assert settings.text("smtp_helo_name") == hostname


@pytest.mark.parametrize(
    ("level", "utf8", "digest"),
    [
        (None, True, "sha256"),
        ("0", False, "md5"),
        ("1", True, "md5"),
        ("3.5", True, "md5"),
        ("3.10", True, "sha256"),
    ],
)
def test_defaults_follow_the_compatibility_level(
    level: str | None, utf8: bool, digest: str
) -> None:
    settings = Settings({"compatibility_level": level} if level else {})
    assert settings.flag("smtputf8_enable") is utf8
    assert settings.text("smtp_tls_fingerprint_digest") == digest


def test_lmtp_reads_its_own_parameters_under_the_smtp_names() -> None:
    file = {
        "smtp_mail_timeout": "1s",
        "lmtp_mail_timeout": "2s",
        "lmtp_lhlo_name": "lmtp.example",
        "lmtp_discard_lhlo_keywords": "chunking",
        "smtp_sasl_security_options": "noactive",
        "smtp_always_send_ehlo": "no",
    }
    settings = Settings(file, lmtp=True)
    assert settings.seconds("smtp_mail_timeout") == 2
    assert settings.text("smtp_helo_name") == "lmtp.example"
    assert settings.words("smtp_discard_ehlo_keywords") == ("chunking",)
    assert settings.seconds("smtp_connect_timeout") == 0
    assert settings.text("smtp_tcp_port") == "24"
    assert not settings.flag("smtp_skip_quit_response")
    assert settings.words("smtp_sasl_tls_security_options") == (
        "noplaintext",
        "noanonymous",
    )
    assert not settings.flag("smtp_always_send_ehlo")
    assert settings.given("smtp_mail_timeout")
    assert not settings.given("smtp_rcpt_timeout")


@pytest.mark.parametrize(
    ("file", "null_sender", "age"),
    [
        ({}, False, 432000 - 4000),
        ({"bounce_queue_lifetime": "1d"}, True, 86400 - 4000),
        ({"maximal_queue_lifetime": "10m"}, False, 300),
        ({"maximal_queue_lifetime": "0"}, False, 0),
        ({"trouble_give_up_age": "1h"}, False, 3600),
        ({"trouble_give_up_age": "1h"}, True, 3600),
    ],
)
def test_give_up_age(file: dict[str, str], null_sender: bool, age: float) -> None:
    assert Settings(file).give_up_age(null_sender) == age


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        (" , ,\t", ()),
        ("a,b c\td", ("a", "b", "c", "d")),
        ("a\N{NO-BREAK SPACE}b", ("a\N{NO-BREAK SPACE}b",)),
        ("inline:{a=b, {c = d}} static:x", ("inline:{a=b, {c = d}}", "static:x")),
        ("{a b},{c}", ("{a b}", "{c}")),
        ("a} b", ("a}", "b")),
        ("{a b", ("{a b",)),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert split_words(text) == words


@given(st.text(alphabet="ab{},\t \n", max_size=40))
def test_words_lose_nothing_but_separators(text: str) -> None:
    separators = str.maketrans("", "", ", \t\r\n")
    joined = "".join(split_words(text)).translate(separators)
    assert joined == text.translate(separators)


@given(st.text(max_size=12))
def test_any_time_is_taken_or_refused(value: str) -> None:
    with contextlib.suppress(ConfigError):
        assert Settings({"smtp_helo_timeout": value}).seconds("smtp_helo_timeout") >= 1
