"""A stand-in for Consul, in which the Sentinels keep the address of the master; a client waits by a blocking query."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from urllib.request import urlopen

from examples.consul.fake_consul import FakeConsul
from examples.failover import MASTER, Arrivals, Integration

KEY = f"txsentinel/{MASTER}"


class ConsulStore(Integration):
    """The server, and a client of it."""

    title = "Consul (a stand-in)"

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        """The addresses that the client got."""

        self.consul: FakeConsul | None = None

    def start(self, directory: Path) -> None:
        """Start the server."""
        self.consul = FakeConsul()

    def running(self) -> FakeConsul:
        """Return the server, which was started."""
        if self.consul is None:
            raise RuntimeError("the server was not started")
        return self.consul

    def extension_lines(self, sentinel: int) -> list[str]:
        """All Sentinels have the same settings."""
        return [f"consul endpoint {self.running().endpoint}", "consul service yes"]

    def watch(self) -> None:
        """Have the client ask for changes of the key."""
        threading.Thread(target=self._read, args=[self.running().endpoint], daemon=True).start()

    def _read(self, endpoint: str) -> None:
        index = 0
        try:
            while True:
                with urlopen(f"{endpoint}/v1/kv/{KEY}?raw&index={index}&wait=60s") as reply:
                    index = int(reply.headers["x-consul-index"])
                    self.arrivals.add(json.loads(reply.read())["address"])
        except OSError:
            return  # The server was stopped.

    def wait_known(self, address: str) -> float:
        """Wait until the client gets the address."""
        return self.arrivals.wait_for(lambda value: value == address, f"{address} in {KEY}")

    def show(self) -> list[str]:
        """Show the key, and the services that DNS would answer about."""
        state = self.running().state
        lines = [f"{key} = {each.value.decode()}" for key, each in state.keys.items()]
        for service in state.services.values():
            lines.append(
                f"{service['Tags'][0]}.{service['Service']}.service.consul: {service['Address']}:{service['Port']}"
            )
        return lines

    def close(self) -> None:
        """Stop the server."""
        if self.consul is not None:
            self.consul.close()
