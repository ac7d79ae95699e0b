"""Client certificates: what the files of smtp_tls_chain_files say when put together.

After Postfix tls_certkey.c. All files are read as one: a private key, then the
certificate for it and those that lead from there to an authority; then, maybe, another
key with its certificates.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

import re
from collections.abc import Iterable

from postfix_trouble.core.value import Value

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
# "X509 CERTIFICATE" and "TRUSTED CERTIFICATE" are older forms.
_CERTIFICATE = "CERTIFICATE"
_KEY = "PRIVATE KEY"


class KeyChain(Value):
    """A key and its certificates."""

    # Where the key was found.
    path: str
    # PEM, the key first.
    text: str


def holds_key(text: str) -> bool:
    """Whether a file has a secret in it."""
    return any(found[1].endswith(_KEY) for found in _BLOCK.finditer(text))


def chains(files: Iterable[tuple[str, str]]) -> tuple[KeyChain, ...] | str:
    """Take the contents of files (path, text) apart; a text if they make no chain.

    What is neither key nor certificate (EC PARAMETERS) is ignored.
    """
    found: list[tuple[str, list[str]]] = []
    for path, text in files:
        empty = True
        for block in _BLOCK.finditer(text):
            label = block[1]
            if label.endswith(_KEY):
                if found and len(found[-1][1]) == 1:
                    return f"no certificate follows the key in {found[-1][0]}"
                found.append((path, [block[0]]))
            elif label.endswith(_CERTIFICATE):
                if not found:
                    return f"{path} begins with a certificate; its key comes first"
                found[-1][1].append(block[0])
            else:
                continue
            empty = False
        if empty:
            return f"{path} has neither key nor certificate (PEM) in it"
    if found and len(found[-1][1]) == 1:
        return f"no certificate follows the key in {found[-1][0]}"
    return tuple(KeyChain(path, "\n".join([*blocks, ""])) for path, blocks in found)
