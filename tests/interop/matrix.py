"""
Every make of server under every mix of Sentinels, through every way in which a master is lost.

``python -m tests.interop.matrix`` prints the table; ``--write FILE`` puts it into a page, between two marks. A cell is
the time from the loss to agreement of all Sentinels. The C Sentinels of a mix are of the make of the servers.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.interop.rounds import COORDINATING_KINDS, Disruption, MixedFleet, kinds_of
from tests.servers import SERVER_KINDS, Harness, available, version_number

DISRUPTIONS: Final = (
    Disruption.KILL,
    Disruption.FREEZE,
    Disruption.SHUTDOWN,
    Disruption.MANUAL,
    Disruption.COORDINATED,
    Disruption.KILL,
)
"""The round of each cell, in this order: the last one shows that nothing of those before is left behind."""

HEADINGS: Final = ("SIGKILL", "SIGSTOP", "SHUTDOWN", "FAILOVER", "COORDINATED", "SIGKILL")

BEGIN: Final = ".. The table below is written by tests/interop/matrix.py."
END: Final = ".. The table above is written by tests/interop/matrix.py."


@dataclass
class Row:
    """What one mix over one make of server came to."""

    server: str
    """The kind of server, with its version."""

    mix: str
    cells: list[str] = field(default_factory=list)
    """One text per trouble: seconds, ``n/a`` or ``failed``."""

    problem: str = ""
    """Why it ended early; empty if every trouble was survived."""


def mixes_of(kind: str) -> list[str]:
    """The mixes of three that a make of server is watched by."""
    return ["txsentinel:3", f"txsentinel:2,{kind}:1", f"txsentinel:1,{kind}:2"]


def run_row(kind: str, mix: str, disruptions: Sequence[Disruption] = DISRUPTIONS, seed: int = 1) -> Row:
    """
    Start one fleet and lose its master again and again.

    :returns: a row; after a failure the other cells are ``-`` and the logs stay where its ``problem`` says.
    """
    row = Row(f"{kind} ({version_number(kind)})", mix)
    try:
        with Harness() as harness, MixedFleet(harness, mix, kind, random.Random(seed)) as mixed:
            for disruption in disruptions:
                if disruption is Disruption.COORDINATED and not set(kinds_of(mix)) & set(COORDINATING_KINDS):
                    row.cells.append("n/a")
                    continue
                try:
                    outcome, old_master = mixed.lose_master(disruption)
                    mixed.bring_back(disruption, old_master)
                except Exception as problem:
                    row.cells.append("failed")
                    row.problem = f"{disruption.value}: {problem} (logs: {harness.directory})"
                    raise
                row.cells.append(f"{outcome.seconds:.1f} s")
    except Exception as problem:
        row.problem = row.problem or str(problem)
    row.cells += ["-"] * (len(disruptions) - len(row.cells))
    return row


def table(rows: Sequence[Row], headings: Sequence[str] = HEADINGS) -> str:
    """A simple table in reStructuredText."""
    lines = [("Server", "Sentinels", *headings), *((row.server, row.mix, *row.cells) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = "  ".join("=" * width for width in widths)
    texts = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([rule, texts[0], rule, *texts[1:], rule])


def written(page: str, text: str) -> str:
    """
    The page with ``text`` between its two marks.

    :raises ValueError: if the marks are not there, once each and in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"the page does not have both marks once: {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def run(
    kinds: Sequence[str],
    jobs: int,
    progress: Callable[[Row], None],
    run_one: Callable[[str, str], Row] = run_row,
) -> list[Row]:
    """
    Play all mixes over these makes, ``jobs`` fleets at a time in processes of their own.

    :param progress: called for each row when it is done.
    :returns: the rows in the order of ``kinds``.
    """
    cells = [(kind, mix) for kind in kinds for mix in mixes_of(kind)]
    with ProcessPoolExecutor(jobs) as pool:
        rows = []
        for row in pool.map(run_one, *zip(*cells, strict=True)):
            progress(row)
            rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 1 if a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.matrix", description=__doc__.split("\n\n")[0])
    parser.add_argument("--server", action="append", choices=SERVER_KINDS, help="may be given several times")
    parser.add_argument("--jobs", type=int, default=2, help="fleets at a time")
    parser.add_argument("--seed", type=int, default=1, help="for the choices made here; the rest is up to processes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page to put the table into")
    options = parser.parse_args(arguments)
    absent = [kind for kind in options.server or SERVER_KINDS if not available(kind)]
    kinds = [kind for kind in options.server or SERVER_KINDS if available(kind)]
    if absent:
        print(f"left out, not on this machine: {', '.join(absent)}")
    if not kinds:
        sys.exit("nothing could be tried")

    def progress(row: Row) -> None:
        print(f"{row.server} under {row.mix}: {', '.join(row.cells)}", flush=True)
        if row.problem:
            print(f"    {row.problem}", flush=True)

    rows = run(kinds, options.jobs, progress, partial(run_row, seed=options.seed))
    print(table(rows))
    if options.write:
        options.write.write_text(written(options.write.read_text(), table(rows)))
    if any(row.problem for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
