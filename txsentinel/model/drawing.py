"""
Drawings of replication in DOT, the language of Graphviz: masters, their replicas, and the Sentinels that watch them.

:func:`drawn_group` makes the input from a snapshot. Clients of C Sentinels make it from the replies of those.
Names of masters and addresses are text from outside: :func:`quoted` makes any text a label.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from txsentinel.model.log_text import excerpt
from txsentinel.model.snapshots import MasterSnapshot

MAX_NODES: Final = 200
"""Drawings with more nodes are unreadable, and take Graphviz long."""

_GREY: Final = "#6b7280"
_RED: Final = "#b42318"
_DOWN_WORDS: Final = {"sdown": "S_DOWN", "odown": "O_DOWN"}


@dataclass(frozen=True, slots=True)
class DrawnServer:
    """A master or a replica. ``follows`` is the name of the server that it replicates from, ``None`` for the master."""

    name: str
    """Unique in its group."""

    follows: str | None
    lines: tuple[str, ...] = ()
    """What is written below the name."""

    link_label: str = ""
    """How far it is behind."""

    link_up: bool = True
    down: bool = False
    """It does not answer; drawn in grey."""

    would_be_promoted: bool = False
    tooltip: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class DrawnSentinel:
    """A Sentinel of a group, with its vote and what it reports in ``lines``."""

    name: str
    lines: tuple[str, ...] = ()
    link_label: str = ""
    """What it reports of the master; empty while it considers the master up."""

    down: bool = False
    tooltip: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class DrawnGroup:
    """One master with all that belongs to it."""

    name: str
    servers: tuple[DrawnServer, ...]
    sentinels: tuple[DrawnSentinel, ...] = ()
    href: str = ""


def byte_count(count: int) -> str:
    """Return a number of bytes for people, such as ``1.2 MB``; the units are powers of 1,000."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if abs(amount) < 999.95:
            break
        amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def quoted(text: str) -> str:
    """
    Return any text as a string of DOT that Graphviz shows as it is.

    Control characters and undecodable bytes are shown by their codes, long texts are cut.
    """
    visible = excerpt(text).encode("utf-8", "backslashreplace").decode()
    # Graphviz replaces entities such as &lt; in labels, and escapes such as \N.
    escaped = visible.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{escaped}"'


def _label(lines: Iterable[str]) -> str:
    return '"' + "\\n".join(quoted(line)[1:-1] for line in lines if line) + '"'


def _percent_encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="")


def _identifier(group: str, name: str) -> str:
    """Return the identifier of a node. Graphviz does not escape it in SVG: it has letters, digits and ``%_.-~/``."""
    return f'"{_percent_encoded(group)}/{_percent_encoded(name)}"'


def _link(path: str) -> str:
    """Return a path as an attribute. Graphviz does not escape it in SVG either."""
    return '"' + quote(path.encode("utf-8", "surrogateescape"), safe="/%:?=") + '"'


def _attributes(**values: str) -> str:
    return "[" + ", ".join(f"{name}={value}" for name, value in values.items() if value not in ("", '""')) + "]"


def depths(servers: Iterable[DrawnServer]) -> dict[str, int]:
    """
    Return how many steps each server is away from the master.

    A server that follows an unknown server, or a circle of servers, is one step below the longest chain.
    """
    follows = {server.name: server.follows for server in servers}
    found: dict[str, int] = {}
    for name in follows:
        steps, current = 0, name
        while steps <= len(follows) and (above := follows.get(current)) is not None:
            steps, current = steps + 1, above
        if steps <= len(follows) and current in follows:
            found[name] = steps
    unconnected = max(found.values(), default=0) + 1
    return {name: found.get(name, unconnected) for name in follows}


def _nodes(group: DrawnGroup, prefix: str) -> Iterator[str]:
    """Draw servers by their depth, so that the master is on top, and the Sentinels below them."""
    names = {server.name: f"{prefix}s{number}" for number, server in enumerate(group.servers)}
    unknown = {server.follows for server in group.servers if server.follows is not None} - names.keys()
    rows: dict[int, list[str]] = {}
    for name, depth in depths(group.servers).items():
        rows.setdefault(depth, []).append(names[name])
    for server in group.servers:
        is_master = server.follows is None
        yield f"{names[server.name]} " + _attributes(
            label=_label((server.name, *server.lines)),
            id=_identifier(group.name, server.name),
            tooltip=quoted(server.tooltip or server.name),
            href=_link(server.href),
            shape="box",
            style='"filled,bold"' if is_master else "filled",
            fillcolor='"#e5e7eb"' if server.down else '"#dbeafe"' if is_master else '"#ffffff"',
            color=f'"{_RED}"' if server.down and is_master else f'"{_GREY}"' if server.down else "",
            fontcolor='"#4b5563"' if server.down else "",
            peripheries="2" if server.would_be_promoted else "",
        )
    for number, name in enumerate(sorted(unknown)):
        names[name] = f"{prefix}u{number}"
        yield f"{names[name]} " + _attributes(
            label=_label((name, "not monitored")),
            shape="box",
            style="dashed",
            color=f'"{_GREY}"',
            fontcolor='"#4b5563"',
        )
    for depth in sorted(rows):
        yield "{ rank=same; " + "; ".join(rows[depth]) + " }"
    for server in group.servers:
        if server.follows is not None:
            yield f"{names[server.follows]} -> {names[server.name]} " + _attributes(
                label=quoted(server.link_label), style="" if server.link_up else "dashed"
            )
    master = next((names[server.name] for server in group.servers if server.follows is None), None)
    for number, sentinel in enumerate(group.sentinels):
        node = f"{prefix}v{number}"
        yield f"{node} " + _attributes(
            label=_label((sentinel.name, *sentinel.lines)),
            id=_identifier(group.name, sentinel.name),
            tooltip=quoted(sentinel.tooltip or sentinel.name),
            href=_link(sentinel.href),
            shape="ellipse",
            style="filled",
            fillcolor='"#e5e7eb"' if sentinel.down else '"#ffffff"',
            color=f'"{_GREY}"' if sentinel.down else "",
            fontcolor='"#4b5563"' if sentinel.down else "",
        )
        if master is not None:
            yield f"{master} -> {node} " + _attributes(
                label=quoted(sentinel.link_label), style="dotted", dir="back", minlen=str(max(rows) + 1)
            )


def dot_lines(groups: Iterable[DrawnGroup]) -> Iterator[str]:
    """Return the lines of the drawing of the groups: one cluster for each."""
    yield "digraph topology {"
    yield 'graph [fontname="sans-serif", bgcolor="white"]'
    yield 'node [fontname="sans-serif", fontsize=11]'
    yield 'edge [fontname="sans-serif", fontsize=10]'
    for number, group in enumerate(groups):
        yield f"subgraph cluster_{number} " + "{"
        yield f'graph [label={quoted(group.name)}, style="rounded"]'
        if group.href:
            yield f"graph [href={_link(group.href)}]"
        yield from _nodes(group, f"g{number}")
        yield "}"
    yield "}"


def dot(groups: Iterable[DrawnGroup]) -> str:
    """Return the drawing of the groups as one text."""
    return "".join(f"{line}\n" for line in dot_lines(groups))


def node_count(masters: Iterable[MasterSnapshot]) -> int:
    """Return how many nodes a drawing of the masters has, with the Sentinel that took the snapshots."""
    return sum(2 + len(master.replicas) + len(master.peers) for master in masters)


def master_href(name: str) -> str:
    """Return the path of a master in the HTTP API; its name may contain any bytes."""
    return "/v1/masters/" + _percent_encoded(name)


def drawn_group(master: MasterSnapshot, sentinel_id: str | None = None, href: bool = True) -> DrawnGroup:
    """
    Return what to draw of one master.

    :param sentinel_id: the ID of the Sentinel that took the snapshot, which is drawn beside its peers.
    :param href: whether nodes link to the HTTP API.
    """
    path = master_href(master.name) if href else ""
    address = str(master.address)
    down = master.status != "ok"
    servers = [
        DrawnServer(
            address,
            None,
            ("master", _DOWN_WORDS.get(master.status, "")),
            down=down,
            tooltip=f"master {address}, {master.status}, config epoch {master.config_epoch}",
            href=path,
        )
    ]
    for replica in master.replicas:
        name = str(replica.address)
        follows = str(replica.master_address or master.address)
        gone = not replica.connected or replica.sdown_since is not None
        lag = "" if replica.lag_bytes is None else f"{byte_count(replica.lag_bytes)} behind"
        fitness = "fit" if replica.fit else f"unfit: {replica.unfit_text or 'unknown reason'}"
        servers.append(
            DrawnServer(
                name,
                follows if follows != name else address,
                ("replica", "down" if gone else "", "would be promoted" if replica.would_be_promoted else ""),
                lag if replica.master_link_up else "link down",
                replica.master_link_up,
                gone,
                replica.would_be_promoted,
                f"replica {name}, priority {replica.priority}, {fitness}",
                f"{path}/replicas" if path else "",
            )
        )
    # Only the watching Sentinel knows its own address under several names: its ID names it.
    own = () if sentinel_id is None else (DrawnSentinel(f"{sentinel_id[:8]} (this one)", ("Sentinel",)),)
    peers = []
    for peer in master.peers:
        gone = not peer.connected or peer.sdown_since is not None
        vote = "" if peer.voted_leader is None else f"voted for {peer.voted_leader[:8]}"
        peers.append(
            DrawnSentinel(
                str(peer.address),
                ("Sentinel", "down" if gone else "", vote),
                "reports it down" if peer.reports_master_down else "",
                gone,
                f"Sentinel {peer.sentinel_id} at {peer.address}",
                f"{path}/sentinels" if path else "",
            )
        )
    return DrawnGroup(master.name, tuple(servers), (*own, *peers), path)


def state_machine(follows: Mapping[str, Collection[str]], aborts: Collection[str], idle: str) -> str:
    """
    Return the drawing of a state machine.

    :param follows: state → the states that may follow.
    :param aborts: the states from which it returns to ``idle`` without a result, drawn dashed.
    """
    lines = ["digraph states {", "rankdir=LR", 'node [fontname="sans-serif", fontsize=11, shape=box, style=rounded]']
    lines.append(f"{quoted(idle)} [style=filled]")
    for state, next_states in follows.items():
        lines += [f"{quoted(state)} -> {quoted(each)}" for each in sorted(next_states)]
    lines += [f"{quoted(state)} -> {quoted(idle)} [style=dashed]" for state in follows if state in aborts]
    return "\n".join([*lines, "}"]) + "\n"
