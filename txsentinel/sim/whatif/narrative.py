"""The timeline of a what-if, and the figures of each failover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from txsentinel.core.instances import Failover
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.sim.whatif.environment import FaultTarget, Fixture, Installed
from txsentinel.sim.whatif.event_texts import EventTexts
from txsentinel.sim.whatif.ranking import Candidate, explain, rank

FAULT_MARK: Final = "***"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of the timeline; ``at`` in seconds since the first fault."""

    at: float
    who: str
    channel: str
    """The event, as it appears in a log; empty if it is none."""
    text: str
    details: tuple[str, ...] = ()
    about: str = ""
    """The subject, if like entries about others may follow."""


@dataclass(slots=True)
class Change:
    """One failover, or attempt; times in seconds since the first fault, ``None`` for what did not happen."""

    master: str
    fault_at: float
    """The latest fault before it that affected the master or its machine."""
    old: str
    detected_at: float | None = None
    detected_by: list[str] = field(default_factory=list)
    agreed_at: float | None = None
    agreed: str = ""
    elected_at: float | None = None
    leader: str | None = None
    epoch: int | None = None
    votes: dict[str, str] = field(default_factory=dict)
    """Voter → candidate, of the latest epoch."""
    candidates: list[Candidate] = field(default_factory=list)
    chosen: str | None = None
    promoted_at: float | None = None
    published: dict[str, float] = field(default_factory=dict)
    """Sentinel → when it announced the new address."""
    finished_at: float | None = None
    aborted: list[str] = field(default_factory=list)
    published_after_repair: dict[str, float] = field(default_factory=dict)
    """Sentinel → when it announced the new address, for those that returned after the faults were undone."""
    after_repair: bool = False
    """Whether it began after the faults were undone."""


class Narrative:
    """Observes all processes; times are relative to the first fault once there is one."""

    def __init__(self, fixture: Fixture) -> None:
        self.entries: list[TimelineEntry] = []
        self.changes: dict[str, list[Change]] = {group.name: [] for group in fixture.groups}
        self.scripts: dict[str, int] = {}
        """Path of a script → number of runs since the first fault."""
        self._fixture = fixture
        self._event_texts = EventTexts(fixture)
        self._zero: float | None = None
        self._after_repair = False
        self._faults: list[tuple[float, set[str]]] = []
        self._chosen: dict[tuple[str, str], tuple[Failover, list[Candidate]]] = {}
        fixture.observers.append(self)

    @property
    def now(self) -> float:
        """Seconds since the first fault."""
        return self._fixture.simulation.seconds() - (self._zero or 0.0)

    def fault(self, words: str, hit: Sequence[FaultTarget]) -> None:
        """A fault began or ended."""
        if self._zero is None:
            self._zero = self._fixture.simulation.seconds()
        self._faults.append((self.now, {each.name for each in hit}))
        self.report(FAULT_MARK, words)

    def report(self, who: str, text: str, channel: str = "", details: Sequence[str] = (), about: str = "") -> None:
        """Add a line."""
        if self._zero is not None:
            self.entries.append(TimelineEntry(self.now, who, channel, text, tuple(details), about))

    def stop_waiting(self) -> None:
        """From here on, events follow from the end of the faults."""
        self._after_repair = True

    # Actions of Sentinels

    def event(self, sentinel: Installed, event: SentinelEvent) -> None:
        """A Sentinel published an event."""
        if self._zero is None:
            return
        details: Sequence[str] = ()
        if event.master in self.changes and event.master is not None:
            change = self._record(sentinel, event, event.master)
            if event.channel == "+selected-slave" and change is not None:
                details = explain(change.candidates)
        text = self._event_texts.event(sentinel, event)
        if text is not None:
            self.report(sentinel.name, text, event.channel, details, self._event_texts.about(event))

    def noted(self, sentinel: Installed, level: Level, text: str) -> None:
        """A Sentinel logged a line."""
        words = self._event_texts.note(text)
        if words is not None:
            self.report(sentinel.name, words)

    def turned(self, sentinel: Installed) -> None:
        """Record the ranking if the Sentinel has selected a replica in this turn."""
        if sentinel.service is None:
            return
        for master in sentinel.service.core.registry.masters.values():
            failover = master.failover
            if failover is not None and failover.promoted is not None:
                self._look(sentinel, master.name)

    def script(self, sentinel: Installed, arguments: Sequence[str]) -> None:
        """A Sentinel runs a script."""
        if self._zero is None:
            return
        path = arguments[0]
        self.scripts[path] = self.scripts.get(path, 0) + 1
        if any(path == group.topology.options.client_reconfig_script for group in self._fixture.groups):
            self.report(sentinel.name, f"runs {' '.join(arguments)}", "script")

    def _look(self, sentinel: Installed, name: str) -> list[Candidate]:
        """The ranking that decided the failover in progress; recorded once, as early as possible."""
        master = sentinel.view(name)
        if master is None or master.failover is None:
            return []
        kept = self._chosen.get((sentinel.name, name))
        if kept is None or kept[0] is not master.failover:
            kept = self._chosen[sentinel.name, name] = (master.failover, rank(sentinel, master))
        return kept[1]

    # Figures

    def _record(self, sentinel: Installed, event: SentinelEvent, name: str) -> Change | None:
        words = event.payload.split(" ")
        channel = event.channel
        change = self._open(name)
        if channel == "+sdown" and words[0] == "master":
            change = change or self._begin(name)
            if change.detected_at is None:
                change.detected_at = self.now
            if sentinel.name not in change.detected_by:
                change.detected_by.append(sentinel.name)
        elif channel in ("+odown", "+try-failover") or (channel == "+vote-for-leader" and self._is_new(name, words[1])):
            change = change or self._begin(name)
        if change is None:
            return self._late(sentinel, channel, name)
        self._step(change, sentinel, channel, words)
        return change

    def _step(self, change: Change, sentinel: Installed, channel: str, words: list[str]) -> None:
        if channel == "+odown" and change.agreed_at is None:
            change.agreed_at, change.agreed = self.now, words[-1]
        elif channel == "+vote-for-leader":
            epoch = int(words[1])
            if change.epoch is None or epoch > change.epoch:
                if change.elected_at is None:
                    change.epoch, change.votes = epoch, {}
            if epoch == change.epoch:
                change.votes[sentinel.name] = self._fixture.called(words[0])
        elif channel == "+elected-leader":
            change.elected_at, change.leader = self.now, sentinel.name
        elif channel == "+selected-slave":
            change.candidates = self._look(sentinel, change.master)
            change.chosen = self._event_texts.instance(words)
        elif channel == "+promoted-slave":
            change.promoted_at = self.now
        elif channel == "+switch-master":
            change.published.setdefault(sentinel.name, self.now)
        elif channel == "+failover-end":
            change.finished_at = self.now
        elif channel.startswith("-failover-abort"):
            change.aborted.append(f"{sentinel.name}: {self._event_texts.event(sentinel, _event(channel, words))}")

    def _late(self, sentinel: Installed, channel: str, name: str) -> Change | None:
        """A Sentinel learnt of a failover that is over already."""
        changes = self.changes[name]
        if channel == "+switch-master" and changes:
            published = changes[-1].published_after_repair if self._after_repair else changes[-1].published
            published.setdefault(sentinel.name, self.now)
        return None

    def _open(self, name: str) -> Change | None:
        """The failover in progress, if any: it is over when all running Sentinels have announced it."""
        changes = self.changes[name]
        if not changes:
            return None
        change = changes[-1]
        if change.after_repair != self._after_repair:
            return None
        running = [each.name for each in self._fixture.monitors(name) if each.running]
        over = change.finished_at is not None and all(each in change.published for each in running)
        newer = any(change.published and at > max(change.published.values()) for at, _ in self._faults)
        return None if over or newer else change

    def _is_new(self, name: str, epoch: str) -> bool:
        """
        Whether a vote of this epoch is about a new failover. Votes may be published before the campaign, or long after.
        """
        return all(change.epoch is None or change.epoch < int(epoch) for change in self.changes[name])

    def _begin(self, name: str) -> Change:
        group = self._fixture.group(name)
        old = self._fixture.master_of(group)
        concerned = [at for at, hit in self._faults if old.name in hit]
        everything = [at for at, _ in self._faults]
        change = Change(name, (concerned or everything)[-1], old.name, after_repair=self._after_repair)
        self.changes[name].append(change)
        return change


def _event(channel: str, words: list[str]) -> SentinelEvent:
    return SentinelEvent(channel, " ".join(words))
