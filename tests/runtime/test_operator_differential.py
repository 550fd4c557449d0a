"""Random commands: an operator gets the replies of a client, and the Sentinel changes in the same way."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import RawConnection, ServerHarness
from tests.server.test_random_requests import COMMANDS, SUBCOMMANDS, WORDS
from txsentinel.interfaces import CommandRefused
from txsentinel.model.snapshots import Principal
from txsentinel.runtime.operator import CONNECTION_COMMANDS, Operator, plain_reply, refusal_of
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine

COMMANDS_PER_SEED = 1_500
SEEDS = range(3)

OF_CONNECTIONS = {b"AUTH", b"CLIENT", b"HELLO", b"QUIT", b"SHUTDOWN"} | {
    name.upper().encode() for name in CONNECTION_COMMANDS
}
"""Their replies, or what they change, concern the connection."""

VOLATILE = {b"GENPASS", b"LOG"}
"""Their replies have random numbers, or describe clients."""

USER = ("ACL", "SETUSER", "alice", "on", ">pw", "+sentinel", "-sentinel|set", "+info", "+acl|whoami", "+publish", "&x*")


class OperatorDifferentialTests(SynchronousTestCase):
    """Two servers get the same commands, one from clients and one from operators."""

    def setUp(self) -> None:
        """Start two servers with a master and a user each."""
        self.clients, self.operators = ServerHarness(), ServerHarness()
        context = self.operators.context
        self.operator = Operator(context, self.operators.factory.handlers, lambda level, line: None)
        for harness in (self.clients, self.operators):
            harness.watch()
            harness.connect().ask(*USER)
            harness.commit_all()

    def command(self, rng: random.Random) -> list[bytes]:
        """Return a random command, which may be valid."""
        while True:
            words = [rng.choice(COMMANDS)]
            if words[0] in SUBCOMMANDS:
                words.append(rng.choice(SUBCOMMANDS[words[0]]))
            words += [rng.choice(WORDS) for _ in range(rng.choice((0, 0, 1, 1, 2, 2, 3, 4)))]
            if words[0] == b"SENTINEL" and len(words) > 2 and rng.random() < 0.5:
                words[2] = b"mymaster"
            if words[0] not in OF_CONNECTIONS and VOLATILE.isdisjoint(words[:2]):
                return words

    def client(self, user: str) -> RawConnection:
        """Connect a client with RESP3."""
        client = self.clients.connect()
        client.ask("HELLO", 3, *(("AUTH", user, "pw") if user == "alice" else ()))
        return client

    def outcome(self, answered: Deferred[object]) -> object:
        """Return the reply to an operator, or the text of the error."""
        self.operators.host.reactor.advance(0)
        if not answered.called:
            self.operators.save()
            self.operators.host.reactor.advance(0)
        found: list[object] = []
        answered.addCallbacks(
            found.append, lambda failure: found.append(failure.trap(CommandRefused) and failure.value)
        )
        self.assertEqual(len(found), 1, "no reply")
        return found[0].refusal if isinstance(found[0], CommandRefused) else found[0]

    def reply(self, client: RawConnection, words: list[bytes]) -> object:
        """Return the reply to a client, as an operator would get it."""
        client.send(*words)
        replies = client.replies()
        if not replies:
            self.clients.save()
            replies = client.replies()
        self.assertEqual(len(replies), 1, words)
        value = replies[0]
        return refusal_of(text(value)) if isinstance(value, ErrorLine) else plain_reply(value)

    def test_same_replies(self) -> None:
        """Each reply, each event and each generation is the same."""
        refused = answered = 0
        for seed in SEEDS:
            self.setUp()
            rng = random.Random(seed)
            for _ in range(COMMANDS_PER_SEED):
                words, user = self.command(rng), rng.choice(("default", "alice"))
                client = self.client(user)
                expected = self.reply(client, words)
                client.protocol.abort()
                found = self.outcome(self.operator.run(Principal(user, "password", "test"), words))
                if words[0] != b"INFO":
                    self.assertEqual(found, expected, words)
                refused += type(found) is not bytes and found == expected and "NOPERM" in str(found)
                answered += isinstance(found, (list, dict, int))
                self.assertEqual(self.operators.core.outbox.generation, self.clients.core.outbox.generation, words)
                self.assertEqual(self.operators.events, self.clients.events, words)
            statistics = self.operators.context.statistics, self.clients.context.statistics
            self.assertEqual(statistics[0].denied_commands, statistics[1].denied_commands)
            self.assertEqual(len(self.operators.context.clients), len(self.clients.context.clients))
        self.assertGreater(min(refused, answered), 50)
