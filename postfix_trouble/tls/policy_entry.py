"""One entry of a TLS policy table: a level, then attributes.

After tls_policy_lookup_one of Postfix smtp_tls_policy(3). An error in an attribute may
be an error about security, so nothing that is not understood is ignored.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Mapping

from postfix_trouble.core.hostname import hostname_problem
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import Value

_LEVELS = {level.word: level for level in TlsLevel}
_WORD = r"\{[^{}]*\}|[^ \t\r\n,{}]+"
_BY_NAME = (TlsLevel.VERIFY, TlsLevel.SECURE)
_FAILURES = frozenset(
    (
        "sts-policy-fetch-error",
        "sts-policy-invalid",
        "sts-webpki-invalid",
        "validation-failure",
    )
)
_ONCE = frozenset(
    (
        "ciphers",
        "exclude",
        "policy_domain",
        "policy_failure",
        "policy_ttl",
        "policy_type",
        "protocols",
        "servername",
    )
)
_LAST_WINS = frozenset(("connection_reuse", "enable_rpk"))
_REPEATABLE = frozenset(("match", "mx_host_pattern", "policy_string", "tafile"))
_NOT_EMPTY = frozenset(("ciphers", "match", "tafile"))
_EXTERNAL = frozenset(
    (
        "mx_host_pattern",
        "policy_domain",
        "policy_failure",
        "policy_string",
        "policy_ttl",
    )
)


class Entry(Value):
    """What a table says about a destination."""

    level: TlsLevel
    # Attribute names in lower case, with all their values.
    attributes: Mapping[str, tuple[str, ...]] = {}
    # Attributes that mean nothing at this level.
    ignored: tuple[str, ...] = ()

    def one(self, name: str) -> str | None:
        """The value of an attribute, None if it is not there."""
        values = self.attributes.get(name)
        return values[-1] if values else None

    def all(self, name: str) -> tuple[str, ...]:
        """All values of an attribute."""
        return self.attributes.get(name, ())

    @property
    def match(self) -> tuple[str, ...]:
        """match=, split as its level has it."""
        separator = "|" if self.level is TlsLevel.FINGERPRINT else ":"
        values = separator.join(self.all("match"))
        return tuple(x for x in values.split(separator) if x)


def level_of(word: str) -> TlsLevel | None:
    """The level of that name, in any case; None if there is none."""
    return _LEVELS.get(word.lower())


def parse_entry(value: str) -> Entry | str:
    """Take an entry apart; a text for the log if that can't be done."""
    import re  # where a table has something only

    word, *tokens = re.findall(_WORD, value) or [""]
    if not word:
        return "invalid empty policy"
    level = level_of(word)
    if level is None:
        return f'invalid security level "{word}"'
    if re.search(r"[{}]", re.sub(_WORD, "", value)):
        return f'malformed attribute/value pair in "{value}"'
    if level is TlsLevel.NONE:
        return Entry(level, ignored=tuple(tokens))
    attributes: dict[str, tuple[str, ...]] = {}
    for token in tokens:
        bare = " ".join(token.strip("{}").split())
        name, equals, text = (part.strip() for part in bare.partition("="))
        if not equals or not name:
            what = "missing attribute name" if equals else "missing '=' after name"
            return f'malformed attribute/value pair "{token}": {what}'
        name = name.lower()
        problem = _problem(level, name, text, name in attributes)
        if problem:
            return problem
        attributes[name] = (*attributes.get(name, ()), text)
    if "policy_type" not in attributes and not _EXTERNAL.isdisjoint(attributes):
        return (
            "built-in policy has unexpected attribute policy_ttl, policy_domain, "
            "policy_string, mx_host_pattern or policy_failure"
        )
    return Entry(level, attributes)


def _problem(level: TlsLevel, name: str, value: str, repeated: bool) -> str:
    """What is wrong with an attribute, empty if nothing is."""
    if name not in _ONCE | _LAST_WINS | _REPEATABLE:
        return f'invalid attribute name: "{name}"'
    if not value and name in _NOT_EMPTY:
        return f'attribute "{name}" has empty value'
    if repeated and name in _ONCE:
        return f'attribute "{name}" is specified multiple times'
    levels = {"match": (TlsLevel.FINGERPRINT, *_BY_NAME), "tafile": _BY_NAME}
    if level not in levels.get(name, (level,)):
        return f'attribute "{name}" invalid at security level "{level.word}"'
    if name == "servername" and hostname_problem(value):
        return f'"{name}={value}" specifies an invalid hostname'
    if name in _LAST_WINS and value.lower() not in ("yes", "no"):
        return f'attribute "{name}" has bad value: "{value}"'
    if (name == "policy_ttl" and not (value.isascii() and value.isdigit())) or (
        name == "policy_domain" and hostname_problem(value)
    ):
        return f'attribute "{name}" has a malformed value: "{value}"'
    allowed = {"policy_type": ("sts", "no-policy-found"), "policy_failure": _FAILURES}
    if name in allowed and value.lower() not in allowed[name]:
        return f'attribute "{name}" has an unexpected value: "{value}"'
    return ""
