"""The options that `send` and `probe` share, and the settings that come of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from postfix_trouble.cli import user_input
from postfix_trouble.config.parameters import lmtp_name
from postfix_trouble.config.rows_client import TIMEOUTS
from postfix_trouble.config.settings import Settings
from postfix_trouble.core.tls import TlsLevel
from postfix_trouble.core.value import Value
from postfix_trouble.sasl.choose import Credentials
from postfix_trouble.terminal.help_text import config_option, override_option
from postfix_trouble.terminal.parameters import make_settings, overriding, read_config

if TYPE_CHECKING:
    F = TypeVar("F", bound=Callable[..., Any])

LEVELS = tuple(level.word for level in TlsLevel)

# All waits for a server.
_TIMEOUTS = tuple(name for name, row in TIMEOUTS.items() if row.kind == "T")
_DANE = ("dane", "dane-only")

# What a person expects of a test by hand where nothing else is said: TLS if it is
# offered, and judged; plain passwords over TLS. main.cf and -o override them.
_DEFAULTS = {
    "smtp_tls_security_level": "may",
    "smtp_tls_loglevel": "1",
    "smtp_sasl_tls_security_options": "noanonymous",
}

_OPTIONS = (
    click.option(
        "--server",
        metavar="HOST[:PORT]",
        default="",
        help="Talk to this server, in place of the MX hosts of the domain. It may be"
        " this machine, or a name in /etc/hosts. With --lmtp also unix:PATH. Port 465"
        " turns --tls-on-connect on.",
    ),
    click.option("--lmtp", is_flag=True, help="Speak LMTP."),
    click.option(
        "--tls",
        metavar="LEVEL",
        type=click.Choice(LEVELS),
        help=f"smtp_tls_security_level: {', '.join(LEVELS)}. Default: what main.cf"
        " says, else may; with --auth-user verify.",
    ),
    click.option(
        "--tls-on-connect", is_flag=True, help="TLS before the greeting (port 465)."
    ),
    click.option(
        "--ca",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, readable=True),
        help="Authorities to trust. Default: those of main.cf, else of the system.",
    ),
    click.option(
        "--auth-user",
        metavar="USER",
        help="Log in; where that can't be done nothing is sent. The password is"
        " asked for without echo, or comes from --auth-password-file;"
        " never from the command line. Needs --server.",
    ),
    click.option(
        "--auth-password-file",
        metavar="FILE",
        type=click.Path(),
        help="First line (- is standard input): the password, or the token for"
        " XOAUTH2 and OAUTHBEARER.",
    ),
    click.option(
        "--auth-mechanism", metavar="NAME", help="Use this mechanism and no other."
    ),
    click.option("-4", "family", flag_value="ipv4", help="Use IPv4 only."),
    click.option("-6", "family", flag_value="ipv6", help="Use IPv6 only."),
    click.option(
        "--timeout",
        metavar="SECONDS",
        type=click.IntRange(1),
        help="Wait no longer than this for a connection or a reply.",
    ),
    click.option("--helo", metavar="NAME", help="Our name in EHLO."),
    click.option("--soft-bounce", is_flag=True, help="As with soft_bounce = yes."),
    override_option,
    config_option,
    click.option(
        "--strict-addresses",
        is_flag=True,
        help="Refuse addresses that look wrong; otherwise that is a warning.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)


class SessionSettings(Value):
    """How to talk to servers: what those options say."""

    settings: Settings
    # The nexthop of --server, empty without it.
    nexthop: str
    credentials: Credentials | None
    lmtp: bool
    # The certificate is verified for no other reason than that a password is at stake.
    verified_unasked: bool


def session_options(command: F) -> F:
    """Add the options to a command; it gets their values as keywords."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_session(given: dict[str, Any]) -> SessionSettings:
    """What the options say. Raises click.UsageError, ConfigError."""
    server, lmtp = given["server"], given["lmtp"]
    if given["auth_user"] is not None and not server:
        raise click.UsageError(
            "--auth-user needs --server: a password is not for whoever an MX names"
        )
    smtps = given["tls_on_connect"] or user_input.is_smtps(server)
    nexthop = ""
    if server:
        nexthop = user_input.server_nexthop(server, tls_on_connect=smtps, lmtp=lmtp)
    settings = _settings(given, lmtp, smtps)
    settings.refuse_unusable()
    # Last of all: nobody types a password only to be told of another mistake.
    credentials = user_input.credentials(
        given["auth_user"], given["auth_password_file"], server
    )
    return SessionSettings(
        settings, nexthop, credentials, lmtp, _verified_unasked(given)
    )


def _verified_unasked(given: dict[str, Any]) -> bool:
    """Whether the certificate is verified since a password goes there.

    What main.cf says is meant for mail; --tls and -o are meant for this server.
    """
    name = "lmtp_tls_security_level" if given["lmtp"] else "smtp_tls_security_level"
    return (
        given["auth_user"] is not None
        and given["tls"] is None
        and not given["server"].startswith("unix:")
        and not any(
            text.partition("=")[0].strip() == name for text in given["overrides"]
        )
    )


def _settings(given: dict[str, Any], lmtp: bool, smtps: bool) -> Settings:
    config = given["config"]
    values = read_config(config)[0] if config else {}
    chosen: dict[str, str | None] = {
        "smtp_tls_security_level": "verify"
        if _verified_unasked(given)
        else given["tls"],
        "smtp_tls_CAfile": given["ca"],
        "smtp_helo_name": given["helo"],
        "smtp_sasl_mechanism_filter": given["auth_mechanism"],
        "smtp_sasl_auth_enable": "yes" if given["auth_user"] is not None else None,
        "inet_protocols": given["family"],
        "soft_bounce": "yes" if given["soft_bounce"] else None,
        "smtp_tls_wrappermode": "yes" if smtps else None,
    }
    if given["timeout"] is not None:
        chosen |= dict.fromkeys(_TIMEOUTS, f"{given['timeout']}s")
    if smtps and chosen["smtp_tls_security_level"] in (None, "none", "may"):
        # What comes first can't be left out.
        chosen["smtp_tls_security_level"] = "encrypt"
    defaults = dict(_DEFAULTS)
    if not (given["ca"] or values.get("smtp_tls_CAfile")):
        defaults["tls_append_default_CA"] = "yes"
    if given["tls"] in _DANE:
        # Or there would be nothing of it.
        defaults["smtp_dns_support_level"] = "dnssec"
    overrides = overriding(given["overrides"])
    if given["server"]:
        # As other programs here find it, /etc/hosts first; unless the DNS is asked for.
        ask_dns = "trouble_nameserver" in overrides or given["tls"] in _DANE
        hosts = "dns, native" if ask_dns else "native"
        name = "lmtp_host_lookup" if lmtp else "smtp_host_lookup"
        overrides.setdefault(name, hosts)

    def named(names: dict[str, str | None]) -> dict[str, str]:
        form = lmtp_name if lmtp else str
        return {form(name): text for name, text in names.items() if text is not None}

    return make_settings(
        {**named({**defaults}), **values},
        config=config,
        overrides={**overrides, **named(chosen)},
        lmtp=lmtp,
    )
