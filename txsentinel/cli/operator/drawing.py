"""``txsentinel topology --dot`` and ``--svg``: what the Sentinels report as a drawing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Final

from txsentinel.cli.operator.statuses import USAGE, VerbFailed
from txsentinel.cli.operator.topology import tree_of
from txsentinel.cli.operator.visible import size
from txsentinel.model.drawing import DrawnGroup, DrawnSentinel, DrawnServer, dot
from txsentinel.remote.agreement import AddressAgreement

SVG_SECONDS: Final = 30


def drawn(agreement: AddressAgreement) -> DrawnGroup:
    """Return what to draw of one master that a Sentinel monitors."""
    return DrawnGroup(agreement.name, tuple(_servers(agreement)), tuple(_sentinels(agreement)))


def _servers(agreement: AddressAgreement) -> Iterator[DrawnServer]:
    report = agreement.report()
    if report is None:
        return
    state = report.master.state
    address = str(report.endpoint)
    yield DrawnServer(
        address,
        None,
        ("master", "" if state == "ok" else state),
        down=not report.master.usable,
        tooltip=f"master {address}, config epoch {report.epoch}",
    )
    for node in tree_of(report):
        fitness = node.fitness
        link_up = node.replica.fields.get("master-link-status") == "ok"
        unfit = "fit" if fitness.unfit is None else f"unfit: {fitness.unfit.text}"
        lag = "" if node.lag is None else f"{size(node.lag)} behind"
        follows = str(node.follows)
        yield DrawnServer(
            fitness.name,
            address if follows == fitness.name else follows,
            ("replica", "" if node.replica.usable else node.replica.state, "" if fitness.fit else unfit),
            lag if link_up else "link down",
            link_up,
            not node.replica.usable,
            fitness.rank == 1,
            f"replica {fitness.name}, priority {fitness.priority}, {unfit}",
        )


def _sentinels(agreement: AddressAgreement) -> Iterator[DrawnSentinel]:
    for each in agreement.members:
        report = each.masters.get(agreement.name)
        opinion = ""
        if report is not None and report.endpoint != agreement.endpoint:
            opinion = f"has {report.endpoint}"
        elif report is not None and not report.master.usable:
            opinion = "reports it down"
        kind = each.kind if each.reachable else each.problem or ""
        yield DrawnSentinel(
            str(each.endpoint), ("Sentinel", kind), opinion, not each.reachable, f"Sentinel {each.sentinel_id}"
        )


def dot_text(agreement: AddressAgreement) -> str:
    """Return the drawing in DOT."""
    return dot([drawn(agreement)])


def svg_text(agreement: AddressAgreement) -> str:
    """
    Return the drawing as SVG, made by the program ``dot`` of Graphviz.

    :raises VerbFailed: if it is not installed or fails.
    """
    source = dot_text(agreement).encode("utf-8", "replace")
    try:
        done = subprocess.run(["dot", "-Tsvg"], input=source, capture_output=True, timeout=SVG_SECONDS, check=False)
    except FileNotFoundError:
        raise VerbFailed("--svg needs the program 'dot' of Graphviz; --dot does not", USAGE) from None
    except subprocess.TimeoutExpired:
        raise VerbFailed(f"dot did not finish within {SVG_SECONDS} s", USAGE) from None
    if done.returncode:
        raise VerbFailed(f"dot failed: {done.stderr.decode(errors='replace').strip()}", USAGE)
    return done.stdout.decode()
