"""Postfix's SMTP client error policy, for a program that pipe(8) runs.

The names of the Python API (postfix_trouble.api) can be imported from here. They are
loaded when they are asked for: every mail imports this module and none of them.
"""

__version__ = "0.1.0"

__all__ = [
    "Case",
    "ConfigError",
    "Delivery",
    "Explanation",
    "Result",
    "Settings",
    "deliver",
    "explain",
    "settings",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from postfix_trouble.api import (
        Case,
        ConfigError,
        Delivery,
        Explanation,
        Result,
        Settings,
        deliver,
        explain,
        settings,
    )


def __getattr__(name: str) -> object:
    """Load the API when a name of it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from postfix_trouble import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the names of the API, too."""
    return sorted({*globals(), *__all__})
