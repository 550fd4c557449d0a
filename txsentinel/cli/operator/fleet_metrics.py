"""The verb serve-metrics: what redis_exporter shows of Sentinels, read from outside, for fleets of any kind."""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import click

from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.program import installed_reactor, run_program, start_logging
from txsentinel.cli.operator.statuses import OK, UNKNOWN, VerbFailed
from txsentinel.extensions.metrics import catalogue
from txsentinel.extensions.metrics.format import Family, Format, Kind, seconds
from txsentinel.remote.fitness import fitness_of
from txsentinel.remote.fleet import FleetReport, read_fleet
from txsentinel.remote.reports import MasterReport, SentinelReport, number

MAX_AGE: Final = 1.0
"""Seconds for which what was read is shown again."""

_REACHABLE: Final = Family("txsentinel_sentinel_reachable", Kind.GAUGE, "Whether the Sentinel answers.", ("sentinel",))
_ADDRESSES: Final = Family(
    "txsentinel_master_addresses", Kind.GAUGE, "Different addresses that the Sentinels have for it.", ("master",)
)
_VOTERS: Final = Family(
    "txsentinel_master_voters", Kind.GAUGE, "Sentinels that count as voters.", ("sentinel", "master")
)
_REACHABLE_VOTERS: Final = Family(
    "txsentinel_master_voters_reachable", Kind.GAUGE, "Voters that are not down.", ("sentinel", "master")
)

_STATES: Final = (("o_down", "odown"), ("s_down", "sdown"))
"""Flags, and the words of INFO for them."""


def of_sentinel(family: Family) -> Family:
    """Return a metric with a label for the Sentinel that it is about."""
    return replace(family, labels=("sentinel", *family.labels))


def page(fleet: FleetReport, text_format: Format) -> bytes:
    """Return the metrics of a fleet."""
    samples: dict[Family, list[str]] = {}

    def add(family: Family, labels: tuple[str, ...], value: object) -> None:
        samples.setdefault(family, []).append(family.line(labels, str(value)))

    for sentinel in fleet.sentinels:
        add(_REACHABLE, (str(sentinel.endpoint),), int(sentinel.reachable))
        for family, labels, value in _of_sentinel(sentinel):
            add(of_sentinel(family), (str(sentinel.endpoint), *labels), value)
        for name, report in sorted(sentinel.masters.items()):
            voters = 1 + len(report.peers)
            add(_VOTERS, (str(sentinel.endpoint), name), voters)
            add(_REACHABLE_VOTERS, (str(sentinel.endpoint), name), _usable_sentinels(report))
            for family, labels, value in _of_replicas(name, report):
                add(of_sentinel(family), (str(sentinel.endpoint), *labels), value)
    for name in fleet.names:
        add(_ADDRESSES, (name,), len({each.endpoint for each in fleet.reports(name).values()}))
    parts = [family.header(text_format) + "".join(lines).encode() for family, lines in samples.items()]
    if text_format is Format.OPEN_METRICS:
        parts.append(b"# EOF\n")
    return b"".join(parts)


def _of_sentinel(sentinel: SentinelReport) -> Iterator[tuple[Family, tuple[str, ...], object]]:
    """Yield the metrics of redis_exporter for one Sentinel."""
    if sentinel.identity is None:
        return
    fields = sentinel.identity.server_fields
    for family, name in (
        (catalogue.REDIS_MASTERS, "sentinel_masters"),
        (catalogue.REDIS_TILT, "sentinel_tilt"),
        (catalogue.REDIS_RUNNING, "sentinel_running_scripts"),
        (catalogue.REDIS_QUEUE, "sentinel_scripts_queue_length"),
        (catalogue.REDIS_SIMULATED, "sentinel_simulate_failure_flags"),
    ):
        if name in fields:
            yield family, (), number(fields[name])
    for _, report in sorted(sentinel.masters.items()):
        yield from _of_master(report)


def _of_master(report: MasterReport) -> Iterator[tuple[Family, tuple[str, ...], object]]:
    master = report.master
    # The C servers, and so redis_exporter, show IPv6 addresses without brackets.
    names = (master.name, f"{master.endpoint.host}:{master.endpoint.port}")
    status = next((word for flag, word in _STATES if flag in master.flags), "ok")
    yield catalogue.REDIS_STATUS, (*names, status), int(status == "ok")
    yield catalogue.REDIS_SLAVES, names, master.number("num-slaves")
    yield catalogue.REDIS_SENTINELS, names, master.number("num-other-sentinels") + 1
    yield catalogue.REDIS_OK_SLAVES, names, sum(not each.flags & {"s_down", "o_down"} for each in report.replicas)
    yield catalogue.REDIS_OK_SENTINELS, names, _usable_sentinels(report)
    if report.quorum_ok is not None:
        message = "OK" if report.quorum_ok else "NOQUORUM"
        yield catalogue.REDIS_CKQUORUM, (master.name, message), int(report.quorum_ok)
    for family, field in (
        (catalogue.REDIS_QUORUM, "quorum"),
        (catalogue.REDIS_FAILOVER_TIMEOUT, "failover-timeout"),
        (catalogue.REDIS_PARALLEL_SYNCS, "parallel-syncs"),
        (catalogue.REDIS_DOWN_AFTER, "down-after-milliseconds"),
        (catalogue.REDIS_EPOCH, "config-epoch"),
    ):
        yield family, names, master.number(field)
    yield catalogue.REDIS_REPLY_AGE, names, seconds(master.number("last-ok-ping-reply"))


def _of_replicas(name: str, report: MasterReport) -> Iterator[tuple[Family, tuple[str, ...], object]]:
    """Yield the replicas that would not be promoted by their reasons, and how far each is behind if that is known."""
    unfit = Counter(each.unfit.code.value for each in fitness_of(report) if each.unfit is not None)
    for reason, count in sorted(unfit.items()):
        yield catalogue.REPLICA_UNFIT, (name, reason), count
    master = report.info_of(report.master)
    for each in report.replicas:
        cached = report.info_of(each)
        if master is None or cached is None or master.replid != cached.replid:
            continue
        if master.offset is not None and cached.offset is not None:
            yield catalogue.REPLICA_LAG, (name, str(each.endpoint)), max(master.offset - cached.offset, 0)


def _usable_sentinels(report: MasterReport) -> int:
    return 1 + sum(not each.flags & {"s_down", "o_down"} for each in report.peers)


class FleetPages:
    """
    Makes pages of what was read at most ``MAX_AGE`` ago. Call it from one thread at a time.

    :param read: reads the fleet; it blocks.
    """

    def __init__(self, read: Callable[[], FleetReport], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._fleet: FleetReport | None = None
        self._read_at = 0.0

    def page(self, text_format: Format) -> bytes:
        """Return a page."""
        if self._fleet is None or self._clock() - self._read_at >= MAX_AGE:
            self._fleet = self._read()
            self._read_at = self._clock()
        return page(self._fleet, text_format)


@click.command("serve-metrics")
@click.option(
    "--listen",
    default="tcp:9121:interface=127.0.0.1",
    show_default=True,
    metavar="ENDPOINT",
    help="A description of Twisted.",
)
@common
def serve_metrics_verb(access: FleetAccess, listen: str) -> int:
    """
    Serve the metrics of Sentinels of any kind at /metrics, under the names of redis_exporter.

    Runs until SIGINT or SIGTERM. Each sample has a label for its Sentinel. The Sentinels are read when the page is
    asked for, at most once a second; one that does not answer is shown as such.
    """
    from twisted.internet.threads import deferToThreadPool
    from twisted.python.threadpool import ThreadPool

    from txsentinel.cli.operator.metrics_site import serve

    reactor = installed_reactor()
    start_logging()
    pages = FleetPages(lambda: read_fleet(access.seeds, access.settings, None, True, access.discover))
    # One thread: requests that arrive together are answered with one reading.
    pool = ThreadPool(0, 1, "reading")

    def opened(problems: list[str]) -> Any:
        pool.start()
        made = serve(reactor, listen, lambda text_format: deferToThreadPool(reactor, pool, pages.page, text_format))
        return made.addErrback(
            lambda failure: problems.append(f"cannot listen on {listen}: {failure.getErrorMessage()}")
        )

    problems = run_program(reactor, opened, pool.stop)
    if problems:
        raise VerbFailed("; ".join(problems), UNKNOWN)
    return OK
