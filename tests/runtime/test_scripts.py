"""Tests of the script queue: order, retries, time limit, and log lines."""

# mypy: allow-untyped-calls
from __future__ import annotations

import errno
import fcntl
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.timings import Limits, Millis, Timings
from txsentinel.runtime.host import RealHost
from txsentinel.runtime.scripts import ScriptQueue


class Child:
    """A process that ends when the test demands it."""

    def __init__(self, protocol: Any, pid: int, argv: tuple[str, ...]) -> None:
        self.protocol = protocol
        self.pid: int | None = pid
        self.argv = argv
        self.signals: list[str] = []
        self.gone = False

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready()
        self.signals.append(name)

    def end(self, status: int | None = 0, signal: int | None = None) -> None:
        """End the process."""
        self.pid = None
        done = ProcessDone(0) if status == 0 else ProcessTerminated(status, signal, 0)
        self.protocol.processExited(Failure(done))
        self.protocol.processEnded(Failure(done))


class ScriptHost:
    """A host that records processes instead of creating them."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.children: list[Child] = []
        self.refusal: Exception | None = None
        self.ends_at_once: int | None = None

    def now(self) -> Millis:
        return round(self.reactor.seconds() * 1000)

    def spawn(self, protocol: Any, path: str, arguments: Sequence[str], environment: Mapping[str, str] | None) -> Child:
        assert environment is None
        assert arguments[0] == path
        if self.refusal is not None:
            raise self.refusal
        child = Child(protocol, 1000 + len(self.children), tuple(arguments))
        self.children.append(child)
        protocol.makeConnection(child)
        if self.ends_at_once is not None:
            child.end(self.ends_at_once)
        return child


class ScriptQueueCase(SynchronousTestCase):
    """Build an empty queue."""

    def setUp(self) -> None:
        self.host = ScriptHost()
        self.timings = Timings()
        self.events: list[str] = []
        self.details: list[str] = []
        self.notes: list[str] = []
        self.queue = ScriptQueue(
            self.host,  # type: ignore[arg-type]
            self.timings,
            Limits(),
            self.announced,
            lambda level, text: self.notes.append(text),
        )

    def announced(self, event: SentinelEvent) -> None:
        """Record events, published ones separately."""
        (self.details if event.level is Level.DEBUG else self.events).append(str(event))

    def pass_time(self, millis: Millis) -> None:
        """Advance the clock from call to call."""
        end = self.host.now() + millis
        while (calls := self.host.reactor.getDelayedCalls()) and round(calls[0].getTime() * 1000) <= end:
            self.host.reactor.advance(max(0.0, calls[0].getTime() - self.host.reactor.seconds()))
        self.host.reactor.advance(end / 1000 - self.host.reactor.seconds())

    @property
    def child(self) -> Child:
        """Return the latest process."""
        return self.host.children[-1]


class RunningTests(ScriptQueueCase):
    """Tests of the order."""

    def test_start_at_once(self) -> None:
        """A script starts in the turn in which it is asked for, with its path as its own name."""
        self.queue.enqueue("/bin/notify", ("+sdown", "master mymaster 10.0.0.9 6379"))
        self.assertEqual(self.child.argv, ("/bin/notify", "+sdown", "master mymaster 10.0.0.9 6379"))
        (job,) = self.queue.jobs
        self.assertEqual(
            (job.argv, job.running, job.pid, job.started_at, job.due_at, job.attempts),
            (self.child.argv, True, 1000, 0, None, 1),
        )
        self.assertEqual(self.queue.running, 1)
        self.assertEqual(self.details, ["+script-child 1000"])

    def test_success(self) -> None:
        """Status 0 ends a job; the event has the pid although the process no longer has it."""
        self.queue.enqueue("/bin/notify", ())
        self.child.end()
        self.assertEqual((self.queue.jobs, self.queue.running, self.events), ([], 0, []))
        self.assertEqual(self.details, ["+script-child 1000", "-script-child 1000 0 0"])
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])

    def test_sixteen_at_a_time(self) -> None:
        """Sixteen run at the same time; the next one starts in the turn in which one ends."""
        for number in range(18):
            self.queue.enqueue(f"/bin/{number}", ())
        self.assertEqual((len(self.host.children), self.queue.running, len(self.queue.jobs)), (16, 16, 18))
        self.host.children[5].end()
        self.assertEqual(self.child.argv, ("/bin/16",))
        self.assertEqual(self.queue.running, 16)

    def test_full_queue(self) -> None:
        """Beyond 256 jobs the oldest waiting one is dropped and logged."""
        for number in range(258):
            self.queue.enqueue(f"/bin/{number}", ("now",))
        self.assertEqual(len(self.queue.jobs), 256)
        waiting = [job.path for job in self.queue.jobs if not job.running]
        self.assertEqual((waiting[0], waiting[-1]), ("/bin/18", "/bin/257"))
        self.assertEqual(self.notes[0], "The script queue is full: dropped /bin/16 now")

    def test_arguments_are_bounded(self) -> None:
        """A script gets at most sixteen words, each cut at a NUL."""
        self.queue.enqueue("/bin/notify", ["a\0b", *map(str, range(30))])
        self.assertEqual(len(self.child.argv), 16)
        self.assertEqual(self.child.argv[:3], ("/bin/notify", "a", "0"))

    def test_end_before_the_start_returns(self) -> None:
        """Scripts so quick that they end while they are being started are run one after the other all the same."""
        self.host.ends_at_once = 0
        self.queue.stop()
        for number in range(200):
            self.queue.enqueue(f"/bin/{number}", ())
        self.assertEqual(self.host.children, [])
        self.queue = ScriptQueue(self.host, self.timings, Limits(), self.announced, lambda *_: None)  # type: ignore[arg-type]
        for number in range(200):
            self.queue.enqueue(f"/bin/{number}", ())
        self.assertEqual((len(self.host.children), self.queue.jobs), (200, []))

    def test_stop(self) -> None:
        """After the stop nothing is started; running scripts continue."""
        self.queue.enqueue("/bin/one", ())
        self.queue.enqueue("/bin/two", ())
        self.child.end(1)
        self.queue.stop()
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])
        self.host.children[0].end(1)
        self.queue.enqueue("/bin/three", ())
        self.pass_time(100_000)
        self.assertEqual((len(self.host.children), self.host.children[0].signals), (2, []))
        self.assertEqual(self.host.reactor.getDelayedCalls(), [])


class FailureTests(ScriptQueueCase):
    """Tests of failing scripts."""

    def test_status_above_one(self) -> None:
        """Any status above 1 is final."""
        self.queue.enqueue("/bin/notify", ())
        self.child.end(3)
        self.assertEqual((self.queue.jobs, self.events), ([], ["-script-error /bin/notify 0 3"]))

    def test_retries(self) -> None:
        """Status 1 asks for another attempt: after 30 s, then after twice as long each time, ten in all."""
        self.queue.enqueue("/bin/notify", ())
        delay = 30_000
        for attempt in range(1, 10):
            self.child.end(1)
            (job,) = self.queue.jobs
            self.assertEqual(
                (job.running, job.pid, job.attempts, job.due_at),
                (False, None, attempt, self.host.now() + delay),
            )
            self.pass_time(delay - 1)
            self.assertEqual(len(self.host.children), attempt)
            self.pass_time(1)
            self.assertEqual(len(self.host.children), attempt + 1)
            delay *= 2
        self.assertEqual(self.events, [])
        self.child.end(1)
        self.assertEqual((self.queue.jobs, self.events), ([], ["-script-error /bin/notify 0 1"]))

    def test_killed(self) -> None:
        """A script that was killed by a signal is tried again, ten times in all; then the event has the signal."""
        self.timings.script_max_runtime = 30_000 << 10
        self.queue.enqueue("/bin/notify", ())
        for _ in range(10):
            self.child.end(None, 11)
            self.pass_time(30_000 << 9)
        self.assertEqual((self.queue.jobs, self.events), ([], ["-script-error /bin/notify 11 0"]))
        self.assertEqual(len(self.host.children), 10)
        self.assertEqual(self.details[1], "-script-child 1000 0 11")

    def test_waiting_retry_does_not_block(self) -> None:
        """Jobs behind one that waits for its next attempt are run."""
        self.queue.enqueue("/bin/one", ())
        self.child.end(1)
        self.queue.enqueue("/bin/two", ())
        self.assertEqual(self.child.argv, ("/bin/two",))

    def test_retry_waits_for_a_free_slot(self) -> None:
        """A retry that is due while sixteen others run starts as soon as one of them ends."""
        self.timings.script_max_runtime = 10_000_000
        self.queue.enqueue("/bin/late", ())
        self.child.end(1)
        for _ in range(16):
            self.queue.enqueue("/bin/other", ())
        self.pass_time(40_000)
        self.assertEqual(len(self.host.children), 17)
        self.child.end()
        self.assertEqual(self.child.argv, ("/bin/late",))

    def test_not_executable(self) -> None:
        """A file that is no program counts as status 2: no second attempt, and the log has the reason."""
        self.host.refusal = OSError(errno.ENOEXEC, "Exec format error")
        self.queue.enqueue("/bin/notify", ())
        self.assertEqual((self.queue.jobs, self.events), ([], ["-script-error /bin/notify 0 2"]))
        self.assertIn("Exec format error", self.notes[0])

    def test_arguments_that_cannot_be_encoded(self) -> None:
        """Arguments that cannot be encoded fail the script only."""
        self.host.refusal = UnicodeEncodeError("latin-1", "\u2026", 0, 1, "no such letter")
        self.queue.enqueue("/bin/notify", ("\u2026",))
        self.assertEqual(self.events, ["-script-error /bin/notify 0 2"])

    def test_no_process(self) -> None:
        """If the system cannot create a process, the attempt counts, and the job is tried again soon."""
        self.host.refusal = OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.queue.enqueue("/bin/notify", ())
        (job,) = self.queue.jobs
        self.assertEqual((job.running, job.attempts), (False, 1))
        self.assertEqual(self.events, ["-script-error /bin/notify 99 0"])
        self.host.refusal = None
        self.pass_time(100)
        self.assertEqual((job.running, job.attempts), (True, 2))


class TimeLimitTests(ScriptQueueCase):
    """Tests of the time limit."""

    def test_killed_after_a_minute(self) -> None:
        """After *more* than a minute a script is killed, once, and its end counts as a failure to be tried again."""
        self.queue.enqueue("/bin/notify", ())
        self.pass_time(60_000)
        self.assertEqual(self.child.signals, [])
        self.pass_time(1)
        self.assertEqual((self.child.signals, self.events), (["KILL"], ["-script-timeout /bin/notify 1000"]))
        self.pass_time(5_000)
        self.queue.sweep(self.host.now())
        self.assertEqual(len(self.child.signals), 1)
        self.child.end(None, 9)
        (job,) = self.queue.jobs
        self.assertEqual(job.due_at, self.host.now() + 30_000)
        self.pass_time(90_001)
        self.assertEqual([child.signals for child in self.host.children], [["KILL"], ["KILL"]])

    def test_already_gone(self) -> None:
        """A script that ends just before it is killed is no error."""
        self.queue.enqueue("/bin/notify", ())
        self.child.gone = True
        self.pass_time(60_001)
        self.child.end()
        self.assertEqual((self.child.signals, self.queue.jobs), ([], []))

    def test_changed_limit(self) -> None:
        """A limit that is lowered at run time applies to running scripts within a second."""
        self.queue.enqueue("/bin/notify", ())
        self.pass_time(500)
        self.timings.script_max_runtime = 700
        self.pass_time(1_000)
        self.assertEqual(self.child.signals, ["KILL"])

    def test_delay_from_debug(self) -> None:
        """A retry delay that is changed at run time applies from the next failure on."""
        self.timings.script_retry_delay = 300
        self.queue.enqueue("/bin/notify", ())
        self.child.end(1)
        self.pass_time(300)
        self.child.end(1)
        self.pass_time(599)
        self.assertEqual(len(self.host.children), 2)
        self.pass_time(1)
        self.assertEqual(len(self.host.children), 3)


class RealProcessTests(TestCase):
    """Tests with real processes."""

    timeout = 20

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.host = RealHost(reactor)  # type: ignore[arg-type]
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.events: list[str] = []
        self.idle: Deferred[None] = Deferred()
        timings = Timings(script_retry_delay=20, script_max_runtime=300)
        self.queue = ScriptQueue(self.host, timings, Limits(), self.announced, lambda level, text: None)
        self.addCleanup(self.queue.stop)

    def announced(self, event: SentinelEvent) -> None:
        """Check in a later turn whether all jobs are done."""
        self.events.append(str(event))
        self.host.reactor.callLater(0, self.all_done)

    def all_done(self) -> None:
        """Return a Deferred that fires when no jobs are left."""
        if not self.queue.jobs and not self.idle.called:
            self.idle.callback(None)

    def script(self, *lines: str) -> str:
        """Create a shell script."""
        path = self.directory / "script"
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o755)
        return str(path)

    async def test_descriptors(self) -> None:
        """A script has the descriptors 0, 1 and 2 and none of the files and sockets of the Sentinel."""
        seen = self.directory / "seen"
        own_files = fcntl.fcntl(0, fcntl.F_DUPFD, 77)
        self.addCleanup(os.close, own_files)
        self.assertTrue(os.get_inheritable(own_files))
        self.queue.enqueue(self.script('echo /proc/$$/fd/* > "$1"'), (str(seen),))
        await self.idle
        descriptors = {word.rpartition("/")[2] for word in seen.read_text().split()}
        self.assertLessEqual({"0", "1", "2"}, descriptors)
        self.assertNotIn(str(own_files), descriptors)
        # The shell itself opens the script and the directory that it lists.
        self.assertLessEqual(len(descriptors), 5, descriptors)

    async def test_arguments_and_environment(self) -> None:
        """Arguments arrive unchanged, bytes that are no UTF-8 included, and the environment is inherited."""
        seen = self.directory / "seen"
        word = f"word{random.getrandbits(32)}"
        self.patch(os, "environ", {**os.environ, "TXSENTINEL_TEST": word})
        path = self.script('printf "%s|" "$TXSENTINEL_TEST" "$2" "$#" > "$1"')
        self.queue.enqueue(path, (str(seen), "two words \udcff *"))
        await self.idle
        self.assertEqual(seen.read_bytes(), word.encode() + b"|two words \xff *|2|")

    async def test_retry(self) -> None:
        """A script that fails the first time succeeds the second time."""
        mark = self.directory / "mark"
        self.queue.enqueue(self.script('test -e "$1" && exit 0', 'touch "$1"', "exit 1"), (str(mark),))
        await self.idle
        self.assertEqual([event.split()[0] for event in self.events], ["+script-child", "-script-child"] * 2)
        self.assertTrue(self.events[1].endswith(" 1 0"))
        self.assertTrue(self.events[3].endswith(" 0 0"))

    async def test_no_program(self) -> None:
        """A file that cannot be executed fails with status 2, once."""
        self.queue.enqueue(str(self.directory), ())
        await self.idle
        self.assertEqual(self.events, [f"-script-error {self.directory} 0 2"])

    async def test_too_long(self) -> None:
        """A script that exceeds the limit is killed and tried again."""
        mark = self.directory / "mark"
        path = self.script('test -e "$1" && exit 7', 'touch "$1"', "exec sleep 30")
        self.queue.enqueue(path, (str(mark),))
        await self.idle
        words = [event.split()[0] for event in self.events]
        self.assertEqual(
            words,
            ["+script-child", "-script-timeout", "-script-child", "+script-child", "-script-child", "-script-error"],
        )
        self.assertTrue(self.events[2].endswith(" 0 9"))
        self.assertEqual(self.events[-1], f"-script-error {path} 0 7")
