"""One installation, all clients over it at once, and the loss of the master while they write."""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clients.library import CLIENTS, Client
from tests.clients.script import Plan
from tests.servers import DeadlineExpired, Fleet, wait_for
from txsentinel.demo.blocking import Reply

ROOT = Path(__file__).parent.parent.parent

SECONDS = 120.0
"""How long all clients together may take to be ready, and again to follow the new master."""


@dataclass
class Run:
    """A client at work, and what it has reported."""

    client: Client
    protocol: int
    key: str
    process: subprocess.Popen[bytes]
    directory: Path
    protocols_seen: set[int] = field(default_factory=set)
    """Versions of RESP that the Sentinels saw on the connections that bear its name."""
    report: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What it said of each step, in the end."""
    stderr: str = ""
    """What it said besides."""
    kept: object = None
    """What the new master has under its key, in the end."""

    def steps(self) -> dict[str, dict[str, Any]]:
        """The report so far, by step."""
        lines = (self.directory / f"{self.key}.out").read_text().splitlines()
        return {each["step"]: each for each in map(json.loads, lines)}

    def reached(self, step: str) -> bool:
        """Has it come so far, or ended?"""
        return self.process.poll() is not None or step in self.steps()

    def finish(self, kept: object) -> None:
        """Keep what will be gone with the directory."""
        self.report = self.steps()
        self.stderr = (self.directory / f"{self.key}.err").read_text(errors="replace")[-3000:]
        self.kept = kept


class Fixture:
    """
    Plays the piece once, for all clients together.

    :param stack: closes what was opened here.
    :param plan: keyword arguments of :class:`Plan` that are the same for all.
    :param encrypted: leave out who cannot reach servers and Sentinels by TLS. The newest version of the protocol will
        do here, for it makes no difference to TLS.
    """

    def __init__(self, stack: ExitStack, fleet: Fleet, directory: Path, plan: dict[str, Any], encrypted: bool) -> None:
        self._stack = stack
        self.fleet = fleet
        self._directory = directory
        self._plan = plan
        self._encrypted = encrypted
        self.clients = [each for each in CLIENTS.values() if not each.missing() and (each.encrypts or not encrypted)]
        self.runs: dict[tuple[str, int], Run] = {}
        self.refused: list[Reply] = []
        """What the Sentinels noted of commands and channels that somebody had no right to."""

    def protocols(self, client: Client) -> tuple[int, ...]:
        """The versions of the protocol that a client plays in."""
        return client.protocols[-1:] if self._encrypted else client.protocols

    def run(self) -> None:
        """Have them all ready, kill the master, and have them all find and use the next one."""
        self.old = self.fleet.master_port()
        self.replicas = sorted(set(self.fleet.servers) - {self.old})
        for client in self.clients:
            for protocol in self.protocols(client):
                self._start(client, protocol)
        self._wait_all("ready")
        self._note_protocols()
        self.fleet.servers[self.old].kill()
        self._wait_all("end")
        self.new = self.fleet.master_port()
        for sentinel in self.fleet.sentinels:
            log = sentinel.call("ACL", "LOG")
            self.refused += log if isinstance(log, list) else [log]
        for run in self.runs.values():
            run.finish(self.fleet.servers[self.new].call("GET", run.key))

    def _wait_all(self, step: str) -> None:
        # Who does not come as far is found out by its own test.
        with suppress(DeadlineExpired):
            wait_for(lambda: all(run.reached(step) for run in self.runs.values()), SECONDS, step, every=0.05)

    def _start(self, client: Client, protocol: int) -> None:
        key = f"{client.name.replace(' ', '-')}-{protocol}"
        turn = len(self.runs) % len(self.fleet.sentinels)
        sentinels = [("127.0.0.1", each.port) for each in self.fleet.sentinels]
        plan = Plan(client.library, key, protocol, sentinels[turn:] + sentinels[:turn], self.fleet.name, **self._plan)
        with (
            (self._directory / f"{key}.out").open("wb") as out,
            (self._directory / f"{key}.err").open("wb") as err,
        ):
            process = subprocess.Popen(
                client.command(plan.encode()),
                cwd=ROOT,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self._stack.callback(self._end, process)
        self.runs[client.name, protocol] = Run(client, protocol, key, process, self._directory)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.kill()
        process.wait()

    def _note_protocols(self) -> None:
        by_key = {run.key: run for run in self.runs.values()}
        for sentinel in self.fleet.sentinels:
            for line in str(sentinel.call("CLIENT", "LIST")).splitlines():
                fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
                if fields.get("name") in by_key and re.fullmatch(r"\d", fields.get("resp", "")):
                    by_key[fields["name"]].protocols_seen.add(int(fields["resp"]))
