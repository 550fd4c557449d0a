"""The verbs that only read: list, topology, master, replicas, explain, version, completion."""

from __future__ import annotations

import sys
from typing import Final, TextIO

import click
from click.shell_completion import get_completion_class

from txsentinel import __version__
from txsentinel.cli.operator.agreed import agreed_address, known_master, master_named
from txsentinel.cli.operator.drawing import dot_text, svg_text
from txsentinel.cli.operator.explanation import explain_master, now, show_explanation
from txsentinel.cli.operator.listing import list_masters, list_sentinels
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.output import repeat
from txsentinel.cli.operator.pause_column import read_pauses
from txsentinel.cli.operator.screen import Result, line, records_of
from txsentinel.cli.operator.statuses import OK, USAGE, VerbFailed
from txsentinel.cli.operator.text_options import milliseconds
from txsentinel.cli.operator.topology import show_topology
from txsentinel.cli.operator.visible import visible
from txsentinel.model.plain import plain
from txsentinel.model.snapshots import Endpoint, Instant


@click.command("list")
@click.argument("master", required=False)
@common
def list_verb(access: FleetAccess, master: str | None) -> int:
    """List all masters, or what each Sentinel answers about one MASTER. Status 2 if anything differs or is down."""

    def make() -> Result:
        fleet = access.read(None if master is None else [master], details=False)
        if master is None and len(fleet.names) != 1:
            return list_masters(fleet, read_pauses(access, fleet, now()))
        name = fleet.names[0] if master is None else master
        known_master(fleet, name)
        return list_sentinels(fleet, name, read_pauses(access, fleet, now()))

    return repeat(access, make)


@click.command("topology")
@click.argument("master", required=False)
@click.option(
    "--dot", "dot_file", type=click.File("w"), help="Write a drawing for Graphviz to FILE, - for the terminal."
)
@click.option("--svg", "svg_file", type=click.File("w"), help="Write a drawing as SVG to FILE; needs Graphviz.")
@common
def topology_verb(access: FleetAccess, master: str | None, dot_file: TextIO | None, svg_file: TextIO | None) -> int:
    """
    Show MASTER and its replicas as a tree, with the replica that would be promoted.

    MASTER may be left out if it is the only one.
    """
    name = master_named(access, master)
    if dot_file is not None or svg_file is not None:
        agreement = known_master(access.read([name]), name)
        if dot_file is not None:
            dot_file.write(dot_text(agreement))
        if svg_file is not None:
            svg_file.write(svg_text(agreement))
        return OK

    def make() -> Result:
        fleet = access.read([name])
        known_master(fleet, name)
        return show_topology(fleet, name)

    return repeat(access, make)


def _addresses(access: FleetAccess, found: list[Endpoint], name: str) -> Result:
    data = plain({"name": name, "addresses": found})
    rows = [(each.host, each.port) for each in found]
    return Result(data, tuple(line(str(each)) for each in found), records_of(("host", "port"), rows))


@click.command("master")
@click.argument("master", required=False)
@common
def master_verb(access: FleetAccess, master: str | None) -> int:
    """Print the address of MASTER. Status 1 if it is unknown, 3 if no majority of the Sentinels agrees."""
    name = master_named(access, master)

    def make() -> Result:
        fleet = access.read([name], details=False)
        return _addresses(access, [agreed_address(known_master(fleet, name))], name)

    return repeat(access, make)


@click.command("replicas")
@click.argument("master", required=False)
@click.option("--all", "every", is_flag=True, help="Also those that are down or without a link to the master.")
@common
def replicas_verb(access: FleetAccess, master: str | None, every: bool) -> int:
    """Print the addresses of the usable replicas of MASTER, one in each line."""
    name = master_named(access, master)

    def make() -> Result:
        fleet = access.read([name])
        agreement = known_master(fleet, name)
        agreed_address(agreement)
        report = agreement.report()
        found = [] if report is None else report.replicas
        usable = [
            each.endpoint
            for each in found
            if every or (each.usable and each.fields.get("master-link-status", "ok") == "ok")
        ]
        return _addresses(access, sorted(usable, key=str), name)

    return repeat(access, make)


@click.command("explain")
@click.argument("master", required=False)
@click.option("--why-not-now", is_flag=True, help="Only what blocks a failover, and what would unblock it.")
@click.option(
    "--since", type=milliseconds, metavar="AGO", help="Only records of the journal that are newer, such as 10m."
)
@common
def explain_verb(access: FleetAccess, master: str | None, why_not_now: bool, since: int | None) -> int:
    """
    Explain why MASTER is, or is not, failed over, and what would have to change.

    Sentinels of ours are asked; for C Sentinels the answer is computed from what they report. Status 0 if nothing needs
    to be done, 2 otherwise. MASTER may be left out if it is the only one.
    """
    name = master_named(access, master)

    def make() -> Result:
        agreement = known_master(access.read([name]), name)
        begin = None if since is None else Instant(now().unix_ms - since)
        explanation, source = explain_master(access, agreement)
        return show_explanation(explanation, source, why_not_now, begin)

    return repeat(access, make)


@click.command("version")
@common
def version_verb(access: FleetAccess) -> int:
    """Print the version of this program and, if they answer, those of the Sentinels."""
    sys.stdout.write(f"txsentinel {__version__}\n")
    try:
        fleet = access.read(details=False)
    except VerbFailed as failure:
        sys.stdout.write(f"{visible(str(failure))}\n")
        return OK
    for each in fleet.sentinels:
        sys.stdout.write(f"{each.endpoint}  {visible(each.problem or each.kind)}\n")
    return OK


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_verb(context: click.Context, shell: str) -> int:
    """Print the completion script of a SHELL; for bash: source <(txsentinel completion bash)."""
    kind = get_completion_class(shell)
    group = context.find_root().command
    if kind is None:
        raise VerbFailed(f"{shell} is not supported", USAGE)
    sys.stdout.write(kind(group, {}, "txsentinel", "_TXSENTINEL_COMPLETE").source() + "\n")
    return OK


VERBS: Final = (
    list_verb,
    topology_verb,
    master_verb,
    replicas_verb,
    explain_verb,
    version_verb,
    completion_verb,
)
