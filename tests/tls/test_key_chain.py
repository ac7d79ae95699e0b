"""Client certificates: files that are read as one."""

from __future__ import annotations

import pytest

from postfix_trouble.tls.key_chain import KeyChain, chains, holds_key


def block(label: str, body: str = "x") -> str:
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----"


KEY, RSA = block("PRIVATE KEY"), block("RSA PRIVATE KEY", "r")
ONE, TWO, OLD = (
    block("CERTIFICATE", "1"),
    block("CERTIFICATE", "2"),
    block("TRUSTED CERTIFICATE", "3"),
)
CURVE = block("EC PARAMETERS")

# Contents of the files a, b, ...; the chains that they make, or what is wrong.
FILES: list[tuple[tuple[str, ...], object]] = [
    ((f"{KEY}\n{ONE}",), (("a", KEY, ONE),)),
    ((KEY, ONE), (("a", KEY, ONE),)),
    ((KEY, f"{ONE}\n{TWO}"), (("a", KEY, ONE, TWO),)),
    ((KEY, ONE, f"words\n{OLD}\nmore"), (("a", KEY, ONE, OLD),)),
    ((f"{CURVE}\n{KEY}\n{ONE}",), (("a", KEY, ONE),)),
    ((KEY, ONE, RSA, TWO), (("a", KEY, ONE), ("c", RSA, TWO))),
    ((f"{KEY}\n{ONE}\n{RSA}", TWO), (("a", KEY, ONE), ("a", RSA, TWO))),
    ((ONE, KEY), "a begins with a certificate; its key comes first"),
    ((f"{ONE}\n{KEY}",), "a begins with a certificate; its key comes first"),
    ((KEY,), "no certificate follows the key in a"),
    ((KEY, RSA, ONE), "no certificate follows the key in a"),
    ((KEY, ONE, RSA), "no certificate follows the key in c"),
    ((KEY, "words", ONE), "b has neither key nor certificate (PEM) in it"),
    (("",), "a has neither key nor certificate (PEM) in it"),
    ((KEY, ONE, CURVE), "c has neither key nor certificate (PEM) in it"),
]


@pytest.mark.parametrize(("texts", "expected"), FILES)
def test_chains(texts: tuple[str, ...], expected: object) -> None:
    found = chains(zip("abcd", texts, strict=False))
    if isinstance(found, str):
        assert found == expected
    else:
        assert isinstance(expected, tuple)
        made = [KeyChain(path, "\n".join([*blocks, ""])) for path, *blocks in expected]
        assert list(found) == made


def test_what_is_a_secret() -> None:
    assert [holds_key(x) for x in (KEY, f"{ONE}\n{RSA}", ONE, CURVE, "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
