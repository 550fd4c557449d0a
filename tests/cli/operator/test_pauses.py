"""``txsentinel pause``, ``resume`` and ``paused`` with Sentinels of ours in memory."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.operator.runner import VerbCase
from tests.cli.operator.screens import answer
from tests.remote.samples import NAME, SENTINELS, fleet, sentinel, unreachable
from txsentinel.cli.operator import pauses
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer
from txsentinel.remote.reports import SentinelReport


class PauseTests(VerbCase):
    """Two Sentinels of ours and one of C."""

    def setUp(self) -> None:
        """Record the orders."""
        super().setUp()
        ours = [sentinel(each, kind="txsentinel", version="0.2.0") for each in SENTINELS[:2]]
        self.fleet = fleet(*ours, sentinel(SENTINELS[2]))
        self.orders: list[tuple[str, ...]] = []
        self.answers: list[object] = []
        self.patch(pauses, "order", self.order)

    def order(self, report: SentinelReport, settings: object, seconds: float, *words: str) -> object:
        """Return or raise the next answer."""
        self.orders.append((report.endpoint.host, *words))
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def pause(self, guaranteed: int = 1) -> dict[str, Any]:
        """Return the answer to PAUSE."""
        answers = answer(None, None, 0.0, "PAUSED")
        assert isinstance(answers, list)
        found: dict[str, Any] = answers[0]
        found["guaranteed"] = found["masters"][0]["guaranteed"] = guaranteed
        return found

    def test_ordered_once(self) -> None:
        """One of ours is ordered, which passes it on; the status is 7 if a failover is possible."""
        for guaranteed, options in ((1, ()), (0, ("--best-effort", "--scope", "hands-off"))):
            self.answers = [self.pause(guaranteed)]
            found = self.run_verb("pause", NAME, "--for", "30m", "--reason", "new kernel", *options)
            self.assertEqual((found.status, found.stderr), (0 if guaranteed else 7, ""))
            self.assertIn("NOT GUARANTEED" if not guaranteed else "GUARANTEED", found.stdout)
            self.assertIn("10.0.0.12:26379", found.stdout)
        words = ("PAUSE", NAME, "FOR", "1800000", "SCOPE")
        more = ("REASON", "new kernel", "REQUIRE")
        self.assertEqual(
            self.orders,
            [
                (SENTINELS[0], *words, "failover", *more, "guaranteed"),
                (SENTINELS[0], *words, "hands-off", *more, "best-effort"),
            ],
        )

    def test_all_masters(self) -> None:
        """A star stands for all masters; C Sentinels alone cannot be paused so."""
        self.answers = [self.pause()]
        self.assertEqual(self.run_verb("pause", "*", "--for", "1m", "--reason", "x").status, 0)
        self.assertEqual(self.orders[0][:3], (SENTINELS[0], "PAUSE", "*"))
        self.fleet = fleet(*(sentinel(each) for each in SENTINELS))
        found = self.run_verb("pause", "*", "--for", "1m", "--reason", "x")
        self.assertEqual((found.status, found.stdout), (64, ""))

    def test_refused(self) -> None:
        """A refusal is shown; another one is asked if the first does not answer."""
        self.answers = [ErrorAnswer("CANNOTGUARANTEE a failover would still be possible")]
        found = self.run_verb("pause", NAME, "--for", "1m", "--reason", "x")
        self.assertEqual((found.status, found.stdout), (7, ""))
        self.assertIn("a failover would still be possible", found.stderr)
        self.answers = [ConnectionFailed("gone"), self.pause()]
        self.assertEqual(self.run_verb("pause", NAME, "--for", "1m", "--reason", "x").status, 0)
        self.assertEqual([each[0] for each in self.orders[1:]], list(SENTINELS[:2]))
        self.answers = [ConnectionFailed("gone"), {"master": 5}]
        found = self.run_verb("pause", NAME, "--for", "1m", "--reason", "x")
        self.assertEqual((found.status, found.stdout), (1, ""))
        self.assertIn("unexpected 5", found.stderr)

    def test_resume(self) -> None:
        """What is left of the leases is shown, and a Sentinel of ours that was not reached."""
        missed = {"id": "x", "address": "10.0.0.12:26379", "kind": "txsentinel", "result": "no answer in time"}
        theirs = {"id": "y", "address": "10.0.0.13:26379", "kind": "c", "result": "it is a C Sentinel"}
        for resumed, sentinels, status in ((1, [theirs], 0), (1, [theirs, missed], 2), (0, [], 1)):
            self.answers = [{"resumed": resumed, "residual_until": 1_800_000_000_000, "sentinels": sentinels}]
            found = self.run_verb("resume", NAME)
            self.assertEqual(found.status, status)
            self.assertIn("from 2027-01-15T08:00:00.000Z on", found.stdout)
            self.assertEqual("! 10.0.0.12:26379 (no answer in time)" in found.stdout, missed in sentinels)
        self.assertEqual(self.orders[0], (SENTINELS[0], "RESUME", NAME))

    def test_paused(self) -> None:
        """Of one master or of all, in every form; with none in force as well."""
        self.answers = [[self.pause(0)], [self.pause()], []]
        found = self.run_verb("paused", NAME, "-o", "tsv")
        self.assertEqual(found.status, 7)
        self.assertIn("not reached", found.stdout)
        found = self.run_verb("paused", "-o", "json")
        self.assertEqual((found.status, json.loads(found.stdout)[0]["masters"][0]["votes_needed"]), (0, 2))
        self.assertIn("no pause is in force", self.run_verb("paused").stdout)
        self.assertEqual([each[1:] for each in self.orders], [("PAUSED", NAME), ("PAUSED",), ("PAUSED",)])

    def test_only_c(self) -> None:
        """C Sentinels alone have no pause that could be shown or ended."""
        self.fleet = fleet(sentinel(SENTINELS[0]), unreachable(SENTINELS[1]), sentinel(SENTINELS[2]))
        for verb in ("paused", "resume"):
            found = self.run_verb(verb, NAME)
            self.assertEqual((found.status, found.stdout), (1, ""))
            self.assertIn("no txsentinel that answers", found.stderr)
