"""Simulated Redis in states that real servers cannot be put into: failing disks, partitions, lost machines."""

from __future__ import annotations

from errno import ENOSPC
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.contract.redis_servers import SimConnection, SimServers, call, ends
from txsentinel.sim.host import SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.redis.server import SimRedis
from txsentinel.sim.simulation import Simulation
from txsentinel.wire.info import InfoReport, parse_info
from txsentinel.wire.values import ErrorLine


class RedisCase(SynchronousTestCase):
    """A master and a connected replica."""

    def setUp(self) -> None:
        self.place = SimServers()
        self.simulation, self.network = self.place.simulation, self.place.network
        self.master = self.server("master", "10.0.0.1")
        self.replica = self.server("replica", "10.0.0.2", replica_of=self.master)
        self.simulation.run(2)
        self.assertTrue(self.replica.link_up)

    def server(self, name: str, ip: str, **arguments: Any) -> SimRedis:
        """Start a server."""
        server = SimRedis(SimHost(self.simulation, self.network, name, ip), **arguments)
        server.host.start()
        self.simulation.run(0.01)
        return server

    def connect(self, server: SimRedis) -> SimConnection:
        """Return a new connection to it."""
        return SimConnection(self.place, server)

    def ask(self, server: SimRedis, command: str) -> Any:
        """Return the reply to one command."""
        return call(self.connect(server), command)

    def info(self, server: SimRedis) -> InfoReport:
        """Return the fields of its INFO."""
        return parse_info(self.ask(server, "INFO"))

    def refused(self, reply: object, start: bytes) -> None:
        """Assert that the reply is an error with this beginning."""
        self.assertIsInstance(reply, ErrorLine)
        assert isinstance(reply, bytes)
        self.assertTrue(reply.startswith(start), reply)


class StateTests(RedisCase):
    """States that tests can set."""

    def test_configured_roles(self) -> None:
        """A server starts in its configured role, and reports it."""
        self.assertTrue(self.master.is_master and self.master.writable)
        self.assertFalse(self.replica.is_master or self.replica.writable)
        self.assertEqual(self.replica.master_address, self.master.address)
        self.assertIn("replica of 10.0.0.1:6379", repr(self.replica))

    def test_loading(self) -> None:
        """A loading server refuses all but a few queries, and works normally afterwards."""
        self.master.load_seconds = 3.0
        self.master.host.restart()
        self.simulation.run(0.1)
        self.refused(self.ask(self.master, "PING"), b"LOADING ")
        self.assertEqual(self.info(self.master).role, "master")
        self.assertFalse(self.master.writable)
        self.simulation.run(3)
        self.assertEqual(self.ask(self.master, "PING"), b"PONG")
        self.simulation.run(3)
        self.assertTrue(self.replica.link_up)

    def test_unkillable_script(self) -> None:
        """A script that has written cannot be killed, but ends after some time."""
        self.master.start_script(killable=False)
        self.refused(self.ask(self.master, "PING"), b"BUSY ")
        self.refused(self.ask(self.master, "SCRIPT KILL"), b"UNKILLABLE ")
        self.master.end_script()
        self.assertEqual(self.ask(self.master, "PING"), b"PONG")

    def test_busy_transaction(self) -> None:
        """A transaction begun while a script runs is aborted."""
        self.master.start_script()
        connection = self.connect(self.master)
        connection.send("MULTI", "SLAVEOF NO ONE", "EXEC")
        self.assertEqual(connection.reply(), b"OK")
        self.refused(connection.reply(), b"BUSY ")
        self.refused(connection.reply(), b"EXECABORT ")

    def test_named_users(self) -> None:
        """Further users log in by name and password."""
        self.master.users["sentinel"] = "secret"
        self.assertEqual(self.ask(self.master, "AUTH sentinel secret"), b"OK")
        self.refused(self.ask(self.master, "AUTH sentinel wrong"), b"WRONGPASS ")

    def test_pause_of_everything(self) -> None:
        """A pause of all commands blocks even PING until its timeout."""
        connection = self.connect(self.master)
        self.assertEqual(call(connection, "CLIENT PAUSE 2000"), b"OK")
        connection.send("PING")
        self.simulation.run(1.9)
        self.assertTrue(connection.idle())
        self.simulation.run(0.2)
        self.assertEqual(connection.reply(), b"PONG")

    def test_pause_within_a_cached_chunk(self) -> None:
        """Commands behind CLIENT PAUSE are blocked, in order, also if the same bytes were cached."""
        connection = self.connect(self.master)
        for value in range(1, 4):
            connection.send("INCR a", "CLIENT PAUSE 1000", "INCR a", "INCR b")
            self.assertEqual((connection.reply(), connection.reply()), (2 * value - 1, b"OK"))
            self.simulation.run(0.5)
            self.assertTrue(connection.idle())
            connection.send("INCR c")
            self.simulation.run(0.6)
            self.assertEqual([connection.reply() for _ in range(3)], [2 * value, value, value])

    def test_cached_requests_use_the_present_state(self) -> None:
        """A cached request is answered by the present state."""
        connection = self.connect(self.master)
        for _ in range(2):
            self.assertEqual(call(connection, "PING"), b"PONG")
            self.master.start_script()
            self.refused(call(connection, "PING"), b"BUSY ")
            self.master.end_script()
            self.assertEqual(call(connection, "SUBSCRIBE x"), [b"subscribe", b"x", 1])
            self.assertEqual(call(connection, "PING"), [b"pong", b""])
            self.assertEqual(call(connection, "UNSUBSCRIBE x"), [b"unsubscribe", b"x", 0])

    def test_cached_messages_reach_present_subscribers(self) -> None:
        """A cached message goes to the present subscribers, and to none that left."""
        first, second, speaker = (self.connect(self.master) for _ in range(3))
        self.assertEqual(call(first, "SUBSCRIBE x"), [b"subscribe", b"x", 1])
        self.assertEqual(call(speaker, "PUBLISH x m"), 1)
        self.assertEqual(call(second, "PSUBSCRIBE *"), [b"psubscribe", b"*", 1])
        self.assertEqual(call(speaker, "PUBLISH x m"), 2)
        self.assertEqual([first.reply() for _ in range(2)], [[b"message", b"x", b"m"]] * 2)
        self.assertEqual(second.reply(), [b"pmessage", b"*", b"x", b"m"])
        first.close()
        self.simulation.run(0.1)
        self.assertEqual(call(speaker, "PUBLISH x m"), 1)
        self.assertEqual(call(second, "PUNSUBSCRIBE *"), [b"pmessage", b"*", b"x", b"m"])
        self.assertEqual(second.reply(), [b"punsubscribe", b"*", 0])
        self.assertEqual(call(speaker, "PUBLISH x m"), 0)

    def test_broken_protocol(self) -> None:
        """A client that violates the protocol gets an error and is closed."""
        connection = self.connect(self.master)
        # The connection sends well-formed requests only.
        transport = connection._protocol.transport
        assert transport is not None
        transport.write(b"*1\r\nx\r\n")
        self.refused(connection.reply(), b"ERR Protocol error: ")
        self.assertTrue(ends(connection))

    def test_shutdown(self) -> None:
        """SHUTDOWN ends the process in order."""
        connection = self.connect(self.master)
        connection.send("SHUTDOWN NOSAVE")
        self.assertTrue(ends(connection))
        self.assertEqual(self.master.host.exits, [0])

    def test_hosts_that_hang(self) -> None:
        """A stopped server accepts connections and replies late."""
        self.master.host.pause_for(5)
        connection = self.connect(self.master)
        connection.send("PING")
        self.simulation.run(4)
        self.assertTrue(connection.idle())
        self.simulation.run(2)
        self.assertEqual(connection.reply(), b"PONG")


class DurabilityTests(RedisCase):
    """State after a restart."""

    def test_full_disk(self) -> None:
        """A configuration that cannot be written is an error, and the old one stays."""
        self.replica.host.files.fail_with = OSError(ENOSPC, "No space left on device")
        connection = self.connect(self.replica)
        connection.send("SLAVEOF NO ONE", "CONFIG REWRITE")
        self.assertEqual(connection.reply(), b"OK")
        self.refused(connection.reply(), b"ERR Rewriting config file: No space left on device")
        self.replica.host.restart()
        self.simulation.run(1)
        self.assertFalse(self.replica.is_master)

    def test_no_configuration_file(self) -> None:
        """A server started without a file cannot rewrite it."""
        self.master.config_file = None
        self.refused(self.ask(self.master, "CONFIG REWRITE"), b"ERR The server is running without a config file")

    def test_unsaved_promotion_is_lost(self) -> None:
        """Without CONFIG REWRITE a promotion does not survive a restart."""
        self.ask(self.replica, "SLAVEOF NO ONE")
        self.assertTrue(self.replica.is_master)
        self.replica.host.restart()
        self.simulation.run(1)
        self.assertEqual(self.replica.master_address, self.master.address)

    def test_data(self) -> None:
        """Data survives a restart if it is on disk, and is lost otherwise."""
        self.ask(self.master, "SET color red")
        self.master.host.restart()
        self.simulation.run(1)
        self.assertEqual(self.ask(self.master, "GET color"), b"red")
        self.master.storage.erase()
        self.master.host.restart()
        self.simulation.run(1)
        self.assertIsNone(self.ask(self.master, "GET color"))

    def test_empty_master_empties_its_replica(self) -> None:
        """A master that restarts empty empties its replica, as the documentation warns."""
        self.ask(self.master, "SET color red")
        self.simulation.run(1)
        self.master.storage.erase()
        self.master.host.restart()
        self.simulation.run(5)
        self.assertTrue(self.replica.link_up)
        self.assertEqual(self.replica.data, {})


class ReplicationTests(RedisCase):
    """Links that break."""

    def test_killed_master(self) -> None:
        """The replica of a dead process detects the loss at once, and counts the seconds."""
        self.master.host.kill()
        self.simulation.run(12.5)
        report = self.info(self.replica)
        self.assertFalse(report.master_link_up)
        self.assertIn(report.master_link_down_for, (12_000, 13_000))

    def test_powerless_master(self) -> None:
        """The replica of a machine without power keeps its link for a minute."""
        self.master.host.crash()
        self.simulation.run(40)
        self.assertTrue(self.info(self.replica).master_link_up)
        self.simulation.run(40)
        self.assertFalse(self.info(self.replica).master_link_up)
        self.master.host.restart()
        self.simulation.run(130)
        self.assertTrue(self.info(self.replica).master_link_up)

    def test_powerless_replica(self) -> None:
        """A master lists a replica without power for a minute, with a growing lag."""
        self.replica.host.crash()
        self.simulation.run(30)
        self.assertRegex(self.ask(self.master, "INFO replication"), rb"slave0:ip=10.0.0.2,.*,lag=(29|30|31)\r")
        self.simulation.run(60)
        self.assertEqual(self.info(self.master).replicas, ())

    def test_short_partition(self) -> None:
        """A partition shorter than the timeout has no effect: replication continues."""
        self.network.cut(self.master.host, self.replica.host)
        self.ask(self.master, "SET color red")
        self.simulation.run(20)
        self.assertIsNone(self.ask(self.replica, "GET color"))
        self.network.heal()
        self.simulation.run(5)
        self.assertEqual(self.ask(self.replica, "GET color"), b"red")

    def test_broken_link_continues(self) -> None:
        """After a reset the replica continues without a full synchronization."""
        self.network.reset(self.master.host, self.replica.host)
        self.ask(self.master, "SET color red")
        self.simulation.run(0.02)
        self.assertEqual((self.replica.link_up, self.replica.data), (True, {b"color": b"red"}))

    def test_full_copy_takes_time(self) -> None:
        """During its full synchronization a replica has no link yet, and its master reports the state."""
        self.master.sync_seconds = 5.0
        late = self.server("late", "10.0.0.3", replica_of=self.master)
        self.ask(self.master, "SET color red")
        self.simulation.run(2)
        self.assertIn(b"port=6379,state=wait_bgsave,", self.ask(self.master, "INFO replication"))
        self.assertIn(b"master_sync_in_progress:1", self.ask(late, "INFO replication"))
        self.assertFalse(late.link_up)
        self.simulation.run(4)
        self.assertEqual((late.link_up, late.data), (True, {b"color": b"red"}))

    def test_chain(self) -> None:
        """A replica of a replica gets writes and messages of the master."""
        last = self.server("last", "10.0.0.3", replica_of=self.replica)
        self.simulation.run(2)
        subscriber = self.connect(last)
        call(subscriber, "SUBSCRIBE news")
        connection = self.connect(self.master)
        connection.send("SET color red", "PUBLISH news hello")
        self.assertEqual(subscriber.reply(), [b"message", b"news", b"hello"])
        self.assertEqual(last.data, {b"color": b"red"})
        self.assertEqual(last.replication.offset, self.master.replication.offset)

    def test_chain_follows_a_promotion(self) -> None:
        """The replica of a promoted replica stays with it, and keeps its replication history."""
        last = self.server("last", "10.0.0.3", replica_of=self.replica)
        self.simulation.run(2)
        connection = self.connect(self.replica)
        connection.send("SLAVEOF NO ONE", "SET color red")
        self.simulation.run(3)
        self.assertEqual((last.link_up, last.data), (True, {b"color": b"red"}))
        self.assertEqual(last.replication.id, self.replica.replication.id)

    def test_too_few_replicas(self) -> None:
        """A master that requires a replica refuses writes after the permitted lag."""
        self.ask(self.master, "CONFIG SET min-replicas-to-write 1")
        self.assertEqual(self.ask(self.master, "SET color red"), b"OK")
        self.network.isolate(self.replica.host)
        self.simulation.run(5)
        self.assertEqual(self.ask(self.master, "SET color blue"), b"OK")
        self.simulation.run(10)
        self.refused(self.ask(self.master, "SET color green"), b"NOREPLICAS ")
        self.assertFalse(self.master.writable)

    def test_master_by_name(self) -> None:
        """A master can be given by name; an unknown name is resolved repeatedly."""
        self.ask(self.replica, "SLAVEOF redis.example 6379")
        self.simulation.run(3)
        self.assertFalse(self.replica.link_up)
        self.replica.host.names["redis.example"] = "10.0.0.1"
        self.simulation.run(3)
        self.assertTrue(self.replica.link_up)
        self.assertEqual(self.info(self.replica).master_host, "redis.example")

    def test_announced_address(self) -> None:
        """A replica is listed at its announced address."""
        self.server(
            "hidden", "10.0.0.3", replica_of=self.master, replica_announce_ip="1.2.3.4", slave_announce_port="7"
        )
        self.simulation.run(1)
        self.assertIn(("1.2.3.4", 7), self.info(self.master).replicas)

    def test_failover_of_a_lost_replica_times_out(self) -> None:
        """A FAILOVER whose target does not catch up times out, and writes continue."""
        self.network.isolate(self.replica.host)
        self.assertEqual(self.ask(self.master, "FAILOVER TO 10.0.0.2 6379 TIMEOUT 3000"), b"OK")
        self.assertTrue(self.info(self.master).failover_running)
        writer = self.connect(self.master)
        writer.send("SET color red")
        self.simulation.run(2)
        self.assertTrue(writer.idle())
        self.refused(self.ask(self.master, "SLAVEOF NO ONE"), b"ERR REPLICAOF not allowed while failing over.")
        self.simulation.run(2)
        self.assertEqual(writer.reply(), b"OK")
        self.assertEqual((self.master.is_master, self.info(self.master).failover_running), (True, False))

    def test_failover_aborted(self) -> None:
        """FAILOVER ABORT ends the failover at once."""
        self.network.isolate(self.replica.host)
        self.ask(self.master, "FAILOVER")
        self.refused(self.ask(self.master, "FAILOVER"), b"ERR FAILOVER already in progress.")
        self.assertEqual(self.ask(self.master, "FAILOVER ABORT"), b"OK")
        self.assertEqual(self.ask(self.master, "SET color red"), b"OK")

    def test_counting_lost_writes(self) -> None:
        """Acknowledged writes that did not reach the promoted replica can be counted."""
        writer = self.connect(self.master)
        for number in range(5):
            call(writer, f"SET early{number} x")
        self.simulation.run(1)
        self.network.cut(self.master.host, self.replica.host)
        acknowledged = {b"early%d" % number for number in range(5)}
        for number in range(3):
            if call(writer, f"SET late{number} x") == b"OK":
                acknowledged.add(b"late%d" % number)
        self.ask(self.replica, "SLAVEOF NO ONE")
        self.assertEqual(sorted(acknowledged - {*self.replica.data}), [b"late0", b"late1", b"late2"])


class DeterminismTests(SynchronousTestCase):
    """The same seed gives the same run, with databases."""

    def run_digest(self, seed: int) -> str:
        """Return the digest of a run with replication, a partition and a promotion."""
        simulation = Simulation(seed)
        network = SimNetwork(simulation, jitter=5)
        master = SimRedis(SimHost(simulation, network, "a", "10.0.0.1"))
        replicas = [SimRedis(SimHost(simulation, network, f"r{n}", f"10.0.0.{n}"), replica_of=master) for n in (2, 3)]
        for server in (master, *replicas):
            server.host.start()
        simulation.run(20)
        network.isolate(master.host)
        simulation.run(70)
        replicas[0].replication.lead()
        replicas[1].replication.follow(replicas[0].address)
        network.heal()
        simulation.run(70)
        return simulation.digest()

    def test_same_seed(self) -> None:
        """Two runs of one seed have the same bytes at the same microseconds."""
        self.assertEqual(self.run_digest(1), self.run_digest(1))
        self.assertNotEqual(self.run_digest(1), self.run_digest(2))
