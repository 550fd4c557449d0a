"""
What a verb returns, and how it is shown: as text, JSON, YAML or tab-separated values.

Text for a terminal is laid out by rich, if it is installed. Everything else is plain text whose columns are as wide as
their contents. All text is escaped here, so the verbs need not care about hostile names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from txsentinel.cli.operator.visible import visible
from txsentinel.model.plain import Plain

FORMATS: Final = ("table", "json", "yaml", "tsv")

GAP: Final = "  "

T = TypeVar("T")


@dataclass(frozen=True)
class Styled:
    """A text with a style: ``good``, ``bad``, ``warning``, ``strong`` or ``weak``."""

    text: str
    style: str


Words: TypeAlias = "str | Styled"


@dataclass(frozen=True)
class TextLine:
    """A line of texts that follow each other; too long ones are wrapped on a terminal, with ``indent`` columns."""

    parts: tuple[Words, ...]
    indent: int = 0


@dataclass(frozen=True)
class Grid:
    """
    A table; ``headings`` is empty for one without a heading.

    On a terminal that is too narrow, the columns at the places of ``dispensable`` are left out, one after the other.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[Words, ...], ...]
    dispensable: tuple[int, ...] = ()


Block: TypeAlias = "TextLine | Grid"


@dataclass(frozen=True)
class Result:
    """
    The result of a verb.

    :param data: for JSON and YAML.
    :param blocks: for people.
    :param records: for tab-separated values: names of the columns, and rows.
    :param status: the exit status.
    """

    data: Plain
    blocks: tuple[Block, ...]
    records: tuple[tuple[str, ...], tuple[tuple[object, ...], ...]]
    status: int = 0


def line(*parts: Words, indent: int = 0) -> TextLine:
    """Make a line."""
    return TextLine(parts, indent)


def content(words: Words) -> str:
    """Return the escaped text."""
    return visible(words.text if isinstance(words, Styled) else words)


def rendered(result: Result, form: str) -> str:
    """Return a result as text in one of `FORMATS`, with a line end."""
    if form == "json":
        return json.dumps(result.data, indent=2) + "\n"
    if form == "yaml":
        return "\n".join(yaml_lines(result.data)) + "\n"
    if form == "tsv":
        heading, rows = result.records
        return "".join("\t".join(tsv_cell(each) for each in row) + "\n" for row in (heading, *rows))
    return "".join(f"{each}\n" for block in result.blocks for each in plain_lines(block))


def tsv_cell(value: object) -> str:
    """Return a cell without tabs and line ends; nothing for ``None``, ``yes`` and ``no`` for truth values."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else visible(str(value))


def plain_lines(block: Block) -> Iterator[str]:
    """Return the lines of a block, without trailing blanks."""
    if isinstance(block, TextLine):
        yield "".join(content(each) for each in block.parts).rstrip()
        return
    rows, widths = layout(block)
    for row in rows:
        yield GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def layout(grid: Grid) -> tuple[list[tuple[str, ...]], list[int]]:
    """Return the texts of all rows, the headings first, and the widths of the columns."""
    rows = [tuple(content(each) for each in row) for row in grid.rows]
    if grid.headings:
        rows.insert(0, grid.headings)
    return rows, [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []


def fitting(grid: Grid, width: int) -> Grid:
    """Return the table without as many of its dispensable columns as do not fit."""
    _, widths = layout(grid)
    left_out: set[int] = set()
    for column in grid.dispensable:
        kept = [each for place, each in enumerate(widths) if place not in left_out]
        if sum(kept) + len(GAP) * (len(kept) - 1) <= width:
            break
        left_out.add(column)

    def without(row: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(each for place, each in enumerate(row) if place not in left_out)

    return Grid(without(grid.headings), tuple(without(row) for row in grid.rows))


_BARE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_RESERVED: Final = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))


def yaml_lines(value: Plain, indent: str = "") -> Iterator[str]:
    """
    Return the lines of a YAML document; strings are written as JSON, which is YAML, too.

    Only what a :data:`Plain` value needs: block mappings, block sequences and scalars.
    """
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _yaml_entry(f"{indent}{_yaml_key(key)}:", each, indent + "  ")
    elif isinstance(value, list) and value:
        for each in value:
            if isinstance(each, (dict, list)) and each:
                lines = list(yaml_lines(each, indent + "  "))
                yield f"{indent}- {lines[0][len(indent) + 2 :]}"
                yield from lines[1:]
            else:
                yield f"{indent}- {json.dumps(each)}"
    else:
        yield indent + json.dumps(value)


def _yaml_entry(start: str, value: Plain, indent: str) -> Iterator[str]:
    if isinstance(value, (dict, list)) and value:
        yield start
        yield from yaml_lines(value, indent)
    else:
        yield f"{start} {json.dumps(value)}"


def _yaml_key(key: str) -> str:
    return key if _BARE.fullmatch(key) and key.lower() not in _RESERVED else json.dumps(key)


def records_of(
    columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> tuple[tuple[str, ...], tuple[tuple[object, ...], ...]]:
    """Return the records of a result."""
    return tuple(columns), tuple(tuple(row) for row in rows)
