"""Tests of the executor: what it does with effects, in which order, and what it reports after a save."""

from __future__ import annotations

from collections.abc import Callable
from errno import EIO, ENOSPC

from twisted.trial.unittest import SynchronousTestCase

from tests.runtime.doubles import RecordingLinks, RecordingScripts, RecordingStore, StepHost
from txsentinel.config.errors import WriteStuck
from txsentinel.core.effects import Announce, Crash, Effect, Note, Ping, Reconfigure, RunScript
from txsentinel.core.link import LinkKind
from txsentinel.core.options import SentinelOptions
from txsentinel.core.sentinel import SentinelCore
from txsentinel.core.state import UNKNOWN_STORAGE_ERROR, StorageError
from txsentinel.model.address import Address
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.model.log_throttle import MAX_LINES, THROTTLE_PERIOD
from txsentinel.model.timings import Limits, Millis, Timings
from txsentinel.runtime.executor import CRASH_STATUS, Executor

PATH = "/etc/sentinel.conf"


class LoggingCore(SentinelCore):
    """A core that records the results of saves in a log, before it handles them."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(SentinelOptions(my_id="a" * 40), Timings(), Limits(), lambda sides: 0)
        self.log = log
        self.errors: list[StorageError] = []

    def committed(self, generation: int, now: Millis) -> None:
        """Handle a durable generation."""
        self.log.append(f"core committed {generation}")
        super().committed(generation, now)

    def commit_failed(self, generation: int, now: Millis, error: StorageError = UNKNOWN_STORAGE_ERROR) -> None:
        """Handle a failed save."""
        self.log.append(f"core failed {generation}")
        self.errors.append(error)
        super().commit_failed(generation, now, error)


class ExecutorCase(SynchronousTestCase):
    """The base of the tests: an executor with a real core and recording neighbours."""

    def setUp(self) -> None:
        self.host = StepHost()
        self.log: list[str] = []
        self.notes_in_log = False
        self.notes: list[tuple[Level, str]] = []
        self.core = LoggingCore(self.log)
        self.reaction: Callable[[Effect], None] = lambda effect: None
        self.links = RecordingLinks(self.performed)
        self.store, self.scripts = RecordingStore(), RecordingScripts()
        self.executor = Executor(self.host, self.core, self.publish, self.note, self.scripts, PATH)  # type: ignore[arg-type]
        self.executor.connect(self.links, self.store, lambda: self.log.append("drained"))
        self.outbox = self.core.outbox
        self.master = self.core.administration.monitor("m", "10.0.0.1", 6379, 2, 0)
        self.executor.drain()
        self.executor.committed(self.outbox.generation)
        self.clear()

    def clear(self) -> None:
        """Forget everything that was recorded."""
        self.log.clear()
        self.notes.clear()
        self.links.effects.clear()
        self.store.dirty.clear()
        self.links.flushes = self.host.yields = 0

    def note(self, level: Level, text: str) -> None:
        """Record a log line, also in ``log`` if a test wants their order."""
        self.notes.append((level, text))
        if self.notes_in_log:
            self.log.append(f"{level.name} {text}")

    def publish(self, event: SentinelEvent) -> None:
        """Record an event."""
        self.log.append(f"publish {event.channel}")

    def performed(self, effect: Effect) -> None:
        """Record an effect of the links."""
        self.log.append(type(effect).__name__)
        self.reaction(effect)

    def ping(self) -> Ping:
        """Return an effect of the links."""
        return Ping(self.master.link, LinkKind.COMMANDS)

    def announce(self, channel: str, *, script: str | None = None, binding: bool = False) -> Announce:
        """Return the announcement of an event."""
        return Announce(SentinelEvent(channel, "text", "m", script), binding)


class DrainTests(ExecutorCase):
    """Effects are executed or wait, and the changed state is saved."""

    def test_executed(self) -> None:
        """What looks at effects is called only if there were some: most replies cause none."""
        calls: list[str] = []
        executor = Executor(self.host, self.core, self.publish, self.note, self.scripts, PATH)  # type: ignore[arg-type]
        executor.connect(self.links, self.store, lambda: calls.append("drained"), lambda: calls.append("executed"))
        executor.drain()
        self.assertEqual(calls, ["drained"])
        self.outbox.emit(self.ping(), probe=True)
        executor.drain()
        self.assertEqual(calls, ["drained", "executed", "drained"])

    def test_probes_and_others(self) -> None:
        """A probe is executed at once, although an effect before it waits for its generation."""
        generation = self.outbox.changed("m")
        self.outbox.emit(self.announce("+vote-for-leader"))
        self.outbox.emit(self.ping(), probe=True)
        self.executor.drain()
        self.assertEqual(self.log, ["Ping", "drained"])
        self.assertEqual((self.store.dirty, self.store.wanted), ({"m"}, generation))
        self.executor.committed(generation)
        self.assertEqual(self.log[2:], [f"core committed {generation}", "publish +vote-for-leader", "drained"])

    def test_nothing_to_do(self) -> None:
        """Without effects the queued commands are sent and the next sweep is adjusted all the same."""
        self.executor.drain()
        self.assertEqual((self.links.flushes, self.log, self.store.dirty), (1, ["drained"], set()))

    def test_changes_without_effects(self) -> None:
        """A change alone is saved, too."""
        generation = self.outbox.changed(None)
        self.executor.drain()
        self.assertEqual((self.store.dirty, self.store.wanted, self.outbox.dirty), ({None}, generation, set()))

    def test_clients_are_polled_in_between(self) -> None:
        """After each effect, waiting or not; the commands are sent once, after all of them."""
        for _ in range(3):
            self.outbox.emit(self.ping(), probe=True)
        self.executor.drain()
        self.assertEqual((self.host.yields, self.links.flushes), (3, 1))

    def test_within_an_effect(self) -> None:
        """Effects that an effect causes are executed behind the present ones, by the outer call."""

        def more_effects(effect: Effect) -> None:
            if self.log.count("Ping") == 1:
                self.outbox.emit(self.announce("+sdown"), probe=True)
                self.outbox.changed("m")
                self.executor.drain()
                self.log.append("returned")

        self.reaction = more_effects
        self.outbox.emit(self.ping(), probe=True)
        self.outbox.emit(self.ping(), probe=True)
        self.executor.drain()
        self.assertEqual(self.log, ["Ping", "returned", "Ping", "publish +sdown", "drained"])
        self.assertEqual((self.links.flushes, self.store.wanted), (1, self.outbox.generation))

    def test_after_an_exception(self) -> None:
        """An effect that raises does not keep later calls from executing effects."""

        def fail(effect: Effect) -> None:
            raise ZeroDivisionError

        self.reaction = fail
        self.outbox.emit(self.ping(), probe=True)
        self.assertRaises(ZeroDivisionError, self.executor.drain)
        self.reaction = lambda effect: None
        self.outbox.emit(self.ping(), probe=True)
        self.executor.drain()
        self.assertEqual(self.log, ["Ping", "Ping", "drained"])

    def test_save(self) -> None:
        """The state can be saved before any effect is executed, as a new ID must be."""
        generation = self.outbox.changed(None)
        self.outbox.emit(self.ping(), probe=True)
        self.assertEqual(self.executor.save(), generation)
        self.assertEqual((self.store.dirty, self.store.wanted, self.log), ({None}, generation, []))

    def test_connected_once(self) -> None:
        """The links and the store cannot be exchanged."""
        self.assertRaises(RuntimeError, self.executor.connect, self.links, self.store, lambda: None)


class SaveTests(ExecutorCase):
    """The results of saves reach the core before what waits for them."""

    def setUp(self) -> None:
        super().setUp()
        self.generation = self.outbox.changed("m")
        self.outbox.emit(self.announce("+sdown"))
        self.outbox.emit(self.announce("+vote-for-leader", binding=True))
        self.executor.drain()
        self.executor.barrier.defer_reply(
            self.generation, lambda: self.log.append("reply"), lambda: self.log.append("refusal")
        )
        self.clear()

    def test_committed(self) -> None:
        """First the core, then the effects in order, then the replies; then what the core decided because of it."""
        self.executor.committed(self.generation)
        effects = ["publish +sdown", "publish +vote-for-leader"]
        self.assertEqual(self.log, [f"core committed {self.generation}", *effects, "reply", "drained"])
        self.assertIn((Level.NOTICE, "Sentinel new configuration saved on disk"), self.notes)

    def test_the_core_is_up_to_date(self) -> None:
        """When a reply is released, the core has the durable state that the reply reports."""
        durable: list[int] = []
        generation = self.outbox.changed("m")
        self.executor.barrier.defer_reply(
            generation, lambda: durable.append(self.core.state.durable_generation), self.fail
        )
        self.executor.committed(generation)
        self.assertEqual(durable, [generation])

    def test_failed(self) -> None:
        """First the core, which then gives no votes; replies fail, and only binding effects keep waiting."""
        self.executor.commit_failed(self.generation, OSError(ENOSPC, "No space left on device"))
        self.assertEqual(self.log, [f"core failed {self.generation}", "refusal", "publish +sdown", "drained"])
        self.assertTrue(self.core.state.storage_failing)
        self.assertEqual(self.core.errors, [StorageError("ENOSPC", "No space left on device", PATH)])
        text = "WARNING: Sentinel was not able to save the new configuration on disk!!!: No space left on device"
        self.assertIn((Level.WARNING, text), self.notes)
        self.clear()
        self.executor.committed(self.generation)
        self.assertEqual(self.log, [f"core committed {self.generation}", "publish +vote-for-leader", "drained"])
        self.assertFalse(self.core.state.storage_failing)

    def test_what_the_core_decides_is_executed(self) -> None:
        """The line with which the core reacts to a failure and to its end is logged in the same turn."""
        self.executor.commit_failed(self.generation, OSError(EIO, "Input/output error"))
        self.assertTrue(any("neither votes nor leads failovers" in text for _, text in self.notes), self.notes)
        self.executor.committed(self.generation)
        self.assertTrue(any("it votes and leads failovers" in text for _, text in self.notes))

    def test_stuck(self) -> None:
        """Only a write that does not end makes later replies fail at once."""
        self.executor.commit_failed(self.generation, OSError(EIO, "Input/output error"))
        self.assertFalse(self.executor.barrier.stuck)
        self.executor.commit_failed(self.generation, WriteStuck(EIO, "The disk does not answer"))
        self.assertTrue(self.executor.barrier.stuck)

    def test_an_error_without_a_number(self) -> None:
        """It is reported as EIO with its text."""
        self.executor.commit_failed(self.generation, OSError("something"))
        self.assertEqual(self.core.errors, [StorageError("EIO", "something", PATH)])

    def test_overwritten(self) -> None:
        """A file that cannot be replaced is reported with the reason."""
        self.executor.overwritten("rename: Device or resource busy")
        line = f"{PATH} is overwritten in place, as it cannot be replaced: rename: Device or resource busy"
        self.assertEqual(self.notes, [(Level.WARNING, line)])


class EffectTests(ExecutorCase):
    """Each kind of effect is executed."""

    def execute(self, *effects: Effect) -> None:
        """Have effects executed at once."""
        for effect in effects:
            self.outbox.emit(effect, probe=True)
        self.executor.drain()

    def test_events(self) -> None:
        """An event is logged before it is published; its script runs if it is a warning."""
        self.notes_in_log = True
        self.execute(self.announce("+sdown", script="/bin/notify"))
        self.execute(self.announce("+slave", script="/bin/notify"))
        first, second = ["WARNING +sdown text", "publish +sdown"], ["NOTICE +slave text", "publish +slave"]
        self.assertEqual(self.log, [*first, "drained", *second, "drained"])
        self.assertEqual(self.scripts.queued, [("/bin/notify", "+sdown", "text")])

    def test_scripts(self) -> None:
        """Scripts are queued with their arguments."""
        self.execute(RunScript("/bin/reconf", ("m", "leader")))
        self.assertEqual(self.scripts.queued, [("/bin/reconf", "m", "leader")])

    def test_crash(self) -> None:
        """The reason is logged, and the process exits with the status of C Sentinels."""
        self.execute(Crash("Failure simulated"))
        self.assertEqual((self.notes, self.host.exits), ([(Level.WARNING, "Failure simulated")], [CRASH_STATUS]))

    def test_outdated_orders(self) -> None:
        """An order that is no longer valid is dropped; a valid one is sent."""
        address = self.master.address
        replica = self.core.registry.add_replica(self.master, Address.literal("10.0.0.2", 6379), 0)
        assert replica is not None
        self.executor.drain()
        self.clear()
        self.execute(Reconfigure(replica.link, "10.9.9.9", 6379))
        self.assertEqual(self.links.effects, [])
        self.execute(Reconfigure(replica.link, address.ip, address.port))
        self.assertEqual(len(self.links.effects), 1)

    def test_notes(self) -> None:
        """A line is logged with its level, and with a date if it has one."""
        self.execute(Note(Level.VERBOSE, "plain"), Note(Level.NOTICE, "until", until=5000))
        self.assertEqual(self.notes[0], (Level.VERBOSE, "plain"))
        self.assertRegex(self.notes[1][1], r"^until \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}$")

    def test_log_throttle(self) -> None:
        """Of each kind a few are logged per minute, then the number of the others; lines without a kind always are."""
        for number in range(MAX_LINES + 5):
            self.execute(Note(Level.WARNING, f"bad {number}", kind="bad"), Note(Level.WARNING, f"own {number}"))
        texts = [text for _, text in self.notes]
        self.assertEqual([text for text in texts if text.startswith("bad")], [f"bad {n}" for n in range(MAX_LINES)])
        self.assertEqual(len([text for text in texts if text.startswith("own")]), MAX_LINES + 5)
        self.host.reactor.advance(THROTTLE_PERIOD / 1000)
        self.execute(Note(Level.WARNING, "again", kind="bad"))
        self.assertEqual(self.notes[-1], (Level.WARNING, "again"))
