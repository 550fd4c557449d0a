"""
A switchover of a group of any Sentinels from outside, without losing an acknowledged write.

The candidate gets the best priority, and when all Sentinels have seen that, the old master holds the writes of its
clients (``CLIENT PAUSE … WRITE``), the candidate receives all that the old master has, and one Sentinel is ordered to
fail over. As soon as the candidate is promoted, the old master is made its replica and its clients are disconnected.
C Sentinels would do that seconds later.

If this process dies, the pause ends by itself. Before the order it ends before the Sentinels consider the master down:
a Sentinel whose PUBLISH is held, too, gets no answers, and would fail over a master that takes writes again later. With
the order the pause is extended, until the Sentinels themselves have demoted the old master.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from txsentinel.model.receipt import (
    AddressKnown,
    Fence,
    NewMaster,
    OldMaster,
    Receipt,
    ResyncCount,
    judge,
)
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.model.ulid import new_ulid
from txsentinel.remote.changed_settings import ChangedSetting, ChangeLog
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, ErrorAnswer, RemoteConnection
from txsentinel.remote.fitness import fitness_of
from txsentinel.remote.fleet import in_parallel
from txsentinel.remote.reading import Scope, read_sentinel
from txsentinel.remote.reports import MasterReport, SentinelReport, as_text
from txsentinel.remote.servers import ServerReport, server_report
from txsentinel.remote.switchover_checks import PREFERRED_PRIORITY, Plan
from txsentinel.remote.write_stops import NEVER, Commands, PausedWrites, SwitchoverAborted, transaction
from txsentinel.wire.values import Reply

METHOD: Final = "c-fleet"

PREFERENCE_SECONDS: Final = 30.0
"""How long the Sentinels may take to see the new priority: they ask for INFO every ten seconds."""

KNOWN_SECONDS: Final = 15.0
"""How long the Sentinels may take to answer with the new address."""

RESYNC_SECONDS: Final = 15.0
"""How long the replicas may take to continue at the new master."""

SERVER_POLL_SECONDS: Final = 0.003
SENTINEL_POLL_SECONDS: Final = 0.02
PREFERENCE_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True)
class SwitchoverLimits:
    """
    Times in milliseconds.

    ``max_pause_ms`` limits how long writes are held before the order to fail over; then the switchover is aborted.
    ``hold_ms`` is when the servers themselves release the writes if no order was given, ``order_hold_ms`` when they do
    after it. The candidate must be promoted within ``promotion_ms`` after the writes were held.
    """

    max_pause_ms: int = 2000
    hold_ms: int = 10_000
    order_hold_ms: int = 60_000
    promotion_ms: int = 10_000


def limits_for(down_after_ms: int, max_pause_ms: int) -> SwitchoverLimits:
    """Return limits with which no Sentinel considers the master down before the order."""
    hold = min(10_000, down_after_ms * 8 // 10)
    return SwitchoverLimits(min(max_pause_ms, hold * 3 // 4), hold)


@dataclass(frozen=True)
class SwitchoverClock:
    """The clocks, which tests replace."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass
class _Progress:
    """What has happened so far."""

    priority_changed: bool = False
    recorded: ChangedSetting | None = None
    """The record of the changed priority."""

    armed: float | None = None
    """Monotonic time when writes were held."""

    armed_at: Instant = field(default_factory=lambda: Instant(0))
    released_at: Instant = field(default_factory=lambda: Instant(0))
    """When the server would release them by itself."""

    ordered: bool = False
    old_replid: str = ""
    old_offset: int = -1


class Switchover:
    """
    One switchover.

    :param progress: called with milliseconds since the writes were held (``None`` before) and a sentence.
    :param connect: makes connections; they must not be shared with others.
    :param read: reads a Sentinel; called from several threads.
    :param log: records the changed priority; ``None`` for no record.
    :param stop: how writes are stopped.
    """

    def __init__(
        self,
        plan: Plan,
        sentinel_settings: ConnectionSettings,
        server_settings: ConnectionSettings,
        limits: SwitchoverLimits,
        progress: Callable[[int | None, str], None],
        connect: Callable[[Endpoint, ConnectionSettings], RemoteConnection] = RemoteConnection,
        clock: SwitchoverClock | None = None,
        read: Callable[[Endpoint, ConnectionSettings, Scope], SentinelReport] = read_sentinel,
        log: ChangeLog | None = None,
        stop: PausedWrites | None = None,
    ) -> None:
        self._log = log
        self._stop = PausedWrites() if stop is None else stop
        self._plan = plan
        self._sentinel_settings = sentinel_settings
        self._server_settings = server_settings
        self._limits = limits
        self._report = progress
        self._connect = connect
        self._clock = clock or SwitchoverClock()
        self._read = read
        self._state = _Progress()
        self._candidate: RemoteConnection | None = None

    @property
    def can_abort(self) -> bool:
        """Whether the order to fail over was not given yet."""
        return not self._state.ordered

    def run(self) -> Receipt:
        """
        Execute it.

        :raises SwitchoverAborted: if it could not be done; the writes go on at the old master.
        """
        plan, state = self._plan, self._state
        with contextlib.ExitStack() as stack:
            try:
                old = stack.enter_context(self._connect(plan.old, self._server_settings))
                leader = stack.enter_context(self._connect(plan.leader.endpoint, self._sentinel_settings))
                before = self._read_candidate()
                self._prefer_candidate()
                self._hold_writes(old)
                self._wait_for_offset()
                self._order_failover(old, leader)
                promoted = self._wait_promoted()
            except BaseException as problem:
                self._undo()
                if isinstance(problem, (ConnectionFailed, ErrorAnswer)):
                    raise SwitchoverAborted(str(problem)) from None
                raise
            final, closed = self._demote(old)
            demoted_at = None if final is None else self._now()
            held = None if final is None else self._elapsed()
            known = self._wait_known()
            self._restore_priority()
            resyncs = self._count_resyncs(before)
        fence = Fence(self._stop.kind, state.armed_at, held, state.released_at)
        first = OldMaster(plan.old, state.old_replid, state.old_offset, None if final is None else final.offset)
        second = NewMaster(plan.candidate, promoted.replid2, promoted.fork_offset)
        found = judge(first, second, fence, demoted_at)
        return Receipt(
            new_ulid(int(self._clock.wall() * 1000)),
            METHOD,
            plan.name,
            first,
            second,
            fence,
            demoted_at,
            found.verdict,
            found.why,
            found.lost_bytes,
            resyncs,
            closed,
            known,
        )

    # Steps

    def _prefer_candidate(self) -> None:
        """Give the candidate the best priority and wait until all Sentinels have seen it, unless it is the first."""
        plan = self._plan
        if all(self._is_first(each.masters[plan.name]) for each in plan.agreement.naming):
            return
        self._record_priority()
        self._state.priority_changed = True
        self._on_candidate("CONFIG", "SET", "replica-priority", PREFERRED_PRIORITY)
        self._report(None, f"{plan.candidate} has priority {PREFERRED_PRIORITY}; waiting until all Sentinels see it")
        deadline = self._clock.monotonic() + PREFERENCE_SECONDS
        while missing := self._without_preference():
            if self._clock.monotonic() > deadline:
                raise SwitchoverAborted(
                    f"after {PREFERENCE_SECONDS:g} s the priority of {plan.candidate} is not known to "
                    + ", ".join(map(str, missing))
                )
            self._clock.sleep(PREFERENCE_POLL_SECONDS)

    def _record_priority(self) -> None:
        plan, now = self._plan, int(self._clock.wall() * 1000)
        if self._log is None or plan.priority is None:
            return
        value = str(PREFERRED_PRIORITY)
        change = ChangedSetting(plan.candidate, "replica-priority", value, str(plan.priority), now)
        try:
            self._log.add(change)
            self._state.recorded = change
        except OSError as error:
            text = f"if this is killed, set replica-priority of {plan.candidate} back to {plan.priority}"
            self._report(None, f"{text}, as that cannot be recorded: {error}")

    def _is_first(self, report: MasterReport) -> bool:
        """Whether a Sentinel would promote the candidate whatever the offsets become."""
        fit = [each for each in fitness_of(report) if each.fit]
        return (
            bool(fit)
            and fit[0].address == self._plan.candidate
            and (len(fit) == 1 or fit[0].priority < fit[1].priority)
        )

    def _without_preference(self) -> list[Endpoint]:
        """Return the Sentinels that would not promote the candidate yet."""
        plan = self._plan
        scope = Scope([plan.name])
        reports = in_parallel(
            lambda each: self._read(each.endpoint, self._sentinel_settings, scope), list(plan.agreement.naming)
        )
        return [
            each.endpoint
            for each in reports
            if plan.name not in each.masters or not self._is_first(each.masters[plan.name])
        ]

    def _hold_writes(self, old: RemoteConnection) -> None:
        """Hold the writes of all clients, and read replication ID and offset in the same transaction."""
        state = self._state
        begun = self._clock.monotonic()
        state.armed, state.armed_at = begun, self._now()
        hold_ms = self._limits.hold_ms
        report = server_report(self._stop.begin(old, hold_ms, state.armed_at.unix_ms))
        state.released_at = Instant(state.armed_at.unix_ms + hold_ms) if self._stop.ends_by_itself else NEVER
        if report.role != "master":
            raise SwitchoverAborted(f"{self._plan.old} is no longer the master")
        state.old_replid, state.old_offset = report.replid, report.offset
        what = f"writes {self._stop.verb} at offset {report.offset:,}, replid {report.replid[:8]}"
        self._report(self._elapsed(), what)

    def _wait_for_offset(self) -> None:
        """Wait until the candidate has all that the old master has."""
        while True:
            report = self._read_candidate()
            if report.replid != self._state.old_replid:
                raise SwitchoverAborted(f"{self._plan.candidate} has another replication ID: {report.replid[:8]}")
            if report.offset >= self._state.old_offset:
                break
            if self._elapsed() > self._limits.max_pause_ms:
                behind = self._state.old_offset - report.offset
                raise SwitchoverAborted(
                    f"after {self._elapsed():,} ms {self._plan.candidate} still lacks {behind:,} bytes (--max-pause)"
                )
            self._clock.sleep(SERVER_POLL_SECONDS)
        self._report(self._elapsed(), f"{self._plan.candidate} has them all")

    def _order_failover(self, old: RemoteConnection, leader: RemoteConnection) -> None:
        """Extend the pause, which must not have ended meanwhile, and give the order."""
        limits, state = self._limits, self._state
        if self._elapsed() > limits.max_pause_ms:
            raise SwitchoverAborted(f"writes were held for {self._elapsed():,} ms before the order (--max-pause)")
        extended_at = self._now()
        self._stop.extend(old, limits.order_hold_ms)
        if self._stop.ends_by_itself and self._elapsed() >= limits.hold_ms:
            raise SwitchoverAborted(f"writes were released after {limits.hold_ms:,} ms, before the pause was extended")
        if self._stop.ends_by_itself:
            state.released_at = Instant(extended_at.unix_ms + limits.order_hold_ms)
        leader.call("SENTINEL", "FAILOVER", self._plan.name)
        state.ordered = True
        self._report(self._elapsed(), f"{leader.endpoint} was ordered to fail over")

    def _wait_promoted(self) -> ServerReport:
        """Wait until the candidate is a master; there is no way to take the order back."""
        while True:
            with contextlib.suppress(ConnectionFailed):  # the Sentinel disconnects its clients
                report = self._read_candidate()
                if report.role == "master":
                    self._report(
                        self._elapsed(),
                        f"promoted; replid2 {(report.replid2 or 'none')[:8]}, forked at {report.fork_offset or 0:,}",
                    )
                    return report
            if self._elapsed() >= self._limits.promotion_ms:
                raise SwitchoverAborted(
                    f"{self._plan.candidate} was not promoted within {self._limits.promotion_ms:,} ms; the Sentinel may"
                    " still do so, and writes from now on would be lost then"
                )
            self._clock.sleep(SERVER_POLL_SECONDS)

    def _demote(self, old: RemoteConnection) -> tuple[ServerReport | None, int | None]:
        """
        Make the old master a replica of the new one and disconnect its clients, in one transaction.

        :returns: what it was just before, and how many clients were disconnected; ``None`` if it cannot be reached.
        """
        plan = self._plan
        host, port = plan.candidate.host, plan.candidate.port
        disconnecting: Commands = [("CLIENT", "KILL", "TYPE", "normal"), ("CLIENT", "KILL", "TYPE", "pubsub")]
        commands = self._stop.demoting(("SLAVEOF", host, port), disconnecting)
        problem: Exception | None = None
        for attempt in range(2):
            try:
                if attempt:
                    with self._connect(plan.old, self._server_settings) as again:
                        reply = transaction(again, commands, "demoting the old master")
                else:
                    reply = transaction(old, commands, "demoting the old master")
            except (ConnectionFailed, ErrorAnswer, SwitchoverAborted) as error:
                problem = error
                continue
            self._stop.demoted(reply)
            closed = sum(each for each in reply if type(each) is int)
            self._report(self._elapsed(), f"{plan.old} follows, {closed} clients closed")
            return server_report(reply[0]), closed
        self._report(
            self._elapsed(),
            f"{plan.old} could not be demoted ({problem}); {self._release_words()}"
            " unless the Sentinels have demoted it until then",
        )
        return None, None

    def _wait_known(self) -> tuple[AddressKnown, ...]:
        """Wait until all Sentinels answer with the new address; return when each did."""
        sentinels = [each.endpoint for each in self._plan.agreement.members if each.reachable]
        found = in_parallel(self._when_known, sentinels)
        known = tuple(
            AddressKnown(endpoint, after) for endpoint, after in zip(sentinels, found, strict=True) if after is not None
        )
        if len(known) == len(sentinels):
            self._report(max(each.after_ms for each in known), f"all Sentinels answer with {self._plan.candidate}")
        else:
            missing = [str(endpoint) for endpoint, after in zip(sentinels, found, strict=True) if after is None]
            self._report(self._elapsed(), f"not known to {', '.join(missing)} yet")
        return known

    def _when_known(self, sentinel: Endpoint) -> int | None:
        deadline = self._clock.monotonic() + KNOWN_SECONDS
        wanted = [self._plan.candidate.host, str(self._plan.candidate.port)]
        try:
            with self._connect(sentinel, self._sentinel_settings) as connection:
                while self._clock.monotonic() < deadline:
                    reply = connection.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._plan.name)
                    if isinstance(reply, list) and [as_text(each) for each in reply] == wanted:
                        return self._elapsed()
                    self._clock.sleep(SENTINEL_POLL_SECONDS)
        except (ConnectionFailed, ErrorAnswer):
            return None
        return None

    def _count_resyncs(self, before: ServerReport) -> ResyncCount | None:
        """Wait until the replicas continue at the new master, and return how."""
        report = self._plan.agreement.report()
        expected = sum(each.usable for each in report.replicas) if report is not None else 1
        deadline = self._clock.monotonic() + RESYNC_SECONDS
        while True:
            try:
                found = self._read_candidate()
            except (ConnectionFailed, ErrorAnswer):
                return None
            if found.online_replicas >= expected or self._clock.monotonic() > deadline:
                break
            self._clock.sleep(PREFERENCE_POLL_SECONDS)

        def grown(name: str) -> int:
            return int(found.fields.get(name, "0")) - int(before.fields.get(name, "0"))

        return ResyncCount(grown("sync_partial_ok"), grown("sync_full"))

    # Undoing

    def _undo(self) -> None:
        """Release the writes and restore the priority; what fails here ends by itself, or is reported."""
        if self._state.armed is not None:
            try:
                with self._connect(self._plan.old, self._server_settings) as connection:
                    self._stop.release(connection)
                self._report(self._elapsed(), f"writes go on at {self._plan.old}")
            except (ConnectionFailed, ErrorAnswer) as problem:
                self._report(
                    self._elapsed(),
                    f"cannot release the writes ({problem}); {self._release_words()}",
                )
        self._restore_priority()

    def _release_words(self) -> str:
        """Return a clause about when the old master accepts writes again if nobody else sees to it."""
        if self._stop.ends_by_itself:
            return f"it accepts writes again at {self._state.released_at}"
        return "it accepts writes again after 'txsentinel restore'"

    def _restore_priority(self) -> None:
        if not self._state.priority_changed or self._plan.priority is None:
            return
        try:
            self._on_candidate("CONFIG", "SET", "replica-priority", self._plan.priority)
            if self._state.ordered:
                with contextlib.suppress(ErrorAnswer):  # not permitted, or it has no file
                    # A Sentinel has its file written when it promotes the server.
                    self._on_candidate("CONFIG", "REWRITE")
            if self._log is not None and self._state.recorded is not None:
                self._log.remove(self._state.recorded)
        except (ConnectionFailed, ErrorAnswer, OSError) as problem:
            self._report(
                None, f"set replica-priority of {self._plan.candidate} back to {self._plan.priority} ({problem})"
            )

    # Connections and clocks

    def _on_candidate(self, *words: str | int) -> Reply:
        """Send a command to the candidate; once more on a new connection, as its clients are disconnected meanwhile."""
        for attempt in range(2):
            if self._candidate is None:
                self._candidate = self._connect(self._plan.candidate, self._server_settings)
            try:
                return self._candidate.call(*words)
            except ConnectionFailed:
                self._candidate.close()
                self._candidate = None
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def _read_candidate(self) -> ServerReport:
        reply = self._on_candidate("INFO", "replication")
        statistics = self._on_candidate("INFO", "stats")
        found = server_report(reply)
        return ServerReport({**found.fields, **server_report(statistics).fields})

    def _now(self) -> Instant:
        return Instant(int(self._clock.wall() * 1000))

    def _elapsed(self) -> int:
        """Milliseconds since the writes were held."""
        armed = self._state.armed
        return 0 if armed is None else int((self._clock.monotonic() - armed) * 1000)
