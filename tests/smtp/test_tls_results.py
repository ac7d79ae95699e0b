"""What a session tells of TLS, for TLSRPT: once for each connection, before MAIL."""

from __future__ import annotations

from typing import Any

import pytest
from script import TLS, Server, offers, run

from postfix_trouble.core.steps import HandshakeFailed, Send, TlsResult
from postfix_trouble.core.tls import RequireTls, StsPolicy, TlsLevel, TlsPolicy

ON = {"smtp_tlsrpt_enable": "yes"}
HELLO = "250-mx.test\n250 STARTTLS"
BARE = "250 mx.test"
MAY, ENCRYPT = TlsPolicy(TlsLevel.MAY), TlsPolicy(TlsLevel.ENCRYPT)
SECURE = TlsPolicy(TlsLevel.SECURE, ("hostname",))
NOT_SUPPORTED = TlsResult("starttls-not-supported", hello=HELLO)
TESTING = MAY._replace(sts=StsPolicy("d.test", "testing"))
BUILT_IN = {**ON, "trouble_mta_sts": "yes", "smtp_tls_CAfile": "/x"}
NAMELESS = TLS._replace(matched=False, details=(("problem", "hostname mismatch"),))
MISMATCH = TlsResult("certificate-host-mismatch", hello=HELLO)

REFUSES = offers("STARTTLS", starttls="454 4.7.0 no")
CASES: dict[str, tuple[Server, TlsPolicy, dict[str, str], list[TlsResult]]] = {
    "success": (offers("STARTTLS"), MAY, ON, [TlsResult(hello=HELLO)]),
    "resumed": (
        offers("STARTTLS", handshake=TLS._replace(resumed=True)),
        SECURE,
        ON,
        [TlsResult(hello=HELLO, resumed=True)],
    ),
    "off": (offers("STARTTLS"), MAY, {}, []),
    "no TLS": (offers("STARTTLS"), TlsPolicy(), ON, []),
    "not offered, and no matter": (offers(), MAY, ON, []),
    "not offered": (offers(), ENCRYPT, ON, [NOT_SUPPORTED._replace(hello=BARE)]),
    "not offered, REQUIRETLS": (
        offers(),
        MAY._replace(requiretls=RequireTls.ENFORCE),
        ON,
        [NOT_SUPPORTED._replace(hello=BARE)],
    ),
    "not offered, MTA-STS is tried out": (
        offers(),
        TESTING,
        BUILT_IN,
        [NOT_SUPPORTED._replace(hello=BARE)],
    ),
    "no EHLO": (
        {"ehlo": "502 no", "helo": "250 mx"},
        ENCRYPT,
        ON,
        [NOT_SUPPORTED._replace(hello="250 mx")],
    ),
    "refused": (REFUSES, ENCRYPT, ON, [NOT_SUPPORTED]),
    "refused, and no matter": (REFUSES, MAY, ON, [NOT_SUPPORTED]),
    "refused, as 3.10 has it": (
        REFUSES,
        MAY,
        {**ON, "trouble_postfix_version": "3.10"},
        [],
    ),
    "handshake": (
        offers("STARTTLS", handshake=HandshakeFailed("x")),
        ENCRYPT,
        ON,
        [TlsResult("validation-failure", "tls-handshake-failure", HELLO)],
    ),
    "our own fault": (
        offers("STARTTLS", handshake=HandshakeFailed("x", "smtp_tls_ciphers = x")),
        ENCRYPT,
        ON,
        [],
    ),
    "wrong name": (offers("STARTTLS", handshake=NAMELESS), SECURE, ON, [MISMATCH]),
    "wrong name, MTA-STS is tried out": (
        offers("STARTTLS", handshake=NAMELESS),
        TESTING,
        BUILT_IN,
        [MISMATCH],
    ),
    "records of no use": (
        offers("STARTTLS"),
        ENCRYPT._replace(name="dane"),
        ON,
        [TlsResult("tlsa-invalid", "all-TLSA-records-unusable", HELLO)],
    ),
    "TLS from the first byte": (
        offers(),
        ENCRYPT._replace(wrappermode=True),
        ON,
        [TlsResult()],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_told(case: str) -> None:
    server, policy, settings, expected = CASES[case]
    steps = run(server, tls=policy, settings=settings).outside.wires[0].steps
    assert [x for x in steps if isinstance(x, TlsResult)] == expected
    before = [x for x in steps if isinstance(x, Send) and x.lines[0][:4] == b"MAIL"]
    for one in before:
        assert not any(isinstance(x, TlsResult) for x in steps[steps.index(one) :])


@pytest.mark.parametrize("level", [TlsLevel.MAY, TlsLevel.ENCRYPT])
def test_lmtp_tells_nobody(level: TlsLevel) -> None:
    values: dict[str, Any] = {"lmtp_tlsrpt_enable": "yes"}
    done = run(offers("STARTTLS"), tls=level, settings=values, lmtp=True)
    steps = done.outside.wires[0].steps
    assert not [x for x in steps if isinstance(x, TlsResult)]
