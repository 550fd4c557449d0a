"""Failures of masters, as the observer and the fleet saw them, and how the two differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from txsentinel.model.snapshots import Instant

LATE_EVENTS_SECONDS: Final = 3.0
"""How long after the end of a failure further events are counted to it."""

DOWN: Final = "+sdown"
AGREED: Final = "+odown"
CAMPAIGN: Final = "+try-failover"
SWITCHED: Final = "+switch-master"
UP: Final = "-sdown"
ABORTED: Final = "-failover-abort-"

STEPS: Final = {DOWN: "down", AGREED: "agreed", CAMPAIGN: "failover started", SWITCHED: "switched"}
"""Channel → what has happened."""


@dataclass
class Failure:
    """
    One failure of one master; points in time are seconds of the wall clock here.

    It begins with the first event of either side about it, and ends with a switch, or when nobody considers the master
    down any more.
    """

    master: str
    began_at: float
    address: str = ""
    own: dict[str, float] = field(default_factory=dict)
    """Channel → when the observer would have published it first."""

    fleet: dict[str, float] = field(default_factory=dict)
    """Channel → when a Sentinel of the fleet published it first."""

    first: dict[str, str] = field(default_factory=dict)
    """Channel → that Sentinel."""

    would_promote: str | None = None
    """The replica that the observer would have promoted."""

    would_promote_because: str | None = None
    why_not: str | None = None
    """Why the observer did not start a failover, if it did not."""

    promoted: str | None = None
    """The new master of the fleet."""

    aborted: list[str] = field(default_factory=list)
    """Why attempts of the fleet ended without a switch."""

    down_in: set[str] = field(default_factory=set)
    """The Sentinels of the fleet that consider the master down."""

    own_down: bool = False
    last_at: float = 0.0

    def is_over(self, now: float) -> bool:
        """Whether no further event belongs to it."""
        ended = SWITCHED in self.fleet or not (self.own_down or self.down_in)
        return ended and now - self.last_at >= LATE_EVENTS_SECONDS

    @property
    def gained_ms(self) -> int | None:
        """How much earlier the observer would have started a failover than the fleet did; ``None`` without both."""
        if CAMPAIGN not in self.own or CAMPAIGN not in self.fleet:
            return None
        return round((self.fleet[CAMPAIGN] - self.own[CAMPAIGN]) * 1000)

    def differences(self) -> list[str]:
        """Return sentences on what the observer would have done differently."""
        found = []
        acted, would_act = SWITCHED in self.fleet, CAMPAIGN in self.own
        gained = self.gained_ms
        if gained is not None:
            sooner = "earlier" if gained >= 0 else "later"
            found.append(f"txsentinel would have started the failover {abs(gained):,} ms {sooner}")
        if would_act and not acted:
            found.append("txsentinel would have failed over, and the fleet did not")
        if acted and not self.own and DOWN not in self.fleet:
            found.append("the fleet failed over although nobody considered the master down: it was ordered")
        elif acted and not would_act:
            reason = f": {self.why_not}" if self.why_not else ""
            found.append(f"the fleet failed over, and txsentinel would not have{reason}")
        if acted and self.would_promote is not None and self.promoted != self.would_promote:
            because = f" ({self.would_promote_because})" if self.would_promote_because else ""
            found.append(f"txsentinel would have promoted {self.would_promote}{because}, not {self.promoted}")
        return found

    def lines(self) -> Iterator[str]:
        """Yield the report."""
        yield f"{self.master}: {self.address or 'its master'} failed, seen first at {_utc(self.began_at)}"
        yield f"  txsentinel  {self._steps(self.own) or 'did not consider it down'}{self._choice()}"
        yield f"  fleet       {self._steps(self.fleet, self.first) or 'did not consider it down'}"
        if self.promoted is not None:
            yield f"  promoted    {self.promoted}"
        for reason in self.aborted:
            yield f"  aborted     {reason}"
        for sentence in self.differences() or ["no difference"]:
            yield f"  differs     {sentence}"

    def _steps(self, seen: dict[str, float], by: dict[str, str] | None = None) -> str:
        parts = []
        for channel, words in STEPS.items():
            if channel in seen:
                source = f" ({by[channel]})" if by else ""
                parts.append(f"+{(seen[channel] - self.began_at) * 1000:,.0f} ms {words}{source}")
        return ", ".join(parts)

    def _choice(self) -> str:
        if self.would_promote is None:
            return f"; {self.why_not}" if self.why_not else ""
        because = f" ({self.would_promote_because})" if self.would_promote_because else ""
        return f", would promote {self.would_promote}{because}"

    def record(self) -> dict[str, Any]:
        """Return the report for JSON; durations are milliseconds since ``began_at``."""

        def since_began(seen: dict[str, float]) -> dict[str, int]:
            return {channel: round((at - self.began_at) * 1000) for channel, at in seen.items() if channel in STEPS}

        return {
            "master": self.master,
            "address": self.address or None,
            "began_at": _utc(self.began_at),
            "txsentinel_ms": since_began(self.own),
            "fleet_ms": since_began(self.fleet),
            "fleet_first": dict(self.first),
            "would_promote": self.would_promote,
            "would_promote_because": self.would_promote_because,
            "why_not": self.why_not,
            "promoted": self.promoted,
            "aborted": list(self.aborted),
            "gained_ms": self.gained_ms,
            "differences": self.differences(),
        }


class FailureComparison:
    """Assigns events to failures."""

    def __init__(self) -> None:
        self._open: dict[str, Failure] = {}
        self._switches: dict[str, str] = {}
        self.finished: list[Failure] = []
        """All failures that are over."""

    def own_event(
        self,
        at: float,
        channel: str,
        payload: str,
        master: str,
        would_promote: tuple[str, str | None] | None = None,
        verdict: str | None = None,
    ) -> None:
        """
        Add an event of the observer. It adopts the switches of the fleet, so its own ``+switch-master`` does not count.

        :param would_promote: the replica that it would promote now, and why.
        :param verdict: why it does not fail over now.
        """
        if (channel not in STEPS and channel != UP) or channel == SWITCHED or not _is_of_master(channel, payload):
            return
        failure = self._failure(master, at, begin=channel == DOWN)
        if failure is None:
            return
        failure.address = failure.address or _address(payload)
        failure.last_at = at
        failure.own_down = channel != UP
        if channel == UP:
            return
        failure.own.setdefault(channel, at)
        if channel == CAMPAIGN and failure.would_promote is None and would_promote is not None:
            failure.would_promote, failure.would_promote_because = would_promote
        failure.why_not = None if CAMPAIGN in failure.own else verdict

    def explained(self, master: str, verdict: str) -> None:
        """Set why the observer does not fail over a master that is down, as of now."""
        failure = self._open.get(master)
        if failure is not None and failure.own_down and CAMPAIGN not in failure.own:
            failure.why_not = verdict

    def fleet_event(self, at: float, sentinel: str, channel: str, payload: str, master: str) -> None:
        """Add an event of a Sentinel of the fleet."""
        relevant = channel in STEPS or channel == UP or channel.startswith(ABORTED)
        if not relevant or not _is_of_master(channel, payload):
            return
        if channel == SWITCHED:
            # Each Sentinel publishes it, the last one perhaps after the end of the failure.
            late = self._switches.get(master) == payload and master not in self._open
            self._switches[master] = payload
            if late:
                return
        failure = self._failure(master, at, begin=channel in STEPS)
        if failure is None:
            return
        failure.last_at = at
        if channel == UP:
            failure.down_in.discard(sentinel)
            return
        if channel.startswith(ABORTED):
            failure.aborted.append(f"{channel} at {sentinel}")
            return
        if channel == DOWN:
            failure.down_in.add(sentinel)
        if channel == SWITCHED:
            words = payload.split(" ")
            failure.address = failure.address or ":".join(words[1:3])
            failure.promoted = ":".join(words[3:5])
        else:
            failure.address = failure.address or _address(payload)
        if channel not in failure.fleet:
            failure.fleet[channel], failure.first[channel] = at, sentinel

    def open_masters(self) -> list[str]:
        """Return the masters whose failures are not over."""
        return list(self._open)

    def due(self, now: float) -> list[Failure]:
        """Remove and return the failures that are over."""
        over = [name for name, failure in self._open.items() if failure.is_over(now)]
        ended = [self._open.pop(name) for name in over]
        self.finished += ended
        return ended

    def close(self) -> list[Failure]:
        """End all failures, at the end of the observation, and return them."""
        ended, self._open = list(self._open.values()), {}
        self.finished += ended
        return ended

    def _failure(self, master: str, at: float, begin: bool) -> Failure | None:
        found = self._open.get(master)
        if found is None and begin:
            found = self._open[master] = Failure(master, at, last_at=at)
        return found

    def summary(self) -> str:
        """Return one sentence on all failures."""
        if not self.finished:
            return "no master failed"
        both = [gained for each in self.finished if (gained := each.gained_ms) is not None]
        fleet_only = sum(SWITCHED in each.fleet and CAMPAIGN not in each.own for each in self.finished)
        own_only = sum(CAMPAIGN in each.own and SWITCHED not in each.fleet for each in self.finished)
        others = sum(
            each.promoted is not None and each.would_promote not in (None, each.promoted) for each in self.finished
        )
        parts = [f"{len(self.finished)} failures", f"{len(both)} failed over by both"]
        if both:
            middle = median(both)
            sooner = "earlier" if middle >= 0 else "later"
            parts.append(f"txsentinel {abs(middle):,.0f} ms {sooner} at the median")
        parts += [f"{others} with another replica", f"{fleet_only} by the fleet only", f"{own_only} by txsentinel only"]
        return "; ".join(parts)


def _is_of_master(channel: str, payload: str) -> bool:
    """Whether an event is about the master itself, not about one of its replicas or Sentinels."""
    return channel == SWITCHED or payload.startswith("master ")


def _utc(at: float) -> str:
    return Instant(round(at * 1000)).rfc3339()


def _address(payload: str) -> str:
    """Return the address in ``master <name> <host> <port> ...``."""
    words = payload.split(" ")
    return ":".join(words[2:4]) if len(words) > 3 else ""
