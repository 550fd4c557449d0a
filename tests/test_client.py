"""Tests of ``MasterFollower`` in memory: start, switches, failures and stop."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import txredisapi
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

import txsentinel
from tests.memorynet import MemoryNet, MemoryRedis, MemorySentinel, ServedConnection
from txsentinel.client import FollowerStopped, MasterAddress, MasterFollower, NoMaster, follower
from txsentinel.client.links import KEEPALIVE_INTERVAL, parse_address, parse_epoch, parse_switch

OLD, NEW, THIRD = 7001, 7002, 7003


class FollowerCase(SynchronousTestCase):
    """Three Sentinels that agree on a master at port ``OLD``, and a replica at ``NEW``."""

    def setUp(self) -> None:
        self.net = MemoryNet()
        self.old = MemoryRedis(self.net, OLD)
        self.new = MemoryRedis(self.net, NEW, "slave")
        self.sentinels = [MemorySentinel(self.net, port, mymaster=(OLD, 1)) for port in (5001, 5002, 5003)]

        self.followers: list[MasterFollower] = []
        self.addCleanup(self.assert_nothing_left)

    def follower(self, **options: Any) -> MasterFollower:
        sentinels = [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]
        self.followers.append(MasterFollower(self.net, sentinels, "mymaster", **options))
        return self.followers[-1]

    def assert_nothing_left(self) -> None:
        """Assert that stop leaves neither connections nor timers."""
        for made in self.followers:
            # Only start() returns this Deferred, which fails if the follower is stopped first.
            made._started.addErrback(lambda failure: failure.trap(FollowerStopped) and None)
            made.stop()
        self.net.run(3)
        for made in self.followers:
            self.successResultOf(made.stop())
        self.assertEqual(self.net.open, [])
        self.assertEqual(self.net.pending(), [])

    def started(self, **options: Any) -> MasterFollower:
        made = self.follower(**options)
        starting = made.start()
        self.net.run_due()
        self.assertIs(self.successResultOf(starting), made)
        return made

    def result_of(self, waiting: Deferred[Any]) -> Any:
        self.net.run_due()
        return self.successResultOf(waiting)

    def fail_over(self, epoch: int = 2) -> None:
        """Promote the replica, demote the master, and let all Sentinels announce it."""
        self.new.role, self.old.role = "master", "slave"
        for sentinel in self.sentinels:
            sentinel.switch("mymaster", NEW, epoch)
        self.net.run_due()


class StartingTests(FollowerCase):
    """From the start to a verified master."""

    def test_start_leads_to_the_master(self) -> None:
        """The follower is ready once the server that the Sentinels name has reported to be a master."""
        made = self.started()
        self.assertEqual(made.address, MasterAddress("127.0.0.1", OLD))
        self.assertEqual(self.old.received, [[b"ROLE"]])
        self.assertEqual(self.result_of(made.execute("set", "key", "value")), "OK")
        self.assertEqual(self.old.keys, {b"key": b"value"})

    def test_one_sentinel_that_answers_is_enough(self) -> None:
        """Sentinels that refuse, hang or do not know the name do not delay the follower."""
        self.sentinels[0].crash()
        self.sentinels[1].masters.clear()
        self.net.black_holes.add(5009)
        self.sentinels.append(MemorySentinel(self.net, 5009))
        self.assertEqual(self.started().address, ("127.0.0.1", OLD))

    def test_start_repeats_until_a_sentinel_answers(self) -> None:
        """Without a Sentinel the follower repeats its query, with growing delays of a second at most."""
        for sentinel in self.sentinels:
            sentinel.crash()
        made = self.follower()
        starting = made.start()
        self.net.run(20)
        self.assertNoResult(starting)
        self.assertIn("refused", made.last_error)
        asked = len(self.net.attempts)
        self.net.run(10)
        self.assertTrue(30 <= len(self.net.attempts) - asked <= 40, self.net.attempts[asked:])
        self.sentinels[2].start()
        self.net.run(1.1)
        self.successResultOf(starting)

    def test_start_waits_for_the_server(self) -> None:
        """A master that is named but not up yet is tried until it is."""
        self.old.crash()
        starting = self.follower().start()
        self.net.run(5)
        self.assertNoResult(starting)
        self.old.start()
        self.net.run(1.1)
        self.successResultOf(starting)

    def test_a_follower_starts_once(self) -> None:
        """Starting twice, or after a stop, is an error of the caller."""
        made = self.started()
        self.assertRaises(RuntimeError, made.start)
        unused = self.follower()
        self.successResultOf(unused.stop())
        self.assertRaises(RuntimeError, unused.start)

    def test_invalid_arguments_are_refused(self) -> None:
        """Without Sentinels, or without connections, the constructor raises."""
        self.assertRaises(ValueError, MasterFollower, self.net, [], "mymaster")
        self.assertRaises(ValueError, MasterFollower, self.net, [("127.0.0.1", 1)], "mymaster", pool_size=0)

    def test_importing_installs_no_reactor(self) -> None:
        """Neither the default reactor nor txredisapi, which would import it, is loaded before a follower starts."""
        program = (
            "import sys, txsentinel.client; "
            "sys.exit(bool({'twisted.internet.reactor', 'txredisapi'} & set(sys.modules)))"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(txsentinel.__file__).parent.parent)}
        ended = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
        self.assertEqual(ended.returncode, 0)


class SwitchingTests(FollowerCase):
    """Switches of the master."""

    def test_an_announcement_moves_at_once(self) -> None:
        """No time passes between ``+switch-master`` and the first command on the new master."""
        made = self.started()
        before = self.net.seconds()
        self.fail_over()
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.assertEqual(self.result_of(made.execute("SET", "key", "value")), "OK")
        self.assertEqual(self.new.keys, {b"key": b"value"})
        self.assertEqual(self.old.connections, [])
        self.assertEqual(self.net.seconds(), before)

    def test_any_one_sentinel_may_announce(self) -> None:
        """The follower is subscribed to all Sentinels, and moves upon the event of any one."""
        made = self.started()
        self.new.role = "master"
        self.sentinels[2].switch("mymaster", NEW, 2)
        self.net.run_due()
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_announcements_of_other_masters_are_ignored(self) -> None:
        """A switch of another name changes nothing, nor does an invalid payload."""
        made = self.started()
        for payload in (f"other 127.0.0.1 {OLD} 127.0.0.1 {NEW}", "mymaster invalid", "mymaster a 1 b 0"):
            self.sentinels[0].announce(payload)
        self.net.run_due()
        self.assertEqual(made.address, ("127.0.0.1", OLD))
        self.assertEqual(self.new.received, [])

    def test_commands_wait_during_the_switch(self) -> None:
        """Between the event and the verification no command is sent to the old master."""
        made = self.started()
        self.new.hung = True
        self.fail_over()
        self.assertIsNone(made.address)
        self.assertIsNone(made.connection)
        setting = made.execute("SET", "key", "value")
        self.net.run_due()
        self.assertNoResult(setting)
        self.new.hung = False
        self.net.run(5)
        self.assertEqual(self.successResultOf(setting), "OK")
        self.assertEqual((self.old.keys, self.new.keys), ({}, {b"key": b"value"}))

    def test_waiting_has_a_timeout(self) -> None:
        """A command that finds no master within ``timeout`` seconds fails with an exception of its own."""
        made = self.started(timeout=3)
        self.old.crash()
        self.net.run_due()
        setting = made.execute("SET", "key", "value")
        self.net.run(2.9)
        self.assertNoResult(setting)
        self.net.run(0.2)
        problem = self.failureResultOf(setting, NoMaster)
        self.assertIn("mymaster within 3 seconds", str(problem.value))
        self.assertIn("refused", str(problem.value))

    def test_too_many_waiting_commands_fail_at_once(self) -> None:
        """The queue is bounded: a command that does not fit fails at once."""
        self.patch(follower, "MAX_WAITING", 1)
        made = self.started(timeout=1)
        self.old.crash()
        self.net.run_due()
        first, second = made.execute("PING"), made.execute("PING")
        self.failureResultOf(second, NoMaster)
        self.net.run(1)
        self.failureResultOf(first, NoMaster)

    def test_a_cancelled_command_is_not_sent_later(self) -> None:
        """A cancelled command is removed from the queue."""
        made = self.started()
        self.old.crash()
        self.net.run_due()
        setting = made.execute("SET", "key", "value")
        setting.cancel()
        self.failureResultOf(setting)
        self.old.start()
        self.net.run(2)
        self.assertEqual(self.old.keys, {})

    def test_sent_commands_are_never_replayed(self) -> None:
        """A command in flight when the connection breaks fails, and is sent to no other server."""
        made = self.started()
        self.old.hung = True
        setting = made.execute("SET", "key", "value")
        self.net.run_due()
        self.old.crash()
        self.fail_over()
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.failureResultOf(setting, txredisapi.ConnectionError)
        self.assertEqual(self.new.words("SET"), [])

    def test_an_announced_replica_is_checked_again(self) -> None:
        """While the announced server still reports to be a replica, the Sentinels are queried again after a delay."""
        made = self.started()
        for sentinel in self.sentinels:
            sentinel.switch("mymaster", NEW, 2)
        self.net.run_due()
        self.assertIsNone(made.address)
        self.assertIn("slave", made.last_error)
        self.new.role = "master"
        self.net.run(0.2)
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_a_lost_connection_causes_a_query_at_once(self) -> None:
        """
        When the master closes the connection, the Sentinels are queried in the same turn, so a missed switch is found.
        """
        made = self.started()
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.new.role = "master"
        self.old.crash()
        self.net.run_due()
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_a_restarted_master_is_used_again(self) -> None:
        """If only the connection was lost the follower returns to the same master."""
        made = self.started()
        self.net.run(2)
        self.old.crash()
        self.old.start()
        self.net.run_due()
        self.assertEqual(made.address, ("127.0.0.1", OLD))

    def test_a_readonly_reply_causes_a_query_at_once(self) -> None:
        """A ``READONLY`` reply causes a query of the Sentinels; the caller still gets the error."""
        made = self.started()
        self.net.run(2)
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.new.role, self.old.role = "master", "slave"
        problem = self.failureResultOf(self.has_fired(made.execute("SET", "key", "value")), txredisapi.ResponseError)
        self.assertIn("READONLY", str(problem.value))
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_a_false_alarm_keeps_the_connections(self) -> None:
        """If the server proves to be a master after all, its connections and commands are kept."""
        made = self.started()
        self.net.run(2)
        handler = made.connection
        self.old.role = "slave"
        self.failureResultOf(self.has_fired(made.execute("SET", "key", "value")), txredisapi.ResponseError)
        self.assertIsNone(made.address)
        self.old.role = "master"
        self.net.run(0.5)
        self.assertIs(made.connection, handler)
        self.assertEqual(len(self.old.connections), 1)

    def test_a_master_lost_during_verification_is_dropped(self) -> None:
        """If it closes the connection during the verification, the search starts again."""
        made = self.started(pool_size=2)
        self.net.run(2)
        self.old.role = "slave"
        self.failureResultOf(self.has_fired(made.execute("SET", "key", "value")), txredisapi.ResponseError)
        self.old.hung = True
        self.net.run(0.5)
        self.old.crash()
        self.net.run(1)
        self.assertIsNone(made.address)
        self.fail_over()
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.assertEqual(self.result_of(made.execute("SET", "key", "value")), "OK")

    def test_newer_epoch_ends_an_attempt_at_an_old_address(self) -> None:
        """An attempt to connect to the old address does not delay a reply with a newer epoch."""
        self.net.black_holes.add(OLD)
        made = self.follower(connect_timeout=5)
        starting = made.start()
        self.net.run(1)
        self.assertNoResult(starting)
        self.new.role = "master"
        self.sentinels[0].crash()
        self.sentinels[0].masters["mymaster"] = (NEW, 2)
        self.sentinels[0].start()
        self.net.run(1)
        self.assertIs(self.successResultOf(starting), made)
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_repeated_losses_are_delayed(self) -> None:
        """Repeated losses are followed by growing delays."""
        self.started()
        self.net.attempts.clear()
        for _ in range(60):
            for connection in list(self.old.connections):
                connection.transport.abortConnection()  # type: ignore[union-attr]
            self.net.run(0.05)
        self.assertLess(self.net.attempts.count(OLD), 15)

    def test_listeners_get_each_master(self) -> None:
        """They get every address once, the first one included; an exception of one does not affect the others."""
        received: list[MasterAddress] = []
        made = self.follower()
        made.add_listener(lambda address: 1 / 0)
        made.add_listener(received.append)
        made.start()
        self.net.run_due()
        self.fail_over()
        self.assertEqual([port for _, port in received], [OLD, NEW])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        made.remove_listener(received.append)
        self.assertRaises(ValueError, made.remove_listener, received.append)

    def has_fired(self, waiting: Deferred[Any]) -> Deferred[Any]:
        self.net.run_due()
        return waiting


class StaleSentinelTests(FollowerCase):
    """Sentinels that are late, isolated, or reset."""

    def test_an_older_epoch_is_not_followed(self) -> None:
        """A returning Sentinel with an older epoch is not followed, whatever its server reports."""
        made = self.started()
        cut_off = self.sentinels[0]
        cut_off.crash()
        self.sentinels[1].switch("mymaster", NEW, 2)
        self.sentinels[2].switch("mymaster", NEW, 2)
        self.new.role = "master"
        self.net.run(2)
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        cut_off.start()
        self.net.run(30)
        self.assertGreater(len(cut_off.subscribers), 1)
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.assertEqual(self.old.connections, [])

    def test_a_newer_epoch_is_followed_without_announcement(self) -> None:
        """A returning Sentinel with a newer epoch is followed as soon as it is subscribed to."""
        for sentinel in self.sentinels[1:]:
            sentinel.crash()
        made = self.started()
        self.new.role = "master"
        self.sentinels[1].masters["mymaster"] = (NEW, 2)
        self.sentinels[1].start()
        self.net.run(11)
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_the_start_ends_at_the_newest_epoch(self) -> None:
        """If the first Sentinel to answer is stale, and so is its master, the newer epoch of the others wins."""
        self.new.role = "master"
        for sentinel in self.sentinels[1:]:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.assertEqual(self.started().address, ("127.0.0.1", NEW))

    def test_a_late_announcement_of_a_former_master_is_ignored(self) -> None:
        """The event of an earlier switch that arrives after two switches is ignored because of its epoch."""
        third = MemoryRedis(self.net, THIRD)
        made = self.started()
        self.new.role = "master"
        for sentinel in self.sentinels[:2]:
            sentinel.switch("mymaster", NEW, 2)
        self.net.run_due()
        for sentinel in self.sentinels[:2]:
            sentinel.switch("mymaster", THIRD, 3)
        self.net.run_due()
        self.assertEqual(made.address, ("127.0.0.1", THIRD))
        self.sentinels[2].switch("mymaster", NEW, 2)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", THIRD))
        self.assertEqual(len(third.connections), 1)

    def test_a_late_announcement_of_a_skipped_master_is_reverted(self) -> None:
        """A skipped address in a late event is tried, but its epoch is older, and the follower returns."""
        MemoryRedis(self.net, THIRD)
        self.new.role = "master"
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (THIRD, 3)
        made = self.started()
        self.sentinels[0].switch("mymaster", NEW, 2)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", THIRD))

    def test_a_failback_is_followed(self) -> None:
        """A former master may become the master again: it has the newest epoch then."""
        made = self.started()
        self.fail_over()
        self.net.run(2)
        self.old.role, self.new.role = "master", "slave"
        for sentinel in self.sentinels:
            sentinel.switch("mymaster", OLD, 3)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", OLD))

    def test_epochs_may_start_over(self) -> None:
        """When all Sentinels have lower epochs, as after a new SENTINEL MONITOR, the follower adopts them."""
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (OLD, 9)
        made = self.started()
        self.new.role = "master"
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (NEW, 0)
        self.old.crash()
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.net.run(2)
        self.old.start()
        for sentinel in self.sentinels:
            sentinel.switch("mymaster", OLD, 1)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", OLD))

    def test_without_epochs_announcements_still_count(self) -> None:
        """If SENTINEL MASTER is not permitted the follower moves upon events, and not back upon replies."""
        for sentinel in self.sentinels:
            sentinel.reports_epochs = False
        made = self.started()
        self.new.role = "master"
        self.sentinels[0].switch("mymaster", NEW, 2)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_without_epochs_a_new_address_is_verified_first(self) -> None:
        """
        A different address in a reply is verified while the present master is used, and followed if it is a master.
        """
        for sentinel in self.sentinels:
            sentinel.reports_epochs = False
        self.sentinels[0].crash()
        made = self.started()
        self.sentinels[0].masters["mymaster"] = (NEW, 2)
        self.sentinels[0].start()
        self.net.run(10)
        self.assertEqual(made.address, ("127.0.0.1", OLD))
        self.new.role = "master"
        self.sentinels[0].crash()
        self.sentinels[0].start()
        self.net.run(10)
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_a_hanging_sentinel_does_not_delay_others(self) -> None:
        """A Sentinel that does not answer does not delay the queries of others."""
        self.sentinels[0].hung = True
        made = self.started()
        self.net.run(2)
        self.old.crash()
        self.net.run(0.1)
        for sentinel in self.sentinels[1:]:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.new.role = "master"
        self.net.run(0.5)
        self.assertEqual(made.address, ("127.0.0.1", NEW))


class SentinelLinkTests(FollowerCase):
    """The subscriptions."""

    def test_handshake_is_one_write(self) -> None:
        """Query and subscription are sent in one write, so that no switch can be missed between them."""
        arrived: list[bytes] = []
        original = ServedConnection.dataReceived

        def recording(connection: ServedConnection, data: bytes) -> None:
            arrived.append(data)
            original(connection, data)

        self.patch(ServedConnection, "dataReceived", recording)
        self.started(sentinel_password="secret")
        handshakes = [chunk for chunk in arrived if b"SUBSCRIBE" in chunk]
        self.assertEqual(len(handshakes), 3)
        for words in (b"AUTH", b"GET-MASTER-ADDR-BY-NAME", b"MASTER"):
            self.assertIn(words, handshakes[0])

    def test_a_silent_subscription_is_reconnected(self) -> None:
        """A Sentinel that stops answering PING is reconnected, and queried when it answers."""
        self.started()
        first = self.sentinels[0].subscribers[0]
        self.sentinels[0].hung = True
        self.net.run(2 * KEEPALIVE_INTERVAL + 1)
        self.assertNotIn(first, self.sentinels[0].connections)
        self.sentinels[0].hung = False
        self.net.run(3 * KEEPALIVE_INTERVAL)
        self.assertEqual(len(self.sentinels[0].subscribers), 2)

    def test_a_live_subscription_stays(self) -> None:
        """Answered PINGs keep the subscription."""
        self.started()
        self.net.run(10 * KEEPALIVE_INTERVAL + 1)
        self.assertEqual([len(sentinel.subscribers) for sentinel in self.sentinels], [1, 1, 1])
        self.assertEqual(len(self.sentinels[0].words("PING")), 10)

    def test_a_refused_subscription_becomes_a_poll(self) -> None:
        """A Sentinel that refuses the subscription is polled instead."""
        for sentinel in self.sentinels:
            sentinel.permits_subscription = False
        made = self.started()
        self.new.role = "master"
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.net.run(11)
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.assertIn("refuses the subscription", made.last_error)

    def test_invalid_data_closes_only_that_connection(self) -> None:
        """A Sentinel that sends invalid or unsolicited data is disconnected; the others are used."""
        made = self.started()
        for chunk in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n"):
            self.net.run(11)
            connection = self.sentinels[0].subscribers[-1]
            connection.transport.write(chunk)  # type: ignore[union-attr]
            self.net.run_due()
            self.assertNotIn(connection, self.sentinels[0].connections)
        self.assertEqual(made.address, ("127.0.0.1", OLD))

    def test_validation_of_replies(self) -> None:
        """Only valid addresses, numeric epochs and the own master's name are accepted."""
        self.assertEqual(parse_address([b"::1", b"6379"]), MasterAddress("::1", 6379))
        self.assertEqual(str(MasterAddress("::1", 6379)), "[::1]:6379")
        for unusable in (None, [], [b"", b"6379"], [b"h", b"0"], [b"h", b"65536"], [b"h", b"x"], [b"h", 1], b"h"):
            self.assertIsNone(parse_address(unusable), unusable)
        self.assertEqual(parse_epoch([b"name", b"m", b"config-epoch", b"12"]), 12)
        for unknown in (None, b"x", [b"name"], [b"config-epoch", b"x"], [[b"config-epoch"], b"1"]):
            self.assertIsNone(parse_epoch(unknown), unknown)
        self.assertEqual(parse_switch("two words", b"two words a 1 b 2"), MasterAddress("b", 2))
        self.assertIsNone(parse_switch("mymaster", None))


class AccessTests(FollowerCase):
    """Passwords, users, databases, TLS."""

    def test_passwords_of_both_kinds(self) -> None:
        """Sentinels and data nodes have users and passwords of their own, on every connection."""
        for sentinel in self.sentinels:
            sentinel.username, sentinel.password = "monitor", "s-secret"
        self.old.username, self.old.password = "app", "d-secret"
        made = self.started(
            username="app", password="d-secret", sentinel_username="monitor", sentinel_password="s-secret", pool_size=2
        )
        self.assertEqual(self.result_of(made.execute("SET", "key", "value")), "OK")
        self.assertEqual(self.old.words("AUTH"), [[b"AUTH", b"app", b"d-secret"]] * 2)

    def test_an_unneeded_sentinel_password(self) -> None:
        """A Sentinel without a password refuses AUTH and is used nevertheless."""
        self.started(sentinel_password="secret")

    def test_wrong_passwords_are_reported(self) -> None:
        """The error of commands has the reason why no server can be used."""
        self.old.password = "right"
        made = self.follower(password="wrong", timeout=1)
        made.start()
        setting = made.execute("SET", "key", "value")
        self.net.run(1.1)
        self.assertIn("WRONGPASS", str(self.failureResultOf(setting, NoMaster).value))
        for sentinel in self.sentinels:
            sentinel.password = "secret"
        made = self.follower(timeout=1)
        made.start()
        setting = made.execute("SET", "key", "value")
        self.net.run(1.1)
        self.assertIn("NOAUTH", str(self.failureResultOf(setting, NoMaster).value))

    def test_every_connection_selects_the_database(self) -> None:
        """``dbid`` applies to all connections of the pool."""
        self.started(dbid=7, pool_size=3)
        self.assertEqual([connection.database for connection in self.old.connections], [7, 7, 7])

    def test_tls(self) -> None:
        """With ``tls`` and ``sentinel_tls`` all connections use the connection creators, which get the host."""
        key = ssl.KeyPair.generate()
        certificate = key.selfSignedCert(1, CN="127.0.0.1")
        hosts: list[str] = []
        for server in (self.old, *self.sentinels):
            plain = Factory.forProtocol(partial(ServedConnection, server))
            wrapped = TLSMemoryBIOFactory(certificate.options(), False, plain, clock=self.net)
            self.net.listeners[server.port] = wrapped.buildProtocol

        def creator(host: str) -> ssl.CertificateOptions:
            hosts.append(host)
            return ssl.CertificateOptions()

        made = self.started(tls=creator, sentinel_tls=creator)
        self.assertEqual(self.result_of(made.execute("SET", "key", "value")), "OK")
        self.assertEqual(set(hosts), {"127.0.0.1"})


class PoolTests(FollowerCase):
    """The connections to one master."""

    def test_the_pool_is_filled(self) -> None:
        """``pool_size`` connections, each of them verified, share the commands."""
        made = self.started(pool_size=4)
        self.assertEqual(len(self.old.connections), 4)
        self.assertEqual(len(self.old.words("ROLE")), 4)
        self.assertIn("4 connection(s)", repr(made.connection))

    def test_single_losses_are_replaced(self) -> None:
        """While one connection is up the pool is used, and is complete again a second later."""
        made = self.started(pool_size=2)
        asked = len(self.sentinels[0].words("SENTINEL"))
        self.old.connections[0].transport.abortConnection()  # type: ignore[union-attr]
        self.net.run_due()
        self.assertEqual(made.address, ("127.0.0.1", OLD))
        self.assertGreater(len(self.sentinels[0].words("SENTINEL")), asked)
        self.assertEqual(self.result_of(made.execute("SET", "key", "value")), "OK")
        self.net.run(1.1)
        self.assertEqual(len(self.old.connections), 2)

    def test_a_replacement_that_finds_a_replica(self) -> None:
        """A server that was demoted in place is detected when a connection is made again."""
        made = self.started(pool_size=2)
        self.net.run(2)
        self.old.role = "slave"
        self.old.connections[0].transport.abortConnection()  # type: ignore[union-attr]
        self.net.run(1.1)
        self.assertIsNone(made.address)

    def test_a_server_that_accepts_and_hangs(self) -> None:
        """A stopped process keeps its port open; the verification has a timeout."""
        self.old.hung = True
        made = self.follower(connect_timeout=1)
        starting = made.start()
        self.net.run(1.5)
        self.assertNoResult(starting)
        self.assertNotEqual(made.last_error, "")
        self.old.hung = False
        self.net.run(2.5)
        self.successResultOf(starting)

    def test_a_lost_host(self) -> None:
        """A lost host does not answer at all; an event ends the wait for it at once."""
        made = self.started()
        self.net.black_holes.add(OLD)
        self.old.crash()
        self.net.run_due()
        self.assertIsNone(made.address)
        self.fail_over()
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_commands_are_those_of_txredisapi(self) -> None:
        """Methods by name, blocking ones too, which release their connection; unknown names fail."""
        made = self.started()
        self.assertEqual(self.result_of(made.commands.set("key", 5)), "OK")
        self.assertEqual(self.result_of(made.commands.get("key")), 5)
        for _ in range(2):
            self.assertEqual(self.result_of(made.commands.blpop(["list"], 1)), ["list", "item"])
        self.failureResultOf(made.commands.no_such_command(), AttributeError)
        self.assertFalse(hasattr(made.commands, "_private"))

    def test_replies_as_bytes(self) -> None:
        """Without a charset, and without conversion of numbers, replies are unchanged bytes."""
        made = self.started(charset=None, convert_numbers=False)
        self.result_of(made.execute("SET", "key", b"17"))
        self.assertEqual(self.result_of(made.execute("GET", "key")), b"17")

    def test_queued_commands_fail_with_the_pool(self) -> None:
        """Commands queued behind a blocking one fail when the master is lost."""
        made = self.started()
        self.old.hung = True
        popping = made.commands.blpop(["list"])
        second = made.commands.blpop(["list"])
        peeking = made.commands.get("key")
        self.net.run_due()
        self.old.crash()
        self.net.run_due()
        for waiting in (popping, second, peeking):
            self.failureResultOf(waiting, txredisapi.ConnectionError)

    def test_an_old_handler_fails_at_once(self) -> None:
        """The handler of a lost master raises an error."""
        made = self.started()
        handler = made.connection
        self.fail_over()
        self.failureResultOf(handler.get("key"), txredisapi.ConnectionError)

    def test_a_late_reply_drops_the_connection(self) -> None:
        """``reply_timeout`` runs on the follower's reactor and causes a new connection."""
        made = self.started(reply_timeout=0.5)
        self.net.run(2)
        self.old.hung = True
        setting = made.execute("SET", "key", "value")
        self.net.run(0.6)
        self.failureResultOf(setting, txredisapi.TimeoutError)
        self.old.hung = False
        self.net.run(4)
        self.assertEqual(self.result_of(made.execute("SET", "key", "value")), "OK")

    def test_quitting_and_disconnecting_lead_to_new_connections(self) -> None:
        """``handler.disconnect()`` closes the present connections only; the follower stays with the master."""
        made = self.started(pool_size=2)
        self.net.run(2)
        gone = made.connection.disconnect()
        self.net.run(1.5)
        self.successResultOf(gone)
        self.assertEqual(len(self.old.connections), 2)
        self.assertEqual(made.address, ("127.0.0.1", OLD))


class StoppingTests(FollowerCase):
    """Stopping; each test of this module checks that nothing is left behind."""

    def test_stop_fails_what_waits(self) -> None:
        """Waiting commands and an unfinished start fail, and so do later commands."""
        self.old.crash()
        made = self.follower()
        starting = made.start()
        setting = made.execute("SET", "key", "value")
        self.net.run_due()
        made.stop()
        self.failureResultOf(starting, FollowerStopped)
        self.failureResultOf(setting, FollowerStopped)
        self.failureResultOf(made.execute("SET", "key", "value"), FollowerStopped)

    def test_commands_need_a_start(self) -> None:
        """Before ``start`` commands fail."""
        made = self.follower()
        self.failureResultOf(made.execute("PING"), FollowerStopped)
        self.assertIsNone(made.address)
        self.assertIsNone(made.connection)
        self.assertEqual(made.last_error, "")

    def test_stop_while_connecting(self) -> None:
        """Attempts to connect to hosts that never answer are cancelled."""
        self.net.black_holes |= {5001, 5002, 5003}
        made = self.follower()
        made.start()
        self.successResultOf(made.stop())

    def test_stop_during_a_query(self) -> None:
        """Sentinels and servers that hang do not delay ``stop``."""
        self.sentinels[0].hung = self.old.hung = True
        made = self.follower()
        made.start()
        self.net.run_due()
        stopped = made.stop()
        self.net.run_due()
        self.successResultOf(stopped)

    def test_stop_fires_when_it_is_done(self) -> None:
        """Each call fires once the last connection is closed."""
        made = self.started()
        first, second = made.stop(), made.stop()
        self.assertNoResult(first)
        self.net.run_due()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.net.open, [])

    def test_sent_commands_are_delivered_before_the_end(self) -> None:
        """A command sent right before ``stop`` reaches the server, though its reply may be lost."""
        made = self.started()
        setting = made.execute("SET", "key", "value")
        setting.addErrback(lambda failure: failure.trap(txredisapi.ConnectionError))
        made.stop()
        self.net.run_due()
        self.assertEqual(self.old.keys, {b"key": b"value"})

    def test_a_listener_may_stop_the_follower(self) -> None:
        """A listener may stop the follower during a switch."""
        made = self.started()
        made.add_listener(lambda address: made.stop())
        waiting = made.ready()
        self.successResultOf(waiting)
        self.fail_over()
        self.assertIsNone(made.address)
