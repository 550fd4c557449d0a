"""The harness of other tests: real processes that end with the test, and a client that checks replies."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.report import comparison
from tests.servers import (
    BinaryMissing,
    Connection,
    DeadlineExpired,
    EventRecorder,
    Fleet,
    Harness,
    ReplyError,
    available,
    free_port,
    missing,
    version_number,
    wait_for,
)
from txsentinel.demo import processes, programs

KIND = next((kind for kind in ("redis", "valkey") if available(kind)), "redis")


class FixedReplyServer:
    """Accepts one connection and answers its first request with a fixed reply."""

    def __init__(self, answer: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until it has answered."""
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client:
            client.recv(4096)
            for index in range(len(self._answer)):
                client.sendall(self._answer[index : index + 1])


class BlockingClientTests(SynchronousTestCase):
    """Replies of every RESP2 type, received byte by byte."""

    def reply_to(self, answer: bytes) -> object:
        """Return the client's result for a reply."""
        server = FixedReplyServer(answer)
        self.addCleanup(server.close)
        with Connection(server.port) as connection:
            return connection.call("ANYTHING")

    def test_scalars(self) -> None:
        """Statuses, integers, strings and nulls have their types."""
        self.assertEqual(self.reply_to(b"+OK\r\n"), "OK")
        self.assertEqual(self.reply_to(b":-7\r\n"), -7)
        self.assertEqual(self.reply_to(b"$4\r\na\r\nb\r\n"), "a\r\nb")
        self.assertIsNone(self.reply_to(b"$-1\r\n"))
        self.assertIsNone(self.reply_to(b"*-1\r\n"))

    def test_arrays(self) -> None:
        """Arrays nest, and may be empty."""
        self.assertEqual(self.reply_to(b"*3\r\n*0\r\n:1\r\n*1\r\n$0\r\n\r\n"), [[], 1, [""]])

    def test_error(self) -> None:
        """An error reply is raised with its text."""
        problem = self.assertRaises(ReplyError, self.reply_to, b"-ERR no such thing\r\n")
        self.assertEqual(str(problem), "ERR no such thing")

    def test_partial_reply(self) -> None:
        """A connection that ends within a reply is a lost connection."""
        self.assertRaises(ConnectionError, self.reply_to, b"$10\r\nabc")


class WaitForTests(SynchronousTestCase):
    """Waiting with a deadline."""

    def test_first_true_result(self) -> None:
        """Errors of servers that are not up yet are ignored; the first true result is returned."""
        outcomes: Iterator[Exception | int] = iter([ConnectionRefusedError(), ReplyError("LOADING"), 0, 42])

        def condition() -> int:
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        self.assertEqual(wait_for(condition, 5, "an answer", every=0.001), 42)

    def test_deadline(self) -> None:
        """After the timeout, the error has the condition and its last result."""
        problem = self.assertRaises(DeadlineExpired, wait_for, list, 0.01, "godot", 0.001)
        self.assertIn("in vain for godot; seen last: []", str(problem))


class ProcessTests(SynchronousTestCase):
    """The lifetime of child processes."""

    if missing(KIND):
        skip = missing(KIND)

    def test_harness_leaves_nothing(self) -> None:
        """After the block, servers are stopped and the directory is removed, even if one was frozen."""
        with Harness() as harness:
            servers = [harness.redis(KIND), harness.redis(KIND)]
            for server in servers:
                server.start()
            servers[1].freeze()
            pids = [server.pid for server in servers]
        self.assertFalse(harness.directory.exists())
        for pid in pids:
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_exception_keeps_logs(self) -> None:
        """After an exception, the directory is kept and printed."""
        output = io.StringIO()
        self.patch(sys, "stderr", output)
        with contextlib.suppress(ZeroDivisionError), Harness() as harness:
            (harness.directory / "evidence").touch()
            raise ZeroDivisionError
        self.assertTrue((harness.directory / "evidence").exists())
        self.assertIn(str(harness.directory), output.getvalue())
        harness.close()
        self.assertFalse(harness.directory.exists())

    def test_killed_parent_takes_children_along(self) -> None:
        """A test run that is itself killed leaves no server behind."""
        if sys.platform != "linux":
            raise SkipTest("only Linux notifies children of the end of their parent")
        program = (
            "import sys; from tests.servers import Harness\n"
            f"bench = Harness(); server = bench.redis({KIND!r}); server.start()\n"
            "print(server.pid, bench.directory, flush=True); sys.stdin.read()"
        )
        root = Path(__file__).resolve().parent.parent
        parent = subprocess.Popen(
            [sys.executable, "-c", program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=60)
        self.addCleanup(subprocess.run, ["rm", "-rf", directory], check=True)

        def gone() -> bool:
            status = Path(f"/proc/{pid}/stat")
            return not status.exists() or status.read_text().rpartition(") ")[2].startswith("Z")

        self.assertTrue(wait_for(gone, 60, "the server's end"))

    def test_password(self) -> None:
        """A server with a password refuses clients without it, and serves the harness."""
        with Harness() as harness:
            server = harness.redis(KIND, password='with "quotes" \\ and blanks')
            server.start()
            self.assertEqual(server.call("PING"), "PONG")
            with Connection(server.port) as other_client:
                problem = self.assertRaises(ReplyError, other_client.call, "PING")
            self.assertIn("NOAUTH", str(problem))

    def test_fleet_becomes_stable(self) -> None:
        """C Sentinels with three servers discover each other, agree, and their events are recorded."""
        with Harness() as harness:
            fleet = Fleet(harness, [KIND, KIND], KIND)
            fleet.start()
            recorder = EventRecorder(fleet.ports).start()
            self.addCleanup(recorder.stop)
            self.assertEqual(fleet.quiet_problems(), [])
            self.assertEqual(set(fleet.config_epochs().values()), {0})
            fleet.sentinels[0].call("SENTINEL", "SET", fleet.name, "quorum", "1")
            recorder.wait_for(lambda events: any(event.channel == "+set" for event in events), 60, "+set")
            event = recorder.events[-1]
            self.assertEqual((event.sentinel, event.channel), (fleet.sentinels[0].name, "+set"))


class ServerVersionTests(SynchronousTestCase):
    """A kind that names a version is a server of that version."""

    def check(self, kind: str) -> None:
        """The program reports the version in the name of the kind."""
        if missing(kind):
            raise SkipTest(missing(kind))
        self.assertTrue(version_number(kind).startswith(kind.partition("-")[2] + "."), version_number(kind))

    def test_redis_62(self) -> None:
        """Redis 6.2."""
        self.check("redis-6.2")

    def test_redis_82(self) -> None:
        """Redis 8.2."""
        self.check("redis-8.2")

    def test_valkey_81(self) -> None:
        """Valkey 8.1."""
        self.check("valkey-8.1")


class FreePortTests(SynchronousTestCase):
    """Ports for servers."""

    def test_unique_ports(self) -> None:
        """No port is returned twice, even without a listener."""
        ports = [free_port() for _ in range(50)]
        self.assertEqual(len(set(ports)), 50)

    def test_ports_of_another_process(self) -> None:
        """No port is returned that another process was given, though it has no listener."""
        port = free_port()
        program = (
            "import sys; from txsentinel.demo import free_port, processes\n"
            f"processes.PORT_RANGE = ({port}, {port} + 40)\n"
            "print(*(free_port() for _ in range(10)), flush=True); sys.stdin.read()"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(other.communicate)
        assert other.stdout is not None
        theirs = set(map(int, other.stdout.readline().split()))
        self.patch(processes, "PORT_RANGE", (port, port + 40))
        ours = {port, *(free_port() for _ in range(10))}
        self.assertEqual((len(theirs), len(ours), theirs & ours), (10, 11, set()))


class ComparisonTests(SynchronousTestCase):
    """The table that benchmarks print."""

    def test_ratio_to_the_first(self) -> None:
        """Medians with extremes, and the ratio of all others to the first contender."""
        table = comparison({"a": "A thing"}, {"redis": {"a": [100, 300, 200]}, "ours": {"a": [50]}})
        self.assertIn("A thing  200 (100–300)  50 (50–50)  0.25×", table)

    def test_nothing_measured(self) -> None:
        """A figure without samples is a dash."""
        table = comparison({"a": "A thing"}, {"redis": {"a": []}, "ours": {}})
        self.assertIn("A thing  –      –", table)


class CompiledTests(SynchronousTestCase):
    """Sentinels of ours from the copy that ``make compiled`` makes."""

    def test_made_or_not(self) -> None:
        """Without the copy there are none; with it they run from it, and the others do not."""
        copy = Path(self.mktemp())
        self.patch(programs, "COMPILED", copy)
        self.patch(processes, "COMPILED", copy)
        self.assertFalse(available("compiled"))
        self.assertRaisesRegex(BinaryMissing, "make compiled", programs.sentinel_command, "compiled", "")
        (copy / "txsentinel").mkdir(parents=True)
        self.assertTrue(available("compiled"))
        with Harness() as harness:
            paths = [
                harness.sentinel(kind).environment()["PYTHONPATH"].split(os.pathsep)[0]
                for kind in ("compiled", "txsentinel")
            ]
        self.assertEqual(paths, [str(copy), str(programs.SOURCE)])
