"""
The states of the store: what each input causes in each of them, with a disk that the test controls.

A row of the tables below is a situation, an input, and everything that can be observed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.config.state import FakeCore, FakeHost, make_master
from txsentinel.config import store as store_module
from txsentinel.config.directives import classify
from txsentinel.config.document import ConfigDocument
from txsentinel.config.store import ConfigStore
from txsentinel.config.write_attempts import HANG_LIMIT, LAST_RETRY, PROBE_PERIOD, STOP_LIMIT
from txsentinel.interfaces import IHost
from txsentinel.model.measurements import Measurements

FULL, STUCK, READ_ONLY = 28, 110, 30


@dataclass(frozen=True)
class Result:
    """What can be observed of a store."""

    writes: int = 0
    """Number of writes in progress."""

    probes: int = 0
    """Number of probes in progress."""

    timers: tuple[float, ...] = ()
    """Delays of scheduled calls in seconds, in order."""

    failing: bool = False
    durable: tuple[int, ...] = ()
    """Generations that were reported durable by the input."""

    failures: tuple[tuple[int, int], ...] = ()
    """Generations that were reported as failed by the input, with the error number."""

    stopped: tuple[bool, ...] = ()
    """Whether each Deferred of ``stop`` has fired."""


class Situation:
    """A store, and inputs to it. One master is monitored; generation 1 is durable."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.files = self.host.files
        self.core = FakeCore()
        self.master = self.core.add(make_master("m"))
        self.durable: list[int] = []
        self.failures: list[tuple[int, int]] = []
        self.stops: list[Deferred[None]] = []
        self.finished_probes = 0
        self.generation = 0
        self.measurements = Measurements()
        self.on_failure: Callable[[], None] = lambda: None
        self.on_durable: Callable[[], None] = lambda: None
        self.store = ConfigStore(
            cast(IHost, self.host),
            "/s.conf",
            ConfigDocument(b"", classify),
            self.core,
            self._durable,
            self._failed,
            measurements=self.measurements,
        )
        self.change()
        self.turn()
        self.done()

    def _durable(self, generation: int) -> None:
        self.durable.append(generation)
        self.on_durable()

    def _failed(self, generation: int, error: OSError) -> None:
        self.failures.append((generation, error.errno or 0))
        self.on_failure()

    def seen(self) -> Result:
        """Return what can be observed, and forget the reports."""
        now = self.host.reactor.seconds()
        seen = Result(
            self.files.pending,
            len(self.files.probes) - self.finished_probes,
            tuple(sorted(round(call.getTime() - now, 3) for call in self.host.reactor.getDelayedCalls())),
            self.store.failing,
            tuple(self.durable),
            tuple(self.failures),
            tuple(stopped.called for stopped in self.stops),
        )
        self.durable.clear()
        self.failures.clear()
        return seen

    # Inputs.

    def change(self) -> None:
        """Record and commit a change of the master."""
        self.generation += 1
        self.master.leader_epoch = self.generation
        self.store.note_dirty({"m"})
        self.store.commit_soon(self.generation)

    def note(self) -> None:
        """Record a change without committing it."""
        self.store.note_dirty({"m"})

    def note_nothing(self) -> None:
        """Record that no lines have changed."""
        self.store.note_dirty(set())

    def commit_again(self) -> None:
        """Commit a generation that was committed before."""
        self.store.commit_soon(self.generation)

    def replace(self) -> None:
        """Replace the lines of a directive."""
        self.store.replace_generic("loglevel", ["loglevel debug"])

    def prepare(self) -> None:
        """Render ahead."""
        self.store.prepare()

    def probe(self) -> None:
        """Begin to probe periodically."""
        self.store.probe()

    def probed(self) -> None:
        """Let the oldest probe succeed."""
        self.files.probes[self.finished_probes].callback("")
        self.finished_probes += 1

    def not_probed(self) -> None:
        """Let the oldest probe fail."""
        self.finished_probes += 1
        self.files.probes[self.finished_probes - 1].errback(OSError(READ_ONLY, "Read-only file system"))

    def done(self) -> None:
        """Let the oldest write succeed."""
        self.files.done()

    def fail(self) -> None:
        """Let the oldest write fail."""
        self.files.fail()

    def stop(self) -> None:
        """Stop the store."""
        self.stops.append(self.store.stop())

    def turn(self) -> None:
        """Run what is due."""
        self.host.reactor.advance(0)

    def tenth(self) -> None:
        """Let the first delay after a failure pass."""
        self.host.reactor.advance(0.1)

    def hang(self) -> None:
        """Let the time limit of a write pass."""
        self.host.reactor.advance(HANG_LIMIT)

    def late(self) -> None:
        """Let the time limit pass in a turn that is late, by no more than half of it."""
        self.host.reactor.advance(1.5 * HANG_LIMIT)

    def resume(self) -> None:
        """Let much time pass at once, as if the process had been stopped."""
        self.host.reactor.advance(2 * HANG_LIMIT)

    def period(self) -> None:
        """Let the interval of probes pass."""
        self.host.reactor.advance(PROBE_PERIOD)


STATES: dict[str, tuple[str, ...]] = {
    "idle": (),
    "scheduled": ("change",),
    "writing": ("change", "turn"),
    "hanging": ("change", "turn", "hang"),
    "waiting": ("change", "turn", "fail"),
    "rewriting": ("change", "turn", "fail", "tenth"),
    "ending": ("stop",),
    "last": ("change", "turn", "stop"),
}
"""Inputs that lead to each state."""

TABLE: tuple[tuple[str, str, Result], ...] = (
    ("idle", "change", Result(timers=(0.0,))),
    ("idle", "note", Result()),
    ("idle", "commit_again", Result()),
    ("idle", "note commit_again", Result(timers=(0.0,))),
    ("idle", "note note_nothing commit_again", Result(timers=(0.0,))),
    ("idle", "replace", Result(timers=(0.0,))),
    ("idle", "replace turn", Result(writes=1, timers=(HANG_LIMIT,))),
    ("idle", "prepare", Result()),
    ("idle", "probe", Result(probes=1)),
    ("idle", "probe probed", Result(timers=(PROBE_PERIOD,))),
    ("idle", "probe not_probed", Result(timers=(0.1, PROBE_PERIOD), failing=True, failures=((1, READ_ONLY),))),
    ("idle", "probe not_probed probe", Result(0, 0, (0.1, *[PROBE_PERIOD] * 2), True, failures=((1, READ_ONLY),))),
    ("idle", "probe not_probed tenth", Result(1, timers=(HANG_LIMIT, 9.9), failing=True, failures=((1, READ_ONLY),))),
    ("idle", "probe not_probed change", Result(timers=(0.1, PROBE_PERIOD), failing=True, failures=((1, READ_ONLY),))),
    ("idle", "stop", Result(stopped=(True,))),
    ("idle", "probe probed stop stop", Result(stopped=(True, True))),
    ("idle", "note stop", Result(durable=(1,), stopped=(True,))),
    ("scheduled", "change", Result(timers=(0.0,))),
    ("scheduled", "turn", Result(writes=1, timers=(HANG_LIMIT,))),
    ("scheduled", "prepare turn done", Result(durable=(2,))),
    ("scheduled", "probe", Result(probes=1, timers=(0.0,))),
    ("scheduled", "probe not_probed", Result(timers=(0.1, PROBE_PERIOD), failing=True, failures=((2, READ_ONLY),))),
    ("scheduled", "stop", Result(writes=1, timers=(HANG_LIMIT, STOP_LIMIT), stopped=(False,))),
    ("scheduled", "stop done", Result(durable=(2,), stopped=(True,))),
    ("scheduled", "stop done stop", Result(durable=(2,), stopped=(True, True))),
    ("scheduled", "stop fail", Result(failing=True, failures=((2, FULL),), stopped=(True,))),
    ("writing", "change", Result(writes=1, timers=(HANG_LIMIT,))),
    ("writing", "done", Result(durable=(2,))),
    ("writing", "change done", Result(timers=(0.0,), durable=(2,))),
    ("writing", "replace done", Result(timers=(0.0,), durable=(2,))),
    ("writing", "change done turn done", Result(durable=(2, 3))),
    ("writing", "fail", Result(timers=(0.1,), failing=True, failures=((2, FULL),))),
    ("writing", "hang", Result(writes=1, failing=True, failures=((2, STUCK),))),
    ("writing", "late", Result(writes=1, failing=True, failures=((2, STUCK),))),
    ("writing", "resume", Result(writes=1, timers=(HANG_LIMIT,))),
    ("writing", "resume hang", Result(writes=1, failing=True, failures=((2, STUCK),))),
    ("writing", "resume done", Result(durable=(2,))),
    ("writing", "prepare", Result(writes=1, timers=(HANG_LIMIT,))),
    ("writing", "probe", Result(writes=1, timers=(HANG_LIMIT, PROBE_PERIOD))),
    ("writing", "probe done period", Result(probes=1, durable=(2,))),
    ("writing", "stop", Result(writes=1, timers=(STOP_LIMIT,), stopped=(False,))),
    ("hanging", "change", Result(writes=1, failing=True)),
    ("hanging", "prepare", Result(writes=1, failing=True)),
    ("hanging", "period", Result(writes=1, failing=True)),
    ("hanging", "done", Result(durable=(2,))),
    ("hanging", "change done", Result(timers=(0.0,), durable=(2,))),
    ("hanging", "fail", Result(timers=(0.1,), failing=True, failures=((2, FULL),))),
    ("hanging", "probe", Result(writes=1, timers=(PROBE_PERIOD,), failing=True)),
    ("hanging", "stop", Result(writes=1, timers=(STOP_LIMIT,), failing=True, stopped=(False,))),
    ("hanging", "stop done", Result(durable=(2,), stopped=(True,))),
    ("waiting", "change", Result(timers=(0.1,), failing=True)),
    ("waiting", "tenth", Result(writes=1, timers=(HANG_LIMIT,), failing=True)),
    ("waiting", "prepare", Result(timers=(0.1,), failing=True)),
    ("waiting", "probe", Result(timers=(0.1, PROBE_PERIOD), failing=True)),
    ("waiting", "stop", Result(writes=1, timers=(HANG_LIMIT, STOP_LIMIT), failing=True, stopped=(False,))),
    ("waiting", "stop done", Result(durable=(2,), stopped=(True,))),
    ("rewriting", "done", Result(durable=(2,))),
    ("rewriting", "change", Result(writes=1, timers=(HANG_LIMIT,), failing=True)),
    ("rewriting", "fail", Result(timers=(0.2,), failing=True, failures=((2, FULL),))),
    ("rewriting", "fail tenth change", Result(timers=(0.0,), failing=True, failures=((2, FULL),))),
    ("rewriting", "hang", Result(writes=1, failing=True, failures=((2, STUCK),))),
    ("rewriting", "probe", Result(writes=1, timers=(HANG_LIMIT, PROBE_PERIOD), failing=True)),
    ("ending", "change", Result(stopped=(True,))),
    ("ending", "replace", Result(stopped=(True,))),
    ("ending", "prepare", Result(stopped=(True,))),
    ("ending", "probe", Result(stopped=(True,))),
    ("ending", "stop", Result(stopped=(True, True))),
    ("idle", "probe stop", Result(probes=1, timers=(STOP_LIMIT,), stopped=(False,))),
    ("idle", "probe stop stop", Result(probes=1, timers=(STOP_LIMIT,), stopped=(False, False))),
    ("idle", "probe probe stop probed", Result(probes=1, timers=(STOP_LIMIT,), stopped=(False,))),
    ("idle", "probe stop hang", Result(probes=1, stopped=(True,))),
    ("idle", "probe stop hang probed", Result(stopped=(True,))),
    ("last", "fail probe", Result(failing=True, failures=((2, FULL),), stopped=(True,))),
    ("last", "change", Result(writes=1, timers=(STOP_LIMIT,), stopped=(False,))),
    ("last", "prepare", Result(writes=1, timers=(STOP_LIMIT,), stopped=(False,))),
    ("last", "probe", Result(writes=1, timers=(STOP_LIMIT,), stopped=(False,))),
    ("last", "done", Result(durable=(2,), stopped=(True,))),
    ("last", "change done", Result(writes=1, timers=(HANG_LIMIT, STOP_LIMIT), durable=(2,), stopped=(False,))),
    ("last", "change done done", Result(durable=(2, 3), stopped=(True,))),
    ("last", "fail", Result(failing=True, failures=((2, FULL),), stopped=(True,))),
    ("last", "fail change probe", Result(failing=True, failures=((2, FULL),), stopped=(True,))),
    ("last", "change fail", Result(failing=True, failures=((2, FULL),), stopped=(True,))),
    ("last", "hang", Result(writes=1, stopped=(True,))),
    ("last", "hang change done", Result(writes=1, timers=(HANG_LIMIT,), durable=(2,), stopped=(True,))),
    ("last", "hang done", Result(durable=(2,), stopped=(True,))),
    ("last", "hang stop", Result(writes=1, timers=(STOP_LIMIT,), stopped=(True, False))),
    ("last", "stop", Result(writes=1, timers=(STOP_LIMIT,), stopped=(False, False))),
    ("last", "stop done", Result(durable=(2,), stopped=(True, True))),
    ("last", "change done hang", Result(1, failing=True, durable=(2,), failures=((3, STUCK),), stopped=(True,))),
)
"""State, inputs, and what is seen after them."""


def both(result: Result) -> tuple[Result, Result]:
    """Return the same for both results of a check."""
    return result, result


PROBES: tuple[tuple[str, Result, Result], ...] = (
    (
        "change turn",
        Result(1, timers=(HANG_LIMIT, PROBE_PERIOD)),
        Result(1, timers=(HANG_LIMIT, PROBE_PERIOD)),
    ),
    ("change turn hang", *both(Result(1, timers=(PROBE_PERIOD,), failing=True))),
    ("change turn fail", *both(Result(timers=(0.1, PROBE_PERIOD), failing=True))),
    ("stop", *both(Result(stopped=(True,)))),
    ("change turn stop", *both(Result(1, timers=(STOP_LIMIT,), stopped=(False,)))),
)
"""Inputs after a probe began, and what is seen when it then succeeds, and when it fails: it has no effect."""


def run(situation: Situation, inputs: str) -> None:
    """Give the inputs to a store, in order."""
    for name in inputs.split():
        getattr(situation, name)()


class TableTests(SynchronousTestCase):
    """Each input in each state."""

    def test_table(self) -> None:
        """Each row of the table."""
        for state, inputs, expected in TABLE:
            situation = Situation()
            run(situation, " ".join(STATES[state]))
            situation.seen()
            run(situation, inputs)
            self.assertEqual(situation.seen(), expected, f"{state}: {inputs}")

    def test_results_of_late_probes(self) -> None:
        """A probe that ends after a write began, or after the store was stopped, changes nothing."""
        for inputs, good, bad in PROBES:
            for result, expected in (("probed", good), ("not_probed", bad)):
                situation = Situation()
                run(situation, "probe " + inputs)
                situation.seen()
                run(situation, result)
                self.assertEqual((situation.seen(), situation.host.stopped), (expected, []), f"{inputs}: {result}")

    def test_every_state_accepts_every_input(self) -> None:
        """No input of a caller is an error, in whatever state it comes."""
        callers = ("change", "note", "commit_again", "replace", "prepare", "probe", "stop")
        for state, before in STATES.items():
            for name in callers:
                situation = Situation()
                run(situation, " ".join(before))
                run(situation, name)
                self.assertEqual(situation.host.stopped, [], f"{state}: {name}")


class ContentsTests(SynchronousTestCase):
    """Which contents count as durable."""

    def setUp(self) -> None:
        """Set up a store whose first contents are durable, and remember them."""
        self.situation = Situation()
        self.first = self.situation.files.writes[-1][1]

    def back(self) -> None:
        """Change the master back to what it was in the first contents."""
        self.situation.master.leader_epoch = 1
        self.situation.store.note_dirty({"m", "another"})
        self.situation.generation += 1
        self.situation.store.commit_soon(self.situation.generation)

    def assert_written_again(self) -> None:
        """Check that the first contents are written, and durable only once that has succeeded."""
        self.assertEqual((self.situation.files.pending, self.situation.files.writes[-1][1]), (1, self.first))
        self.assertNotIn(self.situation.generation, self.situation.durable)
        self.situation.done()
        self.assertEqual(self.situation.durable[-1], self.situation.generation)

    def test_after_a_failed_write(self) -> None:
        """The failed write may have left other contents, so the former ones are written again."""
        run(self.situation, "change turn fail")
        self.back()
        self.situation.tenth()
        self.assert_written_again()

    def test_after_a_failed_last_write(self) -> None:
        """The same if the store was stopped meanwhile."""
        run(self.situation, "change turn stop fail")
        self.back()
        self.situation.stop()
        self.assert_written_again()

    def test_after_a_failed_probe(self) -> None:
        """A probe that fails is verified by a write, even of the same contents."""
        run(self.situation, "probe not_probed tenth")
        self.situation.durable.clear()
        self.assert_written_again()

    def test_after_a_success(self) -> None:
        """The contents of the last successful write are not written again, those before them are."""
        run(self.situation, "change turn done")
        self.back()
        self.situation.turn()
        self.assert_written_again()
        self.back()
        self.situation.turn()
        self.assertEqual((self.situation.files.pending, self.situation.durable[-1]), (0, self.situation.generation))

    def test_lines_of_some(self) -> None:
        """A vote for one of several masters that changes nothing is not written; FLUSHCONFIG is."""
        run(self.situation, "change")
        self.situation.core.add(make_master("other"))
        self.situation.store.note_dirty({"other"})
        run(self.situation, "turn done")
        for names, writes in (({"m", None}, 0), ({"m", "other"}, 0), ({"m", "other", None}, 1)):
            self.situation.store.note_dirty(names)
            self.situation.store.commit_soon(self.situation.generation)
            self.situation.turn()
            self.assertEqual(self.situation.files.pending, writes, names)

    def test_lines_of_users(self) -> None:
        """The line of each user stays in its place, whatever the order in which they are given."""
        host = FakeHost()
        document = ConfigDocument(b"user al on\n# x\nuser bo on\n", classify)
        store = ConfigStore(cast(IHost, host), "/s.conf", document, FakeCore(), lambda _: None, lambda *_: None)
        store.replace_generic("user", ["user bo off", "user al off"])
        host.reactor.advance(0)
        self.assertTrue(host.files.done().startswith("user al off\n# x\nuser bo off\n"))

    def test_after_a_write_that_hung(self) -> None:
        """The contents of a write that hung are durable once it has succeeded after all."""
        run(self.situation, "change turn hang done note commit_again turn")
        self.assertEqual(self.situation.files.pending, 0)

    def test_identical_last_write(self) -> None:
        """A last write that changes nothing ends at once, without a timer."""
        run(self.situation, "change turn fail tenth done note")
        self.situation.seen()
        self.situation.stop()
        self.assertEqual(self.situation.seen(), Result(durable=(2,), stopped=(True,)))

    def test_size_of_probes(self) -> None:
        """A probe asks for the space of the last contents."""
        self.situation.core.add(make_master("other"))
        run(self.situation, "change turn probe")
        self.situation.done()
        self.situation.period()
        self.assertEqual(self.situation.files.probed_sizes, [len(self.situation.files.writes[-1][1])])


class DelayTests(SynchronousTestCase):
    """When the next attempt is made."""

    def test_doubled_up_to_the_limit(self) -> None:
        """Each failure doubles the delay, up to the limit; a success resets it."""
        situation = Situation()
        run(situation, "change turn")
        delays: list[float] = []
        for _ in range(8):
            situation.fail()
            delays.extend(situation.seen().timers)
            situation.host.reactor.advance(delays[-1])
        self.assertEqual(delays, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LAST_RETRY, LAST_RETRY])
        run(situation, "done change turn fail")
        self.assertEqual(situation.seen().timers, (0.1,))

    def test_probes_do_not_lengthen_it(self) -> None:
        """A failed probe is followed by the delay of the next failure, which it does not double."""
        situation = Situation()
        run(situation, "probe not_probed tenth fail")
        self.assertEqual(situation.seen().timers[0], 0.1)

    def test_change_advances_the_attempt_once(self) -> None:
        """A change brings the attempt forward to 100 ms after the failure; one after that, to the next turn."""
        for passed, expected in ((0.0, 0.1), (0.04, 0.06), (0.1, 0.0), (0.3, 0.0)):
            situation = Situation()
            run(situation, "change turn fail tenth fail")
            situation.host.reactor.advance(0.2)
            situation.fail()
            situation.host.reactor.advance(passed)
            run(situation, "change change")
            self.assertEqual(situation.seen().timers, (expected,), passed)

    def test_change_does_not_delay(self) -> None:
        """A change never puts off an attempt that comes earlier."""
        situation = Situation()
        run(situation, "change turn fail")
        situation.host.reactor.advance(0.05)
        situation.change()
        self.assertEqual(situation.seen().timers, (0.05,))


class CallbackTests(SynchronousTestCase):
    """Calls to the store from within its reports."""

    def test_change_when_durable(self) -> None:
        """A change that the report causes is saved by the next write, which is scheduled once."""
        situation = Situation()
        situation.on_durable = lambda: situation.change() if situation.generation < 3 else None
        run(situation, "change turn done")
        self.assertEqual(situation.seen(), Result(timers=(0.0,), durable=(1, 2)))
        run(situation, "turn done")
        self.assertEqual(situation.seen(), Result(durable=(3,)))

    def test_stop_when_durable(self) -> None:
        """Stopping from within the report ends the store; what is unsaved is written first."""
        for inputs, expected in (
            ("change turn", Result(durable=(1, 2), stopped=(True,))),
            ("change turn change", Result(1, timers=(HANG_LIMIT, STOP_LIMIT), durable=(1, 2), stopped=(False,))),
        ):
            situation = Situation()
            run(situation, inputs)
            situation.on_durable = lambda situation=situation: None if situation.stops else situation.stop()  # type: ignore[misc]
            situation.done()
            self.assertEqual(situation.seen(), expected, inputs)

    def test_change_when_failed(self) -> None:
        """A change that the report of a failure causes does not bring the next attempt forward."""
        situation = Situation()
        situation.on_failure = lambda: situation.change()
        run(situation, "change turn fail")
        self.assertEqual(situation.seen(), Result(timers=(0.1,), failing=True, durable=(1,), failures=((2, FULL),)))

    def test_stop_when_failed(self) -> None:
        """Stopping from within the report of a failure makes the last attempt."""
        situation = Situation()
        situation.on_failure = lambda: situation.stop()
        run(situation, "change turn fail")
        seen = situation.seen()
        self.assertEqual((seen.writes, seen.stopped), (1, (False,)))

    def test_failing_is_known(self) -> None:
        """Reports are made when the attributes of the store have their new values."""
        situation = Situation()
        seen: list[object] = []
        situation.on_durable = lambda: seen.append((situation.store.durable, situation.store.failing))
        situation.on_failure = lambda: seen.append(situation.store.failing)
        run(situation, "change turn hang fail tenth done")
        self.assertEqual(seen, [True, True, (2, False)])


class OverwrittenTests(SynchronousTestCase):
    """Reports that the file is overwritten in place, with the reason."""

    def test_once_until_it_can_be_replaced(self) -> None:
        """A reason is reported when there is one first; again once the file could be replaced meanwhile."""
        reported: list[str] = []
        host, core = FakeHost(), FakeCore()
        store = ConfigStore(
            cast(IHost, host),
            "/s.conf",
            ConfigDocument(b"", classify),
            core,
            lambda _: None,
            lambda *_: None,
            reported.append,
        )
        expected = []
        for step, (reason, new) in enumerate((("", False), ("a", True), ("b", False), ("", False), ("c", True))):
            core.current_epoch = step
            store.note_dirty({None, "m"})
            store.commit_soon(step + 1)
            host.reactor.advance(0)
            host.files.reason = reason
            host.files.done()
            expected += [reason] if new else []
            self.assertEqual(reported, expected, step)

    def test_probes(self) -> None:
        """A probe reports a reason, too; one without a reason changes nothing."""
        reported: list[str] = []
        host = FakeHost()
        store = ConfigStore(
            cast(IHost, host),
            "/s.conf",
            ConfigDocument(b"", classify),
            FakeCore(),
            lambda _: None,
            lambda *_: None,
            reported.append,
        )
        store.probe()
        for reason in ("", "a", "", "a"):
            host.files.probes[-1].callback(reason)
            host.reactor.advance(PROBE_PERIOD)
        self.assertEqual(reported, ["a"])


class BugTests(SynchronousTestCase):
    """Errors that are no ``OSError`` end the process."""

    def test_write(self) -> None:
        """Such an error of a write; nothing is scheduled any more."""
        situation = Situation()
        run(situation, "change turn")
        situation.files.fail(ZeroDivisionError())
        self.assertEqual([what for _, what in situation.host.stopped], ["saving the configuration file"])
        self.assertEqual((situation.seen().failures, situation.host.reactor.getDelayedCalls()), ((), []))

    def test_probe(self) -> None:
        """Such an error of a probe, whatever the state."""
        for state, inputs in STATES.items():
            situation = Situation()
            run(situation, "probe " + " ".join(inputs))
            situation.files.probes[0].errback(ZeroDivisionError())
            ((failure, what),) = situation.host.stopped
            self.assertEqual((failure.type, what), (ZeroDivisionError, "probing the configuration file"), state)


class MeasurementTests(SynchronousTestCase):
    """Durations of writes, and failures."""

    def test_writes(self) -> None:
        """A write is measured from its beginning until it is durable; a failed one is counted."""
        situation = Situation()
        before = situation.measurements.commits.state()
        run(situation, "change turn")
        situation.host.reactor.advance(0.25)
        situation.done()
        run(situation, "change turn fail")
        after = situation.measurements.commits.state()
        self.assertEqual((after.count - before.count, after.sum_ms - before.sum_ms), (1, 250))
        self.assertEqual(situation.measurements.commit_failures, 1)


class SlicedTests(SynchronousTestCase):
    """Changes while lines are rendered in slices of one master each."""

    def setUp(self) -> None:
        """Set up three masters of which all lines are durable."""
        self.patch(store_module, "TIME_SLICE_SECONDS", -1.0)
        self.situation = Situation()
        for name in "ab":
            self.situation.core.add(make_master(name))
        self.situation.store.note_dirty({"a", "b"})
        self.situation.change()
        for _ in range(4):
            self.situation.turn()
        self.situation.done()
        self.situation.seen()

    def vote(self, name: str, epoch: int) -> None:
        """Vote in an epoch that nobody has seen before."""
        core, situation = self.situation.core, self.situation
        core.registry.masters[name].leader_epoch = core.current_epoch = epoch
        situation.generation += 1
        situation.store.note_dirty({name, None})
        situation.store.commit_soon(situation.generation)

    def one_slice(self) -> None:
        """Make one call of the reactor."""
        call = self.situation.host.reactor.calls.pop(0)
        call.called = 1
        call.func(*call.args, **call.kw)

    def begin(self, *names: str) -> None:
        """Begin to render these masters, whose changes do not concern the current epoch."""
        self.situation.store.note_dirty(set(names))
        self.situation.generation += 1
        for name in names:
            self.situation.core.registry.masters[name].config_epoch = self.situation.generation
        self.situation.store.commit_soon(self.situation.generation)
        self.one_slice()
        self.assertEqual(self.situation.files.pending, 0)

    def test_epoch_of_a_late_vote(self) -> None:
        """Once a vote is in the file, its epoch is, too: a file with a later vote than the current epoch is invalid."""
        self.begin("m", "a")
        self.vote("a", 70)
        self.one_slice()
        text = self.situation.files.writes[-1][1].decode()
        self.assertIn("sentinel leader-epoch a 70\n", text)
        self.assertIn("sentinel current-epoch 70\n", text)

    def test_vote_for_a_rendered_master(self) -> None:
        """A master that was rendered before its vote is rendered again; until then the vote is not durable."""
        self.begin("m", "a")
        self.vote("m", 71)
        self.one_slice()
        self.assertNotIn("leader-epoch m 71\n", self.situation.files.writes[-1][1].decode())
        self.situation.done()
        self.assertNotIn(self.situation.generation, self.situation.durable)
        self.one_slice()
        self.assertIn("leader-epoch m 71\n", self.situation.files.writes[-1][1].decode())
        self.situation.done()
        self.assertEqual(self.situation.durable[-1], self.situation.generation)

    def test_stop_between_slices(self) -> None:
        """A store that is stopped between two slices writes all of them, with a time limit for the write."""
        self.begin("m", "a")
        self.situation.stop()
        self.assertEqual(self.situation.seen().timers, (0.0, STOP_LIMIT))
        self.one_slice()
        self.assertEqual(self.situation.seen(), Result(1, timers=(HANG_LIMIT, STOP_LIMIT), stopped=(False,)))

    def test_failure_keeps_what_was_not_rendered(self) -> None:
        """After a failure, changes that were recorded during rendering are in the next write, with their generation."""
        self.begin("m", "a")
        self.vote("m", 72)
        self.one_slice()
        run(self.situation, "fail tenth")
        self.assertIn("leader-epoch m 72\n", self.situation.files.writes[-1][1].decode())
        self.situation.done()
        self.assertEqual(self.situation.durable[-1], self.situation.generation)

    def test_rendering_ahead(self) -> None:
        """Rendering ahead takes one slice a turn, and ends when the store is stopped or a write begins."""
        self.situation.core.options.announce_hostnames = self.situation.core.options.resolve_hostnames = True
        self.situation.prepare()
        for _ in range(2):
            self.assertEqual(self.situation.seen().timers, (0.0,))
            self.one_slice()
        self.situation.stop()
        self.assertEqual(self.situation.seen(), Result(stopped=(True,)))
        for name, timers in (("stop", ()), ("change", (0.0, 0.0))):
            self.setUp()
            self.situation.core.options.announce_hostnames = self.situation.core.options.resolve_hostnames = True
            self.situation.prepare()
            run(self.situation, name)
            self.assertEqual(self.situation.seen().timers, timers)
            while self.situation.host.reactor.calls and not self.situation.files.pending:
                self.one_slice()
            self.assertNotIn(0.0, self.situation.seen().timers)
