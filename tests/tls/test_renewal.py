"""Tests of the renewal of certificates."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.model.events import Level
from txsentinel.tls.errors import BadTls
from txsentinel.tls.renewal import INTERVAL, KEPT, RENEWED, Renewal


class ThreadedClock(Clock):
    """A reactor whose threads work when a test demands it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], object]] = []

    def getThreadPool(self) -> ThreadedClock:
        """Return the thread pool."""
        return self

    def callInThreadWithCallback(self, done: Callable[[bool, Any], None], function: Callable[[], object]) -> None:
        """Queue the call."""

        def work() -> None:
            try:
                result = function()
            except Exception:
                done(False, Failure())
            else:
                done(True, result)

        self.waiting.append(work)

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        """Make the call."""
        function(*arguments)

    def work(self) -> None:
        """Execute all queued work of threads."""
        while self.waiting:
            self.waiting.pop(0)()


class FakeHost:
    """The part of a host that renewal uses."""

    def __init__(self) -> None:
        self.reactor = ThreadedClock()
        self.failures: list[str] = []

    def fail_stop(self, failure: Failure, what: str) -> None:
        """Record the failure."""
        self.failures.append(what)


class RenewalTests(SynchronousTestCase):
    """Tests with two files."""

    def setUp(self) -> None:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.certificate, self.key = directory / "certificate", directory / "key"
        self.write(self.certificate, "old")
        self.write(self.key, "old")
        self.machine = FakeHost()
        self.notes: list[tuple[Level, str]] = []
        self.contexts: list[Any] = []
        self.loads = 0
        self.renewal = self.start_renewal()

    def start_renewal(self, interval: float = INTERVAL) -> Renewal:
        """Start a renewal."""
        renewal = Renewal(
            self.machine,  # type: ignore[arg-type]
            [str(self.certificate), str(self.key)],
            self.load,
            self.contexts.append,
            lambda level, line: self.notes.append((level, line)),
            interval,
        )
        renewal.start()
        return renewal

    def write(self, path: Path, text: str) -> None:
        """Replace a file atomically."""
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, path)

    def load(self) -> Any:
        """Return the texts of both files as contexts; fail if they differ."""
        self.loads += 1
        pair = self.certificate.read_text(), self.key.read_text()
        if len(set(pair)) > 1:
            raise BadTls("they do not fit")
        return pair

    def pass_time(self, looks: int = 1) -> None:
        """Make so many checks with all their consequences."""
        for _ in range(looks):
            self.machine.reactor.advance(INTERVAL)
            self.machine.reactor.work()

    def test_nothing_changes(self) -> None:
        """Unchanged files are not read."""
        self.pass_time(3)
        self.assertEqual((self.loads, self.notes), (0, []))

    def test_replaced(self) -> None:
        """New files are loaded once, within two checks, and with a log line."""
        self.write(self.certificate, "new")
        self.write(self.key, "new")
        self.pass_time(2)
        self.assertEqual(self.contexts, [("new", "new")])
        self.assertEqual(self.notes, [(Level.NOTICE, RENEWED)])
        self.pass_time(3)
        self.assertEqual(len(self.contexts), 1)

    def test_partial_replacement(self) -> None:
        """The files are not read between the replacement of the certificate and that of the key."""
        self.write(self.certificate, "new")
        self.pass_time()
        self.write(self.key, "new")
        self.pass_time(2)
        self.assertEqual((self.contexts, self.notes), ([("new", "new")], [(Level.NOTICE, RENEWED)]))

    def test_unusable_files(self) -> None:
        """Unusable files are logged once, with the reason; the previous contexts stay in use."""
        self.write(self.certificate, "new")
        self.pass_time(5)
        self.assertEqual((self.contexts, self.notes), ([], [(Level.WARNING, KEPT + "they do not fit")]))
        self.write(self.key, "new")
        self.pass_time(2)
        self.assertEqual(self.contexts, [("new", "new")])

    def test_missing(self) -> None:
        """The removal of a file is a change, and its return another."""
        self.key.unlink()
        self.pass_time()
        self.write(self.key, "old")
        self.pass_time(2)
        self.assertEqual(self.contexts, [("old", "old")])

    def test_on_demand(self) -> None:
        """On request the files are read at once, changed or not."""
        self.renewal.renew()
        self.machine.reactor.work()
        self.assertEqual(self.contexts, [("old", "old")])
        self.write(self.certificate, "new")
        self.renewal.renew()
        self.machine.reactor.work()
        self.assertEqual((len(self.contexts), self.notes[-1]), (1, (Level.WARNING, KEPT + "they do not fit")))

    def test_nothing_waits_for_the_disk(self) -> None:
        """Files are checked and read in threads, one job at a time."""
        self.write(self.certificate, "new")
        self.machine.reactor.advance(INTERVAL)
        first = self.renewal.renew()
        second = self.renewal.renew()
        self.machine.reactor.advance(INTERVAL)
        self.assertEqual((self.loads, len(self.machine.reactor.waiting)), (0, 1))
        self.machine.reactor.work()
        for result in (first, second):
            self.assertEqual(self.successResultOf(result), f"{KEPT}they do not fit")
        self.assertEqual(self.loads, 2)
        self.write(self.key, "new")
        repaired = self.renewal.renew()
        self.machine.reactor.work()
        self.assertEqual(self.successResultOf(repaired), "")

    def test_stopped(self) -> None:
        """The result of a read in progress at the stop is dropped."""
        self.renewal.renew()
        self.renewal.stop()
        self.machine.reactor.work()
        self.assertEqual((self.contexts, self.notes, self.machine.reactor.getDelayedCalls()), ([], [], []))

    def test_never_by_itself(self) -> None:
        """With an interval of 0 the files are read on request only."""
        self.renewal.stop()
        self.renewal = self.start_renewal(0)
        self.assertEqual(self.machine.reactor.getDelayedCalls(), [])
        self.write(self.certificate, "new")
        self.write(self.key, "new")
        self.renewal.renew()
        self.machine.reactor.work()
        self.assertEqual(self.contexts, [("new", "new")])

    def test_unexpected_exception(self) -> None:
        """An unexpected exception ends the process, because certificates could expire unnoticed."""

        def broken() -> Any:
            raise ZeroDivisionError

        self.renewal.stop()
        renewal = Renewal(
            self.machine,  # type: ignore[arg-type]
            [str(self.certificate)],
            broken,
            self.contexts.append,
            lambda level, line: None,
        )
        renewal.start()
        self.write(self.certificate, "new")
        self.pass_time(2)
        self.assertEqual(self.machine.failures, ["the check of certificates"])
