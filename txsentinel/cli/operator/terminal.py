"""Lays out blocks on a terminal with rich, which must be installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from txsentinel.cli.operator.screen import Block, Styled, TextLine, Words, content, fitting

STYLES: Final = {"good": "green", "bad": "bold red", "warning": "yellow", "strong": "bold", "weak": "dim"}


def styled(words: Words) -> Text:
    """Return a text of rich; nothing in it is interpreted."""
    return Text(content(words), STYLES[words.style] if isinstance(words, Styled) else "")


def write_blocks(blocks: Iterable[Block], stream: TextIO) -> None:
    """Write blocks in the width of the terminal."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    for block in blocks:
        if isinstance(block, TextLine):
            _write_line(console, block)
            continue
        grid = fitting(block, console.width)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(grid.headings))
        for place, heading in enumerate(grid.headings or ("",) * len(grid.rows[0] if grid.rows else ())):
            # The first column has the address or the name.
            table.add_column(heading, header_style="bold", overflow="fold", no_wrap=place == 0)
        for row in grid.rows:
            table.add_row(*(styled(each) for each in row))
        console.print(table)


def _write_line(console: Console, block: TextLine) -> None:
    """Write a line; what does not fit is continued below, indented."""
    words = Text.assemble(*(styled(each) for each in block.parts))
    if not block.indent or len(words) <= console.width:
        console.print(words)
        return
    head = words.wrap(console, console.width)[0]
    console.print(head)
    rest = words[len(head) :]
    blanks = len(rest.plain) - len(rest.plain.lstrip())
    console.print(Padding(rest[blanks:], (0, 0, 0, block.indent)))
