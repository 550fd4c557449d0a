"""The verbs that move a master, over a canned fleet and servers in memory."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from click import BadParameter

from tests.cli.operator.runner import VerbCase
from tests.remote.fake_servers import FakeServers
from tests.remote.samples import NAME, fleet
from txsentinel.cli.operator import switching
from txsentinel.cli.operator.switching import parse_time
from txsentinel.remote.switchover import Switchover


class SwitchoverTests(VerbCase):
    """``txsentinel switchover``."""

    def setUp(self) -> None:
        super().setUp()
        self.fleet = fleet()
        self.servers = servers = FakeServers()
        self.problems: tuple[str, ...] = ()

        def plan(*arguments: Any) -> Any:
            return self.problems or servers.plan()

        self.patch(switching, "plan_switchover", plan)
        made = partial(Switchover, connect=servers.connect, clock=servers.clock, read=servers.read)
        self.patch(switching, "Switchover", made)

    def test_proven(self) -> None:
        """The plan, the steps and the receipt are shown; the status is 0."""
        path = self.mktemp()
        found = self.run_verb("switchover", NAME, "--yes", "--receipt", path)
        lines = found.stdout.splitlines()
        self.assertEqual(
            lines[0],
            "mymaster: 10.0.0.2:6379 -> 10.0.0.1:6379   method c-fleet (redis 7.0.15)   lag 0 B"
            "   agreed by 3 of 3   rights ok",
        )
        self.assertRegex(lines[2], r"     \d ms  writes held at offset 1,000,000, replid 88888888")
        self.assertRegex(
            lines[-2], r"receipt [0-9A-Z]{26}: PROVEN, no acknowledged write lost; writes held \d+ ms; 2 part"
        )
        self.assertEqual(found.status, 0)
        with open(path, encoding="utf-8") as stream:
            self.assertEqual(json.load(stream)["verdict"], "proven")

    def test_json(self) -> None:
        """Only the receipt is on standard output."""
        found = self.run_verb("switchover", NAME, "--yes", "-o", "json")
        self.assertEqual(json.loads(found.stdout)["new"]["fork_offset"], 1_000_000)
        self.assertIn("promoted", found.stderr)

    def test_statuses(self) -> None:
        """Lost is 6, unproven 4, aborted 5."""
        self.servers.leaks = 183
        found = self.run_verb("switchover", NAME, "--yes")
        self.assertEqual(found.status, 6)
        self.assertIn("LOST, 183 bytes of writes lost", found.stdout)
        self.servers.promoted, self.servers.leaks = False, 14
        self.assertEqual(self.run_verb("switchover", NAME, "--yes").status, 4)
        self.servers.promoted, self.servers.promotes = False, False
        found = self.run_verb("switchover", NAME, "--yes")
        self.assertEqual(found.status, 5)
        self.assertIn("aborted: 10.0.0.1:6379 was not promoted within 10,000 ms", found.stderr)

    def test_refused(self) -> None:
        """All reasons are listed."""
        self.problems = ("one reason", "another\x1b")
        found = self.run_verb("switchover", NAME, "--yes")
        self.assertEqual(found.status, 5)
        self.assertIn("cannot be switched over now\n  one reason\n  another\\x1b\n", found.stderr)

    def test_dry_run(self) -> None:
        """Nothing is changed, nor asked."""
        found = self.run_verb("switchover", NAME, "--dry-run")
        self.assertEqual((found.status, self.servers.log), (0, []))

    def test_question(self) -> None:
        """Without a terminal, ``--yes`` is needed."""
        found = self.run_verb("switchover", NAME)
        self.assertEqual((found.status, self.servers.log), (64, []))
        self.assertIn("add --yes", found.stderr)

    def test_mistakes(self) -> None:
        """Wrong options are refused before anything is read."""
        for words, reason in [
            (["--to", "a:b"], "is no address"),
            (["--max-pause", "20"], "is no duration"),
            (["--at", "tomorrow"], "is no time"),
            (["--at", "2026-12-24T03:00:00"], "has no time zone"),
        ]:
            found = self.run_verb("switchover", NAME, "--yes", *words)
            self.assertEqual(found.status, 64, words)
            self.assertIn(reason, found.stderr)

    def test_times(self) -> None:
        """Times have a zone."""
        self.assertEqual(parse_time("2027-01-15T08:00:00Z"), 1_800_000_000)
        self.assertEqual(parse_time("2027-01-15T09:00:00+01:00"), 1_800_000_000)
        self.assertRaises(BadParameter, parse_time, "5")

    def test_failover(self) -> None:
        """``failover`` orders one Sentinel, and asks before."""
        self.patch(switching, "RemoteConnection", self.servers.connect)
        self.assertEqual(self.run_verb("failover", NAME).status, 64)
        found = self.run_verb("failover", NAME, "--yes")
        self.assertEqual(found.status, 0)
        self.assertEqual(self.servers.log, [f"10.0.0.11 SENTINEL FAILOVER {NAME}"])
