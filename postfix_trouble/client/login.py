"""Logging in to a server with what is known of it."""

from __future__ import annotations

import time

from postfix_trouble.core.steps import AuthFailed
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.sasl import choose, tokens
from postfix_trouble.sasl import log_in as sasl_log_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from postfix_trouble.client.interfaces import RunningDelivery
    from postfix_trouble.core.relay import Relay
    from postfix_trouble.core.reply import Lost, Reply
    from postfix_trouble.core.steps import Authenticate, Authenticated
    from postfix_trouble.sasl.choose import Credentials
    from postfix_trouble.sasl.redaction import Concealer


def log_in(
    delivery: RunningDelivery,
    relay: Relay,
    step: Authenticate,
    credentials: Credentials,
    exchange: Callable[[bytes], Reply | Lost],
    conceal: Concealer,
) -> Authenticated | AuthFailed | Lost:
    """Log in, in one try. `exchange` sends a line and reads the reply.

    `conceal` is told of the password: nothing of it may be shown later either.
    """
    settings = delivery.settings
    options = choose.options(settings, step.tls)
    left = choose.usable(step.mechanisms, options.mechanisms, _in_table)
    problem = choose.offer_problem(" ".join(step.mechanisms), left, relay.namaddrport)
    if problem:
        delivery.note(f"warning: {problem}")
    command = settings.text("trouble_sasl_token_command")
    if command:
        token = _token(delivery, command, credentials.username, relay)
        if token is None:
            status, text = choose.cannot_authenticate(relay, "no access token")
            return AuthFailed(None, status, text, "x-sasl; no access token")
        credentials = credentials.with_token(token)
    conceal.add(credentials.password)
    answer = sasl_log_in.authenticate(
        exchange,
        step.mechanisms,
        credentials,
        relay,
        options,
        cache=_cache(delivery),
        in_table=_in_table,
        program="lmtp" if delivery.request.lmtp else "smtp",
    )
    if command and isinstance(answer, AuthFailed) and delivery.state is not None:
        # The next attempt gets a new one.
        key = tokens.token_key(command, credentials.username, relay.host)
        delivery.state.tokens.drop(key)
    return answer


def _in_table(item: str, word: str) -> bool:
    """Whether a table or file of smtp_sasl_mechanism_filter has a word."""
    from postfix_trouble.tables import match_list

    return match_list((item,), word, "smtp_sasl_mechanism_filter")


def _token(
    delivery: RunningDelivery, command: str, username: str, relay: Relay
) -> str | None:
    store = None
    if delivery.state is not None:
        kept = delivery.state.tokens
        store = tokens.Store(lambda key: kept.get(key, time.time()), kept.put)
    return tokens.token(
        command,
        username,
        relay.host,
        now=time.time(),
        margin=delivery.settings.seconds("trouble_sasl_token_margin"),
        note=delivery.note,
        store=store,
    )


def _cache(delivery: RunningDelivery) -> sasl_log_in.Cache | None:
    """Log-ins that were refused before, if that is to be remembered."""
    if delivery.state is None or not delivery.settings.text(
        "smtp_sasl_auth_cache_name"
    ):
        return None
    from postfix_trouble.state import Refusal

    logins = delivery.state.logins
    lifetime = delivery.settings.seconds("smtp_sasl_auth_cache_time")

    def get(key: str) -> tuple[str, str] | None:
        found = logins.get(key, time.time(), lifetime)
        return None if found is None else (found.status, found.text)

    def put(key: str, status: str, text: str) -> None:
        logins.put(key, Refusal(status, text), time.time())

    return sasl_log_in.Cache(get, put)
