"""What the command line of `deliver` says, as settings and as a delivery request."""

from __future__ import annotations

import time

from postfix_trouble.client.service import BAD_RECIPIENT
from postfix_trouble.core.envelope import DeliveryRequest, Recipient
from postfix_trouble.core.outcome import DSN
from postfix_trouble.core.status import EnhancedStatus
from postfix_trouble.core.value import TYPE_CHECKING
from postfix_trouble.pipe import options
from postfix_trouble.smtp.address import unquote_local, unsendable
from postfix_trouble.terminal.parameters import make_settings, read_config

if TYPE_CHECKING:
    from postfix_trouble.config.settings import Settings
    from postfix_trouble.message.message import Message
    from postfix_trouble.pipe.options import CommandLine


def read_settings(line: CommandLine) -> Settings:
    """Parameters from --config and -o. Raises ConfigError, UsageError."""
    path = line.value("--config")
    overrides = line.pairs("-o")
    if line.switch("--state-directory"):
        overrides["trouble_state_directory"] = line.value("--state-directory")
    return make_settings(
        read_config(path)[0] if path else {},
        config=path,
        overrides=overrides,
        lmtp=line.switch("--lmtp"),
    )


def read_request(
    line: CommandLine, settings: Settings, message: Message
) -> DeliveryRequest | DSN:
    """The delivery request that the command line describes.

    A DSN if it can't be one: the sender's address, or those of all recipients, would
    break the protocol (5.1.7, 5.1.3). Raises UsageError.
    """
    if line.switch("--requiretls") and not settings.follows("3.11"):
        # Never pass over what the sender asked for.
        text = "REQUIRETLS needs trouble_postfix_version = 3.11 or later"
        return DSN(EnhancedStatus("4.7.5"), text)
    inner = unquote_local if line.switch("--quoted") else str
    sender = line.value("--sender")
    sender = "" if sender == "<>" else inner(sender)
    if unsendable(sender):
        return DSN(EnhancedStatus("5.1.7"), "bad sender address syntax")
    orcpt = line.pairs("--orcpt")
    original = line.value("--original-recipient")
    recipients = []
    for position, address in enumerate(line.recipients):
        address = inner(address)
        recipients.append(
            Recipient(
                address,
                original if len(line.recipients) == 1 else "",
                orcpt.get(address, ""),
                _notify(line.value("--notify")),
                position,
            )
        )
    if not any(one.address and not unsendable(one.address) for one in recipients):
        return BAD_RECIPIENT
    nexthop = line.value("--nexthop")
    if not nexthop:
        raise options.UsageError("--nexthop is missing")
    addresses = "".join((sender, *(each.address for each in recipients)))
    smtputf8 = line.switch("--smtputf8") or (
        settings.flag("smtputf8_enable") and _wants_smtputf8(line, message, addresses)
    )
    return DeliveryRequest(
        sender,
        tuple(recipients),
        nexthop,
        queue_id=line.value("--queue-id"),
        size=_number(line, "--size", message.size),
        envid=line.value("--envid"),
        ret=_one_of(line, "--ret", ("", "full", "hdrs")),
        encoding=_one_of(line, "--encoding", ("", "7bit", "8bit"))
        or encoding(message, settings),
        smtputf8=smtputf8,
        # Whether a header has non-ASCII bytes matters only to those who asked.
        utf8_header=smtputf8 and utf8_header(message, settings),
        requiretls=line.switch("--requiretls"),
        age=_age(line, settings, message),
        attributes=line.pairs("--attribute"),
        lmtp=line.switch("--lmtp"),
    )


def encoding(message: Message, settings: Settings) -> str:
    """The body encoding that cleanup(8) has found: "8bit", or empty."""
    if not settings.flag("detect_8bit_encoding_header"):
        return ""
    return message.encoding(*_mime_input(settings))


def utf8_header(message: Message, settings: Settings) -> bool:
    """Whether cleanup(8) has found a header that needs SMTPUTF8."""
    return message.utf8_header(*_mime_input(settings))


def _mime_input(settings: Settings) -> tuple[bool, int]:
    """Whether it looked for parts at all, and how deep."""
    return (
        not settings.flag("disable_mime_input_processing"),
        settings.integer("mime_nesting_limit"),
    )


def _wants_smtputf8(line: CommandLine, message: Message, addresses: str) -> bool:
    """Whether the sender asked for SMTPUTF8, as far as that can be told.

    pipe(8) does not say. Where smtpd(8) took the message, the Received: header does
    (RFC 6531 4.3): with strict_smtputf8 = no it takes UTF-8 addresses from those who
    did not ask, too. Else who has such addresses must have asked.
    """
    protocol = message.protocol()
    if protocol and _has_own_header(line, message):
        return protocol.startswith("UTF8")
    return _is_utf8(addresses)


def _is_utf8(addresses: str) -> bool:
    """Whether there is UTF-8 in addresses.

    Other bytes go to any server as they are, as from smtp(8): SMTPUTF8 would not have
    let them in.
    """
    try:
        return len(addresses.encode()) > len(addresses)
    except UnicodeEncodeError:
        # Bytes that are no UTF-8 (surrogateescape).
        return False


def _has_own_header(line: CommandLine, message: Message) -> bool:
    """Whether the topmost Received: header is Postfix's own, by the queue id.

    Some have a rule that removes it; the next one is somebody else's.
    """
    queue_id = line.value("--queue-id")
    return bool(queue_id) and message.queue_id() == queue_id


def _number(line: CommandLine, name: str, default: int) -> int:
    text = line.value(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise options.UsageError(f"{name} {text}: a number expected")
    return int(text)


def _one_of(line: CommandLine, name: str, words: tuple[str, ...]) -> str:
    text = line.value(name).lower()
    if text not in words:
        raise options.UsageError(
            f"{name} {text}: one of {', '.join(words[1:])} expected"
        )
    return text


def _notify(text: str) -> str:
    """NOTIFY words in Postfix's order."""
    words = text.upper().replace(",", " ").split()
    order = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
    if not set(words) <= set(order):
        raise options.UsageError(f"--notify {text}: bad value")
    return ",".join(word for word in order if word in words)


def since_arrival(line: CommandLine, message: Message) -> float | None:
    """Seconds since the message came, as far as that can be told.

    pipe(8) doesn't say, so the topmost Received: header does.
    """
    if line.switch("--age"):
        return float(_number(line, "--age", 0))
    received = message.received()
    return None if received is None else time.time() - received


def time_in_queue(line: CommandLine, message: Message) -> float | None:
    """The same, if it is sure: what is bounced for its age must be that old.

    The Received: header of somebody else, in a mail that was sent on, may be years old.
    """
    sure = line.switch("--age") or _has_own_header(line, message)
    return since_arrival(line, message) if sure else None


def _age(line: CommandLine, settings: Settings, message: Message) -> float:
    null = not line.value("--sender")
    return plausible_age(since_arrival(line, message), settings, null)


def plausible_age(age: float | None, settings: Settings, null_sender: bool) -> float:
    """Seconds since arrival, 0 where they can't be: no mail is queued for longer."""
    life = "bounce_queue_lifetime" if null_sender else "maximal_queue_lifetime"
    oldest = settings.seconds(life) + settings.seconds("maximal_backoff_time")
    return age if age is not None and 0.0 <= age <= oldest else 0.0
