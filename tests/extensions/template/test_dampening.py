"""When a template is rendered: new addresses at once, other changes together, and never without end."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.outward.harness import ImmediateReactor
from txsentinel.extensions.template.publisher import TemplatePublisher
from txsentinel.extensions.template.settings import TemplateSettings


class DampeningTests(SynchronousTestCase):
    """A file without commands, with ``dampen 200ms 2s``."""

    def setUp(self) -> None:
        """Make the publisher."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        source = Path(directory.name) / "source"
        source.write_text("x")
        self.runs: list[float] = []
        self.reactor = ImmediateReactor()
        settings = TemplateSettings("x", str(source), f"{directory.name}/dest")
        self.publisher = TemplatePublisher(self.reactor, settings, self.variables)

    def variables(self) -> dict[str, object]:
        """Note the time of a run."""
        self.runs.append(round(self.reactor.seconds(), 1))
        return {}

    def ask(self, times: int, interval: float, urgent: bool) -> None:
        """Ask for runs at intervals, and wait for the last."""
        for _ in range(times):
            self.publisher.render(urgent=urgent)
            self.reactor.pump([interval / 10] * 10)
        self.reactor.pump([0.1] * 30)

    def test_address(self) -> None:
        """A new address is rendered at once, also while other changes wait."""
        self.publisher.render()
        self.reactor.advance(0.1)
        self.publisher.render(urgent=True)
        self.reactor.advance(0)
        self.assertEqual(self.runs, [0.1])
        self.reactor.pump([0.1] * 30)
        self.assertEqual(self.runs, [0.1])

    def test_addresses(self) -> None:
        """Many new addresses are rendered less and less often; after some rest, at once again."""
        self.ask(80, 0.1, True)
        self.assertEqual(self.runs[:3], [0.0, 0.2, 0.6])
        self.assertLess(len(self.runs), 10)
        self.reactor.pump([1.0] * 10)
        now = round(self.reactor.seconds(), 1)
        self.ask(1, 0.1, True)
        self.assertEqual(self.runs[-1], now)

    def test_other_changes(self) -> None:
        """Other changes are rendered together, at the latest after two seconds."""
        self.ask(3, 0.1, False)
        self.assertEqual(self.runs, [0.4])
        began = self.reactor.seconds()
        self.ask(25, 0.1, False)
        first, second = (each - began for each in self.runs[1:])
        self.assertLess(abs(first - 2.0), 0.15)
        self.assertLess(abs(second - 2.6), 0.15)
