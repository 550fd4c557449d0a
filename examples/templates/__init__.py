"""A file that each Sentinel renders from a template, with a command that the Sentinel executes after each change."""

from __future__ import annotations

import threading
from pathlib import Path

from examples.failover import MASTER, Arrivals, Integration

TEMPLATE = """\
{% for master in masters %}
{{ master.name }} {{ master.address }}
{% for replica in master.replicas if replica.master_link_up and not replica.sdown_since %}
replica {{ replica.address }}
{% endfor %}
{% endfor %}
"""

INTERVAL = 0.005
"""Seconds between two looks at the copies."""


class RenderedFiles(Integration):
    """A file for each Sentinel. The command copies it, in the place of a program that reads it again."""

    title = "Template"

    def __init__(self) -> None:
        self.arrivals = Arrivals()
        """Sentinel and address, for each line about the master that a copy has."""

        self.directory = Path()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, directory: Path) -> None:
        """Write the template."""
        self.directory = directory
        (directory / "servers.j2").write_text(TEMPLATE)

    def extension_lines(self, sentinel: int) -> list[str]:
        """Each Sentinel has a file of its own."""
        dest = self.directory / f"servers-{sentinel}"
        return [
            f"template source servers {self.directory / 'servers.j2'}",
            f"template dest servers {dest}",
            "template mode servers 640",
            f"template check servers grep -q {MASTER} {{{{ src }}}}",
            f"template reload servers cp {dest} {dest}.used",
        ]

    def watch(self) -> None:
        """Look for the new address in the copies."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        known: set[tuple[int, str]] = set()
        while not self._stopping.wait(INTERVAL):
            for sentinel in range(3):
                path = self.directory / f"servers-{sentinel}.used"
                for line in path.read_text().splitlines() if path.exists() else ():
                    if line.startswith(MASTER) and (sentinel, line) not in known:
                        known.add((sentinel, line))
                        self.arrivals.add((sentinel, line.split()[1]))

    def wait_known(self, address: str) -> float:
        """Wait until the file of each Sentinel has the address."""
        return max(
            self.arrivals.wait_for(lambda value, each=each: value == (each, address), f"{address} in file {each}")  # type: ignore[misc]
            for each in range(3)
        )

    def show(self) -> list[str]:
        """Show one file."""
        return (self.directory / "servers-0").read_text().splitlines()

    def close(self) -> None:
        """Stop reading."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
