"""The extension ``template`` with real files, threads and processes."""

# mypy: allow-untyped-calls
from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.extensions.fixture import FakeView, healthy_master
from txsentinel.extensions.template.service import TemplateService
from txsentinel.extensions.template.settings import TemplateSettings
from txsentinel.model.snapshots import Endpoint

SECONDS = 60.0
TEMPLATE = "{% for m in masters %}\n{{ m.name }} {{ m.address }} {{ m.ok_replicas }}\n{% endfor %}\n"

SCRIPT = """#!/bin/sh
# Arguments: the log, the word of the run, and the file that must not have the word "bad".
echo "begin $2" >> "$1"
while test -e "$1.hold"; do sleep 0.02; done
echo "end $2 $(cat "$3" | tr '\\n' ' ')" >> "$1"
if grep -q bad "$3"; then echo "the file is bad" >&2; exit 3; fi
"""


class TemplateTests(TestCase):
    """A Sentinel that keeps a file, of which only the view is fake."""

    timeout = 300

    def setUp(self) -> None:
        """Start the service."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.source, self.dest, self.log = (self.directory / name for name in ("source", "dest", "log"))
        self.hold = self.directory / "log.hold"
        self.log.touch()
        self.source.write_text(TEMPLATE)
        script = self.directory / "script"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        self.view = FakeView(healthy_master(), healthy_master("other", "10.0.0.9"))
        command = (str(script), str(self.log))
        self.service = TemplateService(
            reactor,
            self.view,
            TemplateSettings(
                "x",
                str(self.source),
                str(self.dest),
                check=(*command, "check", "{{src}}"),
                reload=(*command, "reload", str(self.dest)),
                quiet=0.05,
                longest=0.2,
            ),
        )

    def start(self) -> None:
        """Start the service, and stop it at the end of the test."""
        self.service.startService()
        self.addCleanup(self.service.stopService)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"waited in vain for {what}; {self.log.read_text()}")
            await deferLater(reactor, 0.01)

    def move(self, host: str, epoch: int, name: str = "mymaster") -> None:
        """Move a master."""
        self.view.put(replace(self.view.master(name), address=Endpoint(host, 6379), config_epoch=epoch))

    def runs(self, word: str) -> int:
        """Return how often a command has ended."""
        return self.log.read_text().count(f"end {word}")

    def is_done(self) -> bool:
        """Whether nothing is left to publish."""
        (state,) = self.view.publishers.states()
        return not state.pending

    def test_runs(self) -> Deferred[None]:
        """Changes are checked, written and reloaded; what is unchanged runs nothing, and the newest of many wins."""
        return ensureDeferred(self.run_changes())

    async def run_changes(self) -> None:
        """See ``test_runs``."""
        self.dest.write_text("old")
        self.dest.chmod(0o604)
        self.start()
        await self.until(self.is_done, "the first file")
        self.assertEqual(self.dest.read_text(), "mymaster 10.0.0.1:6379 2\nother 10.0.0.9:6379 2\n")
        self.assertEqual(stat.S_IMODE(self.dest.stat().st_mode), 0o604)
        # Both masters were rendered at once.
        self.assertEqual((self.runs("check"), self.runs("reload")), (1, 1))

        self.move("10.0.0.1", 9)
        await self.until(self.is_done, "a change of the epoch, which the template does not show")
        self.assertEqual((self.runs("check"), self.runs("reload")), (1, 1))
        self.view.put(replace(self.view.master("other"), ok_replicas=1, flags=("s_down", "master")))
        await self.until(lambda: "other 10.0.0.9:6379 1" in self.dest.read_text(), "a change of replicas")
        await self.until(lambda: self.runs("reload") == 2, "its reload")

        # While a command runs, changes wait, and only the last one is rendered.
        self.hold.touch()
        self.move("10.0.0.2", 10)
        await self.until(lambda: self.log.read_text().count("begin check") == 3, "a command")
        for number in range(3, 8):
            self.move(f"10.0.0.{number}", 10 + number)
        self.assertEqual(self.log.read_text().count("begin"), self.log.read_text().count("end") + 1)
        self.hold.unlink()
        await self.until(self.is_done, "the newest address")
        self.assertEqual(self.dest.read_text().splitlines()[0], "mymaster 10.0.0.7:6379 2")
        checked = [line.split()[3] for line in self.log.read_text().splitlines() if line.startswith("end check")]
        self.assertEqual(checked[2:], ["10.0.0.2:6379", "10.0.0.7:6379"])
        self.assertEqual(sorted(os.listdir(self.directory)), ["dest", "log", "script", "source"])

    def test_failures(self) -> Deferred[None]:
        """A file that fails its check, or a template that fails, is not used; the error is shown until then."""
        return ensureDeferred(self.run_failures())

    async def run_failures(self) -> None:
        """See ``test_failures``."""
        self.dest.write_text("old")
        self.source.write_text("bad")
        self.start()
        await self.until(lambda: self.view.publishers.warnings("other"), "the failure")
        (warning,) = self.view.publishers.warnings("mymaster")
        self.assertIn("the command of check ended with status 3: the file is bad", warning)
        self.assertEqual((self.dest.read_text(), self.runs("reload")), ("old", 0))
        self.source.write_text("{{ nothing }}")
        await self.until(lambda: "is undefined" in self.view.publishers.warnings("mymaster")[0], "the next failure")
        self.source.write_text(TEMPLATE)
        await self.until(self.is_done, "the success")
        self.assertEqual(self.view.publishers.warnings("mymaster"), ())
        self.assertEqual(self.runs("reload"), 1)

    def test_stop(self) -> Deferred[None]:
        """The stop ends the command that runs; what was not checked is not used, and leaves nothing."""
        return ensureDeferred(self.run_stop())

    async def run_stop(self) -> None:
        """See ``test_stop``."""
        self.hold.touch()
        self.service.startService()
        await self.until(lambda: "begin check" in self.log.read_text(), "the command")
        await self.service.stopService()
        self.assertEqual(sorted(os.listdir(self.directory)), ["log", "log.hold", "script", "source"])
