"""The values of parameters: what was set, what that means, or the default."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from postfix_trouble.config.expansion import ExpansionError, expand
from postfix_trouble.config.lines import BLANKS
from postfix_trouble.config.masking import is_secret, masked
from postfix_trouble.config.parameters import TABLE, lmtp_name
from postfix_trouble.config.types import (
    ConfigError,
    Parameter,
    split_words,
    to_flag,
    to_integer,
    to_seconds,
    to_text,
    to_words,
)
from postfix_trouble.core.value import TYPE_CHECKING

__all__ = ["ConfigError", "Settings"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    _T = TypeVar("_T")


class Settings:
    """Parameters by their main.cf names, expanded and converted when asked for.

    `values` come from a main.cf: names that are not in the table may be referred to and
    are otherwise ignored, and a wrong value is an error when it is used, or asked
    after by refuse_unusable().
    `overrides` come from the command line and are checked at once: ConfigError.
    With `lmtp`, callers keep to the smtp_ names and get the lmtp_ values.
    `implied`: defaults that follow from where the main.cf is. `first_line` reads the
    first line of a file for Debian's form of myorigin; it may raise OSError.
    """

    def __init__(
        self,
        values: Mapping[str, str] = {},
        *,
        overrides: Mapping[str, str] = {},
        lmtp: bool = False,
        system_hostname: str = "",
        implied: Mapping[str, str] = {},
        first_line: Callable[[str], str] | None = None,
    ) -> None:
        self._given = {**values, **overrides}
        self._implied = implied
        self._first_line = first_line
        self.lmtp = lmtp
        self._system_hostname = system_hostname or "localhost"
        # By conversion and name: a process that stays asks forty times for each mail.
        self._known: dict[Callable[..., object], dict[str, object]] = {}
        for name, value in overrides.items():
            if name not in TABLE:
                raise ConfigError(name, f"unknown parameter: {name} = {value}")
            self.check(name)

    def text(self, name: str) -> str:
        """The value; of a parameter with a vocabulary in lower case."""
        return self._value(name, to_text)

    def flag(self, name: str) -> bool:
        """Yes or no."""
        return self._value(name, to_flag)

    def integer(self, name: str) -> int:
        """The number."""
        return self._value(name, to_integer)

    def seconds(self, name: str) -> float:
        """The time. The empty trouble_give_up_age is worked out from the others."""
        return self._value(name, to_seconds)

    def words(self, name: str) -> tuple[str, ...]:
        """The words of a list, split at blanks and commas outside of braces."""
        return self._value(name, to_words)

    def follows(self, version: str) -> bool:
        """Whether the Postfix that is followed is this one, or a later one."""
        known = TABLE["trouble_postfix_version"].words
        followed = self.text("trouble_postfix_version")
        return known.index(followed) >= known.index(version)

    def given(self, name: str) -> bool:
        """Whether the administrator has set it, in the file or on the command line."""
        return self._name(name) in self._given

    def config_directory(self) -> str:
        """Where Postfix's main.cf is, empty if nobody says."""
        name = "config_directory"
        known = name in self._given or name in self._implied
        return self.text(name) if known else ""

    def tables(self) -> Iterator[str]:
        """The smtp_ parameters in use that name look-up tables. Raises ConfigError."""
        for name, parameter in TABLE.items():
            if not name.startswith("smtp_") or parameter.unsupported:
                continue
            used = parameter.kind == "M" or name == "smtp_reply_filter"
            if name == "smtp_sasl_password_maps":
                used = self.flag("smtp_sasl_auth_enable")
            if used and self.text(name):
                yield name

    def mentions(self, text: str) -> bool:
        """Whether a text occurs in anything that was set."""
        return any(text in value for value in self._given.values())

    def as_written(self, name: str) -> str | None:
        """What the administrator set; `name` is taken as it is, with `lmtp` too."""
        return self._given.get(name)

    def check(self, name: str) -> str:
        """The expanded text, after a check of all that its kind asks for.

        `name` is taken as it is, with `lmtp` too. Raises ConfigError.
        """
        parameter = TABLE[name]
        value = self._expanded(name)
        _converted(_CONVERSIONS[parameter.kind], name, value)
        return value

    def give_up_age(self, null_sender: bool = False) -> float:
        """Seconds after which we return what is left, before the queue manager does.

        It gives up after an attempt, when the whole message is back; so we must do so
        in an earlier one, hence the backoff time. With a lifetime of an hour that
        would leave no time to try, hence the half.
        """
        if self.text("trouble_give_up_age"):
            return self.seconds("trouble_give_up_age")
        name = "bounce_queue_lifetime" if null_sender else "maximal_queue_lifetime"
        life = self.seconds(name)
        return max(life - self.seconds("maximal_backoff_time"), life / 2)

    def refuse_unusable(self) -> None:
        """Raise ConfigError for a setting that can't be honoured and must not be lost.

        That is one that is not supported, and one that makes no sense: else it might
        be asked for after the message is out, which would be deferred, and sent again.
        """
        for name in self._given:
            parameter = TABLE.get(name)
            if parameter is None or not self._is_ours(name):
                continue
            if not parameter.unsupported:
                self.check(name)
            elif parameter.vital:
                value = self._expanded(name)
                if value and value != expand(parameter.default, self._raw):
                    reason = f"not supported, because {parameter.unsupported}"
                    raise ConfigError(name, f"{name} = {value}: {reason}")

    def _is_ours(self, name: str) -> bool:
        other = "smtp_" if self.lmtp else "lmtp_"
        return not name.startswith(other)

    def _name(self, name: str) -> str:
        return lmtp_name(name) if self.lmtp else name

    def _value(self, name: str, convert: Callable[[str, str, Parameter], _T]) -> _T:
        known = self._known.setdefault(convert, {})
        if name not in known:
            own = self._name(name)
            known[name] = _converted(convert, own, self._expanded(own))
        return known[name]  # type: ignore[return-value]

    def _expanded(self, name: str) -> str:
        raw = self._raw(name)
        assert raw is not None, f"{name} is not in the table"
        try:
            value = expand(raw, self._raw)
        except ExpansionError as error:
            # The text that it quotes may be a password.
            why = str(error) if masked(name, raw) == raw else "bad use of $"
            raise ConfigError(name, f"parameter {name}: {why}") from None
        return self._origin(value) if name == "myorigin" else value

    def _origin(self, value: str) -> str:
        """myorigin, which Debian's Postfix takes from the first line of a file."""
        name = "myorigin"
        if value.startswith("/") and self._first_line:
            path = value
            try:
                value = self._first_line(path).strip(BLANKS)
            except OSError as error:
                problem = f"{name} = {path}: {error.strerror}"
                raise ConfigError(name, problem) from None
            if not value:
                raise ConfigError(name, f"{name} file {path} is empty")
        if len(split_words(value)) > 1:
            problem = f"{name} parameter setting must not contain multiple values"
            raise ConfigError(name, f"{problem}: {value}")
        return value

    def _raw(self, name: str) -> str | None:
        """The value as it was written: what an expansion refers to."""
        if (value := self._given.get(name)) is not None:
            return value
        if (value := self._implied.get(name)) is not None:
            return value
        if name == "myhostname":
            return self._default_hostname()
        if name == "mydomain":
            return self._default_domain()
        parameter = TABLE.get(name)
        return parameter.default if parameter else None

    def _default_hostname(self) -> str:
        """As Postfix's get_hostname(3): never a look-up in the DNS."""
        name = self._system_hostname
        return (
            name
            if "." in name
            else f"{name}.{self._given.get('mydomain') or 'localdomain'}"
        )

    def _default_domain(self) -> str:
        hostname = self._given.get("myhostname")
        if hostname is None:
            hostname = self._default_hostname()
        elif "mydomain" in hostname:
            # Each would be made from the other.
            return "localdomain"
        elif "$" in hostname:
            hostname = expand(hostname, self._raw)
        return hostname.partition(".")[2] or "localdomain"


def _converted(
    convert: Callable[[str, str, Parameter], _T], name: str, value: str
) -> _T:
    try:
        return convert(name, value, TABLE[name])
    except ConfigError:
        if not is_secret(value):
            raise
    # Lines that begin with a blank belong to the setting before them.
    raise ConfigError(name, f"bad configuration: {name} = ...")


_CONVERSIONS: dict[str, Callable[[str, str, Parameter], object]] = {
    "B": to_flag,
    "E": to_text,
    "I": to_integer,
    "L": to_words,
    "M": to_words,
    "S": to_text,
    "T": to_seconds,
}
