"""Writes the results of verbs to standard output, once or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from txsentinel.cli.operator.options import FleetAccess
from txsentinel.cli.operator.screen import Result, rendered
from txsentinel.cli.operator.statuses import VerbFailed
from txsentinel.cli.operator.visible import visible

CLEAR: Final = "\x1b[H\x1b[2J"
"""Clears a terminal."""


def show(result: Result, form: str, stream: TextIO | None = None) -> None:
    """Write a result; as a table for people with colours if the stream is a terminal and rich is installed."""
    stream = sys.stdout if stream is None else stream
    if form == "table" and stream.isatty():
        try:
            from txsentinel.cli.operator.terminal import write_blocks
        except ImportError:
            pass
        else:
            write_blocks(result.blocks, stream)
            return
    stream.write(rendered(result, form))
    stream.flush()


def repeat(access: FleetAccess, make: Callable[[], Result]) -> int:
    """
    Show a result, with ``--watch`` again and again until interrupted.

    :returns: its exit status.
    """
    if access.watch is None:
        result = make()
        show(result, access.form)
        return result.status
    while True:
        try:
            result = make()
        except VerbFailed as failure:
            sys.stdout.write(f"{visible(str(failure))}\n")
            sys.stdout.flush()
        else:
            if sys.stdout.isatty():
                sys.stdout.write(CLEAR)
            show(result, access.form)
        time.sleep(access.watch)
