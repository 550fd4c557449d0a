"""Redis servers for the contract tests: simulated ones, and processes of installed ones."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, cast
from unittest import SkipTest

from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.python.failure import Failure

from tests.servers import free_port, missing
from txsentinel.demo.programs import server_binary
from txsentinel.model.timings import Limits
from txsentinel.sim.host import SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.redis.persistence import Persistence
from txsentinel.sim.redis.server import SimRedis
from txsentinel.sim.simulation import Simulation
from txsentinel.wire.replies import NeedMore, ReplyReader
from txsentinel.wire.resp import pack

TIMEOUT = 50.0
"""Seconds after which an expectation has failed."""

START_TIMEOUT = 60.0
"""Seconds that a process may take to start."""


Request: TypeAlias = "str | tuple[str, ...]"
"""A line of words, or the words themselves if one of them is empty."""


def encode(commands: tuple[Request, ...]) -> bytes:
    """Encode requests."""
    return b"".join(pack(*(command.split() if isinstance(command, str) else command)) for command in commands)


class Connection(Protocol):
    """A client of one server; replies come in order."""

    def send(self, *commands: Request) -> None:
        """Send commands in one write."""

    def reply(self) -> Any:
        """
        Return the next reply.

        :raises EOFError: if the server closes the connection.
        :raises TimeoutError: if there is none in time.
        """

    def idle(self) -> bool:
        """Whether no unread data has arrived."""

    def close(self) -> None:
        """Close the connection."""


def call(connection: Connection, command: Request) -> Any:
    """Send a command and wait for its reply."""
    connection.send(command)
    return connection.reply()


def ends(connection: Connection) -> bool:
    """Whether the server closes the connection."""
    try:
        while True:
            connection.reply()
    except EOFError:
        return True
    except TimeoutError:
        return False


def becomes_true(condition: Callable[[], bool]) -> bool:
    """Whether the condition becomes true before the timeout, in real time."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Server(Protocol):
    """A running server."""

    host: str
    port: int

    def connect(self) -> Connection:
        """Return a new connection."""

    def restart(self) -> None:
        """End it, not by a command, and start it from its configuration file."""

    def run_endless_script(self) -> None:
        """Run a script until SCRIPT KILL."""

    def freeze(self) -> None:
        """Stop it with its connections open, as SIGSTOP does."""

    def thaw(self) -> None:
        """Let it continue, if it is frozen."""

    def configuration(self) -> str:
        """Return the text of its configuration file."""


class Servers(Protocol):
    """Starts and stops servers."""

    def start(self, *, file: bool = True, log: bool = False, diskless: bool = False) -> Server:
        """Start a new server, with a configuration file or without."""

    def seconds(self) -> float:
        """Return the time that the servers use."""

    def until(self, condition: Callable[[], bool]) -> bool:
        """Poll the condition, while time passes for the servers, until the timeout."""

    def stop(self) -> None:
        """End all of them."""


# Simulated


class _SimProtocol(StreamProtocol):
    def __init__(self) -> None:
        self.reader = ReplyReader(Limits(), resp3=True)
        self.replies: list[Any] = []
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        """Parse replies, or parts of them."""
        self.reader.feed(data)
        while not isinstance(reply := self.reader.next_reply(), NeedMore):
            self.replies.append(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The server closed the connection."""
        self.lost = True


class SimConnection:
    """A connection to a simulated server; waiting runs the simulation."""

    def __init__(self, servers: SimServers, server: SimRedis) -> None:
        self._simulation = servers.simulation
        self._protocol = _SimProtocol()
        factory = ClientFactory[_SimProtocol]()
        factory.noisy = False
        factory.buildProtocol = lambda addr: self._protocol  # type: ignore[method-assign]
        servers.client.reactor.connectTCP(server.host.ip, server.port, factory)
        if not self._simulation.run_until(lambda: self._protocol.connected, TIMEOUT):
            raise TimeoutError("no connection")

    def send(self, *commands: Request) -> None:
        """See :class:`Connection`."""
        cast("Any", self._protocol.transport).write(encode(commands))

    def reply(self) -> Any:
        """See :class:`Connection`."""
        self._simulation.run_until(lambda: self._protocol.replies or self._protocol.lost, TIMEOUT)
        if self._protocol.replies:
            return self._protocol.replies.pop(0)
        raise EOFError if self._protocol.lost else TimeoutError

    def idle(self) -> bool:
        """See :class:`Connection`."""
        return not self._protocol.replies

    def close(self) -> None:
        """See :class:`Connection`."""
        cast("Any", self._protocol.transport).loseConnection()


class SimServer:
    """A simulated server."""

    def __init__(self, servers: SimServers, redis: SimRedis) -> None:
        self._servers = servers
        self._frozen = False
        self.redis = redis
        self.host, self.port = redis.address

    def connect(self) -> SimConnection:
        """See :class:`Server`."""
        return SimConnection(self._servers, self.redis)

    def restart(self) -> None:
        """See :class:`Server`."""
        self.redis.host.restart()
        self._servers.simulation.run(0.01)

    def run_endless_script(self) -> None:
        """See :class:`Server`."""
        self.redis.start_script()

    def freeze(self) -> None:
        """See :class:`Server`."""
        self._frozen = True
        self.redis.host.pause()

    def thaw(self) -> None:
        """See :class:`Server`."""
        if self._frozen:
            self._frozen = False
            self.redis.host.resume()

    def configuration(self) -> str:
        """See :class:`Server`."""
        assert self.redis.config_file is not None
        return self.redis.host.files.read(self.redis.config_file).decode()


class SimServers:
    """Simulated servers."""

    def __init__(self) -> None:
        self.simulation = Simulation(11)
        self.network = SimNetwork(self.simulation)
        self.client = SimHost(self.simulation, self.network, "client", "10.0.1.1")
        self.client.start()
        self._count = 0

    def seconds(self) -> float:
        """See :class:`Servers`."""
        return self.simulation.seconds()

    def start(self, *, file: bool = True, log: bool = False, diskless: bool = False) -> SimServer:
        """See :class:`Servers`."""
        self._count += 1
        host = SimHost(self.simulation, self.network, f"redis{self._count}", f"10.0.0.{self._count}")
        redis = SimRedis(host)
        redis.storage.mode = Persistence.LOG if log else Persistence.NONE
        if not file:
            redis.config_file = None
        host.start()
        self.simulation.run(0.01)
        return SimServer(self, redis)

    def until(self, condition: Callable[[], bool]) -> bool:
        """See :class:`Servers`."""
        deadline = self.simulation.seconds() + TIMEOUT
        while not condition():
            if self.simulation.seconds() > deadline:
                return False
            self.simulation.run(0.01)
        return True

    def stop(self) -> None:
        """Do nothing: the simulation holds no resources."""


# Real


class RealConnection:
    """A blocking socket."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._socket = socket.create_connection((host, port), timeout=TIMEOUT)
        self._reader = ReplyReader(Limits(), resp3=True)
        self._next: list[Any] = []

    def send(self, *commands: Request) -> None:
        """See :class:`Connection`."""
        self._socket.sendall(encode(commands))

    def reply(self) -> Any:
        """See :class:`Connection`."""
        while not self._next:
            self._receive(self._socket.recv)
        return self._next.pop(0)

    def idle(self) -> bool:
        """See :class:`Connection`."""
        self._socket.setblocking(False)
        try:
            self._receive(self._socket.recv)
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(TIMEOUT)
        return not self._next

    def close(self) -> None:
        """See :class:`Connection`."""
        self._socket.close()

    def _receive(self, receive: Callable[[int], bytes]) -> None:
        reply = self._reader.next_reply()
        if isinstance(reply, NeedMore):
            try:
                data = receive(65_536)
            except ConnectionResetError:
                raise EOFError from None
            if not data:
                raise EOFError
            self._reader.feed(data)
        else:
            self._next.append(reply)


class RealServer:
    """A process of a real server."""

    host = "127.0.0.1"

    def __init__(
        self, binary: str, directory: str, port: int, *, file: bool = True, log: bool = False, diskless: bool = False
    ) -> None:
        self.port = port
        self._directory = directory
        self._frozen = False
        self._scripting: list[RealConnection] = []
        self._path = os.path.join(directory, f"{port}.conf")
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            f"dir {directory}",
            'save ""',
            "hz 100",
            # Pings to replicas would change offsets between two commands of a test.
            "repl-ping-replica-period 3600",
            "repl-timeout 7200",
            f"dbfilename {port}.rdb",
            f"appendonly {'yes' if log else 'no'}",
            "appendfsync always",
            f"repl-diskless-sync {'yes' if diskless else 'no'}",
            "repl-diskless-sync-delay 0",
            "lua-time-limit 20",
        ]
        if file:
            with open(self._path, "w", encoding="ascii") as written:
                written.write("\n".join(lines) + "\n")
            self._arguments = [binary, self._path]
        else:
            options = [line.partition(" ")[::2] for line in lines]
            self._arguments = [binary, *(word for name, value in options for word in (f"--{name}", value.strip('"')))]
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                connection = self.connect()
                try:
                    if call(connection, "PING") is not None:
                        return
                finally:
                    connection.close()
            except (OSError, EOFError):
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.stop()
                    raise
                time.sleep(0.01)

    def connect(self) -> RealConnection:
        """See :class:`Server`."""
        return RealConnection(self.port)

    def restart(self) -> None:
        """See :class:`Server`."""
        self._process.kill()
        self._process.wait()
        self._start()

    def run_endless_script(self) -> None:
        """See :class:`Server`."""
        connection = self.connect()
        connection.send(("EVAL", "while true do end", "0"))
        self._scripting.append(connection)

    def freeze(self) -> None:
        """See :class:`Server`."""
        self._frozen = True
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """See :class:`Server`."""
        if self._frozen:
            self._frozen = False
            self._process.send_signal(signal.SIGCONT)

    def configuration(self) -> str:
        """See :class:`Server`."""
        with open(self._path, encoding="utf-8") as file:
            return file.read()

    def stop(self) -> None:
        """End the process."""
        for connection in self._scripting:
            connection.close()
        self._process.kill()
        self._process.wait()


class RealServers:
    """Processes on free ports of this machine."""

    def __init__(self, kind: str) -> None:
        """
        :param kind: see :func:`txsentinel.demo.programs.server_binary`.
        :raises SkipTest: if this machine has no such server.
        """
        if missing(kind):
            raise SkipTest(missing(kind))
        self._binary = server_binary(kind)
        self._directory = tempfile.mkdtemp(prefix="redis-contract-")
        self._servers: list[RealServer] = []

    def seconds(self) -> float:
        """See :class:`Servers`."""
        return time.monotonic()

    def start(self, *, file: bool = True, log: bool = False, diskless: bool = False) -> RealServer:
        """See :class:`Servers`."""
        port = free_port()
        directory = os.path.join(self._directory, str(port))
        os.mkdir(directory)
        server = RealServer(self._binary, directory, port, file=file, log=log, diskless=diskless)
        self._servers.append(server)
        return server

    def until(self, condition: Callable[[], bool]) -> bool:
        """See :class:`Servers`."""
        return becomes_true(condition)

    def stop(self) -> None:
        """See :class:`Servers`."""
        for server in self._servers:
            server.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
