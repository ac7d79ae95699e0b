"""stages: the things that are done to a message on its way, put in order.

A header is checked, then its addresses are rewritten; a body is converted, then
checked. Loaded only where one of these is wanted: the usual message needs none.
"""

# Pure: no input or output, clock, environment, chance or state.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from postfix_trouble.core.value import Value
from postfix_trouble.message.checks import Checks, Tables
from postfix_trouble.message.generic import Rewrite, rewrite_header
from postfix_trouble.message.headers import LIMIT
from postfix_trouble.message.lines import nobody
from postfix_trouble.message.mime import Parser, Place, unchanged


class Stages(Value):
    """What is to be done to a message."""

    tables: Tables = Tables()
    # smtp_generic_maps.
    rewrite: Rewrite | None = None
    # Convert 8-bit parts to quoted-printable.
    downgrade: bool = False
    nesting_limit: int = 100
    header_limit: int = LIMIT
    protocol: str = "smtp"

    def __bool__(self) -> bool:
        return self.downgrade or self.rewrite is not None or any(self.tables)


def transformed(
    chunks: Iterable[bytes],
    stages: Stages,
    note: Callable[[str], object] = nobody,
) -> Iterator[bytes]:
    """Apply the stages to a message; text in, text out, line ends are LF.

    Raises ContentError (5.6.0), and what a table raises.
    """
    tables, rewrite = stages.tables, stages.rewrite
    checks = Checks(tables, protocol=stages.protocol, note=note)
    header_checks = any((tables.header, tables.mime_header, tables.nested_header))

    def header_stage(header: bytes, place: Place, name: bytes) -> bytes:
        before, left = b"", header
        if header_checks:
            before, checked = checks.header(header, place, name)
            if checked is None:
                return before
            left = checked
        if rewrite:
            left = rewrite_header(left, place, name, rewrite)
        return before + left + b"\n"

    parser = Parser(
        # Addresses are rewritten in the message header only.
        structure=stages.downgrade or any(tables),
        downgrade=stages.downgrade,
        nesting_limit=stages.nesting_limit,
        header_limit=stages.header_limit,
        header=header_stage if header_checks or rewrite else unchanged,
        body=checks.body if tables.body else None,
    )
    return parser.run(chunks)
