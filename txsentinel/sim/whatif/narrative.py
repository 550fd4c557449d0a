"""What happened in a what-if, in the order in which it did: the timeline, and the figures of each failover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from txsentinel.core.instances import Failover
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.sim.whatif.environment import Fixture, Installed, Process
from txsentinel.sim.whatif.event_texts import EventTexts
from txsentinel.sim.whatif.ranking import Candidate, explain, rank

WORLD: Final = "***"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline; ``at`` in seconds since the first fault."""

    at: float
    who: str
    channel: str
    """The event, for those who look for it in a log; empty if it is none."""
    text: str
    details: tuple[str, ...] = ()
    about: str = ""
    """Whom it is about, if there may be more of the same about others."""


@dataclass(slots=True)
class Change:
    """One failover, or attempt at one; times in seconds since the first fault, ``None`` for what never came."""

    master: str
    fault_at: float
    """The latest fault before it that befell the master or a machine it shares."""
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
    told: dict[str, float] = field(default_factory=dict)
    """Sentinel → when it announced the new address."""
    finished_at: float | None = None
    aborted: list[str] = field(default_factory=list)
    told_later: dict[str, float] = field(default_factory=dict)
    """Sentinel → when it announced the new address, for those who came back when nothing was waited for any more."""
    aftermath: bool = False
    """It began when what was lost had been brought back."""


class Story:
    """Listens to everybody; times are relative to the first fault once there is one."""

    def __init__(self, fixture: Fixture) -> None:
        self.entries: list[Entry] = []
        self.changes: dict[str, list[Change]] = {group.name: [] for group in fixture.groups}
        self.scripts: dict[str, int] = {}
        """Path of a script → how often it was run since the first fault."""
        self._fixture = fixture
        self._event_texts = EventTexts(fixture)
        self._zero: float | None = None
        self._aftermath = False
        self._faults: list[tuple[float, set[str]]] = []
        self._chosen: dict[tuple[str, str], tuple[Failover, list[Candidate]]] = {}
        fixture.observers.append(self)

    @property
    def now(self) -> float:
        """Seconds since the first fault."""
        return self._fixture.simulation.seconds() - (self._zero or 0.0)

    def fault(self, words: str, hit: Sequence[Process]) -> None:
        """Something went wrong, or was put right."""
        if self._zero is None:
            self._zero = self._fixture.simulation.seconds()
        self._faults.append((self.now, {each.name for each in hit}))
        self.tell(WORLD, words)

    def tell(self, who: str, text: str, channel: str = "", details: Sequence[str] = (), about: str = "") -> None:
        """Add a line."""
        if self._zero is not None:
            self.entries.append(Entry(self.now, who, channel, text, tuple(details), about))

    def stop_waiting(self) -> None:
        """From here on it is the end of the faults that things come of."""
        self._aftermath = True

    # What Sentinels do

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
            self.tell(sentinel.name, text, event.channel, details, self._event_texts.about(event))

    def noted(self, sentinel: Installed, level: Level, text: str) -> None:
        """A Sentinel logged a line."""
        words = self._event_texts.note(text)
        if words is not None:
            self.tell(sentinel.name, words)

    def turned(self, sentinel: Installed) -> None:
        """Look whether a Sentinel has chosen a replica in this turn, as long as it knows what it knew then."""
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
            self.tell(sentinel.name, f"runs {' '.join(arguments)}", "script")

    def _look(self, sentinel: Installed, name: str) -> list[Candidate]:
        """The ranking by which a failover under way was decided; taken down once, as early as possible."""
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
        elif channel in ("+odown", "+try-failover") or (channel == "+vote-for-leader" and self._news(name, words[1])):
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
            change.told.setdefault(sentinel.name, self.now)
        elif channel == "+failover-end":
            change.finished_at = self.now
        elif channel.startswith("-failover-abort"):
            change.aborted.append(f"{sentinel.name}: {self._event_texts.event(sentinel, _event(channel, words))}")

    def _late(self, sentinel: Installed, channel: str, name: str) -> Change | None:
        """News of a failover that is over already reaches somebody."""
        changes = self.changes[name]
        if channel == "+switch-master" and changes:
            told = changes[-1].told_later if self._aftermath else changes[-1].told
            told.setdefault(sentinel.name, self.now)
        return None

    def _open(self, name: str) -> Change | None:
        """The change under way, if there is one: it is over when all who run have announced it."""
        changes = self.changes[name]
        if not changes:
            return None
        change = changes[-1]
        if change.aftermath != self._aftermath:
            return None
        running = [each.name for each in self._fixture.monitors(name) if each.running]
        over = change.finished_at is not None and all(each in change.told for each in running)
        newer = any(change.told and at > max(change.told.values()) for at, _ in self._faults)
        return None if over or newer else change

    def _news(self, name: str, epoch: str) -> bool:
        """Is a vote of this epoch about something new? Voters may be heard before candidates, or long after all."""
        return all(change.epoch is None or change.epoch < int(epoch) for change in self.changes[name])

    def _begin(self, name: str) -> Change:
        group = self._fixture.group(name)
        old = self._fixture.master_of(group)
        concerned = [at for at, hit in self._faults if old.name in hit]
        everything = [at for at, _ in self._faults]
        change = Change(name, (concerned or everything)[-1], old.name, aftermath=self._aftermath)
        self.changes[name].append(change)
        return change


def _event(channel: str, words: list[str]) -> SentinelEvent:
    return SentinelEvent(channel, " ".join(words))
