"""The metrics of the Sentinel itself."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence

from txsentinel.extensions.metrics import catalogue
from txsentinel.extensions.metrics.format import Family, HistogramTexts, seconds
from txsentinel.interfaces import ISentinelView
from txsentinel.model.measurements import TILT_CAUSES, HistogramState, MeasurementsState
from txsentinel.model.publications import PublisherState
from txsentinel.model.snapshots import LoadState, SentinelSnapshot


class SentinelFamilies:
    """
    The metrics of the Sentinel itself.

    :param redis_names: also those of redis_exporter.
    """

    def __init__(self, view: ISentinelView, redis_names: bool) -> None:
        self._view = view
        self._redis_names = redis_names
        self._histograms = HistogramTexts()

    def families(self) -> Iterator[tuple[Family, bytes]]:
        """Yield each family with its samples."""
        sentinel, load = self._view.identity(), self._view.load()
        for family, value in _numbers(sentinel, load):
            yield family, family.line((), str(value)).encode()
        build = (sentinel.version, platform.python_version(), "1" if sentinel.build == "compiled" else "0")
        yield catalogue.BUILD, catalogue.BUILD.line(build, "1").encode()
        if load.swept_at is not None:
            yield catalogue.LAST_SWEEP, catalogue.LAST_SWEEP.line((), seconds(load.swept_at.unix_ms)).encode()
        for family, text in _measured(self._view.measurements(), self._histograms.text):
            yield family, text.encode()
        for family, text in _published(self._view.publishers.states(), self._histograms.text):
            yield family, text.encode()
        if self._redis_names:
            for family, value in _redis_numbers(sentinel, load):
                yield family, family.line((), str(value)).encode()


def _numbers(sentinel: SentinelSnapshot, load: LoadState) -> Iterator[tuple[Family, int]]:
    yield catalogue.MASTERS, sentinel.masters
    yield catalogue.EPOCH, sentinel.current_epoch
    yield catalogue.TILT_ACTIVE, int(sentinel.tilt.active)
    yield catalogue.STORAGE_FAILING, int(sentinel.storage.state != "ok")
    yield catalogue.CLIENTS, load.clients
    yield catalogue.LINKS, load.links
    yield catalogue.SCRIPTS_RUNNING, load.running_scripts
    yield catalogue.SCRIPTS_WAITING, load.pending_scripts
    yield catalogue.COMMANDS, load.commands_processed
    yield catalogue.REJECTED, load.rejected_connections
    yield catalogue.SCHEDULED, load.scheduled_operations


def _measured(
    measured: MeasurementsState, histogram: Callable[[Family, tuple[str, ...], HistogramState], str]
) -> Iterator[tuple[Family, str]]:
    yield catalogue.EVENTS, _counts(catalogue.EVENTS, {(each,): count for each, count in measured.events.items()})
    tilts = {(cause,): measured.tilts.get(cause, 0) for cause in TILT_CAUSES}
    yield catalogue.TILTS, _counts(catalogue.TILTS, tilts)
    tilt_times = [catalogue.TILT_SECONDS.line((each,), seconds(measured.tilt_ms.get(each, 0))) for each in TILT_CAUSES]
    yield catalogue.TILT_SECONDS, "".join(tilt_times)
    yield catalogue.COMMITS, catalogue.COMMITS.line((), str(measured.commits.count))
    yield catalogue.COMMIT_FAILURES, catalogue.COMMIT_FAILURES.line((), str(measured.commit_failures))
    yield catalogue.COMMIT_SECONDS, histogram(catalogue.COMMIT_SECONDS, (), measured.commits)
    yield catalogue.LOOP_LAG, histogram(catalogue.LOOP_LAG, (), measured.sweep_delays)
    pings = [histogram(catalogue.PING_SECONDS, (kind,), each) for kind, each in measured.ping_round_trips.items()]
    yield catalogue.PING_SECONDS, "".join(pings)
    yield catalogue.VOTE_SECONDS, histogram(catalogue.VOTE_SECONDS, (), measured.vote_round_trips)
    yield catalogue.VOTES, _counts(catalogue.VOTES, measured.votes)
    yield catalogue.LINK_FAILURES, _counts(catalogue.LINK_FAILURES, measured.link_failures)


def _published(
    states: Sequence[PublisherState], histogram: Callable[[Family, tuple[str, ...], HistogramState], str]
) -> Iterator[tuple[Family, str]]:
    """Yield the families of publishers, one set of samples for all of the same name; nothing without publishers."""
    if not states:
        return
    outcomes: dict[tuple[str, str], int] = {}
    lags: dict[str, HistogramState] = {}
    pending: dict[tuple[str], int] = {}
    for each in states:
        name = each.publisher
        for outcome, count in each.outcomes.items():
            outcomes[name, outcome] = outcomes.get((name, outcome), 0) + count
        lags[name] = each.lag if name not in lags else lags[name].plus(each.lag)
        pending[name,] = pending.get((name,), 0) + each.pending
    yield catalogue.PUBLISHED, _counts(catalogue.PUBLISHED, outcomes)
    yield catalogue.PUBLISH_LAG, "".join(histogram(catalogue.PUBLISH_LAG, (name,), lag) for name, lag in lags.items())
    yield catalogue.PUBLISH_PENDING, _counts(catalogue.PUBLISH_PENDING, pending)


def _redis_numbers(sentinel: SentinelSnapshot, load: LoadState) -> Iterator[tuple[Family, int]]:
    yield catalogue.REDIS_MASTERS, sentinel.masters
    yield catalogue.REDIS_TILT, int(sentinel.tilt.active)
    yield catalogue.REDIS_RUNNING, load.running_scripts
    yield catalogue.REDIS_QUEUE, load.running_scripts + load.pending_scripts
    yield catalogue.REDIS_SIMULATED, load.simulated_failures


def _counts(family: Family, counts: Mapping[tuple[str], int] | Mapping[tuple[str, str], int]) -> str:
    return "".join(family.line(values, str(count)) for values, count in counts.items())
