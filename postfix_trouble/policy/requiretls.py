"""REQUIRETLS: what the sender's wish means for a destination (RFC 8689).

After Postfix 3.11, smtp_requiretls_policy. The policy is a list of words and tables;
the first word, or the first table that has the nexthop's name or a parent domain,
decides:

    enforce                 a server whose certificate matches, and that offers
                            REQUIRETLS; no other one gets the mail
    opportunistic+starttls  never in the clear; REQUIRETLS where it is offered
    opportunistic           REQUIRETLS where it is offered
    disable                 as if nobody had asked

What can't be met at one server may be met at the next, so all of these failures are
soft before the final one, and hard there.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.core.failure import TableError
from postfix_trouble.core.hostname import hostname_problem
from postfix_trouble.core.outcome import DSN, Skipped
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.tls import RequireTls, TlsLevel
from postfix_trouble.core.value import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from postfix_trouble.core.tls import TlsPolicy

_LEVELS = {level.word: level for level in RequireTls}
_ASKED = "Sender requested REQUIRETLS, but"
_LAST = "The last attempted server was"


# --- the policy ---------------------------------------------------------------------


def policy_for(
    name: str,
    words: Iterable[str],
    find: Callable[[str, str], str | None],
    *,
    note: Callable[[str], None],
    parameter: str = "smtp_requiretls_policy",
) -> RequireTls | None:
    """The policy for a nexthop's name, given without brackets and port.

    None: the policy can't be found out. `find(table, key)` searches a table, and raises
    TableError if that can't be done; `note` takes warnings, which name `parameter`.
    A policy that ends without a decision is the strictest.
    """

    def stopped(why: str) -> None:
        note(f"warning: {parameter}: {why} -- ignoring the remainder of this policy")

    for word in words:
        action: str | None = word
        if ":" in word:
            try:
                action = _searched(find, word, name)
            except TableError:
                stopped(f"{word}: table lookup error")
                return None
        if action is None:
            continue
        level = _LEVELS.get(action.lower())
        if level is None:
            stopped(f"unknown policy action: '{action}'")
        return level
    return RequireTls.ENFORCE


def _searched(
    find: Callable[[str, str], str | None], table: str, name: str
) -> str | None:
    for key in _keys(name):
        if (found := find(table, key)) is not None:
            return found
    return None


def _keys(name: str) -> Iterator[str]:
    """The name, and for a domain its parents with a leading dot."""
    yield name
    if not hostname_problem(name):
        while (dot := name.find(".", 1)) > 0:
            name = name[dot:]
            yield name


# --- what is not met ----------------------------------------------------------------


def misconfigured(host: str) -> DSN:
    """The policy can't be found out: this server is skipped."""
    text = f"REQUIRETLS policy configuration error. {_LAST} {host}"
    return DSN(EnhancedStatus("4.7.10"), text)


def level_too_low(tls: TlsPolicy, host: str) -> Skipped | None:
    """What our own TLS level for a server keeps from being met, before we connect."""
    policy, level = tls.requiretls, tls.level
    if policy < RequireTls.OPPORTUNISTIC_STARTTLS or level >= TlsLevel.FINGERPRINT:
        return None
    lacks, word = "certificate matching", "nocertmatch"
    if level is TlsLevel.NONE and policy is RequireTls.OPPORTUNISTIC_STARTTLS:
        lacks, word = "encryption", "noencryption"
    text = (
        f"{_ASKED} my configured TLS security level '{level.word}' disables {lacks}. "
        f"{_LAST} {host}"
    )
    status = tls.status.requiretls_unmet(word)
    return Skipped(DSN(EnhancedStatus("5.7.10"), text), status)


def passed_over(policy: RequireTls, level: TlsLevel) -> bool:
    """Whether level_too_low() is a reason not to connect, or only worth a note."""
    return policy is RequireTls.ENFORCE or level is TlsLevel.NONE


def no_starttls(policy: RequireTls, namaddr: str, refusal: str) -> DSN | None:
    """STARTTLS was not offered, or refused with these words. None: no matter."""
    if policy < RequireTls.OPPORTUNISTIC_STARTTLS:
        return None
    if refusal:
        text = f"{_ASKED} host {namaddr} refused to start TLS: {refusal}"
        return DSN(EnhancedStatus("5.7.10"), text)
    text = f"{_ASKED} TLS service was not offered by host {namaddr}"
    return DSN(EnhancedStatus("5.7.30"), text)


def not_matched(policy: RequireTls, namaddr: str, *, trusted: bool) -> DSN | None:
    """The server's certificate is not as our policy has it. None: no matter here.

    `trusted`: its chain leads to an authority that we trust, but the name is wrong.
    """
    if policy is not RequireTls.ENFORCE:
        return None
    kind = "matching" if trusted else "trusted"
    text = f"{_ASKED} no {kind} server certificate was found. {_LAST} {namaddr}"
    return DSN(EnhancedStatus("5.7.10"), text)


def not_supported(policy: RequireTls, namaddr: str) -> DSN:
    """The server does not offer REQUIRETLS in TLS.

    Without a status it is only worth a note.
    """
    if policy is RequireTls.ENFORCE:
        text = f"{_ASKED} no server was found that supports REQUIRETLS. {_LAST}"
        return DSN(EnhancedStatus("5.7.30"), f"{text} {namaddr}")
    return DSN(reason=f"{_ASKED} REQUIRETLS support was not offered by host {namaddr}")
