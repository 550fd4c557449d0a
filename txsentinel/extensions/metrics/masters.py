"""
The metrics of masters.

The lines of a master are made anew when its snapshot has changed in what they show, and the lines of a family are
joined anew when those of one master have changed. While nothing changes, a thousand masters cost the ages of their last
replies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from txsentinel.extensions.metrics import catalogue
from txsentinel.extensions.metrics.format import Family, escaped, label_set, seconds
from txsentinel.interfaces import ISentinelView
from txsentinel.model.snapshots import Endpoint, MasterSnapshot, PeerSnapshot

MASTERS_PER_STEP: Final = 8
"""After how many changed masters :meth:`MasterPages.update` yields."""

MAX_MASTERS_WITH_LAG: Final = 200
"""Up to how many masters ``replica_lag_bytes`` is shown unless it is asked for."""


@dataclass(frozen=True)
class MetricsOptions:
    """
    What is shown.

    :param redis_names: also the names of redis_exporter.
    :param replica_lag: ``txsentinel_replica_lag_bytes`` also with many masters.
    :param peer_info: ``redis_sentinel_peer_info``, one sample for each pair of Sentinels.
    """

    redis_names: bool = True
    replica_lag: bool = False
    peer_info: bool = False


class Shown(NamedTuple):
    """
    What the lines of a master depend on.

    A snapshot has more, such as the replication offset, which changes with every INFO of a busy master.
    """

    name: str
    address: Endpoint
    run_id: str | None
    status: str
    paused_until_ms: int | None
    pause_guaranteed: bool
    in_progress: bool
    switched_at_ms: int | None
    config_epoch: int
    replicas: int
    ok_replicas: int
    unfit: tuple[str, ...]
    lags: tuple[tuple[str, int], ...]
    voters: int
    reachable: int
    needed: int
    ok_sentinels: int
    quorum: int
    failover_timeout: int
    parallel_syncs: int
    down_after: int
    votes_possible: bool
    peers: tuple[PeerSnapshot, ...]


def shown(master: MasterSnapshot, options: MetricsOptions, lag: bool, able: bool) -> Shown:
    """
    Return what the lines depend on.

    :param able: whether this Sentinel can save its state and is not in TILT.
    """
    settings = master.settings
    return Shown(
        master.name,
        master.address,
        master.run_id,
        master.status,
        None if master.pause is None else master.pause.until.unix_ms,
        master.pause is not None and master.pause.guaranteed,
        master.failover is not None,
        None if master.switched_at is None else master.switched_at.unix_ms,
        master.config_epoch,
        len(master.replicas),
        master.ok_replicas,
        tuple([each.unfit_code or "unknown" for each in master.replicas if not each.fit]),
        tuple([(each.name, each.lag_bytes) for each in master.replicas if each.lag_bytes is not None]) if lag else (),
        master.voters,
        master.voters_reachable,
        master.voters_needed,
        master.ok_sentinels,
        settings.quorum,
        settings.failover_timeout_ms,
        settings.parallel_syncs,
        settings.down_after_ms,
        able,
        master.peers if options.peer_info else (),
    )


def quorum_can_be_reached(of: Shown) -> bool:
    """
    Whether ``SENTINEL CKQUORUM`` answers OK.

    Right after the start, while replicas are not known yet, that command is more lenient.
    """
    usable, majority = of.ok_sentinels, of.voters // 2 + 1
    fit = of.replicas - len(of.unfit)
    return of.votes_possible and majority <= usable >= of.quorum <= of.voters and (of.in_progress or fit > 0)


def _own_lines(of: Shown) -> list[str]:
    """Return the samples of ``MASTER_FAMILIES``."""
    name = escaped(of.name)
    labels = f'{{master="{name}"}} '
    values: tuple[tuple[Family, int | str | None], ...] = (
        (catalogue.UP, int(of.status == "ok")),
        (catalogue.ODOWN, int(of.status == "odown")),
        (catalogue.PAUSED, int(of.paused_until_ms is not None)),
        (catalogue.PAUSE_UNTIL, None if of.paused_until_ms is None else seconds(of.paused_until_ms)),
        (catalogue.PAUSE_GUARANTEED, None if of.paused_until_ms is None else int(of.pause_guaranteed)),
        (catalogue.IN_PROGRESS, int(of.in_progress)),
        (catalogue.SWITCHED, None if of.switched_at_ms is None else seconds(of.switched_at_ms)),
        (catalogue.MASTER_EPOCH, of.config_epoch),
        (catalogue.REPLICAS, of.replicas),
        (catalogue.REPLICAS_FIT, of.replicas - len(of.unfit)),
        (catalogue.REPLICA_UNFIT, None),
        (catalogue.REPLICA_LAG, None),
        (catalogue.VOTERS, of.voters),
        (catalogue.REACHABLE, of.reachable),
        (catalogue.NEEDED, of.needed),
        (catalogue.SURVIVABLE, of.reachable - of.needed),
    )
    lines = [catalogue.MASTER.line((of.name, str(of.address), of.run_id or ""), "1")]
    lines += ["" if value is None else f"{family.name}{labels}{value}\n" for family, value in values]
    unfit = Counter(of.unfit).items()
    lines[_UNFIT] = "".join([catalogue.REPLICA_UNFIT.line((of.name, code), str(count)) for code, count in unfit])
    lines[_LAG] = "".join([catalogue.REPLICA_LAG.line((of.name, replica), str(lag)) for replica, lag in of.lags])
    return lines


_UNFIT: Final = catalogue.MASTER_FAMILIES.index(catalogue.REPLICA_UNFIT)
_LAG: Final = catalogue.MASTER_FAMILIES.index(catalogue.REPLICA_LAG)


def _redis_labels(of: Shown) -> tuple[str, str]:
    # The C servers, and so redis_exporter, show IPv6 addresses without brackets.
    return of.name, f"{of.address.host}:{of.address.port}"


def _redis_lines(of: Shown) -> list[str]:
    """Return the samples of ``REDIS_MASTER_FAMILIES``."""
    names = _redis_labels(of)
    labels = label_set(catalogue.REDIS_SLAVES.labels, names) + " "
    possible = quorum_can_be_reached(of)
    peers = "".join(
        catalogue.REDIS_PEER.line(
            (
                *names,
                each.sentinel_id,
                each.address.host,
                str(each.address.port),
                each.sentinel_id,
                ",".join(each.flags),
            ),
            "1",
        )
        for each in of.peers
    )
    return [
        catalogue.REDIS_STATUS.line((*names, of.status), str(int(of.status == "ok"))),
        f"{catalogue.REDIS_SLAVES.name}{labels}{of.replicas}\n",
        f"{catalogue.REDIS_SENTINELS.name}{labels}{of.voters}\n",
        f"{catalogue.REDIS_OK_SLAVES.name}{labels}{of.ok_replicas}\n",
        f"{catalogue.REDIS_OK_SENTINELS.name}{labels}{of.ok_sentinels}\n",
        catalogue.REDIS_CKQUORUM.line((of.name, "OK" if possible else "NOQUORUM"), str(int(possible))),
        f"{catalogue.REDIS_QUORUM.name}{labels}{of.quorum}\n",
        f"{catalogue.REDIS_FAILOVER_TIMEOUT.name}{labels}{of.failover_timeout}\n",
        f"{catalogue.REDIS_PARALLEL_SYNCS.name}{labels}{of.parallel_syncs}\n",
        f"{catalogue.REDIS_DOWN_AFTER.name}{labels}{of.down_after}\n",
        f"{catalogue.REDIS_EPOCH.name}{labels}{of.config_epoch}\n",
        peers,
    ]


@dataclass(frozen=True)
class _Block:
    """The lines of one master, one text for each family."""

    revision: int
    shown: Shown
    lines: tuple[str, ...]
    age: str
    """The sample of ``REDIS_REPLY_AGE`` without its value."""


class MasterPages:
    """
    The samples of all masters, by family.

    :param view: the Sentinel.
    """

    def __init__(self, view: ISentinelView, options: MetricsOptions) -> None:
        self._view = view
        self._options = options
        self._families: tuple[Family, ...] = catalogue.MASTER_FAMILIES
        if options.redis_names:
            self._families += catalogue.REDIS_MASTER_FAMILIES
        self._blocks: dict[str, _Block] = {}
        self._samples: list[bytes] = [b""] * len(self._families)
        self._state: tuple[int, bool] | None = None
        """The revision of the view, and whether this Sentinel can decide, at the last update."""

        self._with: tuple[bool, bool] | None = None
        """What else the lines of every master depend on."""

    def update(self) -> Iterator[None]:
        """Make the lines of changed masters; yields between steps. Several updates may take place at the same time."""
        view = self._view
        sentinel = view.identity()
        able = not sentinel.tilt.active and sentinel.storage.state == "ok"
        lag = self._options.replica_lag or len(view.names()) <= MAX_MASTERS_WITH_LAG
        state = (view.revision(offsets=lag), able)
        if state == self._state:
            return
        masters = view.masters(offsets=lag)
        same = self._with == (able, lag)
        blocks: dict[str, _Block] = {}
        before = self._blocks
        changed = [False] * len(self._families)
        made = 0
        for master in masters:
            block = before.get(master.name)
            if block is None or block.revision != master.revision or not same:
                made += 1
                old, block = block, self._block(master, block, lag, able)
                if old is not None and old.lines is not block.lines:
                    changed = [
                        each or one != other for each, one, other in zip(changed, old.lines, block.lines, strict=True)
                    ]
                if made % MASTERS_PER_STEP == 0:
                    yield
            blocks[master.name] = block
        every = list(blocks) != list(before)
        lines = [block.lines for block in blocks.values()]
        samples = list(self._samples)
        for index, dirty in enumerate(changed):
            if every or dirty:
                samples[index] = "".join([each[index] for each in lines]).encode()
                yield
        self._blocks, self._samples, self._state, self._with = blocks, samples, state, (able, lag)

    def _block(self, master: MasterSnapshot, before: _Block | None, lag: bool, able: bool) -> _Block:
        of = shown(master, self._options, lag, able)
        if before is not None and before.shown == of:
            return _Block(master.revision, before.shown, before.lines, before.age)
        lines, age = _own_lines(of), ""
        if self._options.redis_names:
            lines += _redis_lines(of)
            age = catalogue.REDIS_REPLY_AGE.name + label_set(catalogue.REDIS_REPLY_AGE.labels, _redis_labels(of)) + " "
        return _Block(master.revision, of, tuple(lines), age)

    def families(self) -> Iterator[tuple[Family, bytes]]:
        """Yield each family with its samples as of the last :meth:`update`; those without samples, too."""
        yield from zip(self._families, self._samples, strict=True)
        if self._options.redis_names:
            yield catalogue.REDIS_REPLY_AGE, self._reply_ages()

    def _reply_ages(self) -> bytes:
        ages = dict(zip(self._view.names(), self._view.reply_ages(), strict=True))
        lines = [f"{block.age}{ages[name] / 1000}\n" for name, block in self._blocks.items() if name in ages]
        return "".join(lines).encode()
