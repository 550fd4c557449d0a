"""Simulated hosts: start and end of a process, its clocks, its disk, its children."""

from __future__ import annotations

from errno import EIO, ENOSPC

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    ProcessDone,
    ProcessExitedAlready,
    ProcessTerminated,
    TimeoutError,
)
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.sim.test_network import Client, Echo, Recorder, Server
from txsentinel.interfaces import IFileStore, IHost
from txsentinel.sim.files import SimFiles
from txsentinel.sim.host import EPOCH, SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.processes import ScriptOutcome
from txsentinel.sim.simulation import Simulation


class HostCase(SynchronousTestCase):
    """Host ``alpha``, and ``beta``, which runs an echo server."""

    seed = 5

    def setUp(self) -> None:
        self.simulation = Simulation(self.seed)
        self.network = SimNetwork(self.simulation)
        self.servers: list[Server] = []
        self.alpha = SimHost(self.simulation, self.network, "alpha", "10.0.0.1")
        self.beta = SimHost(self.simulation, self.network, "beta", "10.0.0.2", self.serve)
        for host in (self.alpha, self.beta):
            host.start()
        self.simulation.run(0.01)

    def serve(self, host: SimHost) -> None:
        """The program of ``beta``."""
        self.servers.append(Server(Echo))
        host.reactor.listenTCP(7, self.servers[-1])

    def connect(self, timeout: float = 30) -> Client:
        """Connect ``alpha`` to ``beta``."""
        factory = Client()
        self.alpha.reactor.connectTCP("10.0.0.2", 7, factory, timeout)
        self.simulation.run(0.1)
        return factory


class ProcessStateTests(HostCase):
    """Starting, pausing, ending."""

    def test_interface(self) -> None:
        """A simulated host implements ``IHost``."""
        verifyObject(IHost, self.alpha)
        verifyObject(IFileStore, self.alpha.files)

    def test_starting_twice(self) -> None:
        """A running host cannot be started."""
        self.assertRaises(RuntimeError, self.alpha.start)

    def test_kill(self) -> None:
        """The kernel of a killed process closes its connections and refuses new ones."""
        client = self.connect()
        self.beta.kill()
        self.simulation.run(0.1)
        self.assertFalse(self.beta.running)
        self.assertEqual(self.beta.exits, [-9])
        self.assertIs(client.client.lost, ConnectionDone)
        self.assertIsNone(self.servers[0].accepted[0].lost)
        self.assertIs(self.connect().failed, ConnectionRefusedError)

    def test_kill_with_unread_bytes(self) -> None:
        """If there was unread data, the peers get a reset."""
        client = self.connect()
        client.client.transport.write(b"?")
        self.beta.kill()
        self.simulation.run(0.1)
        self.assertIs(client.client.lost, ConnectionLost)

    def test_crash_is_silent(self) -> None:
        """A lost machine sends nothing; attempts to connect to it time out."""
        client = self.connect()
        self.beta.crash()
        client.client.transport.write(b"?")
        attempt = self.connect(timeout=5)
        self.simulation.run(60)
        self.assertIsNone(client.client.lost)
        self.assertIs(attempt.failed, TimeoutError)

    def test_crash_with_refusal(self) -> None:
        """If a router reports the loss, attempts are refused, though old connections stay silent."""
        client = self.connect()
        self.beta.crash(refuse=True)
        attempt = self.connect()
        self.simulation.run(10)
        self.assertIs(attempt.failed, ConnectionRefusedError)
        self.assertIsNone(client.client.lost)

    def test_restart_after_crash(self) -> None:
        """A restarted machine does not know its old connections, and resets them when they are used."""
        client = self.connect()
        self.beta.crash()
        client.client.transport.write(b"?")
        self.simulation.run(10)
        self.beta.restart()
        self.simulation.run(5)
        self.assertIs(client.client.lost, ConnectionLost)
        self.assertTrue(self.connect().client.made)
        self.assertEqual((self.beta.starts, len(self.servers)), (2, 2))

    def test_no_power(self) -> None:
        """A host without power cannot be started; a restart turns the power on."""
        self.beta.crash()
        self.assertRaises(RuntimeError, self.beta.start)

    def test_pause(self) -> None:
        """The kernel of a stopped process still accepts; the program gets all of it when it continues."""
        self.beta.pause()
        client = self.connect()
        client.client.transport.write(b"?")
        self.simulation.run(3)
        self.assertTrue(client.client.made)
        self.assertEqual(self.servers[0].accepted, [])
        self.beta.resume()
        self.simulation.run(0.1)
        self.assertEqual(client.client.received, b"?")

    def test_pause_for(self) -> None:
        """A pause of given length ends by itself, and does not affect a successor of the process."""
        self.beta.pause_for(3)
        client = self.connect()
        client.client.transport.write(b"?")
        self.simulation.run(2)
        self.assertEqual(client.client.received, b"")
        self.simulation.run(2)
        self.assertEqual(client.client.received, b"?")
        self.beta.pause_for(3)
        self.beta.restart()
        self.beta.pause()
        self.simulation.run(5)
        self.assertTrue(self.beta.reactor.stalled)

    def test_killed_while_paused(self) -> None:
        """A stopped process can be killed: connections that it had accepted are reset."""
        self.beta.pause()
        client = self.connect()
        client.client.transport.write(b"?")
        self.simulation.run(1)
        self.beta.kill()
        self.simulation.run(1)
        self.assertIs(client.client.lost, ConnectionLost)

    def test_exit(self) -> None:
        """An exit keeps its status, and the output of its last turn is lost."""
        client = self.connect()

        def write_and_exit() -> None:
            self.servers[0].accepted[0].transport.write(b"unsaid")
            self.beta.exit(99)
            self.beta.reactor.callLater(0, self.fail, "the dead called back")

        self.beta.reactor.callLater(0, write_and_exit)
        self.simulation.run(1)
        self.assertEqual((self.beta.exits, client.client.received), ([99], b""))

    def test_fail_stop(self) -> None:
        """A failure that the program reports itself is recorded, and ends it with status 1."""
        self.beta.fail_stop(Failure(ZeroDivisionError("oops")), "the sweep raised")
        self.assertEqual(self.beta.exits, [1])
        self.assertEqual([failure.what for failure in self.simulation.failures], ["the sweep raised"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_terminate(self) -> None:
        """SIGTERM runs the shutdown triggers, waits for them, and gives status 0."""
        closing: Deferred[None] = Deferred()
        self.beta.reactor.addSystemEventTrigger("before", "shutdown", lambda: closing)
        self.beta.terminate()
        self.simulation.run(1)
        self.assertTrue(self.beta.running)
        closing.callback(None)
        self.assertEqual((self.beta.running, self.beta.exits), (False, [0]))

    def test_ended_hosts_do_nothing(self) -> None:
        """A program that continues after its end can neither listen nor connect nor write files."""
        self.beta.kill()
        attempt = Client()
        self.beta.reactor.connectTCP("10.0.0.2", 7, attempt)
        self.beta.reactor.listenTCP(9, Server())
        self.beta.files.replace("/x", b"x")
        self.simulation.run(60)
        self.assertEqual((attempt.client.made, self.beta.files.contents), (False, {}))
        self.assertIsNone(self.network.port_at("10.0.0.2", "10.0.0.2", 9))


class ClockTests(HostCase):
    """Two clocks per host, both simulated."""

    def test_monotonic(self) -> None:
        """The monotonic clock advances with the simulation, in whole milliseconds."""
        before = self.alpha.now()
        self.simulation.run(2.5)
        self.assertEqual(self.alpha.now() - before, 2500)
        self.assertNotEqual(self.alpha.now(), self.beta.now())

    def test_wall_clock(self) -> None:
        """The wall clock drifts and jumps as set; the monotonic one does not."""
        self.assertAlmostEqual(self.alpha.wall_clock(), EPOCH + 0.01)
        self.alpha.drift = 0.001
        self.simulation.run(999.99)
        self.assertAlmostEqual(self.alpha.wall_clock(), EPOCH + 1001, places=3)
        before = self.alpha.now()
        self.alpha.step_wall_clock(-3600)
        self.assertAlmostEqual(self.alpha.wall_clock(), EPOCH + 1001 - 3600, places=3)
        self.assertEqual(self.alpha.now(), before)

    def test_random_numbers(self) -> None:
        """
        Random numbers differ between hosts and between runs of one host, but not between two simulations of one seed.
        """
        again = SimHost(Simulation(self.seed), self.network, "alpha", "10.0.0.1")
        again.start()
        first = again.random.random()
        self.assertEqual(SimHost(Simulation(self.seed), self.network, "alpha", "10.0.0.1").random.random(), first)
        again.restart()
        self.assertNotEqual(again.random.random(), first)
        self.assertNotEqual(self.beta.random.random(), first)


class ResolverTests(HostCase):
    """Host names."""

    def test_table(self) -> None:
        """A known name is resolved after a delay, an unknown one fails after the same delay."""
        self.alpha.names["beta.example"] = "10.0.0.2"
        known, unknown = self.alpha.resolve("beta.example"), self.alpha.resolve("gamma.example")
        self.assertNoResult(known)
        self.simulation.run(0.1)
        self.assertEqual(self.successResultOf(known), "10.0.0.2")
        self.failureResultOf(unknown, DNSLookupError)

    def test_literal(self) -> None:
        """An address is returned as it is, at once."""
        self.assertEqual(self.successResultOf(self.alpha.resolve("10.0.0.9")), "10.0.0.9")

    def test_silent_resolver(self) -> None:
        """A name server that does not answer lets the lookup hang."""
        self.alpha.resolver_silent = True
        answer = self.alpha.resolve("beta.example")
        self.simulation.run(3600)
        self.assertNoResult(answer)


class FilesTests(HostCase):
    """Saving takes time."""

    def test_replace(self) -> None:
        """A file is the old one until the replacement is reported, then the new one."""
        files = self.alpha.files
        self.assertRaises(FileNotFoundError, files.read, "/s.conf")
        done = files.replace("/s.conf", b"new")
        self.simulation.run(0.001)
        self.assertNoResult(done)
        self.simulation.run(0.1)
        self.successResultOf(done)
        self.assertEqual(files.read("/s.conf"), b"new")
        self.assertEqual((files.replacements, files.max_in_flight, files.in_flight), (1, 1, 0))

    def test_fetch(self) -> None:
        """Reading takes time, and waits for a hanging disk; a missing file is reported later, too."""
        files = self.alpha.files
        missing = files.fetch("/users.acl")
        self.assertNoResult(missing)
        self.simulation.run(0.1)
        self.failureResultOf(missing, FileNotFoundError)
        files.contents["/users.acl"] = b"user a on"
        files.stick()
        fetched = files.fetch("/users.acl")
        self.simulation.run(60)
        self.assertNoResult(fetched)
        files.unstick()
        self.simulation.run(2)
        self.assertEqual(self.successResultOf(fetched), b"user a on")

    def test_full_disk(self) -> None:
        """A replacement that fails reports the error and leaves the old file."""
        files = self.alpha.files
        files.contents["/s.conf"] = b"old"
        files.fail_with = OSError(ENOSPC, "No space left on device")
        done = files.replace("/s.conf", b"new")
        self.simulation.run(0.1)
        self.assertEqual(self.failureResultOf(done, OSError).value.errno, ENOSPC)
        self.assertEqual((files.read("/s.conf"), files.failed_replacements), (b"old", 1))

    def test_hanging_disk(self) -> None:
        """On a hanging disk nothing completes until it works again."""
        files = self.alpha.files
        files.stick()
        done = files.replace("/s.conf", b"new")
        self.simulation.run(60)
        self.assertNoResult(done)
        self.assertNotIn("/s.conf", files.contents)
        files.unstick()
        self.simulation.run(0.1)
        self.successResultOf(done)

    def test_slow_disk(self) -> None:
        """A replacement takes the time that the disk needs."""
        self.alpha.files.latency, self.alpha.files.jitter = 500, 0
        done = self.alpha.files.replace("/s.conf", b"new")
        self.simulation.run(0.499)
        self.assertNoResult(done)
        self.simulation.run(0.002)
        self.successResultOf(done)

    def test_unwritable(self) -> None:
        """A file that cannot be written is reported when asked."""
        self.alpha.files.check_writable("/s.conf")
        self.alpha.files.unwritable = OSError(EIO, "Input/output error")
        self.assertRaises(OSError, self.alpha.files.check_writable, "/s.conf")

    def test_crash_while_replacing(self) -> None:
        """After a crash in the middle there is the old file or the new one, never a mixture."""
        seen = []
        for seed in range(20):
            simulation = Simulation(seed)
            host = SimHost(simulation, SimNetwork(simulation), "alpha", "10.0.0.1")
            host.start()
            host.files.contents["/s.conf"] = b"old"
            done = host.files.replace("/s.conf", b"new")
            host.crash()
            simulation.run(10)
            self.assertNoResult(done)
            seen.append(host.files.read("/s.conf"))
        self.assertEqual(sorted({*seen}), [b"new", b"old"])

    def test_disk_works_while_the_process_stalls(self) -> None:
        """A write that a paused process started completes; the process is notified later."""
        done = self.alpha.files.replace("/s.conf", b"new")
        self.alpha.pause()
        self.simulation.run(1)
        self.assertEqual(self.alpha.files.read("/s.conf"), b"new")
        self.assertNoResult(done)
        self.alpha.resume()
        self.simulation.run(0.1)
        self.successResultOf(done)

    def test_repr(self) -> None:
        """The ``repr`` of a store has its host."""
        self.assertIn("alpha", repr(SimFiles(self.simulation, "alpha")))


class Child(ProcessProtocol):
    """Records how a child ended."""

    def __init__(self) -> None:
        self.ended: list[ProcessDone | ProcessTerminated] = []

    def processEnded(self, reason: Failure) -> None:
        """Record the end."""
        assert isinstance(reason.value, ProcessDone | ProcessTerminated)
        self.ended.append(reason.value)


class ProcessTests(HostCase):
    """Child processes."""

    def spawn(self, outcome: ScriptOutcome) -> tuple[Child, IProcessTransport]:
        """Start a child of ``alpha``."""
        self.alpha.script = lambda arguments: outcome
        child = Child()
        return child, self.alpha.spawn(child, "/bin/script", ["script", "one"], {"A": "b"})

    def test_success(self) -> None:
        """A child that succeeds is reported after its duration; its arguments are recorded."""
        child, process = self.spawn(ScriptOutcome(0, 2.0))
        verifyObject(IProcessTransport, process)
        self.simulation.run(1.9)
        self.assertEqual(child.ended, [])
        self.simulation.run(0.2)
        self.assertIsInstance(child.ended[0], ProcessDone)
        kept = self.alpha.spawned[0]
        self.assertEqual((kept.path, kept.arguments, kept.environment), ("/bin/script", ("script", "one"), {"A": "b"}))

    def test_exit_status(self) -> None:
        """A child that fails is reported with its status."""
        child, _ = self.spawn(ScriptOutcome(3, 0.1))
        self.simulation.run(1)
        self.assertIsInstance(child.ended[0], ProcessTerminated)
        self.assertEqual((child.ended[0].exitCode, child.ended[0].signal), (3, None))

    def test_signal(self) -> None:
        """A child that never ends can be killed, once."""
        child, process = self.spawn(ScriptOutcome(None))
        self.simulation.run(600)
        process.signalProcess("KILL")
        self.simulation.run(1)
        self.assertEqual((child.ended[0].exitCode, child.ended[0].signal), (None, 9))
        self.assertRaises(ProcessExitedAlready, process.signalProcess, "KILL")
        self.assertEqual(self.alpha.spawned[0].process.signals, ["SIGKILL"])

    def test_cannot_start(self) -> None:
        """A script that cannot be started raises."""

        def refuse(arguments: object) -> ScriptOutcome:
            raise OSError(8, "Exec format error")

        self.alpha.script = refuse
        self.assertRaises(OSError, self.alpha.spawn, Child(), "/bin/script", ["script"], None)
        self.assertEqual(self.alpha.spawned, [])


class DeterminismTests(SynchronousTestCase):
    """The same seed gives the same run."""

    def run_digest(self, seed: int) -> str:
        """Return the digest of a run with traffic, faults and crashes."""
        simulation = Simulation(seed)
        network = SimNetwork(simulation, jitter=3)

        def program(host: SimHost) -> None:
            host.reactor.listenTCP(7, Server(Echo))
            for target in hosts:
                if target is not host:
                    host.reactor.connectTCP(target.ip, 7, factory := Client(), 5)
                    host.reactor.callLater(0.2, self.send_repeatedly, host, factory.client)

        hosts = [SimHost(simulation, network, f"h{number}", f"10.0.0.{number}", program) for number in range(4)]
        for host in hosts:
            host.start()
        simulation.run(1)
        network.cut(hosts[0], hosts[1])
        hosts[2].kill()
        simulation.run(1)
        network.heal()
        hosts[2].restart()
        simulation.run(2)
        return simulation.digest()

    def send_repeatedly(self, host: SimHost, protocol: Recorder) -> None:
        """Send data repeatedly."""
        if protocol.made and protocol.lost is None:
            protocol.transport.write(b"%d" % host.random.randrange(1000))
            host.reactor.callLater(host.random.random() / 10, self.send_repeatedly, host, protocol)

    def test_same_seed(self) -> None:
        """Two runs of one seed deliver the same bytes at the same times; another seed does not."""
        self.assertEqual(self.run_digest(1), self.run_digest(1))
        self.assertNotEqual(self.run_digest(1), self.run_digest(2))
