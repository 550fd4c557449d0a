"""Three Sentinels over a fleet of stand-ins, and queries to all of them."""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from benchmarks.gauges import raise_descriptor_limit
from benchmarks.observer import Observer
from benchmarks.standins.fleet import StandInFleet
from benchmarks.standins.layout import ip_address
from txsentinel.demo import Harness, ReplyError, SentinelProcess
from txsentinel.demo.programs import available

CONTENDERS: Final[Mapping[str, Sequence[str]]] = {
    "redis": ("redis", "redis", "redis"),
    "valkey": ("valkey", "valkey", "valkey"),
    "txsentinel": ("txsentinel", "txsentinel", "txsentinel"),
    "compiled": ("compiled", "compiled", "compiled"),
    "mixed": ("redis", "txsentinel", "txsentinel"),
}
"""The contenders by name: the implementation of each of the three Sentinels."""

CALL_SECONDS: Final = 120.0
"""How long one reply may take: a C Sentinel may not answer for a minute after its start."""

_MASTER_LINE: Final = re.compile(
    r"^master\d+:name=([^,]*),status=(\w+),address=([^,]*),slaves=(\d+),sentinels=(\d+)", re.M
)


@dataclass(frozen=True)
class View:
    """The state of one Sentinel according to INFO."""

    at: float
    """Arrival of the reply, in ``time.monotonic()`` seconds."""

    masters: int
    well: int
    """How many of them are neither subjectively nor objectively down."""

    replicas: int
    peers: int
    """Both summed over all masters."""

    tilted: bool

    def knows_all(self, masters: int, replicas: int, peers: int) -> bool:
        """Whether it knows every replica and every peer of every master."""
        return (self.masters, self.replicas, self.peers) == (masters, masters * replicas, masters * peers)


class NotInTime(Exception):
    """An installation did not reach a state in time; the text has its present state."""


class Installation:
    """
    One contender over a fleet of its own; use it as a context manager.

    Only the fleet runs before :meth:`start`.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        masters: int,
        replicas: int = 1,
        down_after: int = 5000,
        failover_timeout: int = 60_000,
        acquainted: bool = True,
        shards: int = 2,
    ) -> None:
        """
        :param kinds: one word per Sentinel, as :class:`txsentinel.demo.SentinelProcess` takes it.
        :param down_after: milliseconds, as is ``failover_timeout``.
        :param acquainted: write all replicas and peers into the configurations, as earlier runs would have done,
            instead of the masters alone.
        """
        raise_descriptor_limit()
        self.masters = masters
        self.replicas = replicas
        self._stack = ExitStack()
        self.fleet = self._stack.enter_context(StandInFleet(masters, replicas, shards))
        harness = self._stack.enter_context(Harness())
        self.sentinels: list[SentinelProcess] = [
            harness.sentinel(
                kind, monitor=self.fleet.monitors(), down_after=down_after, failover_timeout=failover_timeout
            )
            for kind in kinds
        ]
        if acquainted:
            self._write_peers()
        self.started_at = 0.0

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, problem, traceback)

    def _write_peers(self) -> None:
        rng = random.SystemRandom()
        ids = [f"{rng.getrandbits(160):040x}" for _ in self.sentinels]
        for sentinel, own in zip(self.sentinels, ids, strict=True):
            lines = [f"sentinel myid {own}"]
            for number, name in enumerate(self.fleet.master_names()):
                for replica in range(self.replicas):
                    lines.append(f"sentinel known-replica {name} {ip_address(number, replica)} {self.fleet.port}")
                for peer, other in zip(self.sentinels, ids, strict=True):
                    if other != own:
                        lines.append(f"sentinel known-sentinel {name} 127.0.0.1 {peer.port} {other}")
            sentinel.extra += lines

    def start(self) -> None:
        """Start the Sentinels, without waiting for anything."""
        self.started_at = time.monotonic()
        for sentinel in self.sentinels:
            sentinel.start(ready=False)

    def observer(self) -> Observer:
        """Start an observer of all three Sentinels, which asks for every master in turn."""
        sentinels = {sentinel.name: (sentinel.port, sentinel.config_path) for sentinel in self.sentinels}
        return Observer(sentinels, random.sample(self.fleet.master_names(), self.masters))

    def view(self, sentinel: SentinelProcess) -> View:
        """
        Read the state of a Sentinel.

        :raises OSError: if it does not answer.
        """
        text = str(sentinel.call("INFO", "sentinel", timeout=CALL_SECONDS))
        lines = _MASTER_LINE.findall(text)
        return View(
            at=time.monotonic(),
            masters=len(lines),
            well=sum(status == "ok" for _, status, _, _, _ in lines),
            replicas=sum(int(replicas) for _, _, _, replicas, _ in lines),
            peers=sum(int(sentinels) - 1 for _, _, _, _, sentinels in lines),
            tilted="sentinel_tilt:1" in text,
        )

    def discovery_times(self, timeout: float, every: float = 0.5) -> list[float | None]:
        """
        Wait until every Sentinel knows every replica and every peer.

        :param timeout: seconds since the start, at most.
        :returns: per Sentinel the seconds since the start; ``None`` if its time ran out.
        """
        known: list[float | None] = [None] * len(self.sentinels)
        while None in known and time.monotonic() < self.started_at + timeout:
            for index, sentinel in enumerate(self.sentinels):
                if known[index] is None:
                    try:
                        view = self.view(sentinel)
                    except (OSError, ReplyError):
                        continue  # Not yet listening, or still too busy.
                    if view.knows_all(self.masters, self.replicas, len(self.sentinels) - 1):
                        known[index] = view.at - self.started_at
            time.sleep(every)
        return known

    def wait_stable(self, timeout: float, stable_seconds: float = 3.0, every: float = 1.0) -> None:
        """
        Wait until the installation is stable.

        That is: everything is known, nothing is down, no Sentinel is in TILT, every stand-in has its role, and no
        connection is opened or closed for a while.

        :raises NotInTime: after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        stable_since, connections = time.monotonic(), -1
        problem = ""
        while time.monotonic() < deadline:
            now_open = int(self.fleet.usage()["connections"])
            problem = self._disagreement()
            if problem or now_open != connections:
                stable_since, connections = time.monotonic(), now_open
            elif time.monotonic() - stable_since >= stable_seconds:
                return
            time.sleep(every)
        raise NotInTime(f"not stable after {timeout:g} s: {problem or 'connections are opened and closed'}")

    def _disagreement(self) -> str:
        for sentinel in self.sentinels:
            try:
                view = self.view(sentinel)
            except (OSError, ReplyError) as problem:
                return f"{sentinel.name}: {problem}"
            complete = view.knows_all(self.masters, self.replicas, len(self.sentinels) - 1)
            if not complete or view.well != self.masters or view.tilted:
                return f"{sentinel.name}: {view}"
        linked = masters = 0
        for state in self.fleet.query().values():
            linked += state["link"] == "up"
            masters += state["role"] == "master"
        if (masters, linked) != (self.masters, self.masters * self.replicas):
            return f"the fleet has {masters} masters and {linked} replicas that are in touch with theirs"
        return ""

    def present_masters(self, count: int) -> dict[str, str]:
        """
        Choose stand-ins that are masters now, spread evenly; return them by the name of the monitored master.

        :raises NotInTime: if one of the chosen has no living master.
        """
        states = self.fleet.query()
        found: dict[str, str] = {}
        for name, state in states.items():
            if state["state"] == "alive" and state["role"] == "master":
                found[name.partition("r")[0]] = name
        chosen = self.fleet.master_names(count)
        missing = [name for name in chosen if name not in found]
        if missing:
            raise NotInTime(f"without a master: {', '.join(missing[:5])}")
        return {name: found[name] for name in chosen}


def chosen_contenders(names: Sequence[str], report_progress: Callable[[str], None]) -> dict[str, Sequence[str]]:
    """The named contenders whose programs are on this machine; the others are reported as left out."""
    chosen: dict[str, Sequence[str]] = {}
    for name in names:
        missing = sorted({kind for kind in CONTENDERS[name] if not available(kind)})
        if missing:
            report_progress(f"{name}: left out, not on this machine: {', '.join(missing)}")
        else:
            chosen[name] = CONTENDERS[name]
    return chosen


def report_progress(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def arguments(prog: str, description: str, sizes: Sequence[int]) -> argparse.ArgumentParser:
    """The options that all scenarios over stand-ins share."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{prog}", description=description)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--masters", type=int, nargs="+", default=list(sizes), metavar="N")
    parser.add_argument("--json", metavar="FILE", help="file for every sample")
    return parser
