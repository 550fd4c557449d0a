"""State that all modules of the core share: settings, epochs and storage errors; emission of events and effects."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from txsentinel.core.data_comparison import DataComparisons
from txsentinel.core.due_queue import DueQueue
from txsentinel.core.durable_records import DurableRecords
from txsentinel.core.effects import Announce, Effect, Note, Outbox
from txsentinel.core.instances import Instance, InstanceLink, Master
from txsentinel.core.journal import Journal
from txsentinel.core.operations import Operations
from txsentinel.core.options import SentinelOptions
from txsentinel.model.address import Address
from txsentinel.model.events import PAYLOAD_LIMIT, Level, SentinelEvent
from txsentinel.model.timings import Limits, Millis, Timings
from txsentinel.wire.hello import Hello
from txsentinel.wire.resp import data

MASS_FAILURE_WINDOW: Final[Millis] = 10_000
"""Masters that become O_DOWN within this time count as failing together."""

_ID: Final = re.compile("[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class StorageError:
    """
    Why hard state cannot be saved. While it cannot, no votes are given and no failovers are led.

    ``code`` is the symbol of the error of the operating system, such as ``ENOSPC``. ``reason`` has the step that failed
    and why. ``path`` is the file, empty if unknown.
    """

    code: str
    reason: str
    path: str = ""

    def __str__(self) -> str:
        """Return a clause for error replies such as ``NOQUORUM``; it begins in lower case."""
        where = f" to {self.path}" if self.path else ""
        return f"this Sentinel cannot save its votes{where}: {self.code}, {self.reason}"

    @property
    def sentence(self) -> str:
        """The clause as a sentence, with a capital letter and without a full stop."""
        text = str(self)
        return text[0].upper() + text[1:]


UNKNOWN_STORAGE_ERROR: Final = StorageError("EIO", "Input/output error")
"""Used where no error was reported."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Permission to vote for ``candidate`` in ``epoch`` although automatic failovers are paused."""

    candidate: str
    epoch: int
    until: Millis


@dataclass(slots=True)
class SentinelState:
    """
    The state of the Sentinel itself.

    ``rng(n)`` returns a random integer from 0 to n−1; the core has no other source of random numbers.
    """

    options: SentinelOptions
    timings: Timings
    limits: Limits
    rng: Callable[[int], int]
    outbox: Outbox = field(default_factory=Outbox)
    due: DueQueue = field(default_factory=DueQueue)
    journal: Journal = field(default_factory=Journal)
    """Records of rare events; written only, no decision reads it."""
    change_observer: Callable[[Master | None, bool], None] | None = None
    """Called by :meth:`touch`; ``None`` while nothing shows the state."""

    operations: Operations = field(default_factory=Operations)
    """The switchovers that were ordered here."""

    comparisons: DataComparisons = field(init=False)
    """What old masters had that their successors never received; written to the journal only."""

    records: DurableRecords = field(init=False)
    """What operators ordered until a certain time; hard state."""

    admissions: dict[str, Admission] = field(default_factory=dict)
    """What a paused Sentinel votes for all the same, by the name of the master."""

    leaving: dict[str, Millis] = field(default_factory=dict)
    """ID of a Sentinel that is about to be stopped → until when that counts; written by ``leaving``."""

    current_epoch: int = 0
    durable_generation: int = 0
    storage_error: StorageError | None = None
    """Why the last attempt to save failed; ``None`` if it succeeded."""

    instances: int = 0
    """Number of monitored instances of all kinds, as of ``counted_at``."""

    counted_at: Millis | None = None
    """When the instances were last counted."""

    probe_slots: int = 1
    """Number of slots in which probes are sent; see ``alignment``."""

    probe_phase: Millis = 0
    """The phase of the first slot."""

    own_endpoints: set[bytes] = field(default_factory=set)
    """``host,port`` of all hellos that this Sentinel sent."""

    clones: dict[bytes, None] = field(default_factory=dict)
    """``host,port`` of Sentinels with our own ID, from their hellos; written by ``hello_processing``."""

    simulated_crashes: set[str] = field(default_factory=set)
    """Words of ``SENTINEL SIMULATE-FAILURE`` that are in force."""

    crashing: bool = False
    """Whether a simulated crash was emitted; failovers are not advanced any more."""

    recent_failures: deque[tuple[Millis, int]] = field(default_factory=deque)
    """``(time, current epoch)`` of each master that became O_DOWN in the last ``MASS_FAILURE_WINDOW`` milliseconds."""

    shared_epoch: int | None = None
    """The last epoch allocated for a campaign; masters that fail together share it until ``shared_epoch_until``."""

    shared_epoch_until: Millis = 0

    epoch_raised_at: Millis | None = None
    """When the current epoch was last raised to one that others announced."""

    epoch_rise_used: int = 0
    """Level of the leaky bucket of :meth:`highest_acceptable_epoch`, as of ``epoch_raised_at``."""

    def __post_init__(self) -> None:
        """Build what refers to the journal or the outbox."""
        self.records = DurableRecords(self.outbox.changed)
        self.comparisons = DataComparisons(self.journal)

    @property
    def storage_failing(self) -> bool:
        """Whether the last attempt to save failed."""
        return self.storage_error is not None

    read_until: Millis | None = None
    """All data that arrived by then has been read; ``None``: all data that arrived at all."""

    def received_until(self, now: Millis) -> Millis:
        """
        Return the time up to which silence is measured: all replies that arrived by then have been read.

        A process that falls behind has unread replies, so silence up to ``now`` would be no evidence.
        """
        return now if self.read_until is None or self.read_until > now else self.read_until

    def emit(self, effect: Effect, *, probe: bool = False) -> None:
        """Queue an effect with the current generation; with ``probe`` it does not wait."""
        self.outbox.emit(effect, probe=probe)

    def observe_changes(self, observer: Callable[[Master | None, bool], None]) -> None:
        """
        Have ``observer`` called with each master that may have changed; with ``None`` if any may have.

        The second argument is whether nothing but the replication offsets may have changed.
        """
        self.change_observer = observer

    def touch(self, master: Master | None) -> None:
        """
        Report that the state of ``master`` (``None``: of all masters) may have changed, hard or not.

        It may be called before the change, in the same input. What each probe changes, such as the time of the last
        reply, is not reported.
        """
        if self.change_observer is not None:
            self.change_observer(master, False)

    def touch_offsets(self, master: Master) -> None:
        """Report that replication offsets of ``master`` have changed, which those of a healthy one do all the time."""
        if self.change_observer is not None:
            self.change_observer(master, True)

    def touch_link(self, link: InstanceLink) -> None:
        """Report that the state of the masters that use ``link`` may have changed."""
        if self.change_observer is not None:
            for instance in link.instances:
                self.change_observer(instance.master, False)

    def changed(self, master: Master | None) -> int:
        """Begin a generation, as the hard state of ``master`` (``None``: of the Sentinel itself) changed; return it."""
        if master is not None:
            self.touch(master)
        return self.outbox.changed(None if master is None else master.name)

    def publish_unsaved(self, master: Master) -> None:
        """Have clients get the published address although it cannot be saved."""
        if master.address_before is not None:
            self.touch(master)
        master.address_before = None

    def moved(self, master: Master, previous: Address, generation: int) -> None:
        """Record that the published address of ``master`` changed from ``previous``, as of ``generation``."""
        if self.storage_failing:
            master.address_before = None
        elif master.address_before is None or master.address_generation <= self.durable_generation:
            master.address_before = previous
        master.address_generation = generation
        self.journal.moved(master.name, generation)

    def durable_address(self, master: Master) -> Address:
        """
        Return the address for clients: the published one once it is durable, until then the previous one.

        So a crash never returns clients to an old address, and no client waits for the disk. If saving fails, the new
        address is returned at once, and it stays when a write that began earlier succeeds.
        """
        before = master.address_before
        if before is None or master.address_generation <= self.durable_generation:
            return master.published_address
        return before

    def durable_config_epoch(self, master: Master) -> int:
        """Return the config epoch of the address that :meth:`durable_address` returns."""
        if master.address_before is None or master.address_generation <= self.durable_generation:
            return master.config_epoch
        return master.epoch_before

    def announce(self, channel: str, instance: Instance, detail: str = "", *, binding: bool = False) -> None:
        """Publish an event of ``instance``; ``detail`` follows its description."""
        described = instance.describe(self.options.announce_hostnames)
        self.announce_text(channel, f"{described} {detail}" if detail else described, instance.master, binding=binding)

    def announce_text(self, channel: str, payload: str, master: Master | None, *, binding: bool = False) -> None:
        """
        Publish an event with the given payload.

        :param binding: whether it must not be published before it is durable, even if saving fails.
        """
        limit = PAYLOAD_LIMIT - len(channel) - 1
        script = None if master is None else master.options.notification_script
        name = None if master is None else master.name
        self.touch(master)
        self.outbox.emit(Announce(SentinelEvent(channel, payload[:limit], name, script), binding))

    def is_leaving(self, sentinel_id: str, now: Millis) -> bool:
        """Whether a Sentinel is about to be stopped."""
        return bool(self.leaving) and now < self.leaving.get(sentinel_id, now)

    def note_throttled(self, kind: str, text: str, level: Level = Level.WARNING) -> None:
        """Log a line that others can provoke; a limited number of each ``kind`` is logged per minute."""
        self.outbox.emit(Note(level, text, None, kind))

    def note(self, level: Level, text: str, until: Millis | None = None) -> None:
        """Log a line that is not an event; with ``until``, the date that many milliseconds from now is appended."""
        self.outbox.emit(Note(level, text, until))

    def hello(self, master: Master, local_ip: str) -> bytes:
        """
        Return our hello about ``master`` for a connection with the local address ``local_ip``; it has the marker.
        """
        options = self.options
        address = master.published_address
        key = (
            options.announce_ip or local_ip,
            options.hello_port,
            options.my_id,
            self.current_epoch,
            address,
            options.announce_hostnames,
            master.config_epoch,
        )
        if master.encoded_hello is None or master.encoded_hello[0] != key:
            hello = Hello(
                options.announce_ip or local_ip,
                options.hello_port,
                options.my_id,
                self.current_epoch,
                master.name,
                address.announced(options.announce_hostnames),
                address.port,
                master.config_epoch,
            )
            master.encoded_hello = key, hello.encode(marked=True)
            self.own_endpoints.add(data(f"{hello.sentinel_ip},{hello.sentinel_port}"))
        return master.encoded_hello[1]

    def is_acceptable_epoch(self, epoch: int, now: Millis) -> bool:
        """
        Whether this epoch may be adopted now.

        C Sentinels adopt any number from any sender: one request with −1 ends all elections of a group for good. Here
        the limit is :meth:`highest_acceptable_epoch`.
        """
        return 0 <= epoch <= self.highest_acceptable_epoch(now)

    def highest_acceptable_epoch(self, now: Millis) -> int:
        """
        Return the highest epoch that may be adopted now.

        Others may raise the current epoch by ``Limits.epoch_rise_per_second`` per second. So it takes centuries to
        reach the highest one, and no Sentinel can be moved away from its peers faster than they can follow.
        """
        limits = self.limits
        return min(limits.highest_epoch, self.current_epoch + limits.epoch_rise_per_second - self._used(now))

    def follow_epoch(self, epoch: int, master: Master, now: Millis, *, connected: bool) -> None:
        """
        Raise the current epoch to that in a peer's hello, or as far as permitted.

        As hellos are repeated, Sentinels whose epochs were driven apart converge again. Only an epoch of a peer with an
        established connection is followed further than a sequence of failovers can explain.
        """
        reach = self.highest_acceptable_epoch(now)
        if not connected:
            reach = min(reach, self.current_epoch + self.limits.unconfirmed_epoch_rise)
        epoch = min(epoch, reach)
        if epoch > self.current_epoch:
            self.adopt_epoch(epoch, master, now)

    def _used(self, now: Millis) -> int:
        """Return the level of the leaky bucket: how much of the permitted rise has been used."""
        if self.epoch_raised_at is None:
            return 0
        return max(0, self.epoch_rise_used - self.limits.epoch_rise_per_second * (now - self.epoch_raised_at) // 1000)

    @staticmethod
    def is_valid_id(text: str) -> bool:
        """
        Whether ``text`` is acceptable as the ID of a Sentinel.

        IDs are 40 hexadecimal digits. Other texts are accepted if they are harmless in the log, in the file, and for
        clients that split events at spaces.
        """
        return _ID.fullmatch(text) is not None

    def adopt_epoch(self, epoch: int, master: Master, now: Millis) -> None:
        """Raise the current epoch to one received from another Sentinel."""
        self.epoch_rise_used, self.epoch_raised_at = self._used(now) + epoch - self.current_epoch, now
        self.current_epoch = epoch
        self.changed(None)
        self.announce_text("+new-epoch", str(epoch), master)

    def raise_epoch(self, epoch: int) -> None:
        """Raise the current epoch to one that this Sentinel chose."""
        self.current_epoch = epoch
        self.changed(None)

    def went_odown(self, now: Millis) -> None:
        """Record that one more master became O_DOWN."""
        self._recent(now)
        self.recent_failures.append((now, self.current_epoch))

    def stagger(self, now: Millis) -> Millis:
        """
        Return how much longer each candidate waits than the one before it.

        When hundreds of masters fail together, all messages are delayed. Candidates that do not receive each other's
        requests in time would split the votes.
        """
        return self.timings.candidate_stagger * (1 + self._recent(now) // self.limits.mass_failure)

    def in_mass_failure(self, now: Millis) -> bool:
        """Whether many masters fail together."""
        return self._recent(now) >= self.limits.mass_failure

    def may_vote_in(self, epoch: int, now: Millis) -> bool:
        """
        Whether a vote may be given in this epoch, if none was given in it or a later one for the same master.

        C Sentinels vote in the current epoch only, so the elections of masters that fail together defeat each other, as
        each raises the epoch for all. Votes are per master, so during a mass failure this accepts all epochs from that
        on which was current when the first of the masters became O_DOWN here.
        """
        return epoch >= self.current_epoch or (self.in_mass_failure(now) and epoch >= self.recent_failures[0][1])

    def _recent(self, now: Millis) -> int:
        """Return how many masters became O_DOWN within the window; older ones are discarded."""
        recent = self.recent_failures
        while recent and recent[0][0] < now - MASS_FAILURE_WINDOW:
            recent.popleft()
        return len(recent)

    def fresh_epoch(self, now: Millis, *, above: int, shared: bool) -> int:
        """
        Return an epoch for a campaign, greater than ``above``, the epoch of the last vote for this master.

        Masters that fail together share one epoch. This is safe, as votes are per master, and peers need not adopt one
        epoch per master. It is shared for half a second, and only while the current epoch does not change.
        """
        epoch = self.shared_epoch
        if shared and epoch == self.current_epoch and now < self.shared_epoch_until and epoch > above:
            return epoch
        self.raise_epoch(max(self.current_epoch, above) + 1)
        if shared:
            self.shared_epoch, self.shared_epoch_until = self.current_epoch, now + 500
        return self.current_epoch
