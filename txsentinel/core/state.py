"""What every part of the core shares: settings, epochs, the registry's surroundings, and a way to speak."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from txsentinel.core.due_queue import DueQueue
from txsentinel.core.effects import Announce, Effect, Note, Outbox
from txsentinel.core.instances import Instance, Master
from txsentinel.core.options import SentinelOptions
from txsentinel.model.address import Address
from txsentinel.model.events import PAYLOAD_LIMIT, Level, SentinelEvent
from txsentinel.model.timings import Limits, Millis, Timings
from txsentinel.wire.resp import data

MASS_FAILURE_WINDOW: Final[Millis] = 10_000
"""Masters that go O_DOWN within this time fail together."""

_ID: Final = re.compile("[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class StorageError:
    """
    Why hard state cannot be saved; as long as that lasts, no votes are given and no failover is led.

    ``code`` is the symbol of the system's error, such as ``ENOSPC``; ``reason`` names the step that failed and why;
    ``path`` is the file, empty if unknown.
    """

    code: str
    reason: str
    path: str = ""

    def __str__(self) -> str:
        """What follows ``NOQUORUM`` and its like; it begins in lower case."""
        where = f" to {self.path}" if self.path else ""
        return f"this Sentinel cannot save its votes{where}: {self.code}, {self.reason}"

    @property
    def sentence(self) -> str:
        """The same with a capital, to stand for itself; it has no full stop."""
        text = str(self)
        return text[0].upper() + text[1:]


UNKNOWN_STORAGE_ERROR: Final = StorageError("EIO", "Input/output error")
"""Stands in where nobody said what is wrong."""


@dataclass(slots=True)
class SentinelState:
    """
    The state outside of any single master.

    ``rng(n)`` gives a whole number from 0 to n−1; it is the only chance in the core.
    """

    options: SentinelOptions
    timings: Timings
    limits: Limits
    rng: Callable[[int], int]
    outbox: Outbox = field(default_factory=Outbox)
    due: DueQueue = field(default_factory=DueQueue)
    current_epoch: int = 0
    durable_generation: int = 0
    storage_error: StorageError | None = None
    """Why the last attempt to save failed: no votes are given and no failover is led. ``None`` if it did not."""

    instances: int = 0
    """How many are watched, of all kinds."""

    counted_at: Millis | None = None
    """When they were last counted."""

    own_places: set[bytes] = field(default_factory=set)
    """``host,port`` of the hellos that we sent, as they begin with it."""

    simulated_crashes: set[str] = field(default_factory=set)
    """Words of ``SENTINEL SIMULATE-FAILURE`` that are in force."""

    crashing: bool = False
    """A simulated crash is on its way: nothing is led any more."""

    failing_together: deque[tuple[Millis, int]] = field(default_factory=deque)
    """When masters went O_DOWN, in the last ``STORM`` milliseconds, and the current epoch of that moment."""

    batch_epoch: int | None = None
    """The epoch that we allocated last, for masters that fail together."""

    batch_until: Millis = 0

    followed_at: Millis | None = None
    """When an epoch that others named was last adopted, and ..."""

    followed: int = 0
    """... by how much the current epoch has risen so of late: a leaky bucket, see :meth:`reach`."""

    @property
    def storage_failing(self) -> bool:
        """Whether the last attempt to save failed."""
        return self.storage_error is not None

    heard: Millis | None = None
    """Everything that arrived by then has been read; ``None``: everything that has arrived at all."""

    def received_until(self, now: Millis) -> Millis:
        """
        Until when silence is evidence.

        A process that falls behind has answers waiting that it has not read. What it does not know it must not hold
        against others, so silence is measured up to here and not up to ``now``.
        """
        return now if self.heard is None or self.heard > now else self.heard

    def emit(self, effect: Effect, *, probe: bool = False) -> None:
        """Queue an effect behind the hard state changed so far, unless it is a probe."""
        self.outbox.emit(effect, probe=probe)

    def changed(self, master: Master | None) -> int:
        """The hard state of ``master`` (``None``: of the Sentinel itself) changed; its generation."""
        return self.outbox.changed(None if master is None else master.name)

    def moved(self, master: Master, told: Address, generation: int) -> None:
        """The published address of ``master``, ``told`` so far, is another, which ``generation`` makes durable."""
        if self.storage_failing:
            master.address_before = None
        elif master.address_before is None or master.address_generation <= self.durable_generation:
            master.address_before = told
        master.address_generation = generation

    def durable_address(self, master: Master) -> Address:
        """
        The address for clients: the published one once it is durable, until then the one before.

        So no crash takes a client back, and none waits for the disk. Once that fails the new one is told all the same,
        and not taken back when it recovers by a write that was begun before.
        """
        before = master.address_before
        if before is None or master.address_generation <= self.durable_generation:
            return master.published_address
        return before

    def announce(self, channel: str, instance: Instance, detail: str = "", *, binding: bool = False) -> None:
        """Tell the world of an event of ``instance``; ``detail`` follows its description."""
        described = instance.describe(self.options.announce_hostnames)
        self.announce_text(channel, f"{described} {detail}" if detail else described, instance.master, binding=binding)

    def announce_text(self, channel: str, payload: str, master: Master | None, *, binding: bool = False) -> None:
        """
        Tell the world of an event whose payload has no description in front.

        :param binding: it must not be published before it is durable, even if saving fails.
        """
        room = PAYLOAD_LIMIT - len(channel) - 1
        script = None if master is None else master.options.notification_script
        name = None if master is None else master.name
        self.outbox.emit(Announce(SentinelEvent(channel, payload[:room], name, script), binding))

    def complain(self, kind: str, text: str, level: Level = Level.WARNING) -> None:
        """Write a log line that strangers can provoke; some of each ``kind`` are logged in a minute."""
        self.outbox.emit(Note(level, text, None, kind))

    def note(self, level: Level, text: str, until: Millis | None = None) -> None:
        """Write a log line that is not an event; ``until`` ms from now is a date that ends the line."""
        self.outbox.emit(Note(level, text, until))

    def hello(self, master: Master, local_ip: str) -> bytes:
        """
        Our hello about ``master``, as sent over a connection whose near end is ``local_ip``.

        The current epoch is written with a leading zero, which every reader of numbers passes over
        and which tells Sentinels of our kind from others.
        """
        options = self.options
        address = master.published_address
        ingredients = (
            options.announce_ip or local_ip,
            options.hello_port,
            options.my_id,
            self.current_epoch,
            address,
            options.announce_hostnames,
            master.config_epoch,
        )
        if master.encoded_hello is None or master.encoded_hello[0] != ingredients:
            host, port, my_id, *_ = ingredients
            place = f"{address.announced(options.announce_hostnames)},{address.port}"
            said = f"{host},{port},{my_id},0{self.current_epoch},{master.name},{place},{master.config_epoch}"
            master.encoded_hello = ingredients, data(said)
            self.own_places.add(data(f"{host},{port}"))
        return master.encoded_hello[1]

    def sane_epoch(self, epoch: int, now: Millis) -> bool:
        """
        Whether this epoch may be adopted now.

        C Sentinels adopt any number from anybody; one request with −1 stops all elections of a
        group for good. Ours go no further than :meth:`reach` at a time.
        """
        return 0 <= epoch <= self.reach(now)

    def reach(self, now: Millis) -> int:
        """
        The highest epoch that may be adopted now.

        The current epoch may rise by ``Limits.epoch_leap`` per second because of what others name. So it takes
        centuries to be led to the highest one, and nobody can be led away from its peers faster than they can follow.
        """
        limits = self.limits
        return min(limits.highest_epoch, self.current_epoch + limits.epoch_leap - self._used(now))

    def follow_epoch(self, epoch: int, master: Master, now: Millis, *, connected: bool) -> None:
        """
        Raise the current epoch to the one that a peer names in its hello, or as far towards it as may be.

        A peer that was led astray, or fell behind while somebody was, is met again as it goes on naming its epoch. Only
        one that we are connected to is followed further than any sequence of failovers explains.
        """
        reach = self.reach(now)
        if not connected:
            reach = min(reach, self.current_epoch + self.limits.epoch_step)
        epoch = min(epoch, reach)
        if epoch > self.current_epoch:
            self.adopt_epoch(epoch, master, now)

    def _used(self, now: Millis) -> int:
        """How much of the leap that is allowed in a second has been taken."""
        if self.followed_at is None:
            return 0
        return max(0, self.followed - self.limits.epoch_leap * (now - self.followed_at) // 1000)

    @staticmethod
    def sane_id(text: str) -> bool:
        """
        Could this be the ID of a Sentinel?

        IDs are 40 hexadecimal digits. What passes for one here harms neither the log nor the file, nor
        clients that take events apart at blanks.
        """
        return _ID.fullmatch(text) is not None

    def adopt_epoch(self, epoch: int, master: Master, now: Millis) -> None:
        """Raise the current epoch to one heard from a peer."""
        self.followed, self.followed_at = self._used(now) + epoch - self.current_epoch, now
        self.current_epoch = epoch
        self.changed(None)
        self.announce_text("+new-epoch", str(epoch), master)

    def raise_epoch(self, epoch: int) -> None:
        """Go on to an epoch of our own choice."""
        self.current_epoch = epoch
        self.changed(None)

    def went_odown(self, now: Millis) -> None:
        """One more master is O_DOWN."""
        self._recent(now)
        self.failing_together.append((now, self.current_epoch))

    def stagger(self, now: Millis) -> Millis:
        """
        How much longer each candidate waits than the one before it.

        When hundreds of masters fail together every message is late, and candidates that do not hear of each other
        in time split the votes of all of them.
        """
        return self.timings.candidate_stagger * (1 + self._recent(now) // self.limits.mass_failure)

    def in_mass_failure(self, now: Millis) -> bool:
        """Do many masters fail together?"""
        return self._recent(now) >= self.limits.mass_failure

    def votable(self, epoch: int, now: Millis) -> bool:
        """
        May a vote be given in this epoch, if there was none in it or a later one for the same master?

        With C Sentinels, in the current one only: the elections of masters that fail together defeat each other, as
        each raises the epoch of all. Votes are per master, so here the epochs of one storm all count: those that were
        current when the oldest of its masters went down, or came since. Whoever saw it sooner may have begun by then.
        """
        return epoch >= self.current_epoch or (self.in_mass_failure(now) and epoch >= self.failing_together[0][1])

    def _recent(self, now: Millis) -> int:
        """How many there were; those of former storms are forgotten."""
        recent = self.failing_together
        while recent and recent[0][0] < now - MASS_FAILURE_WINDOW:
            recent.popleft()
        return len(recent)

    def fresh_epoch(self, now: Millis, *, above: int, shared: bool) -> int:
        """
        An epoch to stand for election in, greater than ``above`` (the last votes for this master).

        Masters that fail together share one: votes are per master, so nothing is weakened, and a
        peer need not climb through an epoch per master. It is shared only while nobody else has
        moved the current epoch, and for half a second at the most.
        """
        epoch = self.batch_epoch
        if shared and epoch == self.current_epoch and now < self.batch_until and epoch > above:
            return epoch
        self.raise_epoch(max(self.current_epoch, above) + 1)
        if shared:
            self.batch_epoch, self.batch_until = self.current_epoch, now + 500
        return self.current_epoch
