"""Settings that C Sentinels do not have, while ours and C Sentinels take one file over from each other."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.fixtures import SECONDS
from tests.servers import Harness, SentinelProcess, free_port, missing, pairs, wait_for

SETTINGS = {
    "crash-failover": "on",
    "crash-confirm": "80",
    "failure-classes": "as-c",
    "empty-restart-failover": "on",
    "data-lost-event": "on",
    "lineage": "strict",
    "fence-isolated": "on",
    "fence-after": "4000",
}
"""A value for each setting that is not its default."""

FAILURE = ["last-failure-class", "last-failure-error", "last-failure-time"]
"""The fields about the last failure of a link, which come after the settings."""


class TakeoverTests:
    """Guarantees beside one C Sentinel."""

    kind: str

    def test_there_and_back(self) -> None:
        """What was answered with OK is there after SIGKILL, after the C Sentinel, and until the master is removed."""
        assert isinstance(self, SynchronousTestCase)
        with Harness() as harness:
            monitored = [("mymaster", "127.0.0.1", free_port(), 2)]
            ours = harness.sentinel("txsentinel", monitor=monitored, down_after=6000)
            ours.start()
            words = [word for setting in SETTINGS.items() for word in setting]
            self.assertEqual(ours.call("SENTINEL", "SET", "mymaster", *words), "OK")
            ours.kill()
            self.take_over(harness, ours)
            ours.start(keep_config=True)
            shown = wait_for(lambda: self.fields_after_failure(ours), SECONDS, "a refused attempt to connect")
            self.assertEqual({name: shown[name] for name in SETTINGS}, SETTINGS)
            own_fields = [*SETTINGS, *FAILURE]
            self.assertEqual(list(shown)[-len(own_fields) :], own_fields)
            self.assertEqual(shown["quorum"], "3")
            self.assertEqual(shown["down-after-milliseconds"], "5000")

            self.assertEqual(ours.call("SENTINEL", "RESET", "mymaster"), 1)
            self.assertEqual(pairs(ours.call("SENTINEL", "MASTER", "mymaster"))["lineage"], "strict")
            self.assertEqual(ours.call("SENTINEL", "REMOVE", "mymaster"), "OK")
            self.assertNotIn("#: txsentinel", ours.config_path.read_text())
            self.assertEqual(ours.call("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", 1, 2), "OK")
            self.assertEqual(pairs(ours.call("SENTINEL", "MASTER", "mymaster"))["lineage"], "warn")

    def fields_after_failure(self, sentinel: SentinelProcess) -> dict[str, str]:
        """Return the fields of the master, which no server listens for; none before an attempt to connect failed."""
        fields = pairs(sentinel.call("SENTINEL", "MASTER", "mymaster"))
        return fields if FAILURE[0] in fields else {}

    def take_over(self, harness: Harness, ours: SentinelProcess) -> None:
        """Have the C Sentinel start with the file, change something, and rewrite it."""
        assert isinstance(self, SynchronousTestCase)
        before = self.comments(ours)
        self.assertEqual(len(before), len(SETTINGS))
        theirs = harness.sentinel(self.kind, port=ours.port)
        theirs.directory.mkdir(parents=True)
        ours.config_path.rename(theirs.config_path)
        theirs.start(keep_config=True)
        self.assertNotIn("lineage", pairs(theirs.call("SENTINEL", "MASTER", "mymaster")))
        options = "quorum", 3, "down-after-milliseconds", 5000
        self.assertEqual(theirs.call("SENTINEL", "SET", "mymaster", *options), "OK")
        theirs.call("SENTINEL", "FLUSHCONFIG")
        theirs.stop()
        theirs.config_path.rename(ours.config_path)
        self.assertEqual(self.comments(ours), before)

    def comments(self, sentinel: SentinelProcess) -> list[str]:
        """Return the comments in the file of a Sentinel that are for txsentinel."""
        return [line for line in sentinel.config_path.read_text().splitlines() if line.startswith("#: txsentinel ")]


class RedisTests(TakeoverTests, SynchronousTestCase):
    """The installed Redis."""

    kind = "redis"
    if missing("txsentinel", kind):
        skip = missing("txsentinel", kind)


class ValkeyTests(TakeoverTests, SynchronousTestCase):
    """Valkey 9."""

    kind = "valkey"
    if missing("txsentinel", kind):
        skip = missing("txsentinel", kind)
