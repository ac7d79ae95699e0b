"""Which keys are looked up for an address, and how lists of words match."""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Callable, Iterable

from postfix_trouble.config.types import split_words
from postfix_trouble.core.value import Value

_ATOM = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~."
)


class Key(Value):
    """One key of the look-up of an address."""

    text: str
    # What of the address the key leaves out, delimiter first; empty if nothing.
    extension: str
    # The whole address: also looked up in tables of patterns.
    whole: bool


def address_keys(
    address: str, delimiters: str, is_local: Callable[[str], bool]
) -> list[Key]:
    """The keys for an address in internal form, most specific first.

    `delimiters` are those of recipient_delimiter; `is_local` says whether mail for a
    domain is delivered here, so that the bare local part is a key too
    (mail_addr_find(3)).
    """
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = domain, ""
    bare, extension = split_extension(local, delimiters)
    keys = [Key(address, "", True)]
    if at and extension:
        keys.append(Key(f"{bare}@{domain}", extension, False))
    if at and is_local(domain):
        keys.append(Key(local, "", False))
    if extension and (not at or is_local(domain)):
        keys.append(Key(bare, extension, False))
    if at:
        keys.append(Key(f"@{domain}", "", False))
    return keys


def split_extension(local: str, delimiters: str) -> tuple[str, str]:
    """A local part in two, at the first delimiter; the extension keeps it.

    Names that are reserved, and those that start with their only delimiter, stay
    whole (Postfix split_addr(3)).
    """
    lowered = local.lower()
    if lowered in ("mailer-daemon", "postmaster", "double-bounce"):
        return local, ""
    if "-" in delimiters and lowered.startswith("owner-"):
        return local, ""
    if "-" in delimiters and lowered.endswith("-request"):
        return local, ""
    places = [place for place in map(local.find, delimiters) if place > 0]
    if not places:
        return local, ""
    return local[: min(places)], local[min(places) :]


def external(address: str) -> str:
    """The address with its local part quoted if need be: the form that tables have."""
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = domain, ""
    dots = local.startswith(".") or local.endswith(".") or ".." in local
    if local and not dots and all(c in _ATOM or not c.isascii() for c in local):
        return address
    quoted = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"{at}{domain}' if local else address


def mapped_address(address: str, result: str, extension: str, origin: str) -> str:
    """What a table of addresses makes of one (mail_addr_map(3), mail_addr_crunch(3)).

    `result` is what was found: an address, or `@domain`, which keeps the local part.
    `extension` is put back when it is to be kept; `origin` completes a bare name.
    Addresses are in internal form. Of several results the first counts.
    """
    local = address.rpartition("@")[0] or address
    result = next(iter(split_words(result)), "") if '"' not in result else result
    if result.startswith("@"):
        return local + result
    found, at, domain = result.rpartition("@")
    if not at:
        found, domain = domain, origin
    if len(found) > 1 and found[0] == found[-1] == '"':
        found = _unquoted(found[1:-1])
    return f"{found}{extension}@{domain}"


def _unquoted(text: str) -> str:
    parts = iter(text)
    return "".join(next(parts, "") if c == "\\" else c for c in parts)


def match_words(
    words: Iterable[str],
    subject: str,
    find_table: Callable[[str, str], str | None],
    read_file: Callable[[str], str],
) -> bool:
    """Whether a list names a text; the first item that matches decides (match_list(3)).

    Items are compared without regard to case. `!item` excludes, `/path` stands for the
    words of a file, and `type:name` for the keys of a table. `find_table(spec, key)`
    and `read_file(path)` do what their names say; what they raise goes through.
    """
    subject = subject.lower()
    for word in words:
        item = word.lstrip("!")
        excluded = (len(word) - len(item)) % 2 == 1
        if item.startswith("/"):
            lines = read_file(item).split("\n")
            inner = [w for line in lines for w in split_words(line.partition("#")[0])]
            matched = match_words(inner, subject, find_table, read_file)
        elif ":" in item and not item.startswith("["):
            matched = find_table(item, subject) is not None
        else:
            matched = item.lower() == subject
        if matched:
            return not excluded
    return False
