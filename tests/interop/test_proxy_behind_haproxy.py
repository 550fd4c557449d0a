"""``twistd txsentinel-proxy`` behind HAProxy, which sends the PROXY protocol, and under a client that floods it."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.interop.test_proxy import resident
from tests.servers import Connection, Fleet, Harness, RedisProcess, missing, wait_for
from txsentinel.demo.other_programs import HaproxyProcess, ProxyProcess, find_program
from txsentinel.demo.processes import free_port

TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"

CONFIG = """
global
    stats socket {socket} mode 600 level admin
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen line
    bind 127.0.0.1:{line}
    server proxy 127.0.0.1:{proxy} send-proxy
listen binary
    bind 127.0.0.1:{binary}
    option tcp-check
    tcp-check send PING\\r\\n
    tcp-check expect string +PONG
    server proxy 127.0.0.1:{proxy} send-proxy-v2 check check-send-proxy inter 500ms
"""
"""A port for each version; the health checks have a header that names no client."""

LARGE = 1 << 20
COUNT = 64


class DaemonProcess(ProxyProcess):
    """The proxy, run by ``twistd``."""

    def command_line(self) -> list[str]:
        """Return the command with the options of the verb."""
        words = super().command_line()
        options = words[words.index("proxy") + 1 :]
        return [sys.executable, "-c", TWISTD, "-n", "--pidfile=", "txsentinel-proxy", *options]


class HaproxyTests(SynchronousTestCase):
    """One Sentinel, one server, the proxy and HAProxy."""

    if missing("valkey") or find_program("haproxy") is None:
        skip = missing("valkey") or "not on this machine: haproxy"

    harness: ClassVar[Harness]
    server: ClassVar[RedisProcess]
    proxy: ClassVar[DaemonProcess]
    haproxy: ClassVar[HaproxyProcess]
    ports: ClassVar[dict[str, int]]
    socket: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        """Start everything."""
        cls.harness = Harness()
        cls.stack = contextlib.ExitStack()
        cls.stack.callback(cls.harness.close)
        try:
            fleet = Fleet(cls.harness, ["txsentinel"], "valkey", replicas=0, quorum=1, down_after=600_000)
            fleet.start()
            (cls.server,) = fleet.servers.values()
            ports = [each.port for each in fleet.sentinels]
            directory = cls.harness.directory
            cls.proxy = DaemonProcess(directory / "proxy", fleet.name, ports, ["--accept-proxy"])
            cls.stack.callback(cls.proxy.stop)
            cls.proxy.start(ready=False)
            cls.ports = {"line": free_port(), "binary": free_port()}
            cls.socket = str(directory / "admin.sock")
            config = CONFIG.format(socket=cls.socket, proxy=cls.proxy.port, **cls.ports)
            cls.haproxy = HaproxyProcess(directory / "haproxy", free_port(), config)
            cls.stack.callback(cls.haproxy.stop)
            cls.haproxy.start(ready=False)
            wait_for(lambda: cls.pong("line"), SECONDS, "an answer through HAProxy and the proxy")
        except BaseException:
            cls.stack.close()
            raise

    stack: ClassVar[contextlib.ExitStack]

    @classmethod
    def tearDownClass(cls) -> None:
        """Stop everything."""
        cls.stack.close()

    @classmethod
    def pong(cls, name: str) -> bool:
        """Whether PING is answered through a port of HAProxy."""
        with Connection(cls.ports[name]) as connection:
            return connection.call("PING") == "PONG"

    def status(self) -> str:
        """Return what HAProxy thinks of the proxy, by its health checks."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(self.socket)
            connection.sendall(b"show stat\n")
            text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        rows = [line.split(",") for line in text.splitlines() if line]
        column = rows[0].index("status")
        return next(row[column] for row in rows if row[:2] == ["binary", "proxy"])

    def test_both_versions(self) -> None:
        """Clients behind HAProxy are served with a header of either version, and so are its health checks."""
        for name in self.ports:
            wait_for(lambda: self.pong(name), SECONDS, f"an answer through {name}")  # noqa: B023
            with Connection(self.ports[name]) as connection:
                self.assertEqual(connection.call("SET", name, "x" * LARGE), "OK")
                self.assertEqual(connection.call("GET", name), "x" * LARGE)
        wait_for(lambda: self.status() == "UP", SECONDS, "a health check that succeeds")

    def test_without_header(self) -> None:
        """A client that sends no header is not served, whatever it sends instead."""
        with socket.create_connection(("127.0.0.1", self.proxy.port), SECONDS) as connection:
            connection.sendall(b"PING\r\n")
            received = b""
            with contextlib.suppress(ConnectionResetError):
                received = connection.recv(100)
        self.assertEqual(received, b"")

    def test_flood(self) -> None:
        """What a client sends while the server reads nothing waits in the network, and arrives in the end."""
        before = resident(self.proxy.pid)
        command = b"*3\r\n$3\r\nSET\r\n$5\r\nflood\r\n$%d\r\n" % LARGE + b"x" * LARGE + b"\r\n"
        header = b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 6379\r\n"
        with socket.create_connection(("127.0.0.1", self.proxy.port), SECONDS) as connection:
            connection.sendall(header + b"PING\r\n")
            self.assertEqual(connection.recv(100), b"+PONG\r\n")
            self.server.freeze()
            try:
                left = memoryview(command * COUNT)
                connection.settimeout(1.0)
                with contextlib.suppress(TimeoutError):
                    while left:
                        left = left[connection.send(left) :]
                growth = resident(self.proxy.pid) - before
            finally:
                self.server.thaw()
            self.assertGreater(len(left), LARGE)
            self.assertLess(growth, COUNT // 4 * LARGE)
            connection.settimeout(SECONDS)
            connection.sendall(left)
            expected, received = b"+OK\r\n" * COUNT, b""
            while len(received) < len(expected):
                received += connection.recv(65536)
        self.assertEqual(received, expected)


class DaemonTests(SynchronousTestCase):
    """Starts that fail."""

    def test_port_in_use(self) -> None:
        """The reason is printed, and the status is not 0."""
        with Harness() as harness, socket.create_server(("127.0.0.1", 0)) as other:
            proxy = DaemonProcess(Path(harness.directory / "proxy"), "mymaster", [1])
            proxy.port = other.getsockname()[1]
            proxy.start(ready=False)
            self.assertEqual(proxy.wait_ended(), 1)
            self.assertIn(f"cannot listen on tcp:{proxy.port}:interface=127.0.0.1", proxy.log_text())
