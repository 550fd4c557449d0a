"""
A resolver that a test steers: names are looked up in a file that may change at any time.

:func:`install` runs inside the Sentinel, before Twisted is imported, in place of the system's ``getaddrinfo``; so
everything from the thread that waits for a name server up to the failover is what it is in production.
:class:`NameServer` is the test's end.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

UNKNOWN = "unknown"
"""The name server answers that there is no such name."""

SILENT = "silent"
"""The name server does not answer, for as long as this stands there."""


def install(path: str) -> None:
    """Have names that stand in the file looked up there, and all others by the system."""
    system = socket.getaddrinfo

    def lookup(host, *arguments, **options):  # type: ignore[no-untyped-def]
        name = host.decode() if isinstance(host, bytes) else host
        asked = False
        while (answer := json.loads(Path(path).read_text()).get(name)) == SILENT:
            if not asked:
                asked = True
                with open(f"{path}.waiting", "a", encoding="utf-8") as waiting:
                    waiting.write(f"{name}\n")
            time.sleep(0.01)
        if answer == UNKNOWN:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return system(answer or host, *arguments, **options)

    socket.getaddrinfo = lookup


class NameServer:
    """What names stand for just now."""

    def __init__(self, directory: Path, **names: str) -> None:
        """``names``: what stands before ``.test`` → an IP address, :data:`UNKNOWN` or :data:`SILENT`."""
        self.path = directory / "names"
        self._names: dict[str, str] = {}
        self.change(**names)

    def change(self, **names: str) -> None:
        """From now on."""
        self._names.update({f"{name}.test": answer for name, answer in names.items()})
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self._names))
        os.replace(new, self.path)

    def waiting(self) -> list[str]:
        """The names, without ``.test``, whose lookups have met silence so far; one entry for each."""
        file = Path(f"{self.path}.waiting")
        return [line.removesuffix(".test") for line in file.read_text().split()] if file.exists() else []

    def redirect(self, command: list[str]) -> None:
        """Have a Sentinel of ours, by its command line, ask here."""
        place = command.index("-c") + 1
        command[place] = f"from tests.interop.controlled import install; install({str(self.path)!r}); {command[place]}"
