"""
The commands of Sentinels and their effects on servers; expected of the simulated server and of real ones.

Pauses: what each blocks, for how long, and what ends it. Which clients are disconnected. What is in the file.
What FAILOVER and its end change. The result of a transaction in which one command is refused.
"""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.contract.fixture import Contract
from tests.contract.redis_servers import Connection, RealServers, Request, SimServers, call, ends
from txsentinel.wire.info import parse_info
from txsentinel.wire.values import ErrorLine

NEW_ROLE = ("CONFIG REWRITE", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub")
"""The commands that follow SLAVEOF, or a hand-over, in the transaction of a Sentinel."""

CLOCK_GRAIN = 0.05
"""Seconds by which the clock of a server, which it reads once per turn, may be behind when a pause begins."""


class OrdersContract(Contract):
    """The expectations. Subclasses choose the kind of servers."""

    one_pause: ClassVar[bool] = False
    """
    Redis 6.2 has one pause for CLIENT PAUSE and FAILOVER, and never forgets its end: CLIENT PAUSE lasts no
    shorter than any earlier one, and forever after a FAILOVER. Since 7.0 FAILOVER has a pause of its own.
    """

    def heal_all(self: Any) -> None:
        """Leave two empty masters that run and accept writes."""
        for server in (self.first, self.second):
            server.thaw()
            if self.one_pause:
                server.restart()
            connection = server.connect()
            call(connection, "FAILOVER ABORT")
            call(connection, "CONFIG SET min-replicas-to-write 0")
            connection.close()
        super().heal_all()

    def transact(self, connection: Connection, *commands: Request) -> Any:
        """Return the reply to EXEC of a transaction with these commands."""
        connection.send("MULTI", *commands, "EXEC")
        return [connection.reply() for _ in range(len(commands) + 2)][-1]

    def client(self: Any, *commands: Request) -> Connection:
        """Return a client of the first server that has had these commands answered."""
        connection: Connection = self.connect(self.first)
        for command in commands or ("PING",):
            call(connection, command)
        return connection

    def blocked_client(self: Any, *commands: Request, behind: Connection | None = None) -> Connection:
        """Return a client of the first server whose last command is blocked; those before it are answered."""
        connection: Connection = self.connect(self.first) if behind is None else behind
        connection.send("PING first", *commands)
        self.assertEqual(connection.reply(), b"first")
        for _ in commands[:-1]:
            self.assertNotIsInstance(connection.reply(), ErrorLine)
        # In one segment with the answered commands, it has been read by now; this is time to answer it.
        call(self.a, "PING")
        self.assertTrue(connection.idle(), commands)
        return connection

    def start_failover(self: Any, timeout: int = 60_000) -> None:
        """Start a FAILOVER of the first server that waits for the second, which does not reply."""
        self.replicate()
        self.second.freeze()
        call(self.a, "SET ahead yes")
        order = f"FAILOVER TO {self.second.host} {self.second.port} TIMEOUT {timeout}"
        self.assertEqual(call(self.a, order), b"OK")

    def failover_state(self: Any) -> str:
        """Return the failover state of the first server."""
        state: str = self.replication(self.a)["master_failover_state"]
        return state

    def replicaof(self, server: Any) -> list[str]:
        """Return the master in the file of a server, if there is one."""
        for line in server.configuration().splitlines():
            words: list[str] = line.split()
            if words and words[0] in ("replicaof", "slaveof"):
                return words[1:]
        return []

    # Pauses

    def test_pause_of_writes_blocks(self: Any) -> None:
        """It blocks writes and PUBLISH, also inside a transaction, and EXEC of a transaction that has them queued."""
        begun = self.client("MULTI", "SET color red")
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        waiting = [
            self.blocked_client("SET color red"),
            self.blocked_client("INCR n"),
            self.blocked_client("PUBLISH news x"),
            self.blocked_client("MULTI", "SET color red"),
            self.blocked_client("MULTI", "PUBLISH news x"),
        ]
        begun.send("EXEC")
        call(self.a, "PING")
        self.assertTrue(begun.idle())
        self.assertEqual(call(self.a, "CLIENT UNPAUSE"), b"OK")
        self.assertEqual([each.reply() for each in waiting], [b"OK", 1, 0, b"QUEUED", b"QUEUED"])
        self.assertEqual(begun.reply(), [b"OK"])

    def test_pause_of_writes_does_not_block(self: Any) -> None:
        """It blocks no query, and no command of a Sentinel."""
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        other = self.client()
        for command in (
            "PING",
            "GET color",
            "INFO",
            "ROLE",
            "CLIENT SETNAME x",
            "CONFIG GET port",
            "CONFIG SET slave-priority 100",
            "CONFIG REWRITE",
            "CLIENT KILL ID 99999999",
            "REPLCONF capa eof",
            "SLAVEOF NO ONE",
            "CLIENT PAUSE 60000 WRITE",
        ):
            self.assertNotIsInstance(call(other, command), ErrorLine)
        self.assertEqual([type(each) for each in self.transact(other, *NEW_ROLE)[1:]], [int, int])
        self.assertEqual(call(other, "SUBSCRIBE x"), [b"subscribe", b"x", 1])

    def test_pause_blocks_later_commands(self: Any) -> None:
        """A blocked PUBLISH blocks the commands behind it on its connection: PING, INFO, and even CLIENT UNPAUSE."""
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        stuck = self.blocked_client("PUBLISH news x")
        stuck.send("CLIENT UNPAUSE", "PING last")
        call(self.a, "PING")
        self.assertTrue(stuck.idle())
        self.blocked_client("PUBLISH news y")
        call(self.a, "CLIENT UNPAUSE")
        self.assertEqual([stuck.reply() for _ in range(3)], [0, b"OK", b"last"])

    def test_pause_of_all(self: Any) -> None:
        """It blocks every command of every client, including CLIENT UNPAUSE, until its timeout."""
        other, subscriber = self.client(), self.client("SUBSCRIBE news")
        began = self.servers.seconds()
        self.assertEqual(call(self.a, "CLIENT PAUSE 400"), b"OK")
        self.a.send("CLIENT UNPAUSE", "PING")
        other.send("INFO")
        subscriber.send("PING")
        self.assertEqual(self.a.reply(), b"OK")
        self.assertGreaterEqual(self.servers.seconds() - began, 0.4 - CLOCK_GRAIN)
        self.assertEqual(self.a.reply(), b"PONG")
        self.assertIn(b"role:master", other.reply())
        self.assertEqual(subscriber.reply(), [b"pong", b""])

    def test_held_commands_in_order(self: Any) -> None:
        """What was held first is executed first; a further pause holds the commands after it only."""
        older, newer = self.client(), self.client()
        call(self.a, "CLIENT PAUSE 500")
        for connection, command in ((newer, "PING"), (older, "CLIENT PAUSE 200")):
            connection.send(command)
            until = self.servers.seconds() + 0.02
            self.eventually(lambda until=until: self.a.idle() and self.servers.seconds() >= until)
        self.assertEqual(newer.reply(), b"PONG")
        answered = self.servers.seconds()
        self.assertEqual((older.reply(), call(newer, "PING")), (b"OK", b"PONG"))
        self.assertGreaterEqual(self.servers.seconds() - answered, 0.2 - CLOCK_GRAIN)

    def test_pause_ends_by_itself(self: Any) -> None:
        """Blocked commands are executed in order when the timeout has passed."""
        began = self.servers.seconds()
        self.a.send("CLIENT PAUSE 400 WRITE", "SET color red", "GET color")
        self.assertEqual([self.a.reply(), self.a.reply(), self.a.reply()], [b"OK", b"OK", b"red"])
        self.assertGreaterEqual(self.servers.seconds() - began, 0.4 - CLOCK_GRAIN)

    def test_pause_is_not_shortened(self: Any) -> None:
        """Another pause makes it longer, never shorter."""
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        call(self.a, "CLIENT PAUSE 1 WRITE")
        writer = self.blocked_client("SET color red")
        until = self.servers.seconds() + 0.2
        self.eventually(lambda: call(self.a, "PING") and self.servers.seconds() > until)
        self.assertTrue(writer.idle())
        began = self.servers.seconds()
        call(self.a, "CLIENT UNPAUSE")
        self.assertEqual(writer.reply(), b"OK")
        if self.one_pause:
            return
        self.a.send("CLIENT PAUSE 1 WRITE", "CLIENT PAUSE 400 WRITE", "INCR n")
        self.assertEqual([self.a.reply() for _ in range(3)], [b"OK", b"OK", 1])
        self.assertGreaterEqual(self.servers.seconds() - began, 0.4 - CLOCK_GRAIN)

    def test_pause_is_renewed(self: Any) -> None:
        """Repeated orders of one length keep writes held until the last one ends, also those of several clients."""
        writer, other = self.client(), self.client()
        began = self.servers.seconds()
        call(self.a, "CLIENT PAUSE 800 WRITE")
        writer.send("INCR n")
        for connection in (other, self.a):
            until = self.servers.seconds() + 0.2
            self.eventually(lambda until=until: call(self.a, "PING") and self.servers.seconds() >= until)
            self.assertTrue(writer.idle())
            self.assertEqual(call(connection, "CLIENT PAUSE 800 WRITE"), b"OK")
        self.assertEqual(writer.reply(), 1)
        self.assertGreaterEqual(self.servers.seconds() - began, 1.0 - CLOCK_GRAIN)

    def test_paused_master_is_demoted(self: Any) -> None:
        """No write that was held is executed or acknowledged if the server is demoted before the pause ends."""
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        writer = self.blocked_client("SET color red")
        order = f"SLAVEOF {self.second.host} {self.second.port}"
        replies = self.transact(self.a, order, *NEW_ROLE)
        self.assertEqual(replies[0], b"OK")
        self.assertEqual(call(self.a, "CLIENT UNPAUSE"), b"OK")
        self.assertTrue(ends(writer))
        self.eventually(lambda: self.info(self.a).master_link_up)
        self.assertEqual((call(self.a, "GET color"), call(self.b, "GET color")), (None, None))
        self.assertEqual(call(self.client(), "PUBLISH news x"), 0)

    def test_acknowledgements_during_a_pause(self: Any) -> None:
        """INFO has the age of the last acknowledgement, also while writes are paused: it rises for a silent replica."""
        self.replicate()
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        self.eventually(lambda: self.info(self.a).least_lag in (0, 1))
        self.second.freeze()
        self.eventually(lambda: (self.info(self.a).least_lag or 0) > 2)
        self.second.thaw()
        self.eventually(lambda: self.info(self.a).least_lag in (0, 1))

    def test_pause_outlives_a_role_change(self: Any) -> None:
        """On a server that has become a replica PUBLISH is still blocked; new writes are refused at once."""
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        writer = self.blocked_client("SET color red")
        self.assertEqual(call(self.a, f"SLAVEOF {self.second.host} {self.second.port}"), b"OK")
        publisher = self.blocked_client("PUBLISH news x")
        self.refused(call(self.client(), "SET color blue"), "READONLY ")
        self.assertTrue(writer.idle())
        call(self.a, "CLIENT UNPAUSE")
        self.refused(writer.reply(), "READONLY ")
        self.assertEqual(publisher.reply(), 0)

    def test_pause_does_not_block_replication(self: Any) -> None:
        """A replica can connect and stays connected, and gets all earlier writes."""
        self.replicate()
        call(self.a, "SET color red")
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        self.eventually(lambda: call(self.b, "GET color") == b"red")
        call(self.b, "SLAVEOF NO ONE")
        self.replicate()

    def test_killed_while_blocked(self: Any) -> None:
        """A client that is disconnected while its write is blocked is not served any more."""
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        writer = self.blocked_client("SET color red")
        self.assertGreaterEqual(call(self.a, "CLIENT KILL TYPE normal"), 1)
        self.assertTrue(ends(writer))
        call(self.a, "CLIENT UNPAUSE")
        self.assertIsNone(call(self.a, "GET color"))

    def test_pause_outlives_its_client(self: Any) -> None:
        """It does not end with the connection that started it."""
        leader = self.client("CLIENT PAUSE 60000 WRITE")
        leader.close()
        self.eventually(lambda: call(self.a, "CLIENT LIST").count(b" addr=") == 1)
        self.blocked_client("SET color red")

    def test_pause_ends_with_the_process(self: Any) -> None:
        """A server that restarts has no pause."""
        call(self.b, "CLIENT PAUSE 60000 WRITE")
        self.second.restart()
        self.assertEqual(call(self.connect(self.second), "SET color red"), b"OK")

    # FAILOVER

    def test_failover_blocks_writes(self: Any) -> None:
        """While it waits for the replica, writes are blocked and the role is unchanged; FAILOVER ABORT ends it."""
        self.start_failover()
        self.assertEqual(self.failover_state(), "waiting-for-sync")
        self.assertEqual(self.info(self.a).role, "master")
        self.assertTrue(self.info(self.a).failover_running)
        writer, publisher = self.blocked_client("SET color red"), self.blocked_client("PUBLISH news x")
        self.refused(call(self.a, "FAILOVER"), "ERR FAILOVER already in progress.")
        self.assertEqual(call(self.a, "FAILOVER ABORT"), b"OK")
        self.assertEqual(writer.reply(), b"OK")
        self.assertEqual(publisher.reply(), 0)
        self.assertEqual(self.failover_state(), "no-failover")

    def test_failover_times_out(self: Any) -> None:
        """If a replica does not catch up in time, the master stays one, and blocked commands are executed."""
        began = self.servers.seconds()
        self.start_failover(900)
        writer = self.blocked_client("SET color red")
        self.assertEqual(writer.reply(), b"OK")
        self.assertGreaterEqual(self.servers.seconds() - began, 0.9 - 2 * CLOCK_GRAIN)
        self.assertEqual(self.failover_state(), "no-failover")
        self.assertEqual(self.info(self.a).role, "master")

    def test_failover_is_not_ended_by_unpause(self: Any) -> None:
        """CLIENT UNPAUSE does not end the pause of FAILOVER, except where there is one pause only."""
        self.start_failover()
        writer = self.blocked_client("SET color red")
        self.assertEqual(call(self.a, "CLIENT UNPAUSE"), b"OK")
        call(self.a, "PING")
        if self.one_pause:
            self.assertEqual(writer.reply(), b"OK")
        else:
            self.assertTrue(writer.idle())
        self.assertEqual(self.failover_state(), "waiting-for-sync")

    def test_forced_failover_to_a_hung_replica(self: Any) -> None:
        """It is a replica already, and stays one while the other does not reply; ABORT makes it a master again."""
        self.replicate()
        self.second.freeze()
        call(self.a, "SET ahead yes")
        self.a.send(f"FAILOVER TO {self.second.host} {self.second.port} TIMEOUT 50 FORCE")
        self.assertEqual(self.a.reply(), b"OK")
        self.eventually(lambda: self.failover_state() == "failover-in-progress")
        self.assertEqual(self.info(self.a).role, "slave")
        publisher = self.blocked_client("PUBLISH news x")
        self.refused(call(self.client(), "SET color red"), "READONLY ")
        self.assertEqual(call(self.a, "FAILOVER ABORT"), b"OK")
        self.assertEqual(publisher.reply(), 0)
        self.assertEqual((self.info(self.a).role, self.failover_state()), ("master", "no-failover"))
        self.assertEqual(call(self.a, "SET color red"), b"OK")

    def test_pause_outlives_failover(self: Any) -> None:
        """The pause of a hand-over blocks writes until CLIENT UNPAUSE, although the FAILOVER ended long before."""
        self.replicate()
        self.hand_over()
        publisher = self.connect(self.first)
        if self.one_pause:
            self.assertEqual(call(publisher, "PUBLISH news x"), 0)
            return
        self.blocked_client("PUBLISH news x", behind=publisher)
        self.assertEqual(call(self.a, "CLIENT UNPAUSE"), b"OK")
        self.assertEqual(publisher.reply(), 0)

    def test_pause_outlives_a_failover_that_is_aborted(self: Any) -> None:
        """Both have to be ended, in either order."""
        self.start_failover()
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        writer = self.blocked_client("SET color red")
        self.assertEqual(call(self.a, "FAILOVER ABORT"), b"OK")
        call(self.a, "PING")
        if not self.one_pause:
            self.assertTrue(writer.idle())
            self.assertEqual(call(self.a, "CLIENT UNPAUSE"), b"OK")
        self.assertEqual(writer.reply(), b"OK")

    def test_pause_after_a_failover(self: Any) -> None:
        """It ends at its timeout as usual. In Redis 6.2 it does not: the endless one of the FAILOVER continues."""
        self.start_failover()
        call(self.a, "FAILOVER ABORT")
        call(self.a, "CLIENT PAUSE 600 WRITE")
        writer = self.blocked_client("SET color red")
        if self.one_pause:
            until = self.servers.seconds() + 1.0
            self.eventually(lambda: call(self.a, "PING") and self.servers.seconds() > until)
            self.assertTrue(writer.idle())
            call(self.a, "CLIENT UNPAUSE")
        self.assertEqual(writer.reply(), b"OK")

    def test_failover_keeps_clients_and_files(self: Any) -> None:
        """It disconnects no client and writes no file: the Sentinel does that."""
        call(self.a, "CONFIG REWRITE")
        self.replicate()
        call(self.b, "CONFIG REWRITE")
        before = self.first.configuration(), self.second.configuration()
        normal, subscriber = self.client(), self.client("SUBSCRIBE news")
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        writer = self.blocked_client("SET color red")
        self.hand_over()
        self.assertEqual((self.first.configuration(), self.second.configuration()), before)
        self.assertEqual(call(normal, "PING"), b"PONG")
        self.assertEqual(call(subscriber, "PING"), [b"pong", b""])
        call(self.a, "CLIENT UNPAUSE")
        self.refused(writer.reply(), "READONLY ")

    def test_end_of_a_hand_over(self: Any) -> None:
        """The end of a hand-over: files have the new roles, every client is disconnected, and nothing is blocked."""
        call(self.a, "CONFIG REWRITE")
        self.replicate()
        call(self.b, "CONFIG REWRITE")
        normal, subscriber = self.client(), self.client("SUBSCRIBE news")
        call(self.a, "CLIENT PAUSE 60000 WRITE")
        writer = self.blocked_client("SET color red")
        self.hand_over()
        replies = self.transact(self.a, *NEW_ROLE, "CLIENT UNPAUSE")
        self.assertEqual((replies[0], replies[3]), (b"OK", b"OK"))
        self.assertEqual([type(reply) for reply in replies[1:3]], [int, int])
        self.assertEqual([ends(each) for each in (normal, subscriber, writer)], [True] * 3)
        self.assertEqual(call(self.client(), "PUBLISH news x"), 0)
        self.assertEqual(self.replicaof(self.first), [self.second.host, str(self.second.port)])
        self.assertEqual(call(self.b, "CONFIG REWRITE"), b"OK")
        self.assertEqual(self.replicaof(self.second), [])
        self.assertIsNone(call(self.b, "GET color"))

    def test_fence(self: Any) -> None:
        """
        While writes are held the offset stays, the replica gets up to it, and its history continues from there.

        The old master then reports the same offset in the transaction that makes it a replica.
        """
        self.replicate()
        call(self.a, "SET color red")
        _, text = self.transact(self.a, "CLIENT PAUSE 60000 WRITE", "INFO replication")
        held = parse_info(text).data_set
        assert held is not None
        writer = self.blocked_client("SET color blue")
        self.eventually(lambda: (self.info(self.b).repl_offset or 0) >= held.offset)
        _, text = self.transact(self.a, "CLIENT PAUSE 60000 WRITE", "INFO replication")
        extended = parse_info(text).data_set
        assert extended is not None
        self.assertEqual((extended.replid, extended.offset), (held.replid, held.offset))
        self.assertEqual(self.transact(self.b, "SLAVEOF NO ONE")[0], b"OK")
        forked = self.info(self.b).data_set
        self.assertEqual((forked.replid2, forked.second_offset - 1), (held.replid, held.offset))
        order = f"SLAVEOF {self.second.host} {self.second.port}"
        text, *replies = self.transact(self.a, "INFO replication", order, *NEW_ROLE, "CLIENT UNPAUSE")
        final = parse_info(text)
        assert final.data_set is not None
        self.assertEqual((final.role, final.data_set.offset), ("master", held.offset))
        self.assertEqual((replies[0], replies[-1]), (b"OK", b"OK"))
        self.assertTrue(ends(writer))
        # The pause is over: a write is answered at once, and so is PUBLISH.
        self.refused(call(self.client(), "SET color green"), "READONLY ")
        self.assertEqual(call(self.client(), "PUBLISH news x"), 0)
        self.eventually(lambda: self.info(self.a).master_link_up)
        continued = self.info(self.a).data_set
        self.assertEqual((continued.replid, continued.replid2), (forked.replid, held.replid))
        self.assertEqual(call(self.b, "GET color"), b"red")

    def test_incomplete_transaction(self: Any) -> None:
        """A transaction with an incomplete command is never executed, whatever else is in it."""
        self.replicate()
        before = self.replication(self.b)
        commands = ("CLIENT", "CLIENT PAUSE 60000 WRITE", "SLAVEOF NO ONE", "CLIENT KILL TYPE normal", "CONFIG REWRITE")
        self.refused(self.transact(self.b, *commands), "EXECABORT ")
        self.assertEqual(call(self.b, "PING"), b"PONG")
        after = self.replication(self.b)
        self.assertEqual(
            [after[name] for name in ("role", "master_replid")], [before[name] for name in ("role", "master_replid")]
        )
        self.refused(self.transact(self.a, "CLIENT", "CLIENT PAUSE 60000 WRITE", "FAILOVER ABORT"), "EXECABORT ")
        self.assertEqual(call(self.client(), "SET color red"), b"OK")

    def hand_over(self: Any) -> None:
        """Run the transaction of a Sentinel, and wait until both have exchanged their roles."""
        target = f"{self.second.host} {self.second.port}"
        replies = self.transact(self.a, "CLIENT PAUSE 60000 WRITE", f"FAILOVER TO {target} TIMEOUT 60000")
        self.assertEqual(replies, [b"OK", b"OK"])
        self.eventually(lambda: (self.info(self.a).role, self.info(self.b).role) == ("slave", "master"))
        self.eventually(lambda: self.info(self.a).master_link_up and self.failover_state() == "no-failover")

    # Transactions with something in them that is refused

    def test_hand_over_to_an_unknown_server(self: Any) -> None:
        """FAILOVER is refused when the transaction runs, and the pause before it stays."""
        self.replicate()
        replies = self.transact(self.a, "CLIENT PAUSE 60000 WRITE", "FAILOVER TO 127.0.0.1 1 TIMEOUT 60000")
        self.assertEqual(replies[0], b"OK")
        self.refused(replies[1], "ERR FAILOVER target HOST and PORT is not a replica.")
        writer = self.blocked_client("SET color red")
        self.refused(call(self.a, "FAILOVER ABORT"), "ERR No failover in progress.")
        self.assertEqual(call(self.a, "CLIENT UNPAUSE"), b"OK")
        self.assertEqual(writer.reply(), b"OK")

    def test_aborted_hand_over(self: Any) -> None:
        """A command that is refused when it is queued aborts the whole transaction: nothing is blocked."""
        self.replicate()
        target = f"{self.second.host} {self.second.port}"
        reply = self.transact(self.a, "CLIENT PAUSE 60000 WRITE", f"UNKNOWN TO {target} TIMEOUT 60000")
        self.refused(reply, "EXECABORT ")
        self.assertEqual(call(self.client(), "SET color red"), b"OK")
        self.assertEqual(self.info(self.a).role, "master")

    def test_aborted_role_change(self: Any) -> None:
        """Likewise: role and file are unchanged, and no client is disconnected."""
        call(self.a, "CONFIG REWRITE")
        before = self.first.configuration()
        normal, subscriber = self.client(), self.client("SUBSCRIBE news")
        order = f"SLAVEOF {self.second.host} {self.second.port}"
        self.refused(self.transact(self.a, order, "UNKNOWN REWRITE", *NEW_ROLE[1:]), "EXECABORT ")
        self.assertEqual(self.info(self.a).role, "master")
        self.assertEqual(self.first.configuration(), before)
        self.assertEqual(call(normal, "PING"), b"PONG")
        self.assertEqual(call(subscriber, "PING"), [b"pong", b""])

    def test_role_change_while_failing_over(self: Any) -> None:
        """
        SLAVEOF is refused, and the rest of the transaction is executed; with FAILOVER ABORT before it all of it is.
        """
        self.start_failover()
        normal = self.client()
        order = f"SLAVEOF {self.second.host} {self.second.port}"
        replies = self.transact(self.a, order, *NEW_ROLE)
        self.refused(replies[0], "ERR REPLICAOF not allowed while failing over.")
        self.assertEqual((replies[1], type(replies[2]), type(replies[3])), (b"OK", int, int))
        self.assertTrue(ends(normal))
        self.assertEqual(self.replicaof(self.first), [])
        replies = self.transact(self.a, "FAILOVER ABORT", order, *NEW_ROLE)
        self.assertEqual(replies[:3], [b"OK"] * 3)
        self.assertEqual((self.info(self.a).role, self.failover_state()), ("slave", "no-failover"))
        self.assertEqual(self.replicaof(self.first), [self.second.host, str(self.second.port)])

    def test_role_change_without_a_file(self: Any) -> None:
        """CONFIG REWRITE is refused by a server that has no file, and the rest of the transaction is executed."""
        server = self.servers.start(file=False)
        connection, normal = self.connect(server), self.connect(server)
        self.addCleanup(lambda: call(server.connect(), "SLAVEOF NO ONE"))
        call(normal, "PING")
        replies = self.transact(connection, f"SLAVEOF {self.first.host} {self.first.port}", *NEW_ROLE)
        self.assertEqual(replies[0], b"OK")
        self.refused(replies[1], "ERR The server is running without a config file")
        self.assertEqual(self.info(connection).role, "slave")
        self.assertTrue(ends(normal))

    # Clients that are killed, and those that are not.

    def test_kill_keeps_replicas(self: Any) -> None:
        """Replicas are in neither class of clients that a Sentinel kills: their connections stay."""
        self.replicate()
        before = self.clients_of_type("replica")
        self.assertEqual(len(before), 1)
        normal, subscriber = self.client(), self.client("SUBSCRIBE news")
        self.transact(self.a, *NEW_ROLE[1:])
        self.assertTrue(ends(normal))
        self.assertTrue(ends(subscriber))
        self.assertEqual(self.clients_of_type("replica"), before)
        call(self.a, "SET color red")
        self.eventually(lambda: call(self.b, "GET color") == b"red")

    def test_kill_keeps_the_master(self: Any) -> None:
        """A replica does not lose its master either."""
        self.replicate()
        self.transact(self.b, *NEW_ROLE[1:])
        self.assertTrue(self.info(self.b).master_link_up)
        call(self.a, "SET color red")
        self.eventually(lambda: call(self.b, "GET color") == b"red")

    def test_kill_replicas(self: Any) -> None:
        """Replicas are a class of their own; they reconnect by themselves."""
        self.replicate()
        before = self.clients_of_type("replica")
        normal = self.client()
        self.assertEqual(call(self.a, "CLIENT KILL TYPE replica"), 1)
        self.eventually(lambda: (after := self.clients_of_type("replica")) and after != before)
        self.assertEqual(call(normal, "PING"), b"PONG")

    def test_kill_both_kinds(self: Any) -> None:
        """A subscriber is no normal client, in either protocol; a client in a transaction is one."""
        subscribers = [
            self.client("SUBSCRIBE news"),
            self.client("HELLO 3", "SUBSCRIBE news"),
            self.client("PSUBSCRIBE n*"),
        ]
        queueing = self.client("MULTI", "SET color red")
        self.assertGreaterEqual(call(self.a, "CLIENT KILL TYPE normal"), 1)
        self.assertTrue(ends(queueing))
        self.assertEqual(call(self.a, "PUBLISH news x"), 3)
        self.assertEqual(call(self.a, "CLIENT KILL TYPE pubsub"), 3)
        self.assertEqual([ends(each) for each in subscribers], [True] * 3)
        self.assertEqual(call(self.a, "PUBLISH news x"), 0)

    def test_unsubscribed_client_is_normal_again(self: Any) -> None:
        """The class is the present one."""
        former = self.client("SUBSCRIBE news", "UNSUBSCRIBE news")
        self.assertEqual(call(self.a, "CLIENT KILL TYPE pubsub"), 0)
        self.assertEqual(call(former, "PING"), b"PONG")
        self.assertGreaterEqual(call(self.a, "CLIENT KILL TYPE normal"), 1)
        self.assertTrue(ends(former))

    def clients_of_type(self: Any, kind: str) -> list[bytes]:
        """Return the IDs of the first server's clients of one class."""
        listed = call(self.a, f"CLIENT LIST TYPE {kind}")
        return [line.split()[0] for line in listed.splitlines()]

    # Files

    def test_role_change_is_written(self: Any) -> None:
        """The file has the role once it was rewritten, and only then."""
        call(self.b, "CONFIG REWRITE")
        call(self.b, f"SLAVEOF {self.first.host} {self.first.port}")
        self.assertEqual(self.replicaof(self.second), [])
        call(self.b, "CONFIG REWRITE")
        self.assertEqual(self.replicaof(self.second), [self.first.host, str(self.first.port)])
        self.transact(self.b, "SLAVEOF NO ONE", *NEW_ROLE)
        self.assertEqual(self.replicaof(self.second), [])

    def test_settings_are_written(self: Any) -> None:
        """Changes by CONFIG SET are in the file after CONFIG REWRITE, and hold after a restart."""
        call(self.b, "CONFIG SET min-replicas-to-write 1")
        self.assertNotIn("-to-write 1", self.second.configuration())
        call(self.b, "CONFIG REWRITE")
        self.assertIn("-to-write 1", self.second.configuration())
        self.second.restart()
        self.refused(call(self.connect(self.second), "SET color red"), "NOREPLICAS ")

    # min-replicas-to-write

    def test_too_few_replicas(self: Any) -> None:
        """Writes are refused, alone and in a transaction, until a replica is connected; nothing else is."""
        call(self.a, "CONFIG SET min-replicas-to-write 1")
        self.refused(call(self.a, "SET color red"), "NOREPLICAS Not enough good replicas to write.")
        self.a.send("MULTI", "SET color red", "EXEC")
        self.assertEqual(self.a.reply(), b"OK")
        self.refused(self.a.reply(), "NOREPLICAS ")
        self.refused(self.a.reply(), "EXECABORT ")
        self.assertIsNone(call(self.a, "GET color"))
        self.assertEqual(call(self.a, "PUBLISH news x"), 0)
        self.assertEqual(self.info(self.a).role, "master")
        self.replicate()
        self.eventually(lambda: call(self.a, "SET color red") == b"OK")

    def test_rejected_writes(self: Any) -> None:
        """
        A value that no server reaches rejects all writes and nothing else, from the transaction on that sets it.

        The offset stays, a replica gets up to it, and the value is restored in the transaction that changes the role.
        """
        self.replicate()
        call(self.a, "SET color red")
        begun = self.client("MULTI", "SET color green")
        reject = "CONFIG SET min-replicas-to-write 999999"
        _, _, text = self.transact(self.a, "CONFIG SET min-replicas-max-lag 10", reject, "INFO replication")
        rejected = parse_info(text).data_set
        assert rejected is not None
        writer = self.client()
        self.refused(call(writer, "SET color blue"), "NOREPLICAS ")
        begun.send("EXEC")
        self.refused(begun.reply(), "EXECABORT ")
        self.assertEqual(call(writer, "GET color"), b"red")
        self.eventually(lambda: (self.info(self.b).repl_offset or 0) >= rejected.offset)
        self.assertEqual(self.transact(self.b, "SLAVEOF NO ONE")[0], b"OK")
        forked = self.info(self.b).data_set
        self.assertEqual((forked.replid2, forked.second_offset - 1), (rejected.replid, rejected.offset))
        order = f"SLAVEOF {self.second.host} {self.second.port}"
        restore = "CONFIG SET min-replicas-to-write 0"
        text, value, *_ = self.transact(
            self.a, "INFO replication", "CONFIG GET min-replicas-to-write", order, restore, *NEW_ROLE
        )
        final = parse_info(text)
        assert final.data_set is not None
        self.assertEqual((final.role, final.data_set.offset), ("master", rejected.offset))
        self.assertEqual(value, [b"min-replicas-to-write", b"999999"])
        self.assertTrue(ends(writer))
        self.assertNotIn("999999", self.first.configuration())
        self.eventually(lambda: self.info(self.a).master_link_up)
        self.assertEqual(self.info(self.a).data_set.replid2, rejected.replid)
        self.assertEqual(call(self.b, "SET color blue"), b"OK")

    def test_lag_of_zero(self: Any) -> None:
        """A ``min-replicas-max-lag`` of 0 turns the setting off."""
        call(self.a, "CONFIG SET min-replicas-to-write 999999")
        call(self.a, "CONFIG SET min-replicas-max-lag 0")
        self.assertEqual(call(self.a, "SET color red"), b"OK")
        call(self.a, "CONFIG SET min-replicas-max-lag 10")
        self.refused(call(self.a, "SET color red"), "NOREPLICAS ")

    def test_silent_replicas_do_not_count(self: Any) -> None:
        """A replica that acknowledged nothing for longer than permitted does not count."""
        call(self.a, "CONFIG SET min-replicas-max-lag 1")
        self.replicate()
        call(self.a, "CONFIG SET min-replicas-to-write 1")
        self.eventually(lambda: call(self.a, "SET color red") == b"OK")
        self.second.freeze()
        self.eventually(lambda: isinstance(call(self.a, "SET color red"), ErrorLine))
        self.second.thaw()
        self.eventually(lambda: call(self.a, "SET color red") == b"OK")
        call(self.a, "CONFIG SET min-replicas-max-lag 10")

    def test_too_few_replicas_after_a_hand_over(self: Any) -> None:
        """The old master becomes a replica of the new one, and counts there."""
        self.replicate()
        call(self.b, "CONFIG SET min-replicas-to-write 1")
        self.hand_over()
        self.eventually(lambda: call(self.b, "SET color red") == b"OK")


class SimulatedOrdersTests(OrdersContract, SynchronousTestCase):
    """The simulated server."""

    make_servers = staticmethod(SimServers)


class RealOrdersContract(OrdersContract):
    """What only real servers have."""

    def test_scripts_while_writes_are_rejected(self: Any) -> None:
        """Since 7.0 writes of scripts are rejected, too."""
        call(self.a, "CONFIG SET min-replicas-to-write 999999")
        write = ("EVAL", "return redis.call('SET', 'color', 'red')", "0")
        if self.one_pause:
            self.assertEqual(call(self.a, write), b"OK")
        else:
            self.assertIn(b"NOREPLICAS", call(self.a, write))
            self.assertIsNone(call(self.a, "GET color"))


class RedisOrdersTests(RealOrdersContract, SynchronousTestCase):
    """The Redis of the distribution."""

    make_servers = staticmethod(lambda: RealServers("redis"))


class Redis62OrdersTests(RealOrdersContract, SynchronousTestCase):
    """An older Redis."""

    one_pause = True
    make_servers = staticmethod(lambda: RealServers("redis-6.2"))


class Redis82OrdersTests(RealOrdersContract, SynchronousTestCase):
    """A current Redis."""

    make_servers = staticmethod(lambda: RealServers("redis-8.2"))


class ValkeyOrdersTests(RealOrdersContract, SynchronousTestCase):
    """A current Valkey."""

    make_servers = staticmethod(lambda: RealServers("valkey"))


class Valkey81OrdersTests(RealOrdersContract, SynchronousTestCase):
    """An older Valkey."""

    make_servers = staticmethod(lambda: RealServers("valkey-8.1"))
