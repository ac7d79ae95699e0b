"""A domain without a server: what each kind of look-up failure leads to."""

from __future__ import annotations

from postfix_trouble.model.lookup import Answer, NativeAnswer, Result
from postfix_trouble.model.relay import Destination
from postfix_trouble.model.verdict import DSN
from postfix_trouble.policy.routing import find_servers
from postfix_trouble.policy.rules import Rules

DOMAIN = "example.com"


def without_server(result: Result) -> DSN:
    """Why a domain has no server, if all its look-ups end like this."""
    destination = Destination(DOMAIN, DOMAIN, 25)
    failure: DSN = find_servers(destination, Rules(), _Unlucky(result)).failure
    return failure


class _Unlucky:
    """Name services in which every look-up ends in the same way (policy Lookups)."""

    def __init__(self, result: Result) -> None:
        self._answer = Answer(result, f"no server for {DOMAIN} ({result.name})")

    def query(self, name: str, kind: str) -> Answer:
        return self._answer

    def native(self, host: str) -> NativeAnswer:
        return NativeAnswer(error="unknown")

    def own(self, address: str) -> bool:
        return False

    def printable(self, address: str) -> str:
        return address

    def below(self, limit: int) -> int:
        return 0

    def note(self, text: str) -> None:
        pass
