"""The output of the demonstration: events, the results of an application's writes, and restarts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.client import MasterAddress, MasterFollower
from txsentinel.demo.blocking import ReplyError, call
from txsentinel.demo.fleet import Fleet
from txsentinel.demo.history import describe_record, latest_record
from txsentinel.demo.processes import ChildProcess, RedisProcess
from txsentinel.demo.recorder import EventRecorder, RecordedEvent

WRITE_PERIOD_SECONDS: Final = 0.01
REVIVE_SECONDS: Final = 10.0
STATUS_SECONDS: Final = 30.0
EVENTS_KEPT: Final = 1000
SUMMARY_TIMEOUT_SECONDS: Final = 2.0
HISTORY_PERIOD_SECONDS: Final = 0.5
HISTORY_TIMEOUT_SECONDS: Final = 10.0

KEY: Final = "demo"
"""Has a bit for each write."""

log = Logger(namespace=__name__)


class WriteBitmap:
    """
    The numbers of the writes that a master has acknowledged, as a bitmap in the layout of ``SETBIT``.

    ``count`` is how many they are.
    """

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def add(self, number: int) -> None:
        """Add a number; each occurs once."""
        position, bit = divmod(number, 8)
        if position >= len(self._bits):
            self._bits.extend(bytes(position + 1 - len(self._bits)))
        self._bits[position] |= 0x80 >> bit
        self.count += 1

    def missing_in(self, stored: bytes) -> int:
        """Count the acknowledged writes that are missing in a server's bitmap."""
        size = max(len(self._bits), len(stored))
        ours, theirs = (int.from_bytes(bits.ljust(size, b"\0"), "big") for bits in (self._bits, stored))
        return (ours & ~theirs).bit_count()


class DemoWriter:
    """
    An application that writes through a :class:`MasterFollower`, one write after the other, and measures the gaps.
    """

    def __init__(self, reactor: Any, follower: MasterFollower, print_line: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._follower = follower
        self._print = print_line
        self._next: IDelayedCall | None = None
        self._stopped = False
        self._moved_to: MasterAddress | None = None
        self._last_success: float | None = None
        self._failures = 0
        self._number = 0
        self.acknowledged = WriteBitmap()
        self.failovers = 0
        """Number of times that writes continued at another master."""
        self.max_gap = 0.0
        """The longest time in seconds between two acknowledged writes."""
        self.recovered: Deferred[float] = Deferred()
        """Fires once, with the seconds without a master in the first failover."""

    def start(self) -> None:
        """Start writing; the follower must have been started."""
        self._follower.add_listener(self._moved)
        self._write()

    def stop(self) -> None:
        """Stop writing; a write in flight may still be answered."""
        self._stopped = True
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _moved(self, address: MasterAddress) -> None:
        self._moved_to = address

    def summary(self, stored: bytes | None) -> str:
        """
        Summarise the writes.

        :param stored: the bitmap of the present master; ``None`` if there is none.
        """
        acknowledged = self.acknowledged.count
        lost = "not known, as no master answers" if stored is None else str(self.acknowledged.missing_in(stored))
        return (
            f"failovers: {self.failovers}; longest gap between two writes: {self.max_gap * 1000:.0f} ms;"
            f" writes acknowledged: {acknowledged}; of these lost: {lost}"
        )

    def _write(self) -> None:
        number, self._number = self._number, self._number + 1
        self._follower.execute("SETBIT", KEY, str(number), "1").addCallbacks(
            self._written, self._lost, callbackArgs=(number,)
        )

    def _written(self, reply: object, number: int) -> None:
        now = self._reactor.seconds()
        self.acknowledged.add(number)
        if self._last_success is not None:
            self.max_gap = max(self.max_gap, now - self._last_success)
        if self._moved_to is not None and self._last_success is not None:
            gap = now - self._last_success
            lost = f", {self._failures} failed meanwhile" if self._failures else ""
            self.failovers += 1
            self._print(f"** writes go to {self._moved_to} now; they had no master for {gap * 1000:.0f} ms{lost}")
            self._failures = 0
            if not self.recovered.called:
                self.recovered.callback(gap)
        self._moved_to = None
        self._last_success = now
        self._again()

    def _lost(self, failure: Failure) -> None:
        # After any error an application would try the next write.
        self._failures += 1
        log.debug("a write failed: {why}", why=failure.getErrorMessage())
        self._again()

    def _again(self) -> None:
        if not self._stopped:
            self._next = self._reactor.callLater(WRITE_PERIOD_SECONDS, self._write)


class Show:
    """
    Runs the demonstration over a :class:`Fleet` that has been started.

    :param reactor: the running one; its ``seconds()`` are the clock.
    :param print_line: takes one line of text at a time.
    :param keyboard: an empty line on it kills the master; ``None`` for no keyboard.
    """

    def __init__(
        self, reactor: Any, fleet: Fleet, print_line: Callable[[str], None], keyboard: TextIO | None = None
    ) -> None:
        self._reactor = reactor
        self._fleet = fleet
        self._print = print_line
        self._keyboard = keyboard
        self._began = time.monotonic()
        self._labels = {name: f"sentinel {number}" for number, name in enumerate(fleet.ports, start=1)}
        self._follower = MasterFollower(
            reactor, [("127.0.0.1", port) for port in fleet.ports.values()], fleet.name, reply_timeout=2.0
        )
        self.writer = DemoWriter(reactor, self._follower, self._notify)
        self._recorder = EventRecorder(fleet.ports, self._event_received, EVENTS_KEPT)
        self._dead: set[ChildProcess] = set()
        self._loops = [LoopingCall(self._look_for_dead), LoopingCall(self._status)]
        self._stopped = False
        self.reported: Deferred[None] = Deferred()
        """Fires when the first failover was shown as the Sentinels recorded it, or when no record was found."""

    def start(self) -> Deferred[MasterFollower]:
        """
        Start to record, to write and to restart dead servers.

        :returns: fires when the first master is found.
        """
        self._recorder.start()
        for loop, seconds in zip(self._loops, (1.0, STATUS_SECONDS), strict=True):
            loop.clock = self._reactor
            loop.start(seconds, now=False).addErrback(self._broken)
        if self._keyboard is not None:
            threading.Thread(target=self._read_keyboard, args=(self._keyboard,), daemon=True).start()
        return self._follower.start().addCallback(self._following)

    def stop(self) -> Deferred[Any]:
        """
        Stop everything that :meth:`start` began; the servers are left as they are.

        :returns: fires when the follower has disconnected.
        """
        if not self._stopped:
            self._stopped = True
            self.writer.stop()
            self._notify(f"** {self.writer.summary(self._stored())}")
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._recorder.stop()
        return gatherResults([self._follower.stop()])

    def kill_master(self) -> None:
        """
        Kill the present master, as ``kill -9`` does; if no other server can take its place, print what to wait for.
        """
        address = self._follower.address
        server = None if address is None else self._fleet.servers.get(address.port)
        if server is None:
            self._notify("** there is no master to kill yet: wait for the line with the address of the master")
            return
        if not server.running:
            self._notify(f"** {address} is dead already; wait until writes go to another master")
            return
        others = [each for each in self._fleet.servers.values() if each is not server]
        if not any(each.running for each in others):
            names = " or ".join(each.name for each in others)
            self._notify(f"** no server could replace {address}; wait until {names} is started again")
            return
        self._notify(f"** killing the master, 127.0.0.1:{server.port}")
        server.kill()

    def _stored(self) -> bytes | None:
        """What the present master has of all writes; ``None`` if there is no master that answers."""
        address = self._follower.address
        if address is None:
            return None
        try:
            reply = call(address.port, "GET", KEY, timeout=SUMMARY_TIMEOUT_SECONDS)
        except (OSError, ReplyError):
            return None
        return reply.encode("utf-8", "surrogateescape") if isinstance(reply, str) else b""

    def _following(self, follower: MasterFollower) -> MasterFollower:
        self.writer.start()
        self._notify(f"** writes go to {follower.address}")
        follower.add_listener(lambda address: self._print_kill_hint(address))
        return follower

    def _print_kill_hint(self, address: MasterAddress) -> None:
        server = self._fleet.servers.get(address.port)
        if server is not None and server.running:
            self._notify(f"** the master is {address} now; the next one to try: kill -9 {server.pid}")
        self._read_history(address, self._reactor.seconds() + HISTORY_TIMEOUT_SECONDS)

    def _read_history(self, address: MasterAddress, deadline: float) -> None:
        """Show the record of the failover to an address once its leader has one, or by the deadline that of another."""
        pool, pages = self._reactor.getThreadPool(), tuple(self._fleet.pages)
        reading = deferToThreadPool(self._reactor, pool, latest_record, pages, self._fleet.name, address.port)
        reading.addCallback(self._history_read, address, deadline).addErrback(self._broken)

    def _history_read(self, record: dict[str, Any] | None, address: MasterAddress, deadline: float) -> None:
        if self._stopped:
            return
        # The other Sentinels learn the new address before the leader has completed its record, and know less.
        complete = record is not None and record["observer_role"] == "leader"
        if not complete and self._reactor.seconds() < deadline:
            self._reactor.callLater(HISTORY_PERIOD_SECONDS, self._read_history, address, deadline)
            return
        if record is not None:
            self._notify(f"** history: {describe_record(record)}")
        if not self.reported.called:
            self.reported.callback(None)

    def _event_received(self, event: RecordedEvent) -> None:
        # Called in the recorder's thread.
        self._reactor.callFromThread(self._show_event, event)

    def _show_event(self, event: RecordedEvent) -> None:
        if not self._stopped:
            self._line(event.at, f"{self._labels[event.sentinel]}  {event.channel} {event.payload}")

    def _notify(self, text: str) -> None:
        self._line(time.monotonic(), text)

    def _line(self, at: float, text: str) -> None:
        self._print(f"{at - self._began:9.3f}  {text}")

    def _look_for_dead(self) -> None:
        """Start what has died again after a while, from what it has on disk, as a supervisor would."""
        for child in [*self._fleet.servers.values(), *self._fleet.sentinels]:
            if not child.running and child not in self._dead:
                self._dead.add(child)
                self._notify(f"** {child.name} is dead; it will be started again in {REVIVE_SECONDS:.0f} s")
                self._reactor.callLater(REVIVE_SECONDS, self._revive, child)

    def _revive(self, child: ChildProcess) -> None:
        if self._stopped:
            return
        self._dead.discard(child)
        child.start(keep_config=True, ready=False)
        role = "; should it think it is a master, the Sentinels will soon correct it"
        self._notify(f"** started {child.name} again, pid {child.pid}{role if isinstance(child, RedisProcess) else ''}")

    def _status(self) -> None:
        self._notify(
            f"** {self.writer.acknowledged.count} writes acknowledged so far, the last ones by {self._follower.address}"
        )

    def _read_keyboard(self, keyboard: TextIO) -> None:
        for _ in keyboard:
            self._reactor.callFromThread(self.kill_master)

    def _broken(self, failure: Failure) -> None:
        log.failure("the demonstration is broken", failure=failure)
        self._reactor.stop()
