"""`check` tries TLS settings and policies as a delivery does."""

from __future__ import annotations

from pathlib import Path

import pytest
from checking import findings


def tried(*settings: str, lmtp: bool = False) -> list[tuple[str, str, str]]:
    """What is wrong: the parameter, the problem and what happens to mail."""
    argv = ["-o", "myhostname=mail.example.org", *(["--lmtp"] if lmtp else [])]
    for setting in settings:
        argv += ["-o", setting]
    found, code = findings(*argv)
    bad = [x for x in found if x["severity"] in ("error", "warning")]
    assert all(x["remedy"] for x in bad)
    assert code == (78 if any(x["severity"] == "error" for x in bad) else 0)
    return [(x["about"], x["problem"], x["consequence"]) for x in bad]


MAY = "smtp_tls_security_level=may"
IN_THE_CLEAR = (
    "mail is deferred (4.7.5) where the server offers TLS, and goes in the clear after"
    " minimal_backoff_time"
)
SETTINGS = [
    (
        "smtp_tls_protocols=TLSv9",
        "smtp_tls_protocols",
        'TLSv9: unknown protocol "TLSv9"',
        IN_THE_CLEAR,
    ),
    (
        "smtp_tls_exclude_ciphers=aNULL:!MD5",
        "smtp_tls_exclude_ciphers",
        'aNULL:!MD5: "!MD5" begins with !',
        IN_THE_CLEAR,
    ),
    (
        "smtp_tls_protocols=>=TLSv1, <=0305",
        "smtp_tls_protocols",
        ">=TLSv1, <=0305: OpenSSL does not know <=0305",
        "it is no bound: other protocols are used too",
    ),
    (
        "smtp_tls_chain_files=/nonexistent",
        "smtp_tls_chain_files",
        "/nonexistent: No such file or directory",
        "mail is deferred (4.3.5)",
    ),
    (
        "smtp_tls_cert_file=/dev/null",
        "smtp_tls_cert_file",
        "/dev/null: ",
        "mail is deferred (4.3.5)",
    ),
]


@pytest.mark.parametrize(("setting", "about", "problem", "consequence"), SETTINGS)
def test_settings(setting: str, about: str, problem: str, consequence: str) -> None:
    ((its_about, its_problem, its_consequence),) = tried(MAY, setting)
    assert (its_about, its_consequence) == (about, consequence)
    assert its_problem.startswith(problem)
    # Nothing is looked at where TLS is off.
    assert tried(setting) == []


def test_authorities() -> None:
    secure = "smtp_tls_security_level=secure"
    for path in ("/dev/null", "/nonexistent"):
        ((about, _, consequence),) = tried(secure, f"smtp_tls_CAfile={path}")
        assert (about, consequence) == ("smtp_tls_CAfile", "mail is deferred (4.7.5)")


def test_each_entry_of_a_table_is_tried(tmp_path: Path) -> None:
    table = tmp_path / "policy"
    table.write_text(
        "a.test encrypt exclude=aNULL:MD5 protocols=>=TLSv1.2\n"
        "b.test encrypt exclude=!MD5\n"
        "c.test may ciphers=HIGH:MD5\n"
        "d.test encrypt protocol=TLSv1.2\n"
        "e.test secure\n"
        ".f.test verify tafile=/nonexistent\n"
        "g.test none\n"
        "h.test dane-only\n"
        "i.test secure\n"
    )
    maps = "smtp_tls_policy_maps"
    broken = [
        (
            'exclude=!MD5: "!MD5" begins with !',
            "mail for b.test is deferred (4.7.5)",
        ),
        (
            'ciphers=HIGH:MD5: unknown grade "HIGH:MD5"',
            IN_THE_CLEAR.replace("mail", "mail for c.test"),
        ),
        (
            'd.test encrypt protocol=TLSv1.2: invalid attribute name: "protocol"',
            "mail for d.test is deferred (4.7.5)",
        ),
        (
            "secure, and there is no authority to trust",
            "mail for e.test, i.test is deferred (4.7.5)",
        ),
        (
            "trust anchors can't be loaded: /nonexistent",
            "mail for .f.test is deferred (4.7.5)",
        ),
    ]
    for kind in ("texthash", "unionmap"):
        spec = f"texthash:{table}"
        spec = f"unionmap:{{{spec}}}" if kind == "unionmap" else spec
        found = tried(f"smtp_tls_policy_maps={spec}")
        assert found == [(maps, *both) for both in broken]


@pytest.mark.parametrize(
    "spec",
    [
        "static:{encrypt exclude=!x}",
        "inline:{{a.test = encrypt exclude=!x}}",
        "regexp:{{/^b/ none}, {/a/ encrypt exclude=!x}, {/(b)/ $$1}}",
        "pcre:{{if /a/}, {/a/ encrypt exclude=!x}, {endif}}",
    ],
)
def test_tables_of_all_kinds(spec: str) -> None:
    ((about, problem, _),) = tried(f"smtp_tls_policy_maps={spec}")
    assert (about, problem) == (
        "smtp_tls_policy_maps",
        'exclude=!x: "!x" begins with !',
    )


def test_an_indexed_table_is_tried_by_the_file_it_is_made_from(tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("a.test encrypt ciphers=x\n")
    found = tried(f"smtp_tls_policy_maps=hash:{tmp_path}/policy")
    assert 'ciphers=x: unknown grade "x"' in [problem for _, problem, _ in found]


def test_a_table_that_can_not_be_listed() -> None:
    argv = ("-o", "smtp_tls_policy_maps=socketmap:unix:/nonexistent:x")
    found, _ = findings("-o", "myhostname=mail.example.org", *argv)
    said = [x["problem"] for x in found if x["severity"] == "note"]
    assert any("can't be listed" in x for x in said)
    assert any("no authority to trust" in x for x in said)


def test_what_is_in_order_is_said() -> None:
    argv = ("-o", "smtp_tls_policy_maps=inline:{{a.test = encrypt}, {b.test = none}}")
    found, code = findings("-o", "myhostname=mail.example.org", *argv)
    assert code == 0
    assert [x["problem"] for x in found if x["problem"].endswith("2 entries tried")]


def test_a_policy_with_patterns_of_hosts_is_tried_with_such_a_host() -> None:
    entry = (
        "{secure policy_type=sts policy_domain=a.test policy_ttl=9"
        " mx_host_pattern=*.a.test match=a.test}"
    )
    assert tried(
        f"smtp_tls_policy_maps=static:{entry}", "tls_append_default_CA=yes"
    ) == []  # fmt: skip


def test_lmtp_has_its_own_names() -> None:
    ((about, _, _),) = tried(
        "lmtp_tls_security_level=may", "lmtp_tls_protocols=TLSv9", lmtp=True
    )
    assert about == "lmtp_tls_protocols"
