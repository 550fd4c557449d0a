"""The TCP proxy over real servers: a writer rides through a failover, and idle connections end at the switch."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import TestCase

from examples.failover import MASTER, Failover, run
from examples.proxy import ProxiedClient
from tests.interop.fixtures import SECONDS
from tests.servers import missing
from txsentinel.demo.blocking import Connection, wait_for
from txsentinel.demo.other_programs import ProxyProcess, find_program
from txsentinel.demo.processes import RedisProcess

IDLE = 1000
LARGE = 1 << 20
COUNT = 40


class ProxyTests(TestCase):
    """One group: the first master is killed, the second one is frozen."""

    if missing("valkey"):
        skip = missing("valkey")

    client: ClassVar[ProxiedClient]
    stored: ClassVar[list[bool]]
    half_closed: ClassVar[bytes]
    growth: ClassVar[int]
    large: ClassVar[int]
    read_from: ClassVar[str]
    ended: ClassVar[int]
    ended_early: ClassVar[int]
    metrics: ClassVar[dict[str, float]]
    promtool: ClassVar[str]
    status: ClassVar[int | None]
    log: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        """Run the failovers."""
        super().setUpClass()
        cls.client = ProxiedClient()
        run([cls.client], lambda _: None, cls.finish)
        proxy = cls.client.proxy
        assert proxy is not None
        cls.status = proxy.exit_status

    @classmethod
    def finish(cls, failover: Failover) -> None:
        """Use the proxy after the first failover, and begin the second one."""
        proxy, writer = cls.client.proxy, cls.client.writer
        assert proxy is not None and writer is not None
        fleet = failover.fleet
        new = fleet.servers[int(failover.new.rpartition(":")[2])]
        cls.stored = [new.call("EXISTS", f"number:{number}") == 1 for number in cls.numbers(new.port)]
        cls.use(proxy.port, proxy.pid, new)
        wait_for(lambda: fleet.master_port() == new.port, SECONDS, "all Sentinels to agree")
        wait_for(lambda: new.replication()["connected_slaves"] == "1", SECONDS, "the replica to follow")
        # While the proxy knows no replica, the master is read from.
        wait_for(lambda: cls.role_at(proxy.read_only_port) == "slave", SECONDS, "the replica behind the proxy")
        cls.read_from = cls.role_at(proxy.read_only_port)
        for sentinel in fleet.sentinels:
            # The next failover begins no sooner than after twice this time.
            sentinel.call("SENTINEL", "SET", MASTER, "failover-timeout", 1000)
        cls.cut_idle(proxy, new)
        closed = 'txsentinel_proxy_closed_connections_total{reason="switch"}'
        wait_for(lambda: proxy.metrics()[closed] >= IDLE, SECONDS, "the proxy to count the closed connections")
        cls.metrics = proxy.metrics()
        page = subprocess.run(
            ["curl", "-s", f"http://127.0.0.1:{proxy.metrics_port}/metrics"], capture_output=True, timeout=SECONDS
        ).stdout
        promtool = find_program("promtool")
        if promtool:
            done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=SECONDS)
            cls.promtool = f"{done.returncode} {done.stderr.decode()}"
        proxy.stop()
        cls.log = proxy.log_text()

    @staticmethod
    def role_at(port: int) -> str:
        """Return the role of the server behind a port of the proxy."""
        with Connection(port) as reader:
            return str(reader.call("ROLE")[0])  # type: ignore[index]

    @classmethod
    def numbers(cls, port: int) -> list[int]:
        """Return the numbers that a server has acknowledged."""
        assert cls.client.writer is not None
        values = cls.client.writer.acknowledged.values
        return [value[0] for value in values if isinstance(value, tuple) and value[1] == port]

    @classmethod
    def use(cls, port: int, pid: int, master: RedisProcess) -> None:
        """Half-close a connection, and read from another one late."""
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            connection.sendall(b"PING\r\n")
            connection.shutdown(socket.SHUT_WR)
            cls.half_closed = b"".join(iter(lambda: connection.recv(100), b""))
        master.call("SET", "large", "x" * LARGE)
        before = resident(pid)
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            connection.sendall(b"GET large\r\n" * COUNT + b"QUIT\r\n")
            wait_for(lambda: waiting_bytes(master) > 16 * LARGE, SECONDS, "replies that wait at the server")
            cls.growth = resident(pid) - before
            cls.large = sum(map(len, iter(lambda: connection.recv(LARGE), b"")))

    @classmethod
    def cut_idle(cls, proxy: ProxyProcess, master: RedisProcess) -> None:
        """Freeze the master under idle connections, and wait for their end."""
        with contextlib.ExitStack() as stack:
            address = ("127.0.0.1", proxy.port)
            idle = [stack.enter_context(socket.create_connection(address, SECONDS)) for _ in range(IDLE)]
            open_connections = 'txsentinel_proxy_connections{port="master"}'
            wait_for(lambda: proxy.metrics()[open_connections] >= IDLE, SECONDS, "all connections")
            for each in idle:
                each.setblocking(False)
            cls.ended_early = sum(has_ended(each) for each in idle)
            master.freeze()
            wait_for(lambda: has_ended(idle[0]), SECONDS, "the first end", every=0.01)
            wait_for(lambda: all(has_ended(each) for each in idle), SECONDS, "the other ends", every=0.01)
            cls.ended = sum(has_ended(each) for each in idle)
        master.thaw()

    def test_writer(self) -> None:
        """Writes go on at the new master, over the same address; what it has acknowledged is there."""
        assert self.client.writer is not None
        self.assertGreaterEqual(self.client.writer.connections, 2)
        self.assertGreater(len(self.stored), 0)
        self.assertTrue(all(self.stored))

    def test_no_write_to_two_masters(self) -> None:
        """Numbers are acknowledged in order: nothing is written to a former master after the switch."""
        assert self.client.writer is not None
        values = [value[0] for value in self.client.writer.acknowledged.values if isinstance(value, tuple)]
        self.assertEqual(values, sorted(values))

    def test_half_close(self) -> None:
        """A client that ends its output gets its reply."""
        self.assertEqual(self.half_closed, b"+PONG\r\n")

    def test_backpressure(self) -> None:
        """Replies that a client does not read stay at the server, and arrive when it reads."""
        reply = f"${LARGE}\r\n{'x' * LARGE}\r\n"
        self.assertEqual(self.large, COUNT * len(reply) + len("+OK\r\n"))
        self.assertLess(self.growth, 16 * LARGE)

    def test_read_only_port(self) -> None:
        """The port for reading leads to the replica."""
        self.assertEqual(self.read_from, "slave")

    def test_idle_connections(self) -> None:
        """Connections to a master that does not answer are all closed at the switch."""
        self.assertEqual((self.ended_early, self.ended), (0, IDLE))
        self.assertGreaterEqual(self.metrics['txsentinel_proxy_closed_connections_total{reason="switch"}'], IDLE)
        self.assertEqual(self.metrics["txsentinel_proxy_switches_total"], 2)

    def test_page(self) -> None:
        """``promtool`` finds nothing wrong with the metrics."""
        if not find_program("promtool"):
            self.skipTest("there is no promtool")
        self.assertEqual(self.promtool, "0 ")

    def test_end(self) -> None:
        """SIGTERM ends the proxy cleanly, with its counters in the log."""
        self.assertEqual(self.status, 0)
        self.assertIn("2 switches", self.log)
        self.assertNotIn("Traceback", self.log)


def resident(pid: int) -> int:
    """Return the bytes of memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def waiting_bytes(server: RedisProcess) -> int:
    """Return the size of the largest output of a client that waits at a server."""
    lines = str(server.call("CLIENT", "LIST", "TYPE", "normal")).splitlines()
    return max(int(word[5:]) for line in lines for word in line.split() if word.startswith("omem="))


def has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection from which nothing else is to be read."""
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
