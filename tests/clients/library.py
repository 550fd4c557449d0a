"""The client libraries with their features and requirements."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

NODE = Path(__file__).parent / "node"

OLDEST_NODE = 20
"""The minimum version for the libraries from npm."""


@cache
def node_version() -> int:
    """Return the major version of Node.js on this machine; 0 if there is none."""
    if shutil.which("node") is None:
        return 0
    details = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60).stdout
    found = re.match(r"v(\d+)", details)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Client:
    """
    A client of one library.

    :ivar name: as in the documentation.
    :ivar program: ``python`` or ``node``. :ivar script: what it runs.
    :ivar library: what must be installed, and what is passed to a script that serves two libraries.
    :ivar protocols: RESP versions that it supports.
    :ivar reads: whether it finds replicas and can read from them.
    :ivar names_itself: whether its connection to a Sentinel has the name of the key that it writes.
    :ivar encrypts: whether it connects to Sentinels and servers by TLS.
    """

    name: str
    program: str
    script: str
    library: str
    protocols: tuple[int, ...] = (2, 3)
    reads: bool = True
    names_itself: bool = True
    encrypts: bool = True

    def missing(self) -> str:
        """Return why it cannot run on this machine; empty if it can."""
        if self.program == "node":
            if node_version() < OLDEST_NODE:
                return f"Node.js {OLDEST_NODE} or newer is not on this machine"
            if not (NODE / "node_modules" / self.library).is_dir():
                return f"{self.library} from npm is not installed: `make clients` does that"
        elif self.script == "with_rediscli":
            if shutil.which(self.library) is None:
                return f"there is no {self.library} on this machine"
        elif find_spec(self.library) is None:
            return f"{self.library} from PyPI is not installed"
        return ""

    def command(self, plan: str) -> list[str]:
        """Return the command line, to be run in the root of the repository."""
        if self.program == "node":
            return ["node", str(NODE / f"{self.script}.js"), plan]
        return [sys.executable, "-m", f"tests.clients.{self.script}", plan]


CLIENTS = {
    client.name: client
    for client in (
        Client("redis-py", "python", "redispy", "redis"),
        Client("redis-py asyncio", "python", "redispy_asyncio", "redis"),
        Client("valkey-py", "python", "redispy", "valkey", protocols=(2,)),
        Client("valkey-py asyncio", "python", "redispy_asyncio", "valkey", protocols=(2,)),
        Client("coredis", "python", "with_coredis", "coredis", protocols=(3,)),
        Client(
            "txredisapi", "python", "with_txredisapi", "txredisapi", protocols=(2,), names_itself=False, encrypts=False
        ),
        Client(
            "MasterFollower",
            "python",
            "with_follower",
            "txredisapi",
            protocols=(2,),
            reads=False,
            names_itself=False,
        ),
        Client("ioredis", "node", "ioredis", "ioredis"),
        Client("iovalkey", "node", "ioredis", "iovalkey", protocols=(2,)),
        Client("node-redis", "node", "node-redis", "redis"),
        Client("redis-cli", "python", "with_rediscli", "redis-cli", names_itself=False),
    )
}
"""By name."""
