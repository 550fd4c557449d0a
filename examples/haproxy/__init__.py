"""
HAProxy, which sends clients to the master: one for each way in which it can follow.

A client opens connection after connection through each, and one more client keeps the connection that it has. So the
example shows when new connections lead to the new master, and when old connections are closed.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from examples.etcd import EtcdStore
from examples.failover import MASTER, SECONDS, Arrivals, Integration, Missing
from txsentinel.demo import ChildProcess, Connection, ReplyError, free_port, wait_for
from txsentinel.demo.other_programs import HaproxyProcess, find_program

DOCUMENTS = Path(__file__).resolve().parents[2] / "docs"
"""The directory of the configurations, which have addresses of other machines."""

INTERVAL = 0.01
"""Seconds between two connections of the client."""

CONNECTION_SECONDS = 0.1
"""How long the client waits for an answer."""


class HaproxyWay(Integration):
    """The base of all ways: a HAProxy between the clients and the servers, and one Sentinel that it follows."""

    document: ClassVar[str]
    followed: ClassVar[int] = 0
    """The Sentinel that it follows."""

    def __init__(self) -> None:
        self.port = free_port()
        self.arrivals = Arrivals()
        """The ports of the servers that new connections lead to, when that changes."""

        self.known_at = 0.0
        self.closed_at: float | None = None
        """When the old connection was closed."""

        self.haproxy: HaproxyProcess | None = None
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, directory: Path) -> None:
        """Start HAProxy."""
        if not find_program("haproxy"):
            raise Missing("HAProxy is needed: apt-get install haproxy")
        self.haproxy = HaproxyProcess(directory / "haproxy", self.port, self.config(directory))
        warnings = self.haproxy.check()
        if warnings:
            raise RuntimeError(f"HAProxy warns: {warnings}")
        self.haproxy.start(ready=False)
        # Signals before this would end it.
        wait_for(lambda: "Loading success" in self.running().log_text(), SECONDS, "HAProxy to be ready")

    def config(self, directory: Path) -> str:
        """Return the configuration of the documentation with the ports and servers of this example."""
        lines = []
        servers = list(self.fleet.servers)
        for line in (DOCUMENTS / self.document).read_text().splitlines():
            match = re.search(r"10\.0\.0\.([123])", line)
            if match is not None:
                line = line.replace(f"10.0.0.{match[1]}:6379", f"127.0.0.1:{servers[int(match[1]) - 1]}")
            lines.append(self.adapted(line.replace("bind *:6379", f"bind 127.0.0.1:{self.port}"), directory))
        # The port for reading is not used here.
        return re.sub(r"bind \*:6380", lambda _: f"bind 127.0.0.1:{free_port()}", "\n".join(lines) + "\n")

    def adapted(self, line: str, directory: Path) -> str:
        """Return a line of the configuration with what this way needs."""
        return line

    def lines(self) -> list[str]:
        """Return the settings of the Sentinel that it follows."""
        raise NotImplementedError

    def extension_lines(self, sentinel: int) -> list[str]:
        """One Sentinel has the settings."""
        return self.lines() if sentinel == self.followed else []

    def running(self) -> HaproxyProcess:
        """Return the process, which was started."""
        if self.haproxy is None:
            raise RuntimeError("HAProxy was not started")
        return self.haproxy

    def server_at(self, connection: Connection) -> int:
        """Return the port of the server that a connection leads to."""
        reply = connection.call("CONFIG", "GET", "port")
        if not isinstance(reply, list) or len(reply) < 2:
            raise ReplyError(str(reply))
        return int(str(reply[1]))

    def watch(self) -> None:
        """Wait until the master is reached, keep that connection, and open others."""
        master = self.fleet.master_port()

        def connected() -> Connection | None:
            connection = Connection(self.port, timeout=CONNECTION_SECONDS)
            with suppress(OSError, ReplyError):
                if self.server_at(connection) == master:
                    return connection
            connection.close()
            return None

        kept = wait_for(connected, SECONDS, f"{self.title} to lead to the master")
        for function in (lambda: self._poll(master), lambda: self._await_end(kept)):
            self._threads.append(threading.Thread(target=function, daemon=True))
            self._threads[-1].start()

    def _poll(self, master: int) -> None:
        """Open connections until one leads to another server."""
        while not self._stopping.wait(INTERVAL):
            with suppress(OSError, ReplyError):
                connection = Connection(self.port, timeout=CONNECTION_SECONDS)
                try:
                    port = self.server_at(connection)
                finally:
                    connection.close()
                if port != master:
                    self.arrivals.add(port)
                    return

    def _await_end(self, kept: Connection) -> None:
        """Wait until a connection is closed by HAProxy."""
        while not self._stopping.is_set():
            try:
                kept.read_reply()
            except TimeoutError:
                continue
            except OSError:
                self.closed_at = time.monotonic()
                break
        kept.close()

    def wait_known(self, address: str) -> float:
        """Wait until new connections lead to the new master."""
        port = int(address.rpartition(":")[2])
        self.known_at = self.arrivals.wait_for(lambda value: value == port, f"{self.title} to lead to {address}")
        wait_for(lambda: self.closed_at is not None, SECONDS, f"{self.title} to close the old connection")
        return self.known_at

    def show(self) -> list[str]:
        """Show when the old connection was closed."""
        if self.closed_at is None:
            return []
        return [f"the old connection was closed {(self.closed_at - self.known_at) * 1000:+.0f} ms after that"]

    def close(self) -> None:
        """Stop the clients and HAProxy."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(5.0)
        if self.haproxy is not None:
            self.haproxy.stop()


class AgentWay(HaproxyWay):
    """HAProxy asks the Sentinel about each server by agent checks."""

    title = "HAProxy, agent checks"
    document = "haproxy-agent.cfg"

    def __init__(self) -> None:
        super().__init__()
        self.agent_port = free_port()

    def adapted(self, line: str, directory: Path) -> str:
        """The port of the agent is a free one."""
        return line.replace("agent-port 8027", f"agent-port {self.agent_port}")

    def lines(self) -> list[str]:
        """The Sentinel answers the checks."""
        return [f"haproxy agent tcp:{self.agent_port}"]


class HttpWay(HaproxyWay):
    """HAProxy asks the Sentinel about each server by HTTP."""

    title = "HAProxy, HTTP checks"
    document = "haproxy.cfg"

    def __init__(self) -> None:
        super().__init__()
        self.http_port = free_port()

    def adapted(self, line: str, directory: Path) -> str:
        """The port of HTTP is a free one."""
        return line.replace("port 8026", f"port {self.http_port}")

    def lines(self) -> list[str]:
        """The Sentinel answers the checks."""
        return [f"http listen tcp:{self.http_port}"]


class RuntimeWay(HaproxyWay):
    """The Sentinel sets the address of the only server over the runtime socket."""

    title = "HAProxy, runtime socket"
    document = "haproxy-runtime.cfg"

    def __init__(self) -> None:
        super().__init__()
        self.socket = ""

    def adapted(self, line: str, directory: Path) -> str:
        """The socket is in the directory of the example."""
        self.socket = str(directory / "admin.sock")
        return line.replace("/run/haproxy/admin.sock", self.socket)

    def lines(self) -> list[str]:
        """The Sentinel knows the socket and the server."""
        return [f"haproxy socket {self.socket}", f"haproxy server {MASTER} redis_master/master"]


class TemplateWay(HaproxyWay):
    """The Sentinel renders the configuration, and has HAProxy reload it."""

    title = "HAProxy, template"
    document = "haproxy.cfg.j2"

    def __init__(self) -> None:
        super().__init__()
        self.template = Path()

    def config(self, directory: Path) -> str:
        """Write the template. HAProxy begins without a server."""
        text = (DOCUMENTS / self.document).read_text()
        self.template = directory / "haproxy.cfg.j2"
        text = text.replace('"mymaster": 6379', f'"{MASTER}": {self.port}').replace("bind *:", "bind 127.0.0.1:")
        self.template.write_text(text)
        before, _, _ = text.partition("{% set")
        return f"{before}\nlisten unused\n    bind 127.0.0.1:{free_port()}\n"

    def template_lines(self) -> list[str]:
        """Return the settings of the template."""
        haproxy = self.running()
        return [
            f"template source haproxy {self.template}",
            f"template dest haproxy {haproxy.config_path}",
            f"template check haproxy {find_program('haproxy')} -c -q -f {{{{ src }}}}",
            f"template reload haproxy kill -USR2 {haproxy.pid}",
        ]

    def lines(self) -> list[str]:
        """The Sentinel renders the template."""
        return self.template_lines()


class TemplateProgramProcess(ChildProcess):
    """``twistd txsentinel-template``."""

    label = "template"

    def __init__(self, directory: Path, lines: list[str]) -> None:
        super().__init__(0, directory)
        self._lines = lines
        self._file = directory / "template.conf"

    def command_line(self) -> list[str]:
        """The command in the foreground."""
        return [sys.executable, "-m", "twisted", "txsentinel-template", str(self._file)]

    def prepare(self) -> None:
        """Write the file."""
        self._file.write_text("\n".join(self._lines) + "\n")


class ChainWay(TemplateWay):
    """All Sentinels keep the address in etcd; a program beside HAProxy renders the configuration from there."""

    title = "etcd, template, HAProxy"

    def __init__(self) -> None:
        super().__init__()
        self.store = EtcdStore()
        self.program: TemplateProgramProcess | None = None

    def start(self, directory: Path) -> None:
        """Start etcd, HAProxy and the program."""
        etcd_directory = directory / "etcd"
        etcd_directory.mkdir()
        self.store.start(etcd_directory)
        super().start(directory)
        lines = [*self.store.extension_lines(0), *self.template_lines()]
        self.program = TemplateProgramProcess(directory / "program", lines)
        self.program.start(ready=False)

    def extension_lines(self, sentinel: int) -> list[str]:
        """All Sentinels publish in etcd."""
        return self.store.extension_lines(sentinel)

    def close(self) -> None:
        """Stop everything."""
        super().close()
        if self.program is not None:
            self.program.stop()
        self.store.close()


ALL_WAYS: tuple[Callable[[], HaproxyWay], ...] = (AgentWay, HttpWay, RuntimeWay, TemplateWay, ChainWay)
