"""Members that were deleted are removed for good, and a host is drained under writes, with real processes."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tests.interop.fixtures import SECONDS, listing, shorten_periods
from tests.interop.test_operator_cli import VerbCase, Writer
from tests.servers import Connection, RedisProcess, SentinelProcess, missing, wait_for

NAME = "mymaster"


class MembershipCase(VerbCase):
    """A group of which a Sentinel and a replica are deleted."""

    options: ClassVar[dict[str, Any]] = {"quorum": 2}

    def delete(self) -> tuple[SentinelProcess, str, RedisProcess]:
        """Kill the last Sentinel and a replica for good; return them, and the ID of the Sentinel."""
        shorten_periods(self.fleet.sentinels)
        sentinel = self.fleet.sentinels.pop()
        gone = str(sentinel.call("SENTINEL", "MYID"))
        replica = next(each for each in self.fleet.servers.values() if each.port != self.fleet.master_port())
        status, _ = self.run_verb("forget", NAME, gone[:10])
        self.assertEqual(status, 5, "it is alive")
        sentinel.kill()
        replica.kill()
        del self.fleet.servers[replica.port]
        return sentinel, gone, replica

    def forget(self, node: str, status: int) -> Any:
        """Remove a member as soon as it has been silent for long enough; return the report."""
        found: list[str] = []

        def removed() -> bool:
            code, text = self.run_verb("forget", NAME, node, "-o", "json")
            found.append(text)
            return code == status

        wait_for(removed, SECONDS, f"the removal of {node}", 0.3)
        return json.loads(found[-1])

    def members(self, sentinel: SentinelProcess) -> tuple[int, int]:
        """Return how many other Sentinels and replicas a Sentinel knows."""
        return len(listing(sentinel, "SENTINELS", NAME)), len(listing(sentinel, "REPLICAS", NAME))

    def peers_of_ours(self, sentinel: SentinelProcess) -> int:
        """Return how many peers a Sentinel knows to be of its kind, from their hellos."""
        return str(sentinel.call("TXSENTINEL", "DOCTOR", NAME)).count("'txsentinel', 1")

    def drain(self) -> None:
        """Drain the host of the master while clients write, and check that nothing is lost."""
        before = self.fleet.master_port()
        writers = [Writer(self.fleet, f"set{number}") for number in range(4)]
        for writer in writers:
            writer.start()
        try:
            wait_for(lambda: all(len(each.acknowledged) > 50 for each in writers), SECONDS, "writes")
            status, text = self.run_verb("drain", f"127.0.0.1:{before}", "-o", "json")
            counts = [len(each.acknowledged) for each in writers]
            wait_for(
                lambda: all(len(each.acknowledged) > count for each, count in zip(writers, counts, strict=True)),
                SECONDS,
                "writes at the new master",
            )
        finally:
            for writer in writers:
                writer.stop()
        report = json.loads(text)
        self.assertEqual((status, report["safe"]), (0, True), text)
        self.assertEqual([each["verdict"] for each in report["moved"]], ["proven"], text)
        wait_for(lambda: self.fleet.master_port() != before, SECONDS, "agreement on the new master")
        with Connection(self.fleet.master_port()) as connection:
            for writer in writers:
                found = connection.call("SMEMBERS", writer.key)
                assert isinstance(found, list)
                self.assertEqual(set(map(str, writer.acknowledged)) - set(map(str, found)), set())
        ours = [each for each in self.fleet.sentinels if each.kind == "txsentinel"]
        for sentinel in ours:
            parked = [each for each in sentinel.config_path.read_text().splitlines() if " parked " in each]
            self.assertEqual(len(parked), 1, parked)
            self.assertIn(f"127.0.0.1:{before}", parked[0])
        status, _ = self.run_verb("drain", f"127.0.0.1:{before}", "--undo")
        self.assertEqual(status, 0)
        for sentinel in ours:
            self.assertNotIn(" parked ", sentinel.config_path.read_text())


class OwnGroupTests(MembershipCase):
    """Four Sentinels of ours and Redis."""

    kinds = ("txsentinel",) * 4
    skip = missing("redis") or None

    def test_deleted_members(self) -> None:
        """They stay away over restarts of all Sentinels, a switchover and a failover."""
        _, gone, replica = self.delete()
        report = self.forget(gone, 0)
        self.assertEqual([each["result"] for each in report["sentinels"]], ["removed"] * 3)
        self.assertEqual((report["groups"][0]["sentinels"], report["groups"][0]["majority"]), (3, 2))
        self.forget(f"127.0.0.1:{replica.port}", 0)
        for sentinel in self.fleet.sentinels:
            self.assertEqual(self.members(sentinel), (2, 1))
            sentinel.kill()
            sentinel.start(keep_config=True)
        shorten_periods(self.fleet.sentinels)
        for sentinel in self.fleet.sentinels:
            wait_for(lambda: self.peers_of_ours(sentinel) == 2, SECONDS, "hellos after the restarts")  # noqa: B023
        self.drain()
        before = self.fleet.master()
        before.kill()
        wait_for(lambda: self.fleet.master_port() != before.port, SECONDS, "the failover")
        for sentinel in self.fleet.sentinels:
            self.assertEqual(self.members(sentinel), (2, 1))
            self.assertNotIn(f"known-sentinel {NAME} {gone}", sentinel.config_path.read_text())


class MixedGroupTests(MembershipCase):
    """One Sentinel of ours, two of redis-sentinel that stay, and Valkey."""

    kinds = ("txsentinel", "redis", "redis", "redis")
    server_kind = "valkey"
    skip = missing("redis", "valkey") or None

    def test_deleted_members(self) -> None:
        """Ours removes them, the C Sentinels keep them, and a switchover brings nothing back."""
        _, gone, replica = self.delete()
        ours, *others = self.fleet.sentinels
        report = self.forget(gone, 2)
        self.assertEqual([each["result"] for each in report["sentinels"]], ["removed", "keeps it", "keeps it"])
        self.forget(f"127.0.0.1:{replica.port}", 2)
        self.assertEqual(self.members(ours), (2, 1))
        for sentinel in others:
            self.assertEqual(self.members(sentinel), (3, 2))
        self.drain()
        self.assertEqual(self.members(ours), (2, 1))
