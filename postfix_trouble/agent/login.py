"""Logging in to a server with what is known of it."""

from __future__ import annotations

import time

from postfix_trouble.edge import sasl as edge_sasl
from postfix_trouble.edge import tokens
from postfix_trouble.model.steps import AuthFailed
from postfix_trouble.model.value import TYPE_CHECKING
from postfix_trouble.policy import sasl

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.agent.request import Agent
    from postfix_trouble.model.relay import Relay
    from postfix_trouble.model.reply import Lost, Reply
    from postfix_trouble.model.steps import Authenticate, Authenticated
    from postfix_trouble.policy.sasl import Credentials
    from postfix_trouble.policy.secrets import Concealer


def log_in(
    agent: Agent,
    relay: Relay,
    step: Authenticate,
    credentials: Credentials,
    exchange: Callable[[bytes], Reply | Lost],
    conceal: Concealer,
) -> Authenticated | AuthFailed | Lost:
    """Log in, in one try. `exchange` sends a line and reads the reply.

    `conceal` is told of the password: nothing of it may be shown later either.
    """
    settings = agent.settings
    options = sasl.options(settings, step.tls)
    left = sasl.usable(step.mechanisms, options.mechanisms, _in_table)
    problem = sasl.offer_problem(" ".join(step.mechanisms), left, relay.namaddrport)
    if problem:
        agent.note(f"warning: {problem}")
    command = settings.text("trouble_sasl_token_command")
    if command:
        token = _token(agent, command, credentials.username, relay)
        if token is None:
            status, text = sasl.cannot_authenticate(relay, "no access token")
            return AuthFailed(None, status, text, "x-sasl; no access token")
        credentials = credentials.with_token(token)
    conceal.add(credentials.password)
    answer = edge_sasl.authenticate(
        exchange,
        step.mechanisms,
        credentials,
        relay,
        options,
        cache=_cache(agent),
        in_table=_in_table,
        program="lmtp" if agent.request.lmtp else "smtp",
    )
    if command and isinstance(answer, AuthFailed) and agent.state is not None:
        # The next attempt gets a new one.
        key = tokens.token_key(command, credentials.username, relay.host)
        agent.state.tokens.drop(key)
    return answer


def _in_table(item: str, word: str) -> bool:
    """Whether a table or file of smtp_sasl_mechanism_filter has a word."""
    from postfix_trouble.edge.tables import match_list

    return match_list((item,), word, "smtp_sasl_mechanism_filter")


def _token(agent: Agent, command: str, username: str, relay: Relay) -> str | None:
    store = None
    if agent.state is not None:
        kept = agent.state.tokens
        store = tokens.Store(lambda key: kept.get(key, time.time()), kept.put)
    return tokens.token(
        command,
        username,
        relay.host,
        now=time.time(),
        margin=agent.settings.seconds("trouble_sasl_token_margin"),
        note=agent.note,
        store=store,
    )


def _cache(agent: Agent) -> edge_sasl.Cache | None:
    """Log-ins that were refused before, if that is to be remembered."""
    if agent.state is None or not agent.settings.text("smtp_sasl_auth_cache_name"):
        return None
    from postfix_trouble.edge.state import Refusal

    logins = agent.state.logins
    lifetime = agent.settings.seconds("smtp_sasl_auth_cache_time")

    def get(key: str) -> tuple[str, str] | None:
        found = logins.get(key, time.time(), lifetime)
        return None if found is None else (found.status, found.text)

    def put(key: str, status: str, text: str) -> None:
        logins.put(key, Refusal(status, text), time.time())

    return edge_sasl.Cache(get, put)
