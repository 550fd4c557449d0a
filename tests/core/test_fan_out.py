"""Commands to peers of our kind, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, Fixture, identity
from txsentinel.core import fan_out
from txsentinel.core.effects import SendCommand
from txsentinel.core.errors import NoSuchMaster
from txsentinel.core.fan_out import FAN_OUT_TIMEOUT, PeerAnswer
from txsentinel.server.fan_out import peer_table
from txsentinel.wire.values import ErrorLine

WORDS = (b"TXSENTINEL", b"PAUSE", b"mymaster")


class FanOutTests(SynchronousTestCase):
    """Three peers of our kind, a and b and c."""

    def setUp(self) -> None:
        """Let the peers introduce themselves."""
        self.fixture = Fixture()
        for letter in "cab":
            self.fixture.add_peer(letter, command_reply=b"OK")
            self.fixture.hello(letter, MASTER, 0)
        self.answers: list[Sequence[PeerAnswer]] = []
        self.fixture.output()

    def send(self, name: str | None = "mymaster") -> None:
        """Send a command to all peers."""
        core = self.fixture.core
        core.fan_out.send(core.fan_out.peers(name), WORDS, self.fixture.now, self.answers.append)
        self.assertEqual(self.answers, [], "not before the call has returned")
        self.fixture.finish()

    def results(self) -> dict[str, str]:
        """Return the results of the only command by the letters of the peers, which are in order."""
        (answers,) = self.answers
        return {answer.peer_id[0]: answer.error or "ok" for answer in answers}

    def test_all_answer(self) -> None:
        """Each peer gets the command, and the answers are complete with the last reply, in the order of the IDs."""
        self.send()
        lines = [f"send {letter} TXSENTINEL PAUSE mymaster" for letter in "abc"]
        self.assertEqual(self.fixture.output(), lines)
        self.assertEqual(list(self.results().items()), [("a", "ok"), ("b", "ok"), ("c", "ok")])
        self.assertEqual(self.answers[0][0].reply, b"OK")

    def test_error_replies(self) -> None:
        """An error reply is the result of that peer alone."""
        self.fixture.servers[self.fixture.peer("b").address].command_reply = ErrorLine(b"NOPERM no")
        self.send()
        self.assertEqual(self.results(), {"a": "ok", "b": "NOPERM no", "c": "ok"})

    def test_other_kinds(self) -> None:
        """A C Sentinel is never sent a command, nor is one that is not connected; both are in the table."""
        self.fixture.hello("b", MASTER, 0, own=False)
        self.fixture.add_peer("d")
        self.fixture.kill(self.fixture.peer("d").address)
        self.fixture.output()
        self.send()
        self.assertEqual([line.split()[1] for line in self.fixture.output() if "send" in line], ["a", "c"])
        rows = peer_table(self.answers[0], by_hostname=False)
        ours = {"id": identity("a"), "address": "10.0.1.97:26379", "kind": "txsentinel", "result": "ok"}
        theirs = {"id": identity("b"), "address": "10.0.1.98:26379", "kind": "c", "result": "it is a C Sentinel"}
        self.assertEqual(rows[:2], [ours, theirs])
        self.assertEqual((self.answers[0][3].kind, self.answers[0][3].reply), ("unknown", None))

    def test_unknown_kind(self) -> None:
        """One that has sent no hello yet is sent the command, whose reply shows what it is; a C Sentinel only once."""
        core = self.fixture.core
        unknown = ErrorLine(b"ERR unknown command 'TXSENTINEL', with args")
        replies = {"d": b"OK", "e": unknown, "f": ErrorLine(b"NOPERM no")}
        for letter, reply in replies.items():
            self.fixture.add_peer(letter, command_reply=reply)
        self.fixture.output()
        self.send()
        self.assertEqual(self.results(), dict.fromkeys("abcd", "ok") | {"e": "it is a C Sentinel", "f": "NOPERM no"})
        kinds = [each.kind for each in self.answers[0]]
        self.assertEqual(kinds, ["txsentinel"] * 4 + ["c", "unknown"])
        self.fixture.output()
        core.fan_out.send(core.fan_out.peers("mymaster"), WORDS, self.fixture.now, self.answers.append)
        self.fixture.finish()
        sent = [line.split()[1] for line in self.fixture.output() if line.startswith("send")]
        self.assertEqual(sent, ["a", "b", "c", "d", "f"])

    def test_not_connected(self) -> None:
        """A peer without a connection is not waited for."""
        self.fixture.kill(self.fixture.peer("a").address)
        self.send()
        self.assertEqual(self.results(), {"a": "it is not connected", "b": "ok", "c": "ok"})

    def test_connection_lost(self) -> None:
        """The loss of the connection ends the wait for that peer."""
        self.fixture.servers[self.fixture.peer("a").address].command_reply = None
        self.send()
        self.assertEqual(self.answers, [])
        self.fixture.kill(self.fixture.peer("a").address)
        self.assertEqual(self.results()["a"], "the connection was lost: Connection was refused by other side")

    def test_time_limit(self) -> None:
        """A peer that does not answer is given up after the time limit; its late answer is ignored."""
        server = self.fixture.servers[self.fixture.peer("a").address]
        server.command_reply = None
        self.send()
        sent = self.fixture.sent[-3][1]
        self.fixture.idle(FAN_OUT_TIMEOUT - 100)
        self.assertEqual(self.answers, [])
        self.fixture.idle(200)
        self.assertEqual(self.results(), {"a": "no answer in time", "b": "ok", "c": "ok"})
        assert isinstance(sent, SendCommand)
        self.fixture.core.command_reply(sent.link, sent.number, b"OK", self.fixture.now)
        self.fixture.finish()
        self.assertEqual(len(self.answers), 1)

    def test_no_peers(self) -> None:
        """Without peers the answers are complete at once."""
        self.fixture.core.fan_out.send([], WORDS, self.fixture.now, self.answers.append)
        self.fixture.finish()
        self.assertEqual(self.answers, [[]])

    def test_each_sentinel_once(self) -> None:
        """A command about all masters is sent once to each Sentinel, whatever number of masters it shares with us."""
        self.fixture.add_master("other", 1)
        self.send(None)
        self.assertEqual(len([line for line in self.fixture.output() if line.startswith("send")]), 3)
        self.assertRaises(NoSuchMaster, self.fixture.core.fan_out.peers, "nothing")

    def test_limited(self) -> None:
        """Above a limit of unanswered commands no more are sent."""
        self.patch(fan_out, "MAX_FAN_OUTS", 1)
        for letter in "abc":
            self.fixture.servers[self.fixture.peer(letter).address].command_reply = None
        self.send()
        self.send()
        self.assertEqual(set(self.results().values()), {"too many commands to other Sentinels are unanswered"})
