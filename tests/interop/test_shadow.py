"""``txsentinel shadow`` beside three C Sentinels through a failover."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS, wait_moved
from tests.servers import Connection, Fleet, Harness, RedisProcess, missing, pairs, wait_for
from txsentinel.shadow.observer import FIRST_ID

ROOT = str(Path(__file__).resolve().parents[2])
SHADOW = [sys.executable, "-c", "from txsentinel.cli.main import main; main()", "shadow"]
NAME = f"sentinel-{FIRST_ID[:8]}-cmd"
READS = {"auth", "client", "info", "ping", "role", "subscribe"}


class MonitoredServer(threading.Thread):
    """Keeps what MONITOR reports of one server."""

    def __init__(self, server: RedisProcess) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.lines: list[str] = []
        self._connection = Connection(server.port, timeout=SECONDS)
        self._connection.send("MONITOR")
        self.start()

    def run(self) -> None:
        """Read until the server ends."""
        try:
            while True:
                self.lines.append(str(self._connection.read_reply()))
        except OSError:
            return

    def commands_of(self, address: str) -> set[str]:
        """Return the names of the commands that a client has sent."""
        sent = [line for line in self.lines if f" {address}]" in line]
        return {match[1].lower() for line in sent if (match := re.search(r'\] "([^"]+)"', line))}


class ShadowTests(SynchronousTestCase):
    """Three redis-sentinels and an observer."""

    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")

    def test_failover(self) -> None:
        """
        The observer reports the failover of the fleet beside its own decisions. It sends reads only, and no Sentinel
        gets to know it.
        """
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            fleet = Fleet(harness, ["redis"] * 3, "redis", down_after=1000, failover_timeout=6000)
            fleet.start()
            monitored = [MonitoredServer(server) for server in fleet.servers.values()]
            record = harness.directory / "record.jsonl"
            process = subprocess.Popen(
                [*SHADOW, "--sentinel", f"127.0.0.1:{fleet.sentinels[0].port}", "--record", str(record)],
                env={**os.environ, "PYTHONPATH": ROOT},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.kill)
            clients = {
                each.server.port: wait_for(partial(self.observer_at, each.server), SECONDS, "the observer")
                for each in monitored
            }
            old = fleet.master()
            before = old.port
            old.kill()
            new = wait_moved(fleet, old)
            wait_for(lambda: record.exists() and record.read_text().endswith("\n"), SECONDS, "the report")
            (line,) = record.read_text().splitlines()
            report = json.loads(line)
            self.assertEqual((report["address"], report["promoted"]), (f"127.0.0.1:{before}", f"127.0.0.1:{new.port}"))
            for side in ("txsentinel_ms", "fleet_ms"):
                self.assertLessEqual({"+sdown", "+odown", "+try-failover"}, set(report[side]), report)
            self.assertIn(report["would_promote"], {f"127.0.0.1:{port}" for port in fleet.servers if port != before})
            for sentinel in fleet.sentinels:
                self.assertEqual(pairs(sentinel.call("SENTINEL", "MASTER", "mymaster"))["num-other-sentinels"], "2")
                self.assertNotIn(FIRST_ID, sentinel.log_text())
            for each in monitored:
                commands = each.commands_of(clients[each.server.port])
                self.assertIn("info", commands)
                self.assertLessEqual(commands, READS)
            process.send_signal(signal.SIGINT)
            printed, summary = process.communicate(timeout=SECONDS)
            self.assertEqual(process.returncode, 0)
            self.assertIn("would promote", printed)
            self.assertIn("1 failed over by both", summary)

    @staticmethod
    def observer_at(server: RedisProcess) -> str:
        """Return the address of the command connection of the observer; empty without one."""
        for line in str(server.call("CLIENT", "LIST")).splitlines():
            words = dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
            if words.get("name") == NAME:
                return words["addr"]
        return ""
