"""resolv.conf as the C library reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfix_trouble.dns.resolv_conf import ResolvConf, parse

ROWS = {
    "": ResolvConf(),
    "nameserver 198.51.100.1\n": ResolvConf(nameservers=("198.51.100.1",)),
    "nameserver 1.1.1.1\nnameserver ::2\nnameserver 3.3.3.3\nnameserver 4.4.4.4": (
        ResolvConf(nameservers=("1.1.1.1", "::2", "3.3.3.3"))
    ),
    "# nameserver 1.1.1.1\n; nameserver 2.2.2.2\nnameserver": ResolvConf(),
    "nameserver 1.1.1.1 # comment": ResolvConf(nameservers=("1.1.1.1",)),
    "search a.test. b.test": ResolvConf(search=("a.test", "b.test")),
    "search a.test\ndomain c.test d.test": ResolvConf(search=("c.test",)),
    "domain c.test\nsearch .": ResolvConf(),
    "options timeout:1 attempts:4 ndots:2": ResolvConf(timeout=1, attempts=4, ndots=2),
    "options timeout:0 attempts:0": ResolvConf(timeout=1, attempts=1),
    "options timeout:99999 attempts:99 ndots:99": (
        ResolvConf(timeout=30, attempts=5, ndots=15)
    ),
    "options timeout:x attempts: ndots": ResolvConf(),
    "options rotate\noptions use-vc edns0 trust-ad": (
        ResolvConf(rotate=True, use_vc=True, edns=True, trust_ad=True)
    ),
    "options rotate:1 unknown": ResolvConf(),
    "garbage \0 \ufffd\noptions timeout:2": ResolvConf(timeout=2),
}


@pytest.mark.parametrize("text", ROWS)
def test_rows(text: str) -> None:
    assert parse(text) == ROWS[text]


@given(st.text())
def test_anything_is_read(text: str) -> None:
    assert parse(text).nameservers
    assert parse(f"options {text}").timeout >= 1
