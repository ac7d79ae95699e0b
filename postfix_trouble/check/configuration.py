"""Whether the parameters say something that can be done."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches

from postfix_trouble.check.findings import Finding, error, note, warning
from postfix_trouble.config.masking import masked
from postfix_trouble.config.parameters import TABLE
from postfix_trouble.config.settings import Settings
from postfix_trouble.config.types import ConfigError
from postfix_trouble.core.hostname import address_family
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import Value
from postfix_trouble.tls.level import security_level

_DEFERRED = "all mail is deferred (4.3.5)"
# Whether it is that of the null sender.
_LIFETIMES = {False: "maximal_queue_lifetime", True: "bounce_queue_lifetime"}
# What Postfix makes from the name of a transport: none of them is ours.
_TRANSPORT = re.compile(
    r"\w+_(destination_(concurrency_(limit|positive_feedback|negative_feedback"
    r"|failed_cohort_limit)|recipient_limit|rate_delay)"
    r"|initial_destination_concurrency|recipient_limit|recipient_refill_(limit|delay)"
    r"|extra_recipient_limit|minimum_delivery_slots"
    r"|delivery_slot_(cost|discount|loan)|transport_rate_delay|time_limit)"
)


class ParameterRow(Value):
    """One parameter as it stands, without passwords."""

    name: str
    # As it was written; empty if it was not.
    given: str
    # Expanded; empty if there is a problem.
    value: str
    default: str
    differs: bool
    # Why the value can't be used.
    problem: str
    # Why the parameter is not honoured.
    unsupported: str


def effective(settings: Settings) -> Iterator[ParameterRow]:
    """Each parameter of the table, by its own name also where LMTP is spoken."""
    for name, parameter in TABLE.items():
        default = parameter.default
        raw = settings.as_written(name)
        value = problem = ""
        try:
            value = settings.check(name)
        except ConfigError as error:
            problem = error.problem
        differs = raw is not None and raw != default
        given = masked(name, raw or "")
        value = masked(name, value)
        unsupported = parameter.unsupported
        yield ParameterRow(name, given, value, default, differs, problem, unsupported)


def judge(
    settings: Settings, given: Collection[str], warnings: Collection[str], *, lmtp: bool
) -> Iterator[Finding]:
    """Everything that can be said without looking at files.

    `given`: the names that are set; `warnings`: what the reader of the file said.
    """
    for text in warnings:
        if "overriding earlier entry" in text:
            words = ("the last one counts", "remove the other")
        else:
            words = ("the line is ignored", "take away the blanks before it")
        yield warning("configuration", text, *words)
    for row in effective(settings):
        if row.name in given:
            yield from _row(row, lmtp)
    yield from _level(settings, given)
    yield from _unknown(given)
    yield from _combined(settings)


def _row(row: ParameterRow, lmtp: bool) -> Iterator[Finding]:
    name = row.name
    other_protocol = name.startswith("smtp_" if lmtp else "lmtp_")
    if row.problem:
        if other_protocol:
            yield note(name, row.problem, "not used: the other protocol's")
        elif row.unsupported and not TABLE[name].vital:
            yield note(name, row.problem, f"not supported: {row.unsupported}")
        else:
            remedy = f"correct it; the default is {row.default or 'empty'}"
            yield error(name, row.problem, _DEFERRED, remedy)
    elif row.unsupported and row.differs:
        reason = f"not supported: {row.unsupported}"
        if TABLE[name].vital and row.value and not other_protocol:
            remedy = f"take it out for this transport: -o {name}="
            yield error(name, reason, _DEFERRED, remedy)
        else:
            yield note(name, reason)


def _level(settings: Settings, given: Collection[str]) -> Iterator[Finding]:
    """What an old compatibility_level, or none, leaves as it was long ago."""
    name = "compatibility_level"
    old = []
    if not (settings.given("smtputf8_enable") or settings.flag("smtputf8_enable")):
        old.append("addresses in UTF-8 go out without SMTPUTF8")
    digest = "smtp_tls_fingerprint_digest"
    if not settings.given(digest) and settings.text(digest) == "md5":
        old.append("fingerprints are MD5")
    if old:
        level = settings.text(name)
        told = level if name in given else f"{level}, since main.cf has none"
        remedy = f"set {name} = 3.6 if that is not wanted"
        yield note(name, told, f"as in Postfix: {', '.join(old)}", remedy)


def _unknown(given: Collection[str]) -> Iterator[Finding]:
    """Names that look like ours and are not."""
    for name in given:
        looks_like_ours = name.startswith(("smtp_", "lmtp_", "trouble_"))
        if name in TABLE or not looks_like_ours or _TRANSPORT.fullmatch(name):
            continue
        close = get_close_matches(name, TABLE, cutoff=0.8)
        remedy = f"did you mean {close[0]}?" if close else "see --show for all names"
        yield warning(name, "unknown parameter", "it is ignored", remedy)


def _combined(settings: Settings) -> Iterator[Finding]:
    """What only together makes no sense."""
    for look in (_trust, _mta_sts, _log_in, _name, _source, _give_up):
        try:
            yield from look(settings)
        except ConfigError:
            pass  # Reported for the parameter itself.


def _trust(settings: Settings) -> Iterator[Finding]:
    level = security_level(settings)
    name = "smtp_tls_security_level"
    if level in (TlsLevel.DANE, TlsLevel.DANE_ONLY):
        yield from _dane(settings, level)
    if level >= TlsLevel.VERIFY and not trusts_somebody(settings):
        yield error(
            name,
            f"{level.word}, and there is no authority to trust",
            "no certificate is good enough: all mail is deferred (4.7.5)",
            "set smtp_tls_CAfile, or tls_append_default_CA = yes",
        )


def _mta_sts(settings: Settings) -> Iterator[Finding]:
    """What leaves nothing of MTA-STS policies, or makes them slow."""
    name = "trouble_mta_sts"
    if not settings.flag(name):
        return
    if not trusts_somebody(settings, anchors=False):
        yield warning(
            name,
            "there is no authority to trust",
            "no policy can be fetched, so none is applied",
            "set smtp_tls_CAfile, or tls_append_default_CA = yes",
        )
    if not settings.text("trouble_state_directory"):
        yield note(
            name,
            "without trouble_state_directory only serve and lmtp remember policies",
            "deliver by itself fetches the policy for each message, and knows of none"
            " while the web server or the TXT record can't be reached",
        )


def trusts_somebody(settings: Settings, *, anchors: bool = True) -> bool:
    """Whether there are authorities that a certificate can lead to.

    `anchors`: smtp_tls_trust_anchor_file counts.
    """
    places = ["smtp_tls_CAfile", "smtp_tls_CApath"]
    places += ["smtp_tls_trust_anchor_file"] if anchors else []
    return any(map(settings.text, places)) or settings.flag("tls_append_default_CA")


def _dane(settings: Settings, level: TlsLevel) -> Iterator[Finding]:
    """What leaves nothing of DANE."""
    from postfix_trouble.tls.dane import no_dane

    problem = no_dane(level, settings, lmtp=False)
    if not problem:
        return
    remedy = "set smtp_dns_support_level = dnssec, and what the problem names"
    if level is TlsLevel.DANE_ONLY:
        what = "all mail is deferred (4.7.5)"
        yield error("smtp_tls_security_level", problem, what, remedy)
    else:
        what = "no certificate is looked at: the level is may"
        yield warning("smtp_tls_security_level", problem, what, remedy)


def _log_in(settings: Settings) -> Iterator[Finding]:
    maps = settings.text("smtp_sasl_password_maps")
    if settings.flag("smtp_sasl_auth_enable") and not maps:
        yield error(
            "smtp_sasl_auth_enable",
            "yes, and smtp_sasl_password_maps is empty",
            "all mail is deferred (4.3.5): Postfix's client would not start",
            "set smtp_sasl_password_maps, or smtp_sasl_auth_enable = no",
        )
    if maps and not settings.flag("smtp_sasl_auth_enable"):
        yield note(
            "smtp_sasl_password_maps",
            "set, but smtp_sasl_auth_enable is no",
            "nobody logs in",
        )


def _name(settings: Settings) -> Iterator[Finding]:
    name = settings.text("smtp_helo_name")
    if name.endswith(".localdomain") or "." not in name:
        yield warning(
            "smtp_helo_name",
            f"we call ourselves {name}",
            "many servers refuse mail from a name that is not in the DNS",
            "postconf -e 'myhostname = NAME', a name that is in the DNS",
        )


def _source(settings: Settings) -> Iterator[Finding]:
    for name in ("smtp_bind_address", "smtp_bind_address6"):
        given = settings.text(name)
        if given and not address_family(given.strip("[]")):
            yield error(
                name,
                f"no address: {given}",
                "mail to servers of this family is deferred (4.3.5)",
                "write a numeric address of this machine",
            )


def _give_up(settings: Settings) -> Iterator[Finding]:
    for null, life in _LIFETIMES.items():
        if settings.give_up_age(null) > settings.seconds(life):
            yield warning(
                "trouble_give_up_age",
                f"longer than {life}",
                "Postfix returns all recipients of a request, delivered ones too",
                f"leave it empty: {life} less maximal_backoff_time",
            )
            return
