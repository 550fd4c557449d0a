"""The TCP proxy, and a client that knows one address and no Sentinel."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from examples.failover import MASTER, Arrivals, Integration
from txsentinel.demo.blocking import Connection, ReplyError
from txsentinel.demo.other_programs import ProxyProcess

PAUSE_SECONDS = 0.01
"""Between two writes."""


class Writer:
    """
    Writes numbers one after the other, each until it is acknowledged, and connects again whenever it has to.

    :param port: the only address that it knows.
    """

    def __init__(self, port: int) -> None:
        self.acknowledged = Arrivals()
        """``(number, port of the server)`` of each write."""

        self.connections = 0
        self.errors: list[str] = []
        self._port = port
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to write, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop writing."""
        self._ending.set()
        self._thread.join(10)

    def _run(self) -> None:
        number = 0
        while not self._ending.is_set():
            try:
                with contextlib.closing(Connection(self._port, timeout=10)) as connection:
                    self.connections += 1
                    server = int(str(connection.call("CONFIG", "GET", "port")[1]))  # type: ignore[index]
                    while not self._ending.is_set():
                        connection.call("SET", f"number:{number}", number)
                        self.acknowledged.add((number, server))
                        number += 1
                        time.sleep(PAUSE_SECONDS)
            except (OSError, ReplyError) as problem:
                self.errors.append(str(problem))

    def gap(self, old: int) -> float:
        """Return the seconds between the last write to the old master and the first one to another."""
        before = self.acknowledged.last(lambda value: isinstance(value, tuple) and value[1] == old)
        after = self.acknowledged.wait_for(lambda value: isinstance(value, tuple) and value[1] != old, "a write")
        return after - before


class ProxiedClient(Integration):
    """The proxy between a writer and the master."""

    title = "the client behind the proxy"

    def __init__(self) -> None:
        self.proxy: ProxyProcess | None = None
        self.writer: Writer | None = None
        self.old = 0
        """The port of the first master."""

        self._directory = Path()

    def start(self, directory: Path) -> None:
        """Keep the directory; the proxy starts when the Sentinels run."""
        self._directory = directory

    def extension_lines(self, sentinel: int) -> list[str]:
        """Return nothing: the Sentinels need no extension."""
        return []

    def watch(self) -> None:
        """Start the proxy, and write through it."""
        self.old = self.fleet.master_port()
        self.proxy = ProxyProcess(self._directory, MASTER, [sentinel.port for sentinel in self.fleet.sentinels])
        self.proxy.start()
        self.writer = Writer(self.proxy.port)
        self.writer.start()
        self.writer.acknowledged.wait_until(lambda values: len(values) >= 20, "20 writes")

    def wait_known(self, address: str) -> float:
        """Wait until the new master acknowledges a write."""
        assert self.writer is not None
        port = int(address.rpartition(":")[2])
        return self.writer.acknowledged.wait_for(
            lambda value: isinstance(value, tuple) and value[1] == port, f"a write to {address}"
        )

    def show(self) -> list[str]:
        """Show what the client had to do."""
        assert self.writer is not None
        self.writer.stop()
        return [
            f"no write was acknowledged for {self.writer.gap(self.old) * 1000:.0f} ms",
            f"{len(self.writer.acknowledged.values)} writes over {self.writer.connections} connections to one address",
            f"errors of the client: {', '.join(self.writer.errors) or 'none'}",
        ]

    def close(self) -> None:
        """Stop both."""
        if self.writer is not None:
            self.writer.stop()
        if self.proxy is not None:
            self.proxy.stop()
