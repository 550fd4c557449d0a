"""The metrics of the proxy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from twisted.logger import Logger

from txsentinel.extensions.metrics.format import Family, Format, Kind
from txsentinel.proxy.routes import MASTER_PORT, REPLICA_PORT
from txsentinel.proxy.server import MasterProxy
from txsentinel.proxy.session import CloseReason

log = Logger(namespace=__name__)

_UP: Final = Family("txsentinel_proxy_master_up", Kind.GAUGE, "Whether there is a verified master.", ("master",))
_INFO: Final = Family(
    "txsentinel_proxy_master", Kind.INFO, "The address of the master that was found last.", ("master", "address")
)
_OPEN: Final = Family(
    "txsentinel_proxy_connections", Kind.GAUGE, "Connections of clients that have a server.", ("port",)
)
_HELD: Final = Family("txsentinel_proxy_held_connections", Kind.GAUGE, "Connections that wait for a server.")
_ACCEPTED: Final = Family(
    "txsentinel_proxy_accepted_connections", Kind.COUNTER, "Accepted connections of clients.", ("port",)
)
_CLOSED: Final = Family(
    "txsentinel_proxy_closed_connections", Kind.COUNTER, "Closed connections of clients by reason.", ("reason",)
)
_SWITCHES: Final = Family("txsentinel_proxy_switches", Kind.COUNTER, "Changes of the master.")
_CUT: Final = Family("txsentinel_proxy_cut_connections", Kind.COUNTER, "Connections closed because of a switch.")
_FALLBACKS: Final = Family(
    "txsentinel_proxy_fallbacks", Kind.COUNTER, "Connections of the read-only port to the master."
)
_FAILED: Final = Family("txsentinel_proxy_failed_attempts", Kind.COUNTER, "Failed attempts to reach a server.")
_BYTES: Final = Family("txsentinel_proxy_bytes", Kind.COUNTER, "Bytes passed on.", ("direction",))


def page(proxy: MasterProxy, text_format: Format) -> bytes:
    """Return all metrics in a text format."""
    parts = []
    for family, samples in _families(proxy):
        parts.append(family.header(text_format))
        parts += [family.line(labels, str(value)).encode() for labels, value in samples]
    if text_format is Format.OPEN_METRICS:
        parts.append(b"# EOF\n")
    return b"".join(parts)


def summary(proxy: MasterProxy) -> str:
    """Return the counters as one line."""
    counters = proxy.counters
    closed = ", ".join(f"{reason} {count}" for reason, count in sorted(counters.closed.items())) or "none"
    return (
        f"master {proxy.follower.address or 'unknown'}; {sum(counters.accepted.values())} accepted,"
        f" {len(proxy.sessions)} open, {len(proxy.held)} held; closed: {closed}; {counters.switches} switches,"
        f" {counters.fallbacks} fallbacks, {counters.failed_attempts} failed attempts"
    )


def _families(proxy: MasterProxy) -> Iterator[tuple[Family, Iterable[tuple[tuple[str, ...], int]]]]:
    counters, name = proxy.counters, proxy.follower.name
    yield _UP, [((name,), int(proxy.follower.address is not None))]
    yield _INFO, [] if proxy.master is None else [((name, str(proxy.master)), 1)]
    ports = [session.route.label for session in proxy.sessions if session.server is not None]
    yield _OPEN, [((port,), ports.count(port)) for port in (MASTER_PORT, REPLICA_PORT)]
    yield _HELD, [((), len(proxy.held))]
    yield _ACCEPTED, [((port,), counters.accepted[port]) for port in (MASTER_PORT, REPLICA_PORT)]
    yield _CLOSED, [((reason.value,), counters.closed[reason.value]) for reason in CloseReason]
    yield _SWITCHES, [((), counters.switches)]
    yield _CUT, [((), counters.cut)]
    yield _FALLBACKS, [((), counters.fallbacks)]
    yield _FAILED, [((), counters.failed_attempts)]
    clients = [session.client.bytes_received for session in proxy.sessions]
    servers = [session.server.bytes_received for session in proxy.sessions if session.server is not None]
    yield (
        _BYTES,
        [
            (("to_server",), counters.to_server + sum(clients)),
            (("to_client",), counters.to_client + sum(servers)),
        ],
    )
