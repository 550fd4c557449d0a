"""Tests of ``txsentinel webhooks``."""

from __future__ import annotations

from pathlib import Path

from tests.cli.operator.runner import VerbCase
from tests.extensions.fixture import OWN_ID, instant
from txsentinel.extensions.notifications import Notification
from txsentinel.extensions.webhooks.dead_letters import DeadLetter, append_letters, take_retries


class WebhookVerbTests(VerbCase):
    """The verbs over a state directory."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp())
        (self.directory / "webhooks").mkdir(parents=True)

    def give_up(self) -> None:
        """Have one notification given up; its master has a name that must be escaped."""
        sent = Notification("id-1", "+odown", OWN_ID, "m\x1b[2J", instant(0), {})
        append_letters(str(self.directory / "webhooks"), [DeadLetter("ops", sent, 3, "status 404")])

    def test_list(self) -> None:
        """A line has time, target, event, master and reason."""
        self.give_up()
        found = self.run_verb("webhooks", "list", str(self.directory))
        self.assertEqual(found.stdout, "2027-01-15T08:00:00.000Z  ops  +odown  m\\x1b[2J  (status 404)\n")

    def test_damaged_lines(self) -> None:
        """Lines that are no letters are counted."""
        (self.directory / "webhooks" / "dead-letters.jsonl").write_text("{}\n[]\n")
        found = self.run_verb("webhooks", "list", str(self.directory))
        self.assertEqual((found.stdout, found.stderr), ("", "2 lines of dead-letters.jsonl cannot be read\n"))

    def test_retry(self) -> None:
        """The file is passed on to the Sentinel; a second time only when that has taken it."""
        self.give_up()
        self.assertEqual(
            self.run_verb("webhooks", "retry", str(self.directory)).stdout, "1 notification will be sent again\n"
        )
        self.give_up()
        found = self.run_verb("webhooks", "retry", str(self.directory))
        self.assertEqual(found.status, 1)
        self.assertIn("is not taken yet", found.stderr)
        taken, bad = take_retries(str(self.directory / "webhooks"))
        self.assertEqual(([target for target, _ in taken], bad), (["ops"], 0))
        self.assertEqual(self.run_verb("webhooks", "retry", str(self.directory)).status, 0)

    def test_nothing(self) -> None:
        """Without a file there is nothing to do; a directory that is not there is an error of usage."""
        (self.directory / "webhooks").rmdir()
        self.assertEqual(self.run_verb("webhooks", "retry", str(self.directory)).stdout, "nothing was given up\n")
        self.assertEqual(self.run_verb("webhooks", "list", str(self.directory / "none")).status, 64)
