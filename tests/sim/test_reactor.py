"""Simulated time: order, cancellation, pauses, ends of processes, and Twisted's loops on top of it."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled, CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTCP, IReactorTime, IReactorUNIX
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txsentinel.sim.network import SimNetwork
from txsentinel.sim.reactor import SimReactor
from txsentinel.sim.simulation import Simulation


class SimulationCase(SynchronousTestCase):
    """A simulation, a network and one reactor."""

    def setUp(self) -> None:
        self.simulation = Simulation(7)
        self.network = SimNetwork(self.simulation)
        self.reactor = SimReactor(self.simulation, self.network, "alpha", "10.0.0.1", boot=5_000_000)
        self.seen: list[object] = []


class ScheduleTests(SimulationCase):
    """``callLater`` and its result."""

    def test_interfaces(self) -> None:
        """The reactor and its calls implement their interfaces."""
        for interface in (IReactorTime, IReactorTCP, IReactorUNIX, IReactorFromThreads):
            verifyObject(interface, self.reactor)
        verifyObject(IDelayedCall, self.reactor.callLater(1, self.seen.append, 1))

    def test_order_of_time(self) -> None:
        """Calls happen by due time, and in the order of scheduling where that is equal."""
        for delay in (0.3, 0.1, 0.2, 0.1):
            self.reactor.callLater(delay, self.seen.append, (delay, len(self.seen)))
        self.reactor.callLater(0.1, self.seen.append, "last of 0.1")
        self.simulation.run(1)
        self.assertEqual(self.seen, [(0.1, 0), (0.1, 0), "last of 0.1", (0.2, 0), (0.3, 0)])

    def test_time_while_called(self) -> None:
        """Within a call the clock shows its due time, not the end of the run."""
        self.reactor.callLater(0.25, lambda: self.seen.append(self.reactor.seconds()))
        self.simulation.run(60)
        self.assertAlmostEqual(self.seen[0], 5.25, places=5)
        self.assertEqual(self.reactor.seconds(), 65.0)

    def test_never_early(self) -> None:
        """A call is at least a microsecond late, however small its delay."""
        call = self.reactor.callLater(0, self.seen.append, 1)
        self.assertGreater(call.getTime(), self.reactor.seconds())

    def test_negative_delay(self) -> None:
        """A negative delay is refused."""
        self.assertRaises(ValueError, self.reactor.callLater, -0.1, self.seen.append, 1)

    def test_cancel(self) -> None:
        """A cancelled call does not happen, and raises when it is cancelled again."""
        call = self.reactor.callLater(0.1, self.seen.append, 1)
        call.cancel()
        self.simulation.run(1)
        self.assertEqual(self.seen, [])
        self.assertFalse(call.active())
        self.assertRaises(AlreadyCancelled, call.cancel)

    def test_cancel_after_call(self) -> None:
        """A call that has happened cannot be cancelled, delayed or reset."""
        call = self.reactor.callLater(0.1, self.seen.append, 1)
        self.simulation.run(1)
        self.assertRaises(AlreadyCalled, call.cancel)
        self.assertRaises(AlreadyCalled, call.delay, 1)
        self.assertRaises(AlreadyCalled, call.reset, 1)

    def test_postpone_and_advance(self) -> None:
        """A call can be moved in both directions, any number of times, and happens once."""
        call = self.reactor.callLater(1, lambda: self.seen.append(self.simulation.seconds()))
        call.reset(5)
        self.simulation.run(2)
        call.delay(2)
        self.simulation.run(2)
        self.assertEqual(self.seen, [])
        call.reset(0.5)
        self.simulation.run(60)
        self.assertEqual(self.seen, [4.5])

    def test_postponed_then_cancelled(self) -> None:
        """A postponed call that is cancelled afterwards does not happen at either time."""
        call = self.reactor.callLater(1, self.seen.append, 1)
        call.reset(5)
        self.simulation.run(2)
        call.cancel()
        self.simulation.run(10)
        self.assertEqual(self.seen, [])

    def test_stale_entries_are_dropped(self) -> None:
        """A million calls made and cancelled do not fill the memory."""
        for _ in range(20_000):
            self.reactor.callLater(1000, self.seen.append, 1).cancel()
        self.assertLess(self.simulation.pending, 10_000)

    def test_get_delayed_calls(self) -> None:
        """Only the pending calls of this reactor are listed, the soonest first."""
        other = SimReactor(self.simulation, self.network, "beta", "10.0.0.2")
        later, sooner = self.reactor.callLater(2, self.seen.append, 1), self.reactor.callLater(1, self.seen.append, 1)
        other.callLater(1, self.seen.append, 1)
        self.reactor.callLater(1, self.seen.append, 1).cancel()
        self.assertEqual(self.reactor.getDelayedCalls(), [sooner, later])

    def test_exception_does_not_stop_the_run(self) -> None:
        """An exception of a delayed call is logged and recorded with its location, and nothing else is affected."""
        self.reactor.callLater(0.1, lambda: 1 // 0)
        self.reactor.callLater(0.2, self.seen.append, 1)
        self.simulation.run(1)
        self.assertEqual(self.seen, [1])
        self.assertEqual(
            [(failure.place, failure.what) for failure in self.simulation.failures],
            [("alpha", "a delayed call raised")],
        )
        self.assertIn("division", str(self.simulation.failures[0]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_exception_outside_the_hosts(self) -> None:
        """An exception of a call outside the hosts ends the run: the test is wrong."""
        self.simulation.call_later(0.1, lambda: 1 // 0)
        self.assertRaises(ZeroDivisionError, self.simulation.run, 1)


class RunTests(SimulationCase):
    """The extent of a run."""

    def test_run_until(self) -> None:
        """The run stops right after the event that made the condition true."""
        self.reactor.callLater(0.1, self.seen.append, 1)
        self.reactor.callLater(0.2, self.seen.append, 2)
        self.assertTrue(self.simulation.run_until(lambda: self.seen, limit=10))
        self.assertEqual(self.seen, [1])
        self.assertLess(self.simulation.seconds(), 0.2)

    def test_run_until_gives_up(self) -> None:
        """A run whose condition never holds ends after the limit."""
        self.assertFalse(self.simulation.run_until(lambda: False, limit=3))
        self.assertEqual(self.simulation.seconds(), 3.0)

    def test_empty_step(self) -> None:
        """A simulation without events reports that."""
        self.assertFalse(self.simulation.step())

    def test_digest(self) -> None:
        """The digest depends on the noted data and its times."""
        digests = []
        for pause in (1, 1, 2):
            simulation = Simulation(7)
            simulation.run(pause)
            simulation.note("something")
            digests.append(simulation.digest())
        self.assertEqual(digests[0], digests[1])
        self.assertNotEqual(digests[0], digests[2])

    def test_digest_of_many_notes(self) -> None:
        """Every note counts, the first and the last of many; reading the digest in between makes no difference."""

        def digest(numbers: range, read_at: int = -1) -> str:
            simulation = Simulation(7)
            for number in numbers:
                simulation.note_bytes(b"host", b"%d" % number)
                if number == read_at:
                    simulation.digest()
            return simulation.digest()

        whole = digest(range(2_000))
        self.assertEqual(digest(range(2_000), read_at=700), whole)
        others = {digest(range(1, 2_000)), digest(range(1_999)), digest(range(2_001))}
        self.assertEqual(len(others | {whole}), 4)


class StallTests(SimulationCase):
    """Paused processes."""

    def test_late_but_in_order(self) -> None:
        """Calls due in a pause happen at its end, in order, and are as late as the pause was long."""
        for delay in (0.1, 0.2, 9.0):
            self.reactor.callLater(
                delay, lambda delay=delay: self.seen.append((delay, round(self.simulation.seconds(), 3)))
            )
        self.reactor.stall()
        self.simulation.run(5)
        self.assertEqual(self.seen, [])
        self.reactor.unstall()
        self.simulation.run(5)
        self.assertEqual(self.seen, [(0.1, 5.0), (0.2, 5.0), (9.0, 9.0)])

    def test_others_run_on(self) -> None:
        """A pause affects one process only."""
        other = SimReactor(self.simulation, self.network, "beta", "10.0.0.2")
        other.callLater(0.1, self.seen.append, "beta")
        self.reactor.stall()
        self.simulation.run(1)
        self.assertEqual(self.seen, ["beta"])

    def test_parked_calls_are_pending(self) -> None:
        """A call that came due in a pause is still pending, and can be cancelled."""
        call = self.reactor.callLater(0.1, self.seen.append, 1)
        self.reactor.stall()
        self.simulation.run(1)
        self.assertEqual(self.reactor.getDelayedCalls(), [call])
        call.cancel()
        self.reactor.unstall()
        self.simulation.run(1)
        self.assertEqual(self.seen, [])

    def test_ended_process(self) -> None:
        """No call of an ended process happens, and it can schedule none."""
        self.reactor.callLater(0.1, self.seen.append, 1)
        self.reactor.die()
        self.reactor.callLater(0.1, self.seen.append, 2)
        self.reactor.callFromThread(self.seen.append, 3)
        self.simulation.run(1)
        self.assertEqual(self.seen, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class TwistedTests(SimulationCase):
    """Twisted's own machinery, unmodified."""

    def test_looping_call(self) -> None:
        """A LoopingCall of 100 ms fires ten times a second for a simulated day, never twice at once."""
        times: list[int] = []
        loop = LoopingCall(lambda: times.append(self.simulation.time))
        loop.clock = self.reactor
        loop.start(0.1, now=False)
        self.simulation.run(3600)
        self.assertEqual(len(times), 36_000 - (times[-1] < 3_600_000_000 - 50_000))
        gaps = {round((later - sooner) / 1000) for sooner, later in pairwise(times)}
        self.assertEqual(gaps, {100})

    def test_looping_call_skips_a_stall(self) -> None:
        """After a pause a LoopingCall is late once, then returns to its schedule."""
        loop = LoopingCall(lambda: self.seen.append(round(self.simulation.seconds(), 2)))
        loop.clock = self.reactor
        loop.start(1.0, now=False)
        self.simulation.run(1.5)
        self.reactor.stall()
        self.simulation.run(3.2)
        self.reactor.unstall()
        self.simulation.run(2)
        self.assertEqual(self.seen, [1.0, 4.7, 5.0, 6.0])

    def test_shutdown_triggers(self) -> None:
        """Stopping fires the triggers phase by phase, waiting for the Deferreds of the first."""
        closing: Deferred[None] = Deferred()
        self.reactor.addSystemEventTrigger("after", "shutdown", self.seen.append, "after")
        self.reactor.addSystemEventTrigger("before", "shutdown", lambda: closing)
        unwanted = self.reactor.addSystemEventTrigger("during", "shutdown", self.seen.append, "unwanted")
        self.reactor.addSystemEventTrigger("during", "shutdown", self.seen.append, "during")
        self.reactor.removeSystemEventTrigger(unwanted)
        self.reactor.stop()
        self.assertEqual(self.seen, [])
        closing.callback(None)
        self.assertEqual(self.seen, ["during", "after"])

    def test_call_when_running(self) -> None:
        """A simulated reactor runs from the beginning."""
        self.reactor.callWhenRunning(self.seen.append, 1)
        self.assertEqual(self.seen, [1])

    def test_unix_sockets_are_refused(self) -> None:
        """UNIX sockets are refused as unsupported."""
        self.assertRaises(CannotListenError, self.reactor.listenUNIX, "/run/s.sock", Factory())
        self.assertRaises(OSError, self.reactor.connectUNIX, "/run/s.sock", Factory())
