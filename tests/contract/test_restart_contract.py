"""
Data sets and replication histories across restarts, expected of the simulated server and of real ones.

All restarts are by SIGKILL. Each expectation was first observed on real servers.
"""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.contract.fixture import Contract
from tests.contract.redis_servers import RealServers, Server, SimServers, call
from txsentinel.wire.info import DataSetReport, parse_info
from txsentinel.wire.resp import text

KEYS = 20


class RestartContract(Contract):
    """The expectations. Subclasses choose the kind of servers."""

    continues: ClassVar[bool]
    """Whether a master continues its history from a snapshot."""

    def servers_with(self: Any, *, log: bool = False) -> tuple[Server, Server]:
        """Start a master and its replica, which both have the same keys."""
        master, replica = (self.servers.start(log=log, diskless=True) for _ in range(2))
        self.addCleanup(replica.thaw)
        connection = self.connect(replica)
        call(connection, f"REPLICAOF {master.host} {master.port}")
        call(connection, "CONFIG REWRITE")
        self.eventually(lambda: self.info(connection).master_link_up)
        for number in range(KEYS):
            call(self.connect(master), f"SET key{number} {number}")
        self.eventually(lambda: self.data_set(replica) == self.data_set(master))
        return master, replica

    def data_set(self: Any, server: Server) -> DataSetReport:
        """Return what INFO reports about the data set of a server."""
        report = parse_info(call(self.connect(server), "INFO")).data_set
        assert report is not None
        return report

    def synchronizations(self: Any, master: Server) -> tuple[int, int]:
        """Return how often a master has sent a full copy and has continued a history since its start."""
        lines = text(call(self.connect(master), "INFO stats")).splitlines()
        fields = dict(line.split(":") for line in lines if ":" in line)
        return int(fields["sync_full"]), int(fields["sync_partial_ok"])

    def follows(self: Any, replica: Server, master: Server) -> bool:
        """Whether the replica has a link to its master and the same history."""
        up = parse_info(call(self.connect(replica), "INFO")).master_link_up
        return bool(up) and self.data_set(replica).replid == self.data_set(master).replid

    def restart_alone(self: Any, master: Server, replica: Server, *, pause: int = 0) -> DataSetReport:
        """Restart a master, pause its clients for ``pause`` ms, and return its data set before its replica connects."""
        replica.freeze()
        master.restart()
        self.eventually(lambda: not self.data_set(master).loading)
        report: DataSetReport = self.data_set(master)
        if pause:
            call(self.connect(master), f"CLIENT PAUSE {pause}")
        replica.thaw()
        return report

    def test_data_set(self: Any) -> None:
        """Master and replica report the same ID, offset and number of keys; there is no second ID."""
        master, replica = self.servers_with()
        report = self.data_set(master)
        self.assertRegex(report.replid, "^[0-9a-f]{40}$")
        self.assertEqual((report.replid2, report.second_offset, report.keys), (None, -1, KEYS))
        self.assertGreater(report.offset, 0)
        self.assertEqual(self.data_set(replica), report)

    def test_promotion(self: Any) -> None:
        """A promoted replica has a new ID and the former one as its second, up to its offset."""
        _, replica = self.servers_with()
        before = self.data_set(replica)
        call(self.connect(replica), "REPLICAOF NO ONE")
        after = self.data_set(replica)
        self.assertNotEqual(after.replid, before.replid)
        self.assertEqual((after.replid2, after.second_offset), (before.replid, after.offset + 1))

    def test_master_without_data(self: Any) -> None:
        """
        A master that persists nothing restarts with a new history and without keys, and its replica copies that.

        The ID changes once more when the first replica asks for a copy.
        """
        master, replica = self.servers_with()
        before = self.data_set(master)
        after = self.restart_alone(master, replica)
        self.assertEqual((after.replid2, after.offset, after.second_offset, after.keys), (None, 0, -1, 0))
        self.assertNotEqual(after.replid, before.replid)
        self.eventually(lambda: self.follows(replica, master))
        self.assertEqual(self.data_set(replica).keys, 0)
        self.assertNotIn(self.data_set(master).replid, (before.replid, after.replid))
        self.assertEqual(self.synchronizations(master), (1, 0))

    def test_paused_master(self: Any) -> None:
        """A paused master answers no replica that connects; the replica keeps its data set until the pause ends."""
        master, replica = self.servers_with()
        before = self.data_set(replica)
        began = self.servers.seconds()
        self.restart_alone(master, replica, pause=2_500)
        self.eventually(lambda: self.data_set(replica) != before)
        self.assertGreater(self.servers.seconds() - began, 2.4)
        self.eventually(lambda: self.data_set(replica).keys == 0)

    def test_master_with_a_log(self: Any) -> None:
        """
        A master with a log has its keys, and a new history nonetheless; its replica gets a full copy.

        Redis 8.2 keeps the offset, the others begin at 0.
        """
        master, replica = self.servers_with(log=True)
        before = self.data_set(master)
        after = self.restart_alone(master, replica)
        self.assertEqual((after.replid2, after.keys), (None, KEYS))
        self.assertIn(after.offset, (0, before.offset))
        self.assertNotEqual(after.replid, before.replid)
        self.eventually(lambda: self.follows(replica, master))
        self.assertEqual(self.data_set(replica).keys, KEYS)
        self.assertEqual(self.synchronizations(master), (1, 0))

    def test_master_with_a_snapshot(self: Any) -> None:
        """Since Redis 7.0, a master with a snapshot continues its history under a new ID, and so does its replica."""
        master, replica = self.servers_with()
        before = self.data_set(master)
        call(self.connect(master), "SAVE")
        after = self.restart_alone(master, replica)
        self.assertEqual(after.keys, KEYS)
        self.assertNotEqual(after.replid, before.replid)
        continued = (before.replid, before.offset, before.offset + 1)
        self.assertEqual(
            (after.replid2, after.offset, after.second_offset), continued if self.continues else (None, 0, -1)
        )
        self.eventually(lambda: self.follows(replica, master))
        self.assertEqual(self.synchronizations(master), (0, 1) if self.continues else (1, 0))

    def test_master_with_an_old_snapshot(self: Any) -> None:
        """If the replica has more of the history than the snapshot, it gets a full copy and loses keys."""
        master, replica = self.servers_with()
        call(self.connect(master), "SAVE")
        saved = self.data_set(master)
        call(self.connect(master), "SET late yes")
        self.eventually(lambda: self.data_set(replica).keys == KEYS + 1)
        after = self.restart_alone(master, replica)
        self.assertEqual(after.keys, KEYS)
        self.assertEqual(after.second_offset, saved.offset + 1 if self.continues else -1)
        self.eventually(lambda: self.follows(replica, master))
        self.assertEqual(self.data_set(replica).keys, KEYS)
        self.assertEqual(self.synchronizations(master), (1, 0))

    def test_replica_with_a_snapshot(self: Any) -> None:
        """A replica that restarts from a snapshot continues."""
        master, replica = self.servers_with()
        call(self.connect(replica), "SAVE")
        full, continued = self.synchronizations(master)
        replica.restart()
        self.eventually(lambda: self.follows(replica, master))
        self.assertEqual(self.synchronizations(master), (full, continued + 1))

    def test_replica_with_a_log(self: Any) -> None:
        """A replica that restarts from a log gets a full copy."""
        master, replica = self.servers_with(log=True)
        full, continued = self.synchronizations(master)
        replica.restart()
        self.eventually(lambda: self.follows(replica, master))
        self.assertEqual(self.synchronizations(master), (full + 1, continued))

    def test_stored_copy(self: Any) -> None:
        """A replica that persists nothing has its last full copy on disk all the same, and continues from it."""
        master, replica = self.servers_with()
        full, continued = self.synchronizations(master)
        replica.restart()
        self.eventually(lambda: self.follows(replica, master))
        self.eventually(lambda: self.data_set(replica).keys == KEYS)
        self.assertEqual(self.synchronizations(master), (full, continued + 1))


class SimulatedRestartTests(RestartContract, SynchronousTestCase):
    """The simulated server."""

    continues = True
    make_servers = staticmethod(SimServers)


class RedisRestartTests(RestartContract, SynchronousTestCase):
    """The Redis of the distribution."""

    continues = True
    make_servers = staticmethod(lambda: RealServers("redis"))


class Redis62RestartTests(RestartContract, SynchronousTestCase):
    """Redis 6.2."""

    continues = False
    make_servers = staticmethod(lambda: RealServers("redis-6.2"))


class Redis82RestartTests(RestartContract, SynchronousTestCase):
    """Redis 8.2."""

    continues = True
    make_servers = staticmethod(lambda: RealServers("redis-8.2"))


class ValkeyRestartTests(RestartContract, SynchronousTestCase):
    """A current Valkey."""

    continues = True
    make_servers = staticmethod(lambda: RealServers("valkey"))


class Valkey81RestartTests(RestartContract, SynchronousTestCase):
    """Valkey 8.1."""

    continues = True
    make_servers = staticmethod(lambda: RealServers("valkey-8.1"))
