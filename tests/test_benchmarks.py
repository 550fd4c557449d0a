"""The calculations of the benchmarks."""

from __future__ import annotations

import os
import time

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import gauges, growth, many_masters, mass_failure, quiet, start
from benchmarks.observer import read_reply, request
from benchmarks.standins.layout import ip_address


class ReplyTests(SynchronousTestCase):
    """The observer's parser of replies."""

    def test_every_kind(self) -> None:
        """Statuses, errors, numbers, bulk strings and arrays are parsed one after the other."""
        data = b"+OK\r\n:7\r\n$-1\r\n*2\r\n$2\r\na\r\r\n:1\r\n-ERR no\r\n"
        found, at = [], 0
        while (reply := read_reply(data, at)) is not None:
            found.append(reply[0])
            at = reply[1]
        self.assertEqual(found[:4], [b"OK", 7, None, [b"a\r", 1]])
        self.assertEqual(str(found[4]), "ERR no")
        self.assertEqual(at, len(data))

    def test_incomplete(self) -> None:
        """A reply that is cut anywhere gives no result."""
        data = request("SUBSCRIBE", "+tilt")
        self.assertEqual(read_reply(data), ([b"SUBSCRIBE", b"+tilt"], len(data)))
        for end in range(len(data)):
            self.assertIsNone(read_reply(data[:end]))


class ProcessFigureTests(SynchronousTestCase):
    """Figures of the kernel about a process."""

    def test_of_ourselves(self) -> None:
        """Work shows as processor time; memory and sockets are counted."""
        before = gauges.cpu_seconds(os.getpid())
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        self.assertGreaterEqual(gauges.cpu_seconds(os.getpid()) - before, 0.08)
        self.assertGreater(gauges.resident_bytes(os.getpid()), 1 << 20)
        self.assertGreaterEqual(gauges.sockets(os.getpid()), 0)


class AddressTests(SynchronousTestCase):
    """Addresses of simulated instances."""

    def test_addresses_differ(self) -> None:
        """No two simulated instances share an address, however many there are."""
        found = {ip_address(number, replica) for number in range(2000) for replica in (None, 0, 1)}
        self.assertEqual(len(found), 6000)
        self.assertRaises(ValueError, ip_address, 10**6)


class MassFailureTests(SynchronousTestCase):
    """Figures of a mass failure."""

    def test_first_promotions(self) -> None:
        """The first promotion of each failed master counts, and those of others do not."""
        promoted = [
            {"at": 12.0, "name": "m1r0"},
            {"at": 11.0, "name": "m0r1"},
            {"at": 13.0, "name": "m0r0"},
            {"at": 11.5, "name": "m7r0"},
        ]
        # The arithmetic of the benchmark has no entry of its own.
        self.assertEqual(mass_failure._first_promotions(promoted, {"m0": "m0", "m1": "m1"}, 10.0), [1.0, 2.0])

    def test_agreement_needs_everyone(self) -> None:
        """A master is agreed upon when the last Sentinel has switched; one that not all switched is not."""
        events = [
            (11.0, "a", "+switch-master", "m0 x 1 y 2"),
            (13.0, "b", "+switch-master", "m0 x 1 y 2"),
            (14.0, "b", "+switch-master", "m0 y 2 x 1"),
            (12.0, "a", "+switch-master", "m1 x 1 y 2"),
            (12.0, "b", "+tilt", "#tilt mode entered"),
        ]
        # The arithmetic of the benchmark has no entry of its own.
        self.assertEqual(mass_failure._agreements(events, ["m0", "m1"], ["a", "b"], 10.0), [3.0])

    def test_gathered(self) -> None:
        """Curves are listed by contender; a contender without figures is listed with the reason."""
        failure = mass_failure.MassFailure(10, 2, 1000, "silence")
        figures: dict[str, list[float]] = {name: [1.0] for name in mass_failure.FIGURES}
        good = {"figures": figures, "promoted": [[1.0, 1], [2.0, 2]], "agreed": [[3.0, 1]], "disagreements": 1}
        (entry,) = mass_failure.gather([failure], {"one": [good], "two": [{"problem": "not stable"}]})
        self.assertEqual(entry["curves"], {"one": [[1.0, 1], [2.0, 2]], "two": []})
        self.assertEqual((entry["victims"], entry["fault"]), (2, "silence"))
        text = mass_failure.table({"mass failures": [entry]})
        self.assertIn("2 of 10 masters fall silent, down-after 1000 ms", text)
        self.assertIn("two: not stable", text)
        self.assertIn("one: no agreement on a living master for 1", text)

    def test_throttled(self) -> None:
        """The title of a mass failure has the limit of the processor time."""
        failure = mass_failure.MassFailure(10, 2, 1000, "die", 0.5)
        self.assertEqual(failure.title, "2 of 10 masters die, down-after 1000 ms, 50% of a core each")


class TableTests(SynchronousTestCase):
    """Tables of the other scenarios."""

    def test_quiet(self) -> None:
        """There is a row per figure, and a line for contenders that did not become stable."""
        figures = {name: [1.0, 3.0] for name in quiet.FIGURES}
        text = quiet.table({"quiet": [{"masters": 5, "contenders": {"one": figures, "two": {"problem": "no"}}}]})
        self.assertIn("2 (1–3)", text)
        self.assertIn("two: no", text)

    def test_start(self) -> None:
        """Contenders that did not discover all in time are listed."""
        found = {"known": [1500.0], "cpu": [10.0, 20.0], "not done": 2}
        text = start.table({"start": [{"masters": 5, "contenders": {"one": found}}]})
        self.assertIn("1500 (1500–1500)", text)
        self.assertIn("one: 2 Sentinels did not know all in time", text)

    def test_growth(self) -> None:
        """Sizes are side by side, each with its own mass failure."""
        quiet_figures = {name: [2.0] for name in quiet.FIGURES}
        failures, quiets = [], []
        for masters, promoted in ((10, 100.0), (20, 400.0)):
            figures = {**{name: [1.0] for name in mass_failure.FIGURES}, "promoted_last": [promoted]}
            outcome = {"figures": figures, "promoted": [], "agreed": [], "disagreements": 0}
            failures += mass_failure.gather([mass_failure.MassFailure(masters, 1, 1000, "die")], {"one": [outcome]})
            quiets.append({"masters": masters, "contenders": {"one": quiet_figures}})
        text = growth.table({"quiet": quiets, "mass failures": failures})
        self.assertIn("1 of 10", text)
        self.assertIn("400 (400–400)  4.00×", text)


class ManyMastersTests(SynchronousTestCase):
    """The work of a simulated Sentinel."""

    def test_sample(self) -> None:
        """Only the events of the Sentinel count, and the loss of all masters is measured until all are switched."""
        figures = many_masters.sample(3, 1, 1, 2.0, 1_000, failure=True)
        self.assertEqual(set(figures), set(many_masters.FIGURES))
        self.assertTrue(all(value[0] > 0 for value in figures.values()), figures)
        self.assertLess(figures["replaced"][0], many_masters.FAILURE_SECONDS)
        self.assertGreater(figures["replaced"][0], 0.9)
