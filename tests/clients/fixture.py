"""Runs all clients over one installation at once, and kills the master while they write."""

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
"""Timeout until all clients are ready, and until all of them follow the new master."""


@dataclass
class Run:
    """A running client and its reports."""

    client: Client
    protocol: int
    key: str
    process: subprocess.Popen[bytes]
    directory: Path
    protocols_seen: set[int] = field(default_factory=set)
    """RESP versions that the Sentinels observed on the connections with its name."""
    report: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Its report of each step, at the end."""
    stderr: str = ""
    """Its standard error."""
    stored: object = None
    """The value of its key on the new master, at the end."""

    def steps(self) -> dict[str, dict[str, Any]]:
        """Return the reports so far, by step."""
        lines = (self.directory / f"{self.key}.out").read_text().splitlines()
        return {each["step"]: each for each in map(json.loads, lines)}

    def reached(self, step: str) -> bool:
        """Whether the client reached the step or ended."""
        return self.process.poll() is not None or step in self.steps()

    def finish(self, stored: object) -> None:
        """Read what is removed with the directory."""
        self.report = self.steps()
        self.stderr = (self.directory / f"{self.key}.err").read_text(errors="replace")[-3000:]
        self.stored = stored


class Fixture:
    """
    Runs the failover once, for all clients together.

    :param stack: closes what is opened here.
    :param plan: keyword arguments of :class:`Plan` that are the same for all.
    :param encrypted: skip clients that cannot connect to servers and Sentinels by TLS. Only the newest protocol
        version is used then, because TLS does not depend on it.
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
        """Entries of ``ACL LOG`` of the Sentinels."""

    def protocols(self, client: Client) -> tuple[int, ...]:
        """Return the protocol versions to test with a client."""
        return client.protocols[-1:] if self._encrypted else client.protocols

    def run(self) -> None:
        """Wait until all clients are ready, kill the master, and wait until all of them use the next one."""
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
        # The test of a client that does not reach the step reports that.
        with suppress(DeadlineExpired):
            wait_for(lambda: all(run.reached(step) for run in self.runs.values()), SECONDS, step, every=0.05)

    def _start(self, client: Client, protocol: int) -> None:
        key = f"{client.name.replace(' ', '-')}-{protocol}"
        first = len(self.runs) % len(self.fleet.sentinels)
        sentinels = [("127.0.0.1", each.port) for each in self.fleet.sentinels]
        plan = Plan(client.library, key, protocol, sentinels[first:] + sentinels[:first], self.fleet.name, **self._plan)
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
