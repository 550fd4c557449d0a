"""
Every kind of server with every mix of Sentinels, for every kind of loss of a master.

``python -m tests.interop.matrix`` prints the table; ``--write FILE`` puts it into a page, between two markers. A cell
is the time from the loss to agreement of all Sentinels. The C Sentinels of a mix come with the servers.
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
"""The rounds of a row, in this order; the last one shows that the earlier ones left nothing behind."""

HEADINGS: Final = ("SIGKILL", "SIGSTOP", "SHUTDOWN", "FAILOVER", "COORDINATED", "SIGKILL")

BEGIN: Final = ".. The table below is written by tests/interop/matrix.py."
END: Final = ".. The table above is written by tests/interop/matrix.py."


@dataclass
class Row:
    """The results of one mix with one kind of server."""

    server: str
    """The kind of server, with its version."""

    mix: str
    cells: list[str] = field(default_factory=list)
    """One text per disruption: seconds, ``n/a`` or ``failed``."""

    problem: str = ""
    """Why the row ended early; empty if every round succeeded."""


def mixes_of(kind: str) -> list[str]:
    """Return the mixes of three Sentinels for a kind of server."""
    return ["txsentinel:3", f"txsentinel:2,{kind}:1", f"txsentinel:1,{kind}:2"]


def run_row(kind: str, mix: str, disruptions: Sequence[Disruption] = DISRUPTIONS, seed: int = 1) -> Row:
    """
    Start one fleet and run all rounds.

    :returns: a row; after a failure the other cells are ``-`` and the logs are kept at the path in ``problem``.
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
    """Format a simple table in reStructuredText."""
    lines = [("Server", "Sentinels", *headings), *((row.server, row.mix, *row.cells) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = "  ".join("=" * width for width in widths)
    texts = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([rule, texts[0], rule, *texts[1:], rule])


def replace_between_markers(page: str, text: str) -> str:
    """
    Return the page with ``text`` between its two markers.

    :raises ValueError: if the markers are not there, once each and in order.
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
    Run all mixes with these kinds of servers, ``jobs`` fleets at a time in separate processes.

    :param progress: called with each row when it is complete.
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
        options.write.write_text(replace_between_markers(options.write.read_text(), table(rows)))
    if any(row.problem for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
