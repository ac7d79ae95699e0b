"""Destinations and hosts: who is tried, who is final, and what is left in the end."""

from __future__ import annotations

import re
from typing import Any

import pytest
import script
from hypothesis import given
from hypothesis import strategies as st
from script import (
    LOST,
    PIPELINING,
    REFUSED,
    SUCCESS,
    Place,
    Server,
    ehlo,
    offers,
    recipients,
    run,
)

from postfix_trouble.config.settings import Settings
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.reply import Lost
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.steps import HandshakeFailed, Note
from postfix_trouble.core.tls import TlsLevel, TlsPolicy
from postfix_trouble.smtp.delivery import deliver
from postfix_trouble.smtp.recipients import Panic
from postfix_trouble.smtp.session import Session

NO, TRY = "550 5.1.1 no", "450 4.2.0 try"
SOFT, HARD = {"rcpt": TRY}, {"rcpt": NO}
GONE, AWAY = {"greeting": Lost.EOF}, {"mail": Lost.EOF}
BUSY = {"greeting": "421 4.3.2 busy"}
SOFT_BOUNCE = {"soft_bounce": "yes"}

HOSTS: list[Any] = [
    # id, hosts, settings, end, hosts tried, reasons noted on the way, throttled
    ("first takes it", [{}, {}], {}, "sent 2.0.0 h1", "h1", 0, ""),
    ("refused, backup", [REFUSED, {}], {}, "sent 2.0.0 h2", "h1 h2", 1, ""),
    ("soft, backup", [SOFT, {}], {}, "sent 2.0.0 h2", "h1 h2", 1, ""),
    ("lost, backup", [AWAY, {}], {}, "sent 2.0.0 h2", "h1 h2", 1, ""),
    ("hard, no backup", [HARD, {}], {}, "bounced 5.1.1 h1", "h1", 0, ""),
    (
        "hard, soft_bounce, backup",
        [HARD, {}],
        SOFT_BOUNCE,
        "sent 2.0.0 h2",
        "h1 h2",
        1,
        "",
    ),
    ("hard, soft_bounce", [HARD], SOFT_BOUNCE, "SOFTBOUNCE 4.1.1 h1", "h1", 0, ""),
    (
        "hard greeting, soft_bounce",
        [{"ehlo": "500 x", "helo": "550 5.7.1 no"}],
        SOFT_BOUNCE,
        "SOFTBOUNCE 4.7.1 h1",
        "h1",
        0,
        # The queue manager is told the status that was.
        "5.7.1",
    ),
    ("both soft", [SOFT, SOFT], {}, "deferred 4.2.0 h2", "h1 h2", 1, ""),
    ("both gone", [GONE, GONE], {}, "deferred 4.4.2 h2", "h1 h2", 1, "4.4.2"),
    ("both refuse", [REFUSED, REFUSED], {}, "deferred 4.4.1 none", "h1 h2", 2, "4.4.1"),
    # The last host is never connected, so the first was not final.
    ("soft, refused", [SOFT, REFUSED], {}, "deferred 4.4.1 none", "h1 h2", 2, ""),
    ("gone, refused", [GONE, REFUSED], {}, "deferred 4.4.1 none", "h1 h2", 2, "4.4.1"),
    # A complete session protects the destination.
    ("soft, gone", [SOFT, GONE], {}, "deferred 4.4.2 h2", "h1 h2", 1, ""),
    ("soft, busy", [SOFT, BUSY], {}, "deferred 4.3.2 h2", "h1 h2", 1, ""),
    (
        "no complete session: the connection broke",
        [{"body": Lost.EOF, "dot": "451 4.3.0 x"}, GONE],
        {},
        "deferred 4.4.2 h2",
        "h1 h2",
        1,
        "4.4.2",
    ),
    ("lost, busy", [AWAY, BUSY], {}, "deferred 4.3.2 h2", "h1 h2", 1, "4.3.2"),
    # Limits.
    (
        "two sessions",
        [SOFT, {"rcpt": "450 4.2.2 b"}, {}],
        {},
        "deferred 4.2.2 h2",
        "h1 h2",
        1,
        "",
    ),
    (
        "handshakes don't count as sessions",
        [BUSY, GONE, SOFT, {}],
        {},
        "sent 2.0.0 h4",
        "h1 h2 h3 h4",
        3,
        "",
    ),
    (
        "five addresses",
        [BUSY, BUSY, BUSY, BUSY, BUSY, {}],
        {},
        "deferred 4.3.2 h5",
        "h1 h2 h3 h4 h5",
        4,
        "4.3.2",
    ),
    (
        "five addresses that refuse",
        [REFUSED] * 5 + [{}],
        {},
        "deferred 4.4.1 none",
        "h1 h2 h3 h4 h5",
        5,
        "4.4.1",
    ),
    (
        "no limit of addresses",
        [REFUSED] * 7 + [{}],
        {"smtp_mx_address_limit": "0"},
        "sent 2.0.0 h8",
        "h1 h2 h3 h4 h5 h6 h7 h8",
        7,
        "",
    ),
    (
        "no limit of sessions",
        [SOFT, SOFT, SOFT, {}],
        {"smtp_mx_session_limit": "0"},
        "sent 2.0.0 h4",
        "h1 h2 h3 h4",
        3,
        "",
    ),
    (
        "one session",
        [SOFT, {}],
        {"smtp_mx_session_limit": "1"},
        "deferred 4.2.0 h1",
        "h1",
        0,
        "",
    ),
    (
        "one address",
        [GONE, {}],
        {"smtp_mx_address_limit": "1"},
        "deferred 4.4.2 h1",
        "h1",
        0,
        "4.4.2",
    ),
]


@pytest.mark.parametrize(
    ("hosts", "settings", "end", "tried", "noted", "throttled"),
    [row[1:] for row in HOSTS],
    ids=[row[0] for row in HOSTS],
)
def test_hosts(
    hosts: list[Server | DSN],
    settings: dict[str, str],
    end: str,
    tried: str,
    noted: int,
    throttled: str,
) -> None:
    done = run(Place(hosts), settings=settings)
    assert done.end == end
    assert " ".join(done.hosts) == tried
    assert len(done.report.skipped) == noted
    assert list(done.report.skipped) == done.outside.notes
    assert done.throttled == throttled


def test_success_never_looks_ahead() -> None:
    done = run(Place([{}, {}]), Place([{}]))
    assert [route.asked for route in done.outside.routes] == [0]
    assert done.outside.routes[0].relays, "the second host was not even asked for"


def test_refused_connection_never_looks_ahead() -> None:
    done = run(Place([REFUSED, {}]))
    assert done.outside.routes[0].asked == 0


# --- several destinations -------------------------------------------------------------


def fallback(*servers: Server | DSN) -> Place:
    return Place(servers, fallback=True)


PLACES: list[Any] = [
    # id, places, settings, end, hosts, warning
    (
        "fallback takes it",
        [Place([SOFT]), fallback({})],
        {},
        "sent 2.0.0 h2",
        "h1 h2",
        "",
    ),
    (
        "hosts before a fallback relay are never final",
        [Place([GONE, BUSY]), fallback(SOFT)],
        {},
        "deferred 4.2.0 h3",
        "h1 h2 h3",
        "",
    ),
    ("hard is hard", [Place([HARD]), fallback({})], {}, "bounced 5.1.1 h1", "h1", ""),
    (
        "limits start anew at the next destination",
        [Place([SOFT, SOFT, {}]), fallback(SOFT, {})],
        {},
        "sent 2.0.0 h5",
        "h1 h2 h4 h5",
        "",
    ),
    (
        "we are a mail exchanger: no later destination",
        [Place([BUSY], last_resort=True), fallback({})],
        {},
        "deferred 4.3.2 h1",
        "h1",
        "",
    ),
    (
        "and the last host before us refuses",
        [Place([REFUSED], last_resort=True), fallback({})],
        {},
        "deferred 4.4.1 none",
        "h1",
        "",
    ),
    (
        "fallback relay does not exist",
        [
            Place([SOFT]),
            Place(failure=DSN(EnhancedStatus("5.4.4"), "gone"), fallback=True),
        ],
        {},
        "deferred 4.3.5 none",
        "h1",
        "smtp_fallback_relay configuration problem",
    ),
    (
        "relayhost does not exist",
        [Place(failure=DSN(EnhancedStatus("5.4.4"), "gone"))],
        {"relayhost": "d1.test"},
        "deferred 4.3.5 none",
        "",
        "relayhost configuration problem",
    ),
    (
        "relayhost is another one",
        [Place(failure=DSN(EnhancedStatus("5.4.4"), "gone"))],
        {"relayhost": "[d1.test]"},
        "bounced 5.4.4 none",
        "",
        "",
    ),
    (
        "relayhost that answers is believed",
        [Place([HARD])],
        {"relayhost": "d1.test"},
        "bounced 5.1.1 h1",
        "h1",
        "",
    ),
    (
        "mail loops and belongs to another transport",
        [Place(failure=DSN(EnhancedStatus("5.4.6"), "loops"))],
        {"best_mx_transport": "local"},
        "deferred 4.3.5 none",
        "",
        "best_mx_transport",
    ),
    ("no servers, no reason", [Place()], {}, "deferred 4.3.0 none", "", ""),
]


@pytest.mark.parametrize(
    ("places", "settings", "end", "tried", "warning"),
    [row[1:] for row in PLACES],
    ids=[row[0] for row in PLACES],
)
def test_destinations(
    places: list[Place], settings: dict[str, str], end: str, tried: str, warning: str
) -> None:
    done = run(*places, settings=settings)
    assert done.end == end
    assert " ".join(done.hosts) == tried
    warned = [text for text in done.outside.notes if text not in done.report.skipped]
    assert len(warned) == bool(warning)
    assert all(warning in text for text in warned)


def test_relayhost_that_comes_second_is_like_any_other() -> None:
    gone = Place(failure=DSN(EnhancedStatus("5.4.4"), "gone"))
    assert run(gone, gone, settings={"relayhost": "d2.test"}).end == (
        "bounced 5.4.4 none"
    )


def test_relayhost_is_no_rule_of_lmtp() -> None:
    place = Place(failure=DSN(EnhancedStatus("5.4.4"), "gone"))
    done = run(place, settings={"relayhost": "d1.test"}, lmtp=True)
    assert done.end == "bounced 5.4.4 none"


def test_nexthop_that_can_not_be_understood() -> None:
    done = run(destinations=DSN(EnhancedStatus("4.3.5"), "bad destination"))
    assert (done.end, done.reason) == ("deferred 4.3.5 none", "bad destination")
    assert done.throttled == "4.3.5"


def test_no_destination_at_all_is_no_reason_to_lose_mail() -> None:
    done = run(destinations=())
    assert done.end == "deferred 4.3.0 none"


def test_first_connection_is_told_as_such_even_if_there_is_none() -> None:
    done = run(Place([REFUSED]))
    assert done.report.outcomes[0].connection_use == 1


def test_reason_of_a_route_does_not_outlive_it() -> None:
    done = run(Place(failure=DSN(EnhancedStatus("5.4.4"), "gone")), Place([REFUSED]))
    assert done.end == "deferred 4.4.1 none"
    assert done.hosts == ["h1"]


def test_failure_to_connect_that_is_our_own_is_no_skipped_host() -> None:
    ours = DSN(EnhancedStatus("4.4.0"), "server configuration error")
    done = run(Place([ours]))
    assert (done.end, done.report.skipped) == ("deferred 4.4.0 none", ())
    assert done.outside.notes == ["server configuration error"]


# --- mixed recipients -----------------------------------------------------------------


def test_each_recipient_ends_where_it_was_decided() -> None:
    first = {"rcpt": ["250 ok", NO, TRY], "dot": "451 4.3.0 later"}
    done = run(Place([first, {"rcpt": ["250 ok", "450 4.2.2 full"]}]), rcpts=3)
    assert done.ends == ["sent 2.0.0 h2", "bounced 5.1.1 h1", "deferred 4.2.2 h2"]
    assert len(done.report.skipped) == 2
    # Recorded at once, as they end.
    assert [end.recipient.position for end in done.outside.finished] == [1, 2, 0]


def test_recipients_are_offered_in_their_order_again() -> None:
    first = {"rcpt": ["250 ok", TRY, "250 ok"], "dot": "451 later"}
    names = ["z@d.test", "m@d.test", "a@d.test"]
    whom = tuple(Recipient(name, position=i) for i, name in enumerate(names))
    done = run(Place([first, {}]), rcpts=whom)
    second = [line for line in done.outside.wires[1].lines if line.startswith("RCPT")]
    assert second == [f"RCPT TO:<{name}>" for name in names]


def test_who_is_finished_is_not_offered_again() -> None:
    first = {"rcpt": [NO, TRY]}
    done = run(Place([first, {}]), rcpts=2)
    second = [line for line in done.outside.wires[1].lines if line.startswith("RCPT")]
    assert second == ["RCPT TO:<u1@d.test>"]


def test_size_limit_is_a_complete_session() -> None:
    # Not final, soft_bounce: the next host is tried, and its failure throttles nothing.
    done = run(Place([offers("SIZE 1"), GONE]), size=2, settings=SOFT_BOUNCE)
    assert (done.end, done.throttled) == ("deferred 4.4.2 h2", "")


def test_nothing_left_in_the_queue_throttles_nothing() -> None:
    done = run(Place([GONE]), status_filter=lambda text: "5.4.4 never again")
    assert (done.end, done.throttled) == ("bounced 5.4.4 h1", "")


def test_bounce_that_becomes_a_deferral_throttles() -> None:
    server = {"ehlo": "500 x", "helo": "550 5.7.1 no"}
    done = run(server, status_filter=lambda text: "4.7.9 later")
    assert done.end == "deferred 4.7.9 h1"
    # What the filter makes of it is for the recipient.
    assert done.throttled == "5.7.1"


def test_throttled_for_the_first_reason() -> None:
    lmtp = {"dot": ["250 ok", Lost.EOF]}
    done = run(lmtp, lmtp=True, rcpts=2)
    assert done.throttled == "4.4.2"


# --- loops ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "best", "end"),
    [
        (25, True, "bounced 5.4.6 h1"),
        (25, False, "deferred 4.4.6 h1"),
        (26, True, "sent 2.0.0 h1"),
    ],
)
def test_server_with_our_own_name(port: int, best: bool, end: str) -> None:
    server = {"greeting": "220 Me.Test hi", "ehlo": "250 ME.test hello"}
    done = run(Place([server], port=port, best=best))
    assert done.end == end
    notes = done.outside.wires[0].notes
    if port == 25:
        assert done.reason == "mail for d1.test loops back to myself"
        assert done.sequence == "EHLO | QUIT"
        where = "host h1.test[192.0.2.1]:25"
        assert notes == [
            f"{where} greeted me with my own hostname me.test",
            f"{where} replied to HELO/EHLO with my own hostname me.test",
        ]
        steps = done.outside.wires[0].steps
        assert all(step.warning for step in steps if isinstance(step, Note))
    else:
        assert notes == []


def test_own_name_after_helo_is_passed_over() -> None:
    server = {"ehlo": "500 x", "helo": "250 me.test"}
    assert run(Place([server], port=25)).end == "sent 2.0.0 h1"


def test_own_name_in_lmtp_is_passed_over() -> None:
    place = Place([{"lhlo": "250 me.test"}], port=25)
    assert run(place, lmtp=True).end == "sent 2.0.0 h1"


# --- TLS policy, and another try without TLS ------------------------------------------

MAY, ENCRYPT = TlsLevel.MAY, TlsLevel.ENCRYPT
BROKEN = offers("STARTTLS", handshake=HandshakeFailed("x"))
LATER = offers("STARTTLS", ehlo=[ehlo("STARTTLS"), Lost.EOF])
LATER_MAIL = offers("STARTTLS", mail=Lost.TIME)
OLD = {"age": 300.0}


@pytest.mark.parametrize("server", [BROKEN, LATER, LATER_MAIL])
@pytest.mark.parametrize(
    ("level", "age", "password", "retried"),
    [
        (MAY, 300.0, False, True),
        (MAY, 299.9, False, False),
        (MAY, 300.0, True, False),
        (ENCRYPT, 300.0, False, False),
    ],
)
def test_once_more_without_tls(
    server: Server, level: TlsLevel, age: float, password: bool, retried: bool
) -> None:
    done = run(Place([[server, {}]]), tls=level, age=age, password=password)
    if retried:
        assert done.end == "sent 2.0.0 h1"
        assert done.outside.connects == [("h1.test", level), ("h1.test", TlsLevel.NONE)]
        assert len(done.report.skipped) == 1
        assert done.outside.wires[0].sequence.endswith("hangup")
        assert done.outside.wires[1].sequence.startswith("EHLO | MAIL")
    else:
        assert done.end in ("deferred 4.7.5 h1", "deferred 4.4.2 h1")
        assert len(done.outside.connects) == 1


def test_retry_without_tls_is_final_again() -> None:
    done = run(Place([[BROKEN, SOFT]]), tls=MAY, age=300.0)
    assert done.end == "deferred 4.2.0 h1"


def test_retry_without_tls_happens_once() -> None:
    done = run(Place([[BROKEN, AWAY]]), tls=MAY, age=300.0)
    assert (done.end, len(done.outside.connects)) == ("deferred 4.4.2 h1", 2)


@pytest.mark.parametrize("first", [BROKEN, LATER, LATER_MAIL])
def test_retry_without_tls_counts_once(first: Server) -> None:
    settings = {"smtp_mx_address_limit": "2", "smtp_mx_session_limit": "2"}
    hosts: list[Any] = [[first, SOFT], {}, {}]
    done = run(Place(hosts), tls={1: TlsPolicy(MAY)}, age=300.0, settings=settings)
    assert done.hosts == ["h1", "h1", "h2"]
    assert done.end == "sent 2.0.0 h2"


def test_lost_local_data_is_no_reason_for_plaintext() -> None:
    server = offers("STARTTLS", mail=Lost.DATA)
    done = run(Place([[server, {}]]), tls=MAY, age=300.0)
    assert done.end == "deferred 4.3.0 h1"


def test_who_is_finished_needs_no_plaintext() -> None:
    # All are marked when the connection breaks: nobody is left to try again for.
    piped = ehlo("PIPELINING", "STARTTLS")
    server = {"ehlo": [piped, ehlo("PIPELINING")], "rcpt": NO, "data": Lost.EOF}
    done = run(Place([[server, {}]]), tls=MAY, age=300.0)
    assert (done.end, len(done.outside.connects)) == ("bounced 5.1.1 h1", 1)
    assert done.report.skipped == ()


def test_lost_in_the_clear_is_no_reason_for_plaintext() -> None:
    done = run(Place([[AWAY, {}]]), tls=MAY, age=300.0)
    assert len(done.outside.connects) == 1


def test_host_without_a_policy_is_passed_over() -> None:
    bad = DSN(EnhancedStatus("4.7.5"), "client TLS configuration problem")
    done = run(Place([{}, {}]), tls={1: bad})
    assert (done.end, done.hosts) == ("sent 2.0.0 h2", ["h2"])
    alone = run(Place([{}]), tls=bad)
    assert (alone.end, alone.reason) == ("deferred 4.7.5 none", bad.reason)
    assert alone.throttled == "4.7.5"


def test_host_passed_over_in_silence_leaves_the_report_alone() -> None:
    done = run(Place([REFUSED, {}]), tls={2: DSN()})
    assert done.end == "deferred 4.4.1 none"


def test_refused_recipient_is_the_report_if_no_other_host_is_left_after_all() -> None:
    done = run(Place([SOFT, {}]), tls={2: DSN()})
    assert done.end == "deferred 4.2.0 none"


def test_host_passed_over_counts_as_an_address() -> None:
    settings = {"smtp_mx_address_limit": "1"}
    done = run(Place([{}, {}]), tls={1: DSN()}, settings=settings)
    assert (done.end, done.hosts) == ("deferred 4.3.0 none", [])


def test_policy_that_is_lost_at_the_second_try() -> None:
    # Looked up again for the retry; here it can't be any more.
    class Once(dict[int, TlsPolicy | DSN]):
        def get(self, key: int, default: object = None) -> Any:
            return self.pop(key, DSN(EnhancedStatus("4.7.5"), "now it is broken"))

    done = run(Place([[BROKEN, {}]]), tls=Once({1: TlsPolicy(MAY)}), age=300.0)
    assert (done.end, done.reason) == ("deferred 4.7.5 none", "now it is broken")


# --- what is written down -------------------------------------------------------------


def test_server_records_tell_what_was_odd() -> None:
    done = run(Place([{"rcpt": "500 4.2.0 x\n"[:-1]}, {}]), settings=SOFT_BOUNCE)
    assert done.errors == [("protocol",), ()]


def test_delays_are_those_of_the_request() -> None:
    done = run(Place([GONE, {}]), age=50.0)
    delays = done.report.outcomes[0].delays
    assert delays.before_queue_manager == 50.0
    assert delays.connection_setup > 0
    assert delays.transmission == 1.0


def test_delivery_time_is_that_of_the_last_session() -> None:
    done = run(Place([SOFT, BUSY]))
    assert done.report.outcomes[0].delays.transmission == 0


# --- whatever comes -------------------------------------------------------------------

WORDS = (
    "250 ok",
    "220 mx",
    "250-mx\n250 PIPELINING",
    "250-mx\n250-STARTTLS\n250 SIZE 5",
    "354 go",
    "421 no",
    "450 4.1.1 no",
    "550 5.1.1 no",
    "555 no",
    "199 what",
    "blah\n250 ok",
    *LOST,
)
ANSWERS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4)
STAGES = [*(stage for stage in SUCCESS if stage not in ("handshake", "pending"))]
SERVERS = st.one_of(
    st.just(REFUSED),
    st.dictionaries(st.sampled_from(STAGES), ANSWERS, max_size=6),
    st.dictionaries(
        st.sampled_from(["handshake", "body"]),
        st.sampled_from([Lost.EOF, Lost.TIME]),
    ).map(
        lambda d: {
            "ehlo": ehlo("STARTTLS"),
            **d,
            **({"handshake": HandshakeFailed("x")} if "handshake" in d else {}),
        }
    ),
)


@given(
    hosts=st.lists(st.lists(SERVERS, min_size=2, max_size=2), max_size=4),
    count=st.integers(1, 4),
    lmtp=st.booleans(),
    soft_bounce=st.sampled_from(["yes", "no"]),
    level=st.sampled_from([TlsLevel.NONE, MAY, ENCRYPT]),
    age=st.sampled_from([0.0, 1000.0]),
    size=st.sampled_from([1, 10]),
)
def test_exactly_one_outcome_for_everybody(
    hosts: list[Any],
    count: int,
    lmtp: bool,
    soft_bounce: str,
    level: TlsLevel,
    age: float,
    size: int,
) -> None:
    half = len(hosts) // 2
    done = run(
        Place(hosts[:half]),
        Place(hosts[half:], fallback=True),
        rcpts=count,
        settings={"soft_bounce": soft_bounce},
        tls=level,
        age=age,
        size=size,
        lmtp=lmtp,
    )
    outcomes = done.report.outcomes
    assert [end.recipient for end in outcomes] == list(recipients(count))
    assert sorted(done.outside.finished) == sorted(outcomes)
    for end in outcomes:
        klass = {"sent": "2", "deferred": "4", "bounced": "5"}[end.disposition.value]
        assert end.dsn.status[0] == klass
        assert end.dsn.reason
        if klass == "2":
            assert re.search(r"\b2[0-9][0-9]\b", end.dsn.reason)
    if soft_bounce == "yes":
        assert not any(end.startswith("bounced") for end in done.ends)
    assert all(wire.closed == 1 for wire in done.outside.wires)
    kept = any(end.action == "delayed" for end in outcomes)
    assert kept or not done.throttled


@pytest.mark.parametrize("lost", [Lost.EOF, Lost.TIME])
@pytest.mark.parametrize("count", [1, 3])
def test_pipelined_connection_that_breaks_anywhere(lost: Lost, count: int) -> None:
    for stage in ("mail", "rcpt", "data", "dot"):
        done = run({**PIPELINING, stage: lost}, rcpts=count)
        assert done.ends == ["deferred 4.4.2 h1"] * count, stage


# --- details --------------------------------------------------------------------------


def test_report_has_the_order_of_the_request() -> None:
    whom = (Recipient("z@d.test"), Recipient("a@d.test", position=1))
    done = run({"rcpt": ["250 ok", "550 no"]}, rcpts=whom)
    assert [end.recipient for end in done.report.outcomes] == list(whom)


def test_lmtp_has_no_transport_for_mail_that_loops() -> None:
    loops = DSN(EnhancedStatus("5.4.6"), "mail for d1.test loops back to myself")
    settings = {"best_mx_transport": "local"}
    assert run(Place(failure=loops), settings=settings).end == "deferred 4.3.5 none"
    done = run(Place(failure=loops), settings=settings, lmtp=True)
    assert done.end == "bounced 5.4.6 none"


def test_reason_of_a_destination_does_not_outlive_it() -> None:
    """The second one has a server that is skipped without a word."""
    done = run(Place([GONE]), Place([{}]), tls={2: DSN()})
    assert done.reason == "server unavailable or unable to receive mail"


def test_once_more_without_tls_counts_neither_more_nor_less() -> None:
    server = offers("STARTTLS", handshake=HandshakeFailed("x"), mail="450 no")
    done = run(
        Place([server] * 3),
        tls=MAY,
        age=1000.0,
        settings={"smtp_mx_address_limit": "2", "smtp_mx_session_limit": "0"},
    )
    assert done.hosts == ["h1", "h1", "h2", "h2"]


@pytest.mark.parametrize("server", [{}, {"mail": "450 no"}, GONE, REFUSED])
def test_last_destination_is_not_asked_whether_another_may_follow(
    monkeypatch: pytest.MonkeyPatch, server: Any
) -> None:
    """That may cost look-ups; and so it is where nobody is left."""
    asked: list[int] = []
    monkeypatch.setattr(
        script.FakeRoute,
        "last_resort",
        property(lambda self: asked.append(1), lambda self, value: None),
        raising=False,
    )
    run(Place([server]))
    run(Place([{}]), Place([{}]))
    assert asked == []


def test_a_recipient_without_an_outcome_is_a_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forgetful(session: Session) -> Any:
        session.attempt.outcomes.clear()
        return True
        yield

    monkeypatch.setattr(Session, "leave", forgetful)
    outside = script.Outside([Place([{}])], TlsPolicy(), False)
    request = DeliveryRequest("s@d.test", recipients(1), "d1.test", "QID")
    with pytest.raises(Panic, match=r"^not every recipient has an outcome$"):
        deliver(request, outside.destinations(), Settings(), outside)
