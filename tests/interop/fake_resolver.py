"""
A resolver controlled by a test: names are looked up in a file that may change at any time.

:func:`install` runs inside the Sentinel, before Twisted is imported, in place of the system's ``getaddrinfo``; all
else, from the thread that waits for a name server to the failover, is as in production.
:class:`NameServer` is used by the test.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])

UNKNOWN = "unknown"
"""The name server replies that the name does not exist."""

SILENT = "silent"
"""The name server does not reply while the file has this value."""


def install(path: str) -> None:
    """Look up the names in that file, and all others by the system."""
    system = socket.getaddrinfo

    def lookup(host, *arguments, **options):  # type: ignore[no-untyped-def]
        name = host.decode() if isinstance(host, bytes) else host
        queried = False
        while (answer := json.loads(Path(path).read_text()).get(name)) == SILENT:
            if not queried:
                queried = True
                with open(f"{path}.waiting", "a", encoding="utf-8") as waiting:
                    waiting.write(f"{name}\n")
            time.sleep(0.01)
        if answer == UNKNOWN:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return system(answer or host, *arguments, **options)

    socket.getaddrinfo = lookup


class NameServer:
    """The names and their present addresses."""

    def __init__(self, directory: Path, **names: str) -> None:
        """``names``: the part before ``.test`` → an IP address, :data:`UNKNOWN` or :data:`SILENT`."""
        self.path = directory / "names"
        self._names: dict[str, str] = {}
        self.change(**names)

    def change(self, **names: str) -> None:
        """Change the addresses from now on."""
        self._names.update({f"{name}.test": answer for name, answer in names.items()})
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self._names))
        os.replace(new, self.path)

    def waiting(self) -> list[str]:
        """Return the names, without ``.test``, whose lookups hang or hung, once each."""
        file = Path(f"{self.path}.waiting")
        return [line.removesuffix(".test") for line in file.read_text().split()] if file.exists() else []

    def redirect(self, command: list[str]) -> None:
        """Change the command line of a Sentinel so that it uses this name server."""
        script = command.index("-c") + 1
        command[script] = (
            f"import sys; sys.path.append({ROOT!r}); from tests.interop.fake_resolver import install;"
            f" install({str(self.path)!r}); {command[script]}"
        )
