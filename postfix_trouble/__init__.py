"""Postfix's SMTP client error policy, for a program that pipe(8) runs.

For Python programs: make an Agent from Settings, a DeliveryRequest and a Message, call
deliver_request(), look at the Report. A name is loaded when it is first used, since the
package itself is loaded for every mail.
"""

from __future__ import annotations

__version__ = "0.1.0"

_HOMES = {
    "Agent": "agent",
    "ConfigError": "config.settings",
    "DSN": "model.verdict",
    "DeliveryRequest": "model.envelope",
    "Disposition": "model.verdict",
    "EnhancedStatus": "model.status",
    "Message": "edge.message",
    "Outcome": "model.verdict",
    "Recipient": "model.envelope",
    "Report": "model.verdict",
    "Settings": "config.settings",
    "deliver_request": "agent",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
