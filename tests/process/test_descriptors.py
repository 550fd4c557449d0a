"""Tests of the limits of descriptors and of the backlog: warnings, and operation with limits that are too low."""

from __future__ import annotations

import errno
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from threading import Timer

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import txsentinel
from tests.config.disk import MemoryDisk
from txsentinel.config.configuration import load
from txsentinel.model.events import Level
from txsentinel.process.descriptors import (
    MIN_CLIENTS,
    REPEAT_PERIOD,
    RESERVED,
    Capacity,
    Demand,
    demand_of,
    descriptor_limit,
    descriptors_for_clients,
    raise_descriptor_limit,
    short_queue,
    shortage,
    try_descriptor,
)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(txsentinel.__file__)))

KNOWN = """
maxclients 500
sentinel monitor a 10.0.0.1 6379 2
sentinel monitor b 10.0.0.1 6380 2
sentinel known-replica a 10.0.0.2 6379
sentinel known-replica a 10.0.0.3 6379
sentinel known-replica a 10.0.0.4 6379
""" + "".join(f"sentinel known-sentinel {name} 10.0.1.{n} 26379 {n:040x}\n" for name in "ab" for n in (2, 3))


class DemandTests(SynchronousTestCase):
    """Tests of the demand and the limit of descriptors."""

    def test_of_a_file(self) -> None:
        """A master without a known replica counts one; a peer of two masters counts once."""
        demand = demand_of(load("/s.conf", KNOWN.encode(), disk=MemoryDisk(directories=("/",))))
        self.assertEqual(demand, Demand(clients=500, masters=2, replicas=4, peers=2))
        self.assertEqual(demand.links, 14)
        self.assertEqual(demand.total, 500 + 14 + RESERVED)

    def test_enough(self) -> None:
        """There is no warning if the limit is enough for all clients and links."""
        demand = Demand(500, 2, 4, 2)
        self.assertIsNone(shortage(demand, demand.total))
        self.assertIsNone(shortage(demand, sys.maxsize))
        self.assertIsNotNone(shortage(demand, demand.total - 1))

    def test_too_few_for_all_clients(self) -> None:
        """The warning has the demand, the limit, the number of possible clients, and the remedy."""
        output = shortage(Demand(500, 2, 4, 2), 256)
        self.assertEqual(
            output,
            "WARNING: The limit of open files is 256, but maxclients 500 and 14 connections to servers and Sentinels"
            " need 578. Descriptors are left for 178 clients. Raise the limit: 'ulimit -n 578' before the start, or"
            " LimitNOFILE=578 in the unit of systemd.",
        )
        self.assertEqual(descriptors_for_clients(256, 14), 178)

    def test_too_few_for_the_links(self) -> None:
        """There is a stronger warning if the limit is too low for the links and the minimum of clients."""
        demand = Demand(500, 20, 40, 2)
        least = demand.links + RESERVED + MIN_CLIENTS
        self.assertIn(f"left for {MIN_CLIENTS} clients", str(shortage(demand, least)))
        output = str(shortage(demand, least - 1))
        self.assertIn("SOME SERVERS CANNOT BE MONITORED", output)
        self.assertIn("20 masters, 40 replicas and 2 Sentinels needs 122 connections", output)
        self.assertEqual(descriptors_for_clients(least - 1, demand.links), MIN_CLIENTS)

    def test_requested_limit(self) -> None:
        """The requested limit is enough for twice the links, whatever maxclients is."""
        for demand in (Demand(10_000, 2, 4, 2), Demand(10, 500, 1000, 2)):
            self.assertGreaterEqual(demand.with_reserve, demand.total + demand.links)
            self.assertGreaterEqual(demand.with_reserve, 2 * demand.clients + RESERVED)

    def test_raised(self) -> None:
        """The soft limit is raised as far as the hard limit allows, and never lowered."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        hard = before[1] if before[1] != resource.RLIM_INFINITY else 4096
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), before[1]))
        self.assertEqual(raise_descriptor_limit(100), min(256, hard))
        self.assertEqual(raise_descriptor_limit(300), min(300, hard))
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], min(300, hard))
        self.assertEqual(descriptor_limit(), min(300, hard))


class QueueTests(SynchronousTestCase):
    """Tests of the warning about the backlog."""

    def test_cut_off(self) -> None:
        """The kernel's limit is logged if it is lower, in the words of C."""
        path = self.mktemp()
        with open(path, "w", encoding="ascii") as file:
            file.write("128\n")
        self.assertIsNone(short_queue(128, path))
        self.assertEqual(
            short_queue(511, path),
            f"WARNING: The TCP backlog setting of 511 cannot be enforced because {path} is set to the lower value of"
            " 128.",
        )

    def test_unknown(self) -> None:
        """Without the file, or with invalid contents, there is no warning."""
        path = self.mktemp()
        self.assertIsNone(short_queue(100_000, path))
        for contents in ("", "0\n", "many\n", "\xff"):
            with open(path, "w", encoding="latin-1") as file:
                file.write(contents)
            self.assertIsNone(short_queue(100_000, path))


class CapacityTests(SynchronousTestCase):
    """Tests of the service that checks for free descriptors."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lines: list[tuple[Level, str]] = []
        self.error: int | None = None
        self.service = self.make_service(Demand(10, 1, 1, 0))

    def make_service(self, demand: Demand, backlog: int = 1) -> Capacity:
        """Build a service whose checks fail as the test demands."""
        return Capacity(
            self.clock, demand, backlog, lambda level, text: self.lines.append((level, text)), self.take_one
        )

    def take_one(self) -> None:
        """Raise the error of the test, if there is one."""
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))

    def pass_seconds(self, seconds: int) -> None:
        """Let so many checks pass."""
        self.clock.pump([1] * seconds)

    def test_enough_descriptors(self) -> None:
        """With enough descriptors nothing is logged, at the start and for an hour."""
        self.service.privilegedStartService()
        self.service.startService()
        self.pass_seconds(3600)
        self.assertEqual(self.lines, [])

    def test_low_limits_at_start(self) -> None:
        """Limits that are too low are logged once, as warnings, and do not prevent the start."""
        service = self.make_service(Demand(descriptor_limit(), 1, 1, 0), 1 << 31)
        service.privilegedStartService()
        expected = 2 if os.path.exists("/proc/sys/net/core/somaxconn") else 1
        self.assertEqual([level for level, _ in self.lines], [Level.WARNING] * expected)
        service.startService()
        self.pass_seconds(3600)
        self.assertEqual(len(self.lines), expected)

    def test_exhausted(self) -> None:
        """A lack of descriptors is logged once a minute, and its end is logged."""
        self.service.startService()
        self.error = errno.EMFILE
        self.pass_seconds(1)
        ((level, text),) = self.lines
        self.assertEqual(level, Level.WARNING)
        self.assertIn(f"OUT OF FILE DESCRIPTORS (Too many open files): all {descriptor_limit()} that", text)
        self.assertIn("ulimit -n", text)
        self.pass_seconds(int(REPEAT_PERIOD) - 1)
        self.assertEqual(len(self.lines), 1)
        self.pass_seconds(1)
        self.assertEqual([text for _, text in self.lines], [text] * 2)
        self.error = None
        self.pass_seconds(100)
        self.assertEqual(self.lines[2:], [(Level.NOTICE, "File descriptors are available again.")])

    def test_alternating_state(self) -> None:
        """At most two lines a minute are logged, however often the state changes."""
        self.service.startService()
        for second in range(600):
            self.error = errno.EMFILE if second % 2 else None
            self.pass_seconds(1)
        self.assertEqual(len(self.lines), 20)

    def test_whole_system(self) -> None:
        """If the whole system has no descriptors, the line names the limit of the system."""
        self.service.startService()
        self.error = errno.ENFILE
        self.pass_seconds(1)
        ((_, text),) = self.lines
        self.assertIn("Raise fs.file-max", text)
        self.assertNotIn("ulimit", text)

    def test_other_errors(self) -> None:
        """Other errors of the check are ignored."""
        self.service.startService()
        self.error = errno.EPERM
        self.pass_seconds(5)
        self.assertEqual(self.lines, [])

    def test_stopped(self) -> None:
        """After the stop no check is made and no call is pending; a stop without a start is no error."""
        self.service.startService()
        self.service.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.make_service(Demand(1, 1, 1, 1)).stopService()

    def test_take(self) -> None:
        """The check closes the descriptor that it opened."""
        before = set(os.listdir("/dev/fd"))
        try_descriptor()
        self.assertEqual(set(os.listdir("/dev/fd")), before)


class ProcessTests(SynchronousTestCase):
    """A test with a real Sentinel and a very low limit."""

    LIMIT = 30

    def setUp(self) -> None:
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="cap"))  # short enough for a socket's path
        self.addCleanup(shutil.rmtree, self.directory)
        with open(os.path.join(self.directory, "s.conf"), "w", encoding="ascii") as file:
            file.write("port 0\nunixsocket s.sock\nsentinel monitor m 127.0.0.1 1 2\ntcp-backlog 2000000000\n")
        program = 'ulimit -n "$0"; exec "$@"'
        twistd = "from twisted.scripts.twistd import run; run()"
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", program, str(self.LIMIT), sys.executable, "-c", twistd, "-n", "sentinel", "s.conf"],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": ROOT},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output = ""
        self.addCleanup(self.end)
        watchdog = Timer(60, self.process.kill)  # so that waiting for its output ends
        watchdog.start()
        self.addCleanup(watchdog.cancel)

    def end(self) -> None:
        """End the process, if the test has not."""
        self.process.kill()
        self.process.communicate()

    def read_output(self, seconds: float) -> bool:
        """Read its output, waiting so long at most; return ``False`` at its end."""
        assert self.process.stdout is not None
        if select.select([self.process.stdout], [], [], seconds)[0]:
            more = os.read(self.process.stdout.fileno(), 65536)
            self.output += more.decode()
            return bool(more)
        return True

    def wait_for_log(self, *words: str) -> None:
        """Wait until its log has all these texts."""
        while not all(each in self.output for each in words):
            self.assertTrue(self.read_output(60), f"it ended without {words}: {self.output}")

    def connect(self) -> socket.socket:
        """Connect a client."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(os.path.join(self.directory, "s.sock"))
        return client

    def test_run_out_of_descriptors(self) -> None:
        """It warns and starts, logs that clients have used the last descriptor, and continues when they disconnect."""
        self.wait_for_log("+monitor")
        self.assertIn(
            " # WARNING: SOME SERVERS CANNOT BE MONITORED, and will be considered down: the limit of open", self.output
        )
        self.assertIn(f" is {self.LIMIT}, but monitoring 1 masters, 1 replicas and 0 Sentinels needs 4 ", self.output)
        if sys.platform == "linux":
            self.assertIn(" # WARNING: The TCP backlog setting of 2000000000 cannot be enforced because", self.output)
        clients = []
        while "OUT OF FILE DESCRIPTORS" not in self.output:
            # Saving and connecting take descriptors, too, and release them: some clients come too early.
            clients.append(self.connect())
            self.assertTrue(self.read_output(0.05), self.output)
        for client in clients:
            client.close()
        self.wait_for_log("File descriptors are available again")
        with self.connect() as client:
            client.sendall(b"PING\r\n")
            self.assertEqual(client.recv(7), b"+PONG\r\n")
        self.process.send_signal(signal.SIGTERM)
        self.wait_for_log("Server Shut Down.")
        self.assertNotIn("Traceback", self.output)
