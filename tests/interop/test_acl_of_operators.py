"""Users who may use TXSENTINEL: their rules load in C Sentinels, which know no such command."""

from __future__ import annotations

from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.explanations import request
from tests.interop.fixtures import replacement
from tests.servers import Connection, Harness, ReplyError, free_port, missing

RULES = {
    "reader": ("on", ">p", "+ping", "+sentinel|masters"),
    "operator": ("on", ">p", "+@all", "-@dangerous", "+sentinel"),
    "guest": ("on", ">p", "-@all", "+ping"),
}
"""Users and their rules; the first two may use TXSENTINEL."""


class SharedUserTests:
    """What holds beside one C Sentinel."""

    kind: str

    def test_file_with_users(self) -> None:
        """Users saved by us load in a C Sentinel, and have the same rights on TXSENTINEL when ours is back."""
        assert isinstance(self, SynchronousTestCase)
        with ExitStack() as stack:
            harness = stack.enter_context(Harness())
            ours = harness.sentinel("txsentinel", monitor=[("mymaster", "127.0.0.1", free_port(), 1)])
            ours.start()
            for user, rules in RULES.items():
                ours.call("ACL", "SETUSER", user, *rules)
            self.check_rights(ours.port)
            ours.call("SENTINEL", "FLUSHCONFIG")
            self.assertNotIn("+txsentinel", ours.config_path.read_text())
            ours.stop()
            theirs = replacement(stack, ours, self.kind)
            theirs.start(keep_config=True)
            listed = theirs.call("ACL", "USERS")
            assert isinstance(listed, list)
            self.assertEqual({*RULES, "default"}, set(listed))
            with self.assertRaises(ReplyError) as refused:
                theirs.call("TXSENTINEL", "EXPLAIN", "mymaster")
            self.assertIn("unknown command", str(refused.exception))
            with self.assertRaises(ReplyError):
                theirs.call("ACL", "SETUSER", "reader", "+txsentinel|explain")
            theirs.call("SENTINEL", "FLUSHCONFIG")
            theirs.stop()
            again = replacement(stack, theirs, "txsentinel")
            again.start(keep_config=True)
            self.check_rights(again.port)
            found = request(again, "TXSENTINEL", "EXPLAIN", "mymaster")
            self.assertEqual(found["master"], "mymaster")

    def check_rights(self, port: int) -> None:
        """Check which users may use TXSENTINEL."""
        assert isinstance(self, SynchronousTestCase)
        for user in RULES:
            with Connection(port) as connection:
                connection.call("AUTH", user, "p")
                if user == "guest":
                    with self.assertRaises(ReplyError) as refused:
                        connection.call("TXSENTINEL", "EXPLAIN", "mymaster")
                    self.assertIn("NOPERM", str(refused.exception))
                else:
                    self.assertIsInstance(connection.call("TXSENTINEL", "EXPLAIN", "mymaster"), list)


class RedisUserTests(SharedUserTests, SynchronousTestCase):
    """Beside redis-sentinel."""

    kind = "redis"
    if missing("txsentinel", "redis"):
        skip = missing("txsentinel", "redis")


class ValkeyUserTests(SharedUserTests, SynchronousTestCase):
    """Beside valkey-sentinel."""

    kind = "valkey"
    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")
