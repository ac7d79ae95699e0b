"""What `check` says of TLS: each policy is tried as a delivery would try it.

That is: level, protocols, ciphers, certificates of our own and authorities, for what
main.cf says and for each entry of the policy tables; only the server is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from postfix_trouble.check import account
from postfix_trouble.check.configuration import trusts_somebody
from postfix_trouble.check.findings import Finding, error, fine, note, warning
from postfix_trouble.config.parameters import lmtp_name
from postfix_trouble.config.settings import Settings
from postfix_trouble.config.types import split_words
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.tls import TlsLevel, TlsPolicy
from postfix_trouble.tls.level import security_level

_MAPS = "smtp_tls_policy_maps"
# Destinations that one finding names.
_NAMED = 3
# What is in a problem, and what to write instead; the first that fits.
_REMEDIES = {
    "no cipher is left": "exclude less, or take grade medium or high",
    "begins with": "write names of ciphers without signs: aNULL, MD5",
    "unknown grade": "write high, medium, low, export or null",
    "no protocol is left": "allow a protocol: >=TLSv1.2",
    "OpenSSL has no": "allow a newer protocol: >=TLSv1.2",
    "unknown protocol": "write names, as TLSv1.2 TLSv1.3, or a range: >=TLSv1.2",
    "chain_files": "a key first, then its certificate and those that lead to the"
    " authority; readable for the account that delivers, and not for everybody",
    "values mismatch": "name the key that belongs to the certificate",
    "fingerprints": "write match= and fingerprints: pairs of hexadecimal digits",
    "digest": "write sha256",
    "CAfile": "name a file with certificates of authorities (PEM)",
    "CApath": "name a directory with hashed certificates (openssl rehash)",
    "authority": "set smtp_tls_CAfile, tls_append_default_CA = yes, or tafile= there",
    "trust anchors": "make the file of tafile= or smtp_tls_trust_anchor_file readable"
    " for the account that delivers; it holds certificates (PEM)",
    "_file": "make the file readable for the account that delivers, and for no others",
}
_SYNTAX = "write a level, then NAME=VALUE pairs with blanks between (TLS_README)"


def look(settings: Settings, lmtp: bool) -> Iterator[Finding]:
    """Try all that main.cf and the policy tables say of TLS."""
    trial = _Trial(settings, lmtp)
    level = security_level(settings)
    if level is not TlsLevel.NONE:
        trial.attempt("", level.word)
    yield from trial.tables()
    yield from trial.findings()
    path = settings.text("smtp_tls_CApath")
    if (trial.tried or level is not TlsLevel.NONE) and path and not os.path.isdir(path):
        yield error(
            trial.shown("smtp_tls_CApath"),
            f"{path} is no directory",
            "no certificate is trusted",
            _REMEDIES["CApath"],
        )


class _Trial:
    """Policies that were tried, and what is wrong with them."""

    def __init__(self, settings: Settings, lmtp: bool) -> None:
        self._settings = settings
        self._lmtp = lmtp
        self.tried = 0
        self._problems = 0
        # About, problem and status; and the destinations that it concerns, empty for
        # what no table names.
        self._found: dict[tuple[str, str, str], list[str]] = {}
        self._unbounded: set[tuple[str, str]] = set()

    def shown(self, name: str) -> str:
        """A parameter by the name that it has here."""
        return lmtp_name(name) if self._lmtp else name

    def tables(self) -> Iterator[Finding]:
        """Try each entry of the tables."""
        from postfix_trouble.tables.base import TableUnusable
        from postfix_trouble.tables.listing import entries

        for spec in split_words(self._settings.text(_MAPS)):
            try:
                found = entries(spec)
            except TableUnusable:
                # Told of with the other tables.
                continue
            if found is None:
                yield note(
                    self.shown(_MAPS),
                    f"{spec}: its entries can't be listed, and are not tried",
                )
                if not trusts_somebody(self._settings):
                    yield note(
                        self.shown(_MAPS),
                        "there is no authority to trust"
                        " (smtp_tls_CAfile, tls_append_default_CA)",
                        "entries with verify or secure defer all their mail (4.7.5)",
                    )
                continue
            before = self._problems
            for key, value in found:
                self.attempt(key, value)
            if self._problems == before:
                yield fine(self.shown(_MAPS), f"{spec}: {len(found)} entries tried")

    def attempt(self, key: str, value: str) -> None:
        """Try one entry; without a key: what main.cf says."""
        from postfix_trouble.tls.policy import entry_policy

        self.tried += 1
        notes: list[str] = []
        prefix = "lmtp" if self._lmtp else "smtp"
        policy = entry_policy(
            self._settings, key or "*", value, notes.append, prefix=prefix
        )
        if isinstance(policy, DSN):
            problem = notes[-1] if notes else policy.reason
            problem = problem.partition('destination "*": ')[2] or problem
            problem = problem.partition(f'destination "{key}": ')[2] or problem
            where = f"{key} {value}: " if key else ""
            self._add(
                self.shown(_MAPS if key else "smtp_tls_security_level"),
                where + problem,
                "4.7.5",
                key,
            )
        elif policy.level is not TlsLevel.NONE:
            self._offer(policy, key)

    def _offer(self, policy: TlsPolicy, key: str) -> None:
        """What a delivery does before and in the handshake, as far as it is ours."""
        from postfix_trouble.tls import handshake as tls_handshake
        from postfix_trouble.tls import offer as tls_offer
        from postfix_trouble.tls.client_offer import (
            Unusable,
            authority_problem,
            client_context,
        )

        settings = self._settings
        unready = tls_handshake.unready(policy, settings)
        if unready is not None:
            anchors = " ".join(policy.trust_anchors)
            problem = unready.reason
            if problem == "client TLS configuration problem":
                problem = f"trust anchors can't be loaded: {anchors}"
            self._add(self._about(problem), problem, unready.status, key)
        try:
            client_context(policy, settings)
        except Unusable as why:
            status = "4.7.5" if policy.level > TlsLevel.MAY else "may"
            if unready is None or unready.reason != str(why):
                self._add(self._about(str(why)), str(why), status, key)
        listed = tls_offer.protocols(policy.protocols)
        if isinstance(listed, tls_offer.Protocols):
            source = tls_offer.source("protocols", policy, settings)
            self._unbounded.update((source, bound) for bound in listed.unbounded)
        named = unready is not None and unready.status == "4.7.5"
        if policy.level >= TlsLevel.VERIFY and not (policy.trust_anchors or named):
            problem = authority_problem(settings)
            if not problem and key and not trusts_somebody(settings):
                problem = f"{policy.level.word}, and there is no authority to trust"
                self._add(self.shown(_MAPS), problem, "4.7.5", key)
            elif problem:
                self._add(self._about(problem), problem, "4.7.5", key)

    def _about(self, problem: str) -> str:
        """The parameter that a problem begins with."""
        name = problem.replace(":", " ").partition(" ")[0]
        known = name.startswith(("smtp_", "lmtp_"))
        return name if known else self.shown(_MAPS)

    def _add(self, about: str, problem: str, status: str, key: str) -> None:
        self._problems += 1
        self._found.setdefault((about, problem, status), []).append(key)

    def findings(self) -> Iterator[Finding]:
        """What was found, once for all destinations that it concerns."""
        for (about, problem, status), keys in self._found.items():
            words = (x for word, x in _REMEDIES.items() if word in problem)
            remedy = account.to_read(problem) or next(words, "")
            yield error(
                about,
                _bare(problem, about),
                _consequence(keys, status),
                remedy or _SYNTAX,
            )
        for source, bound in sorted(self._unbounded):
            yield warning(
                self._about(source),
                f"{_bare(source, self._about(source))}: OpenSSL does not know {bound}",
                "it is no bound: other protocols are used too",
                _REMEDIES["unknown protocol"],
            )


def _bare(problem: str, about: str) -> str:
    return problem.removeprefix(f"{about} = ").removeprefix(f"{about}: ")


def _consequence(keys: list[str], status: str) -> str:
    """What happens to which mail. An empty key stands for what no table names."""
    shown = ", ".join(keys[:_NAMED])
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    whose = "mail" if "" in keys else f"mail for {shown}{more}"
    if status == "may":
        return (
            f"{whose} is deferred (4.7.5) where the server offers TLS, and goes in the"
            " clear after minimal_backoff_time"
        )
    return f"{whose} is deferred ({status})"
