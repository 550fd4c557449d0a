"""
The behaviour of Redis servers that Sentinels rely on, expected of the simulated server and of real ones.

Each expectation was first observed on real servers; the simulated server has to pass the same tests.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.contract.fixture import Contract
from tests.contract.redis_servers import RealServers, SimServers, call, ends
from txsentinel.wire.info import parse_info
from txsentinel.wire.values import PushFrame, Status


class RedisContract(Contract):
    """The expectations. Subclasses choose the kind of servers."""

    # Requests and replies.

    def test_ping(self: Any) -> None:
        """PING is answered with a status, and with its argument if it has one."""
        reply = call(self.a, "PING")
        self.assertIsInstance(reply, Status)
        self.assertEqual(reply, b"PONG")
        self.assertEqual(call(self.a, "PING hello"), b"hello")

    def test_pipeline(self: Any) -> None:
        """Several requests in one segment are answered in order."""
        self.a.send("PING 1", "PING 2", "PING 3")
        self.assertEqual([self.a.reply() for _ in range(3)], [b"1", b"2", b"3"])

    def test_unknown_command(self: Any) -> None:
        """An unknown command is an error and has no other effect."""
        self.refused(call(self.a, "UNKNOWN x"), "ERR unknown command")
        self.assertEqual(call(self.a, "PING"), b"PONG")

    def test_wrong_arity(self: Any) -> None:
        """Too few arguments are an error that names the command."""
        self.assertEqual(call(self.a, "GET"), b"ERR wrong number of arguments for 'get' command")

    def test_quit(self: Any) -> None:
        """QUIT is confirmed, then the connection ends."""
        self.assertEqual(call(self.a, "QUIT"), b"OK")
        self.assertTrue(ends(self.a))

    def test_client_names(self: Any) -> None:
        """A client can be given a name, which is in the list; spaces are refused."""
        self.assertIsNone(call(self.a, "CLIENT GETNAME"))
        self.assertEqual(call(self.a, "CLIENT SETNAME sentinel-abcdefgh-cmd"), b"OK")
        self.assertEqual(call(self.a, "CLIENT GETNAME"), b"sentinel-abcdefgh-cmd")
        number = call(self.a, "CLIENT ID")
        line = next(line for line in call(self.a, "CLIENT LIST").split(b"\n") if line.startswith(b"id=%d " % number))
        self.assertIn(b" name=sentinel-abcdefgh-cmd ", line)
        self.refused(call(self.a, "CLIENT UNKNOWN"), "ERR ")

    def test_resp3(self: Any) -> None:
        """After HELLO 3 a subscribed client may use every command, and messages are pushes."""
        self.assertEqual(call(self.a, "HELLO 3 SETNAME both")[b"proto"], 3)
        confirmed = call(self.a, "SUBSCRIBE news")
        self.assertIsInstance(confirmed, PushFrame)
        self.assertEqual(confirmed, [b"subscribe", b"news", 1])
        self.assertEqual(self.info(self.a).role, "master")
        self.assertEqual(call(self.b, "PING"), b"PONG")
        self.assertEqual(call(self.connect(self.first), "PUBLISH news hi"), 1)
        self.assertEqual(self.a.reply(), [b"message", b"news", b"hi"])
        self.refused(call(self.a, "HELLO 4"), "NOPROTO")

    # Passwords

    def test_password(self: Any) -> None:
        """With a password, new clients get -NOAUTH until they authenticate; connected ones stay authenticated."""
        self.assertEqual(call(self.a, "CONFIG SET requirepass secret"), b"OK")
        self.assertEqual(call(self.a, "PING"), b"PONG")
        unknown_client = self.connect(self.first)
        self.refused(call(unknown_client, "PING"), "NOAUTH Authentication required.")
        self.refused(call(unknown_client, "INFO"), "NOAUTH ")
        self.refused(call(unknown_client, "SUBSCRIBE x"), "NOAUTH ")
        self.refused(call(unknown_client, "AUTH wrong"), "WRONGPASS invalid username-password pair")
        self.assertEqual(call(unknown_client, "AUTH secret"), b"OK")
        self.assertEqual(call(unknown_client, "PING"), b"PONG")
        self.assertEqual(call(self.connect(self.first), "AUTH default secret"), b"OK")

    def test_needless_password(self: Any) -> None:
        """AUTH without a configured password is an error, and an unknown user is another one."""
        self.refused(call(self.a, "AUTH x"), "ERR AUTH <password> called without any password configured")
        self.refused(call(self.a, "AUTH nobody x"), "WRONGPASS ")

    def test_replication_with_password(self: Any) -> None:
        """A replica with the wrong password has no link; with the right one it has."""
        call(self.a, "CONFIG SET requirepass secret")
        call(self.b, f"SLAVEOF {self.first.host} {self.first.port}")
        self.assertEqual(self.replication(self.b)["master_link_status"], "down")
        call(self.b, "CONFIG SET masterauth secret")
        self.eventually(lambda: self.info(self.b).master_link_up)

    # INFO

    def test_info_of_a_master(self: Any) -> None:
        """A master has a run ID of 40 digits and reports its role."""
        report = self.info(self.a)
        self.assertRegex(report.run_id, "^[0-9a-f]{40}$")
        self.assertEqual((report.role, report.replicas, report.failover_running), ("master", (), False))

    def test_info_sections(self: Any) -> None:
        """One section can be requested; an unknown one is empty."""
        self.assertTrue(call(self.a, "INFO replication").startswith(b"# Replication\r\n"))
        self.assertNotIn(b"run_id", call(self.a, "INFO replication"))
        self.assertEqual(call(self.a, "INFO invalid"), b"")

    def test_replica_appears(self: Any) -> None:
        """A replica is in its master's INFO, and its own has its master and offset."""
        self.replicate()
        self.assertEqual(self.info(self.a).replicas, ((self.second.host, self.second.port),))
        report = self.info(self.b)
        self.assertEqual(report.role, "slave")
        self.assertEqual((report.master_host, report.master_port), (self.first.host, self.first.port))
        self.assertEqual((report.priority, report.announced, report.master_link_down_for), (100, True, 0))
        self.assertGreaterEqual(report.repl_offset, 0)

    def test_replica_without_master(self: Any) -> None:
        """A replica without a master reports its link down for -1 seconds, as it was never up."""
        call(self.b, f"SLAVEOF {self.first.host} 1")
        report = self.info(self.b)
        self.assertEqual((report.role, report.master_link_up, report.master_link_down_for), ("slave", False, -1000))

    def test_priority(self: Any) -> None:
        """The priority can be set by both names and is reported at once."""
        self.replicate()
        call(self.b, "CONFIG SET slave-priority 7")
        self.assertEqual(self.info(self.b).priority, 7)
        self.assertEqual(call(self.b, "CONFIG GET replica-priority"), [b"replica-priority", b"7"])
        call(self.b, "CONFIG SET replica-priority 100")
        self.refused(call(self.b, "CONFIG SET invalid 1"), "ERR Un")

    def test_run_id_changes(self: Any) -> None:
        """Every start has another run ID."""
        before = self.info(self.b).run_id
        self.second.restart()
        self.assertNotEqual(self.info(self.connect(self.second)).run_id, before)

    def test_role(self: Any) -> None:
        """ROLE is consistent with INFO."""
        self.replicate()
        self.assertEqual(call(self.a, "ROLE")[0], b"master")
        self.assertEqual(call(self.a, "ROLE")[2][0][:2], [self.second.host.encode(), b"%d" % self.second.port])
        role = call(self.b, "ROLE")
        self.assertEqual(role[:4], [b"slave", self.first.host.encode(), self.first.port, b"connected"])

    # Changing roles

    def test_promotion_is_visible_at_once(self: Any) -> None:
        """INFO in the same pipeline, right behind the transaction, reports the new role."""
        self.replicate()
        self.b.send(
            "MULTI",
            "SLAVEOF NO ONE",
            "CONFIG REWRITE",
            "CLIENT KILL TYPE normal",
            "CLIENT KILL TYPE pubsub",
            "EXEC",
            "INFO",
        )
        replies = [self.b.reply() for _ in range(7)]
        self.assertEqual(replies[:5], [b"OK", *[b"QUEUED"] * 4])
        self.assertEqual(replies[5][:2], [b"OK", b"OK"])
        self.assertEqual([type(count) for count in replies[5][2:]], [int, int])
        self.assertEqual(parse_info(replies[6]).role, "master")

    def test_demotion_is_visible_at_once(self: Any) -> None:
        """Likewise for the other direction, within a transaction too."""
        self.b.send("MULTI", f"SLAVEOF {self.first.host} {self.first.port}", "EXEC", "INFO")
        self.assertEqual([self.b.reply() for _ in range(3)], [b"OK", b"QUEUED", [b"OK"]])
        report = parse_info(self.b.reply())
        self.assertEqual((report.role, report.master_port), ("slave", self.first.port))

    def test_same_master_again(self: Any) -> None:
        """SLAVEOF of the present master changes nothing."""
        self.replicate()
        reply = call(self.b, f"REPLICAOF {self.first.host} {self.first.port}")
        self.assertEqual(reply, b"OK Already connected to specified master")
        self.assertTrue(self.info(self.b).master_link_up)

    def test_bad_port(self: Any) -> None:
        """A port that is not a number is refused."""
        self.refused(call(self.b, "SLAVEOF 127.0.0.1 invalid"), "ERR ")

    def test_role_is_durable(self: Any) -> None:
        """After CONFIG REWRITE a restarted server has its former role."""
        self.replicate()
        self.assertEqual(call(self.b, "CONFIG REWRITE"), b"OK")
        self.second.restart()
        again = self.connect(self.second)
        report = self.info(again)
        self.assertEqual((report.role, report.master_port), ("slave", self.first.port))
        self.eventually(lambda: self.info(again).master_link_up)

    def test_link_goes_down(self: Any) -> None:
        """A replica detects at once that its master is gone, and reconnects."""
        self.replicate()
        before = self.info(self.a).run_id
        self.first.restart()
        again = self.connect(self.first)
        self.eventually(lambda: self.info(self.b).master_link_up and self.info(again).replicas)
        self.assertNotEqual(self.info(again).run_id, before)

    # Data

    def test_writes_are_replicated(self: Any) -> None:
        """A replica has the writes of its master, and both have the same offset."""
        self.replicate()
        self.assertEqual(call(self.a, "SET color red"), b"OK")
        self.assertEqual([call(self.a, "INCR n"), call(self.a, "INCR n")], [1, 2])
        self.eventually(lambda: (call(self.b, "GET color"), call(self.b, "GET n")) == (b"red", b"2"))
        self.eventually(
            lambda: self.replication(self.a)["master_repl_offset"] == self.replication(self.b)["slave_repl_offset"]
        )

    def test_full_copy(self: Any) -> None:
        """A replica has the earlier data of its master, and none of its own."""
        call(self.a, "SET before yes")
        call(self.b, "SET mine yes")
        self.replicate()
        self.assertEqual((call(self.b, "GET before"), call(self.b, "GET mine")), (b"yes", None))

    def test_replica_is_read_only(self: Any) -> None:
        """A replica refuses writes, alone and in a transaction, and answers queries."""
        self.replicate()
        self.refused(call(self.b, "SET color red"), "READONLY You can't write against a read only replica.")
        self.b.send("MULTI", "INCR n", "EXEC")
        replies = [self.b.reply() for _ in range(3)]
        self.assertEqual(replies[0], b"OK")
        self.refused(replies[1], "READONLY ")
        self.refused(replies[2], "EXECABORT ")
        self.assertIsNone(call(self.b, "GET color"))

    def test_stale_replica(self: Any) -> None:
        """A replica that must not serve stale data refuses queries, but not INFO and PUBLISH."""
        call(self.b, "CONFIG SET slave-serve-stale-data no")
        call(self.b, f"SLAVEOF {self.first.host} 1")
        self.refused(call(self.b, "GET color"), "MASTERDOWN Link with MASTER is down")
        self.assertEqual(self.info(self.b).role, "slave")
        self.assertEqual(call(self.b, "PUBLISH news x"), 0)

    def test_writes_of_a_demoted_master_are_lost(self: Any) -> None:
        """Writes of a master after the promotion of its replica are lost once it follows that one."""
        self.replicate()
        call(self.a, "SET shared yes")
        self.eventually(lambda: call(self.b, "GET shared") == b"yes")
        call(self.b, "SLAVEOF NO ONE")
        call(self.a, "SET lost yes")
        call(self.b, "SET kept yes")
        call(self.a, f"SLAVEOF {self.second.host} {self.second.port}")
        self.eventually(lambda: call(self.a, "GET kept") == b"yes")
        self.assertEqual((call(self.a, "GET lost"), call(self.a, "GET shared")), (None, b"yes"))

    def test_history_continues_after_promotion(self: Any) -> None:
        """A master without further writes follows its promoted replica without a full synchronization."""
        self.replicate()
        call(self.a, "SET shared yes")
        self.eventually(lambda: call(self.b, "GET shared") == b"yes")
        call(self.b, "SLAVEOF NO ONE")
        shared = self.replication(self.a)["master_replid"]
        self.assertEqual(self.replication(self.b)["master_replid2"], shared)
        call(self.a, f"SLAVEOF {self.second.host} {self.second.port}")
        self.eventually(lambda: self.info(self.a).master_link_up)
        self.assertEqual(self.replication(self.a)["master_replid"], self.replication(self.b)["master_replid"])

    # Transactions

    def test_transaction_is_aborted(self: Any) -> None:
        """One refused command aborts the whole transaction."""
        self.a.send("MULTI", "UNKNOWN", "SET color red", "EXEC", "GET color")
        replies = [self.a.reply() for _ in range(5)]
        self.assertEqual(replies[3], b"EXECABORT Transaction discarded because of previous errors.")
        self.assertIsNone(replies[4])

    def test_transaction_is_discarded(self: Any) -> None:
        """DISCARD discards the queued commands; outside a transaction EXEC and DISCARD are errors."""
        self.a.send("MULTI", "SET color red", "DISCARD", "GET color")
        self.assertEqual([self.a.reply() for _ in range(4)], [b"OK", b"QUEUED", b"OK", None])
        self.refused(call(self.a, "EXEC"), "ERR EXEC without MULTI")
        self.refused(call(self.a, "DISCARD"), "ERR DISCARD without MULTI")

    # Channels

    def test_publish(self: Any) -> None:
        """A message is sent to subscribers by name or by pattern, and the reply is their number."""
        subscriber, listener = self.connect(self.first), self.connect(self.first)
        self.assertEqual(call(subscriber, "SUBSCRIBE news"), [b"subscribe", b"news", 1])
        self.assertEqual(call(listener, "PSUBSCRIBE n*"), [b"psubscribe", b"n*", 1])
        self.assertEqual(call(self.a, "PUBLISH news hello"), 2)
        self.assertEqual(subscriber.reply(), [b"message", b"news", b"hello"])
        self.assertEqual(listener.reply(), [b"pmessage", b"n*", b"news", b"hello"])
        self.assertEqual(call(self.a, "PUBLISH other hello"), 0)

    def test_publish_reaches_replicas(self: Any) -> None:
        """A message published on the master reaches subscribers of the replica, but does not count them."""
        self.replicate()
        subscriber = self.connect(self.second)
        call(subscriber, "SUBSCRIBE news")
        self.assertEqual(call(self.a, "PUBLISH news down"), 0)
        self.assertEqual(subscriber.reply(), [b"message", b"news", b"down"])
        self.assertEqual(call(self.b, "PUBLISH news here"), 1)
        self.assertEqual(subscriber.reply(), [b"message", b"news", b"here"])

    def test_publish_does_not_reach_the_master(self: Any) -> None:
        """A message published on a replica stays there."""
        self.replicate()
        subscriber = self.connect(self.first)
        call(subscriber, "SUBSCRIBE news")
        self.assertEqual(call(self.b, "PUBLISH news up"), 0)
        call(self.a, "PUBLISH news end")
        self.assertEqual(subscriber.reply(), [b"message", b"news", b"end"])

    def test_subscribed_mode(self: Any) -> None:
        """A subscribed client may PING and unsubscribe; everything else is refused until it has left all channels."""
        self.assertEqual(call(self.a, "SUBSCRIBE x"), [b"subscribe", b"x", 1])
        self.assertEqual(call(self.a, "SUBSCRIBE y"), [b"subscribe", b"y", 2])
        self.assertEqual(call(self.a, "PING"), [b"pong", b""])
        self.assertEqual(call(self.a, "PING z"), [b"pong", b"z"])
        self.refused(call(self.a, "INFO"), "ERR Can't execute 'info': only (P")
        self.assertEqual(call(self.a, "UNSUBSCRIBE x"), [b"unsubscribe", b"x", 1])
        self.assertEqual(call(self.a, "UNSUBSCRIBE"), [b"unsubscribe", b"y", 0])
        self.assertEqual(call(self.a, "PING"), b"PONG")
        self.assertEqual(call(self.a, "PUNSUBSCRIBE"), [b"punsubscribe", None, 0])

    # Killing and pausing clients

    def test_kill_normal_keeps_the_caller(self: Any) -> None:
        """CLIENT KILL TYPE normal closes all normal connections but the own one, and no subscriber."""
        other, subscriber = self.connect(self.first), self.connect(self.first)
        call(other, "PING")
        call(subscriber, "SUBSCRIBE x")
        self.assertGreaterEqual(call(self.a, "CLIENT KILL TYPE normal"), 1)
        self.assertTrue(ends(other))
        self.assertEqual(call(self.a, "PUBLISH x y"), 1)
        self.assertEqual(subscriber.reply(), [b"message", b"x", b"y"])

    def test_kill_pubsub(self: Any) -> None:
        """CLIENT KILL TYPE pubsub closes subscribers, who get no message from then on."""
        subscriber = self.connect(self.first)
        call(subscriber, "SUBSCRIBE x")
        self.a.send("CLIENT KILL TYPE pubsub", "PUBLISH x y")
        self.assertEqual([self.a.reply(), self.a.reply()], [1, 0])
        self.assertTrue(ends(subscriber))

    def test_kill_errors(self: Any) -> None:
        """Unknown classes and addresses are errors, unknown IDs are not."""
        self.refused(call(self.a, "CLIENT KILL TYPE invalid"), "ERR Unknown client type 'invalid'")
        self.refused(call(self.a, "CLIENT KILL 1.2.3.4:5"), "ERR No such client")
        self.assertEqual(call(self.a, "CLIENT KILL ID 99999999"), 0)

    def test_pause_of_writes(self: Any) -> None:
        """A pause of writes blocks PUBLISH and all later commands on that connection, but no PING on others."""
        other = self.connect(self.first)
        self.assertEqual(call(self.a, "CLIENT PAUSE 60000 WRITE"), b"OK")
        other.send("PING first", "PUBLISH news x", "PING last")
        self.assertEqual(other.reply(), b"first")
        self.assertEqual(call(self.a, "PING"), b"PONG")
        self.assertTrue(other.idle())
        self.assertEqual(call(self.a, "CLIENT UNPAUSE"), b"OK")
        self.assertEqual([other.reply(), other.reply()], [0, b"last"])

    # Scripts

    def test_script_kill_without_script(self: Any) -> None:
        """SCRIPT KILL without a script is an error."""
        self.refused(call(self.a, "SCRIPT KILL"), "NOTBUSY ")

    def test_busy(self: Any) -> None:
        """While a script runs all commands are refused, until it is killed."""
        self.first.run_endless_script()
        self.eventually(lambda: call(self.a, "PING").startswith(b"BUSY "))
        self.refused(call(self.a, "INFO"), "BUSY ")
        self.assertEqual(call(self.a, "SCRIPT KILL"), b"OK")
        self.eventually(lambda: call(self.a, "PING") == b"PONG")

    # FAILOVER

    def test_failover_needs_replicas(self: Any) -> None:
        """FAILOVER is refused without replicas, to unknown servers, and on a replica; nothing can be aborted then."""
        self.refused(call(self.a, "FAILOVER"), "ERR FAILOVER requires connected replicas.")
        self.refused(call(self.a, "FAILOVER ABORT"), "ERR No failover in progress.")
        self.replicate()
        self.refused(call(self.a, "FAILOVER TO 127.0.0.1 1"), "ERR FAILOVER target HOST and PORT is not a replica.")
        self.refused(call(self.b, "FAILOVER"), "ERR FAILOVER is not valid when server is a replica.")

    def test_failover(self: Any) -> None:
        """FAILOVER exchanges both roles, and then reports its end."""
        self.replicate()
        self.a.send(
            "MULTI",
            "CLIENT PAUSE 5000 WRITE",
            f"FAILOVER TO {self.second.host} {self.second.port} TIMEOUT 5000",
            "EXEC",
        )
        self.assertEqual([self.a.reply() for _ in range(4)], [b"OK", b"QUEUED", b"QUEUED", [b"OK", b"OK"]])
        self.eventually(lambda: (self.info(self.a).role, self.info(self.b).role) == ("slave", "master"))
        self.eventually(lambda: self.info(self.a).master_link_up)
        self.assertEqual(self.replication(self.a)["master_failover_state"], "no-failover")


class SimulatedRedisTests(RedisContract, SynchronousTestCase):
    """The simulated server."""

    make_servers = staticmethod(SimServers)


class RedisTests(RedisContract, SynchronousTestCase):
    """The Redis of the distribution."""

    make_servers = staticmethod(lambda: RealServers("redis"))


class Redis62Tests(RedisContract, SynchronousTestCase):
    """Redis 6.2."""

    make_servers = staticmethod(lambda: RealServers("redis-6.2"))


class Redis82Tests(RedisContract, SynchronousTestCase):
    """Redis 8.2."""

    make_servers = staticmethod(lambda: RealServers("redis-8.2"))


class ValkeyTests(RedisContract, SynchronousTestCase):
    """A current Valkey."""

    make_servers = staticmethod(lambda: RealServers("valkey"))


class Valkey81Tests(RedisContract, SynchronousTestCase):
    """Valkey 8.1."""

    make_servers = staticmethod(lambda: RealServers("valkey-8.1"))
