"""Behaviour of the clients whose servers reply, refuse, hang and disappear."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.outside.outcomes import Outcome, Read, Write
from tests.outside.writing import Client, ClientConnection, Histories, Reader, Writer
from tests.servers import ReplyError

SENTINELS = [("s1", 1), ("s2", 2), ("s3", 3)]
MASTER = ["m", "7000"]


class ScriptedConnection:
    """Replies with its script, raising exceptions in it; records its commands."""

    def __init__(self, answers: list[object]) -> None:
        self._answers = answers
        self.commands: list[tuple[str | int, ...]] = []
        self.closed = False

    def call(self, *words: str | int) -> object:
        self.commands.append(words)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


class ClientTests(SynchronousTestCase):
    """Clients with scripted connections."""

    def setUp(self) -> None:
        self.histories = Histories()
        self.connected: list[str] = []
        self.script: dict[str, list[object]] = {}
        self.lines: dict[str, ScriptedConnection] = {}

    def connect(self, host: str, port: int, seconds: float) -> ClientConnection:
        """Return a connection that has the replies of the script; without them, the server is unreachable."""
        self.connected.append(host)
        if host not in self.script:
            raise ConnectionRefusedError(host)
        self.lines[host] = ScriptedConnection(self.script[host])
        return self.lines[host]

    def make(self, kind: Callable[..., Client]) -> Client:
        """Return a client with a fixed clock."""
        return kind("w", SENTINELS, "mymaster", self.connect, self.histories, lambda: 5.0)

    def test_writes_go_to_the_master_that_a_sentinel_names(self) -> None:
        """The first Sentinel that answers is used; its connection is closed, the master's is kept."""
        self.script = {"s2": [MASTER], "m": [1, 1]}
        writer = self.make(Writer)
        self.assertTrue(writer.step("k") and writer.step("k"))
        self.assertEqual(self.lines["m"].commands, [("SADD", "k", "w:1"), ("SADD", "k", "w:2")])
        self.assertTrue(self.lines["s2"].closed)
        self.assertEqual(
            self.histories.take()[0],
            [Write(f"w:{number}", 7000, 5.0, 5.0, Outcome.ACKNOWLEDGED) for number in (1, 2)],
        )

    def test_refused_write(self) -> None:
        """An error reply is a failure, and the Sentinels are queried anew."""
        self.script = {"s1": [MASTER, MASTER], "m": [ReplyError("READONLY no"), 1]}
        writer = self.make(Writer)
        self.assertFalse(writer.step("k"))
        self.assertTrue(self.lines["m"].closed)
        self.assertTrue(writer.step("k"))
        writes, _ = self.histories.take()
        self.assertEqual([(each.outcome, each.error) for each in writes[:1]], [(Outcome.FAILED, "READONLY no")])
        self.assertEqual([each.member for each in writes], ["w:1", "w:2"])

    def test_unanswered_write(self) -> None:
        """After a timeout or a lost connection it is unknown whether the write was executed; it is never repeated."""
        self.script = {"s1": [MASTER, MASTER], "m": [TimeoutError("timed out"), ConnectionResetError()]}
        writer = self.make(Writer)
        self.assertFalse(writer.step("k"))
        self.assertFalse(writer.step("k"))
        writes, _ = self.histories.take()
        self.assertEqual([each.outcome for each in writes], [Outcome.UNKNOWN, Outcome.UNKNOWN])
        self.assertEqual([each.error for each in writes], ["timed out", "ConnectionResetError"])
        self.assertEqual(len({each.member for each in writes}), 2)

    def test_no_sentinel(self) -> None:
        """Without a Sentinel nothing is written, but all of them are tried."""
        self.assertFalse(self.make(Writer).step("k"))
        self.assertEqual(sorted(self.connected), ["s1", "s2", "s3"])
        self.assertEqual(self.histories.take(), ([], []))

    def test_sentinels_without_a_master(self) -> None:
        """A Sentinel without such a master, or with an unreachable one, is skipped."""
        self.script = {"s1": [None], "s2": [["gone", "1"]], "s3": [MASTER], "m": [1]}
        self.assertTrue(self.make(Writer).step("k"))

    def test_readers_query_acknowledged_members(self) -> None:
        """A missing member is recorded as missed, and the Sentinels are queried anew."""
        self.script = {"s1": [MASTER, MASTER], "m": [1, 0]}
        reader = self.make(Reader)
        self.assertFalse(reader.step("k"))
        self.histories.wrote(Write("x", 7000, 0.0, 0.0, Outcome.ACKNOWLEDGED))
        self.histories.wrote(Write("y", 7000, 0.0, 0.0, Outcome.UNKNOWN))
        self.assertTrue(reader.step("k"))
        self.assertFalse(reader.step("k"))
        _, reads = self.histories.take()
        self.assertEqual(reads, [Read("x", 7000, 5.0, True), Read("x", 7000, 5.0, False)])
        self.assertTrue(self.lines["m"].closed)

    def test_new_round(self) -> None:
        """The members of one round are not queried in the next."""
        self.histories.wrote(Write("x", 7000, 0.0, 0.0, Outcome.ACKNOWLEDGED))
        self.histories.take()
        self.assertIsNone(self.histories.some_acknowledged(random.Random(1)))
