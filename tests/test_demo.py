"""The demonstration: its counts, its commands, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import failover_record
from tests.servers import DeadlineExpired, available
from txsentinel.client import MasterAddress
from txsentinel.demo import __main__ as demo
from txsentinel.demo import history
from txsentinel.demo import show as show_module
from txsentinel.demo.fleet import Fleet
from txsentinel.demo.show import DemoWriter, Show, WriteBitmap
from txsentinel.model.history import FailoverKind, ObserverRole
from txsentinel.model.plain import Plain, plain

KIND = next((kind for kind in ("redis", "valkey") if available(kind)), "")
ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300.0


class AcknowledgedTests(SynchronousTestCase):
    """Acknowledged writes, compared with those that a server has."""

    def test_missing(self) -> None:
        """Each missing bit is counted; additional bits of the server do not compensate."""
        acknowledged = WriteBitmap()
        self.assertEqual(acknowledged.missing_in(b""), 0)
        for number in (0, 3, 9, 30):
            acknowledged.add(number)
        self.assertEqual(acknowledged.count, 4)
        for stored, missing in (
            (bytes([0b10010000, 0b01000000, 0, 0b00000010]), 0),
            (bytes([0b10010000, 0b01000000]), 1),
            (bytes([0b01101111, 0b10111111, 255, 255, 255]), 3),
            (b"", 4),
        ):
            self.assertEqual(acknowledged.missing_in(stored), missing, stored)

    def test_summary(self) -> None:
        """It has the figures for operators, and reports the writes without a master as unknown."""
        writer = DemoWriter(Clock(), None, lambda text: None)  # type: ignore[arg-type]
        writer.failovers, writer.max_gap = 2, 1.2346
        writer.acknowledged.add(0)
        self.assertEqual(
            writer.summary(b"\x80"),
            "failovers: 2; longest gap between two writes: 1235 ms; writes acknowledged: 1; of these lost: 0",
        )
        self.assertTrue(writer.summary(b"").endswith("of these lost: 1"))
        self.assertTrue(writer.summary(None).endswith("of these lost: not known, as no master answers"))


@dataclass
class Server:
    """A server that runs, or not."""

    name: str
    port: int
    running: bool = True

    def kill(self) -> None:
        """Stop it."""
        self.running = False


@dataclass
class Installation:
    """The part of a fleet that the keyboard uses."""

    name: str = "mymaster"
    ports: dict[str, int] = field(default_factory=lambda: {"sentinel": 1})
    servers: dict[int, Server] = field(default_factory=lambda: {n: Server(f"server-{n}", n) for n in (7, 8)})
    sentinels: tuple[object, ...] = ()
    pages: tuple[str, ...] = ()


class KeyboardTests(SynchronousTestCase):
    """Enter kills the master, or prints what has to happen first."""

    def test_too_early(self) -> None:
        """Before there is a master, while the last one is dead, and while no replica could be promoted."""
        lines_shown: list[str] = []
        fleet = Installation()
        show = Show(Clock(), fleet, lines_shown.append)  # type: ignore[arg-type]

        def enter(master: int | None) -> str:
            show._follower = type(  # type: ignore[assignment]
                "Following", (), {"address": None if master is None else MasterAddress("127.0.0.1", master)}
            )
            show.kill_master()
            return lines_shown.pop().partition("  ** ")[2]

        self.assertIn("wait for the line with the address of the master", str(enter(None)))
        self.assertEqual(enter(7), "killing the master, 127.0.0.1:7")
        self.assertEqual(enter(7), "127.0.0.1:7 is dead already; wait until writes go to another master")
        self.assertEqual(enter(8), "no server could replace 127.0.0.1:8; wait until server-7 is started again")
        self.assertTrue(fleet.servers[8].running)
        fleet.servers[7].running = True
        self.assertEqual(enter(8), "killing the master, 127.0.0.1:8")


class HistoryTests(SynchronousTestCase):
    """The record of a failover that is shown."""

    def record(self, role: str, epoch: int, port: int = 2) -> dict[str, object]:
        """Return the record of a Sentinel."""
        found = plain(replace(failover_record(epoch=epoch), observer_role=ObserverRole(role)))
        assert isinstance(found, dict)
        address: Plain = {"host": "127.0.0.1", "port": port, "address": f"127.0.0.1:{port}"}
        return {**found, "to_server": {"address": address}}

    def latest(self, *records: dict[str, object]) -> dict[str, object] | None:
        """Return the record that is chosen; one more page does not answer."""
        answers: list[bytes | OSError] = [OSError("refused"), *(json.dumps([each]).encode() for each in records)]

        def open_page(address: str, timeout: float) -> io.BytesIO:
            self.assertTrue(address.endswith("v1/history?limit=1&master=a%20b"), address)
            answer = answers[int(address[0])]
            if isinstance(answer, OSError):
                raise answer
            return io.BytesIO(answer)

        # The module reads pages of Sentinels; here there are none.
        self.patch(history, "_OPENER", type("Opener", (), {"open": staticmethod(open_page)}))
        return history.latest_record([f"{number}/" for number in range(len(answers))], "a b", 2)

    def test_choice(self) -> None:
        """The record of the leader of the latest failover to the address is taken."""
        self.assertIsNone(self.latest())
        self.assertIsNone(self.latest(self.record("leader", 7, port=3)))
        leader = self.record("leader", 7)
        self.assertEqual(self.latest(self.record("follower", 7), leader, self.record("leader", 5)), leader)
        newer = self.record("follower", 8)
        self.assertEqual(self.latest(leader, newer), newer)

    def test_line(self) -> None:
        """It has the servers, the cause and the duration of each phase."""
        self.assertEqual(
            history.describe_record(self.record("leader", 7)),
            "automatic failover of 10.0.0.9:6379 to 127.0.0.1:2, cause: down (refused);"
            " ms after sdown: odown +500, elected +500, switched +1000",
        )


class ThreadlessReactor(Clock):
    """A clock that calls at once what is meant for a thread, and is its own pool of threads."""

    def getThreadPool(self) -> ThreadlessReactor:
        """Return the pool."""
        return self

    def callInThreadWithCallback(
        self, result: Callable[[bool, object], None], function: Callable[..., object], *arguments: object
    ) -> None:
        """Pass the result of the function on."""
        result(True, function(*arguments))

    def callFromThread(self, function: Callable[..., object], *arguments: object) -> None:
        """Call the function."""
        function(*arguments)


class LeaderTests(SynchronousTestCase):
    """Which record is shown while the pages have none, or only those of other Sentinels than the leader."""

    def shown(self, *found: ObserverRole | None) -> tuple[str, float]:
        """
        Return the line that is shown, and the seconds until then.

        :param found: the role of the observer of the record found by each look; the last one is found ever after.
        """
        lines: list[str] = []
        roles = list(found)

        def latest(*arguments: object) -> Plain:
            role = roles.pop(0) if roles[1:] else roles[0]
            kind = FailoverKind.AUTOMATIC if role is ObserverRole.LEADER else FailoverKind.FORCED
            return None if role is None else plain(replace(failover_record(), observer_role=role, kind=kind))

        self.patch(show_module, "latest_record", latest)
        reactor = ThreadlessReactor()
        show = Show(reactor, Installation(), lines.append)  # type: ignore[arg-type]
        # The follower, which is not started here, calls this.
        show._print_kill_hint(MasterAddress("127.0.0.1", 9))
        while not show.reported.called:
            reactor.advance(0.5)
        return "".join(lines[-1:]).partition("  ** ")[2], reactor.seconds()

    def test_leader(self) -> None:
        """The record of the leader is waited for."""
        line, seconds = self.shown(None, ObserverRole.BYSTANDER, ObserverRole.LEADER)
        self.assertTrue(line.startswith("history: automatic failover"), line)
        self.assertEqual(seconds, 1.0)

    def test_no_leader(self) -> None:
        """If the leader has none in the end, that of another Sentinel is shown; if there is none at all, no line."""
        line, seconds = self.shown(ObserverRole.BYSTANDER)
        self.assertTrue(line.startswith("history: forced failover"), line)
        self.assertEqual(seconds, show_module.HISTORY_TIMEOUT_SECONDS)
        self.assertNotIn("history", self.shown(None)[0])


class CommandLineTests(SynchronousTestCase):
    """Refused options and their errors."""

    def test_options(self) -> None:
        """A number out of range is refused with its option and the reason."""
        for words, text in (
            (["--down-after", "0"], "argument --down-after: 0 is too low, 1 is the least: a server that may not be"),
            (["--replicas", "0"], "argument --replicas: 0 is too low, 1 is the least: without a replica no server"),
            (["--sentinels", "-1"], "argument --sentinels: -1 is too low, 1 is the least: without a Sentinel the"),
            (["--down-after", "5s"], "argument --down-after: '5s' is not a whole number"),
        ):
            stderr = io.StringIO()
            with contextlib.redirect_stderr(stderr):
                self.assertEqual(self.assertRaises(SystemExit, demo.main, words).code, 2)
            self.assertIn(text, stderr.getvalue())

    def test_start_that_takes_too_long(self) -> None:
        """If the start takes too long it ends with a message, keeping the logs; an interrupted start leaves nothing."""

        def start(fleet: Fleet, seconds: float) -> None:
            raise error

        self.patch(Fleet, "start", start)
        if not KIND:
            self.skipTest("no server on this machine")
        for error, text in (
            (
                DeadlineExpired("waited 60 s in vain for PONG"),
                "The demonstration ends here: waited 60 s in vain for PONG\n",
            ),
            (
                RuntimeError("server-1 ended with status 1"),
                "The demonstration ends here: server-1 ended with status 1\n",
            ),
            (KeyboardInterrupt(), "Interrupted; nothing is left behind."),
        ):
            stdout, stderr = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                ended = self.assertRaises(SystemExit, demo.main, ["--server", KIND])
            self.assertTrue(str(ended.code).startswith(text), ended.code)
            directory = stdout.getvalue().split()[-2]
            self.assertEqual(directory in stderr.getvalue(), not isinstance(error, KeyboardInterrupt))


class DemonstrationTests(SynchronousTestCase):
    """The whole demonstration, with real servers."""

    if not KIND:
        skip = "no server on this machine"

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a demonstration."""
        process = subprocess.Popen(
            [sys.executable, "-m", "txsentinel.demo", "--server", KIND, *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell ignores SIGINT for background processes, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.addCleanup(process.kill)
        watchdog = threading.Timer(SECONDS, process.kill)
        watchdog.start()
        self.addCleanup(watchdog.cancel)
        return process

    def test_interrupted(self) -> None:
        """Ctrl-C ends it with a summary and status 0."""
        process = self.start("--replicas", "1", "--sentinels", "1")
        assert process.stdout is not None
        output = process.stdout.readline()
        directory = output.split()[-2]
        while "** writes go to" not in output:
            line = process.stdout.readline()
            self.assertTrue(line, output)
            output += line
        process.send_signal(signal.SIGINT)
        output += process.communicate()[0]
        self.assertEqual(process.returncode, 0, output)
        self.assertRegex(output, r"\*\* failovers: 0; longest gap .* ms; writes acknowledged: \d+; of these lost: 0\n")
        self.assertNotIn("Traceback", output)
        self.assertRegex(output, r"See it in a browser: http://127\.0\.0\.1:\d+/ ")
        for verb in ("explain", "history"):
            self.assertRegex(output, rf"txsentinel {verb} mymaster --sentinel 127\.0\.0\.1:\d+\n")
        self.assertFalse(os.path.exists(directory))

    def test_failover(self) -> None:
        """``--kill-once`` shows one failover, counts it, and ends."""
        process = self.start("--kill-once")
        output = process.communicate()[0]
        self.assertEqual(process.returncode, 0, output)
        self.assertRegex(
            output, r"\*\* failovers: 1; longest gap .* ms; writes acknowledged: \d+; of these lost: \d+\n"
        )
        old = re.search(r"killing the master, (\S+)", output)
        new = re.search(r"\+switch-master mymaster (\S+) (\d+) (\S+) (\d+)", output)
        assert old is not None and new is not None, output
        self.assertEqual(old[1], f"{new[1]}:{new[2]}")
        # What the leader finds first, a lost connection, a refused one or no reply, depends on the load of the machine.
        expected = f"history: automatic failover of {old[1]} to {new[3]}:{new[4]}, cause: down "
        self.assertRegex(output, re.escape(expected) + r"\([a-z_]+\); ms after")
        self.assertNotIn("Traceback", output)
