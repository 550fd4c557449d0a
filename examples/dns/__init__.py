"""A name server, BIND 9 of Debian, whose zone the Sentinels update; a client asks it every few milliseconds."""

from __future__ import annotations

import subprocess
import threading
import time
from importlib.util import find_spec
from pathlib import Path

from examples.failover import MASTER, SECONDS, Arrivals, Integration, Missing
from txsentinel.demo import wait_for
from txsentinel.demo.named import NamedProcess
from txsentinel.demo.other_programs import find_program

ZONE = "redis.example"
INTERVAL = 0.005


class NameServer(Integration):
    """The primary of a zone, which accepts updates that are signed by one key."""

    title = "DNS"

    def __init__(self) -> None:
        self.named: NamedProcess | None = None
        self.arrivals = Arrivals()
        """Each new answer to the question for the port of the master."""

        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, directory: Path) -> None:
        """Make a key, and start the server."""
        if find_program("named") is None:
            raise Missing("there is no named: apt install bind9")
        if find_spec("dns") is None:
            raise Missing("there is no dnspython: pip install 'txsentinel[dns]'") from None
        self.key_file = directory / "key"
        command = [find_program("tsig-keygen") or "tsig-keygen", "sentinels"]
        self.key_file.write_text(subprocess.check_output(command, text=True))
        self.named = NamedProcess(directory, ZONE, self.key_file)
        self.named.start()

    def extension_lines(self, sentinel: int) -> list[str]:
        """The same for all Sentinels: each publishes, and the epochs decide."""
        assert self.named is not None
        return [
            f"dns server 127.0.0.1:{self.named.port}",
            f"dns zone {ZONE}",
            f"dns key-file {self.key_file}",
            "dns ttl 1",
        ]

    def ask(self, name: str, kind: str) -> list[str]:
        """Return the values of records."""
        import dns.message
        import dns.query

        assert self.named is not None
        query = dns.message.make_query(f"{name}.{ZONE}", kind, flags=0)
        answer = dns.query.udp(query, "127.0.0.1", 5.0, self.named.port)
        return [each.to_text() for rrset in answer.answer for each in rrset]

    def watch(self) -> None:
        """Begin to ask, once the first address is there."""
        wait_for(lambda: bool(self.ask(f"_redis._tcp.{MASTER}", "SRV")), SECONDS, "the first address in the zone")
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        before: list[str] = []
        while not self._stopping.is_set():
            values = self.ask(f"_redis._tcp.{MASTER}", "SRV")
            if values != before:
                before = values
                self.arrivals.add(" ".join(values))
            time.sleep(INTERVAL)

    def wait_known(self, address: str) -> float:
        """Wait until an answer has the new port; the address is 127.0.0.1 for all servers of the example."""
        port = address.rpartition(":")[2]
        return self.arrivals.wait_for(lambda value: f"0 0 {port} " in str(value), f"an SRV record with port {port}")

    def show(self) -> list[str]:
        """Return the records."""
        names = (MASTER, "A"), (f"_redis._tcp.{MASTER}", "SRV"), (f"_txsentinel.{MASTER}", "TXT")
        return [f"{name}.{ZONE} {kind} {' '.join(self.ask(name, kind))}" for name, kind in names]

    def close(self) -> None:
        """Stop the server."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self.named is not None:
            self.named.stop()
