"""An application that follows its master through everything that may happen to it, in memory."""

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
        self.addCleanup(self.leave_nothing)

    def follower(self, **options: Any) -> MasterFollower:
        sentinels = [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]
        self.followers.append(MasterFollower(self.net, sentinels, "mymaster", **options))
        return self.followers[-1]

    def leave_nothing(self) -> None:
        """Whatever happened, stop leaves neither connections nor timers."""
        for made in self.followers:
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
        self.net.settle()
        self.assertIs(self.successResultOf(starting), made)
        return made

    def result(self, waiting: Deferred[Any]) -> Any:
        self.net.settle()
        return self.successResultOf(waiting)

    def fail_over(self, epoch: int = 2) -> None:
        """Promote the replica, demote the master, and have all Sentinels know and say so."""
        self.new.role, self.old.role = "master", "slave"
        for sentinel in self.sentinels:
            sentinel.switch("mymaster", NEW, epoch)
        self.net.settle()


class StartingTests(FollowerCase):
    """From nothing to a proven master."""

    def test_start_leads_to_the_master(self) -> None:
        """The follower is ready once the server that the Sentinels name has said that it is a master."""
        made = self.started()
        self.assertEqual(made.address, MasterAddress("127.0.0.1", OLD))
        self.assertEqual(self.old.heard, [[b"ROLE"]])
        self.assertEqual(self.result(made.execute("set", "key", "value")), "OK")
        self.assertEqual(self.old.keys, {b"key": b"value"})

    def test_one_sentinel_that_answers_is_enough(self) -> None:
        """Sentinels that refuse, hang or know nothing of the name do not keep the follower waiting."""
        self.sentinels[0].crash()
        self.sentinels[1].masters.clear()
        self.net.black_holes.add(5009)
        self.sentinels.append(MemorySentinel(self.net, 5009))
        self.assertEqual(self.started().address, ("127.0.0.1", OLD))

    def test_start_goes_on_until_a_sentinel_answers(self) -> None:
        """With no Sentinel there the follower asks again, ever more slowly but at least once a second."""
        for sentinel in self.sentinels:
            sentinel.crash()
        made = self.follower()
        starting = made.start()
        self.net.run(20)
        self.assertNoResult(starting)
        self.assertIn("refused", made.last_error)
        asked = len(self.net.dialled)
        self.net.run(10)
        self.assertTrue(30 <= len(self.net.dialled) - asked <= 40, self.net.dialled[asked:])
        self.sentinels[2].start()
        self.net.run(1.1)
        self.successResultOf(starting)

    def test_start_waits_for_the_server(self) -> None:
        """A master that is named but not there yet is tried until it is."""
        self.old.crash()
        starting = self.follower().start()
        self.net.run(5)
        self.assertNoResult(starting)
        self.old.start()
        self.net.run(1.1)
        self.successResultOf(starting)

    def test_a_follower_starts_once(self) -> None:
        """Starting twice, or after a stop, is a mistake of the caller."""
        made = self.started()
        self.assertRaises(RuntimeError, made.start)
        unused = self.follower()
        self.successResultOf(unused.stop())
        self.assertRaises(RuntimeError, unused.start)

    def test_senseless_arguments_are_refused(self) -> None:
        """No Sentinels, or no connections, cannot work."""
        self.assertRaises(ValueError, MasterFollower, self.net, [], "mymaster")
        self.assertRaises(ValueError, MasterFollower, self.net, [("127.0.0.1", 1)], "mymaster", pool_size=0)

    def test_importing_installs_no_reactor(self) -> None:
        """Neither the default reactor nor txredisapi, which would bring it, is loaded before a follower starts."""
        program = (
            "import sys, txsentinel.client; "
            "sys.exit(bool({'twisted.internet.reactor', 'txredisapi'} & set(sys.modules)))"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(txsentinel.__file__).parent.parent)}
        ended = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
        self.assertEqual(ended.returncode, 0)


class SwitchingTests(FollowerCase):
    """The master changes."""

    def test_an_announcement_moves_at_once(self) -> None:
        """No time passes between ``+switch-master`` and the first command on the new master."""
        made = self.started()
        before = self.net.seconds()
        self.fail_over()
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.assertEqual(self.result(made.execute("SET", "key", "value")), "OK")
        self.assertEqual(self.new.keys, {b"key": b"value"})
        self.assertEqual(self.old.connections, [])
        self.assertEqual(self.net.seconds(), before)

    def test_any_one_sentinel_may_announce(self) -> None:
        """The follower is subscribed everywhere: the last Sentinel's word counts as much as the first one's."""
        made = self.started()
        self.new.role = "master"
        self.sentinels[2].switch("mymaster", NEW, 2)
        self.net.settle()
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_announcements_of_other_masters_are_not_ours(self) -> None:
        """A switch of another name changes nothing, nor does an unintelligible one."""
        made = self.started()
        for payload in (f"other 127.0.0.1 {OLD} 127.0.0.1 {NEW}", "mymaster nonsense", "mymaster a 1 b 0"):
            self.sentinels[0].announce(payload)
        self.net.settle()
        self.assertEqual(made.address, ("127.0.0.1", OLD))
        self.assertEqual(self.new.heard, [])

    def test_commands_wait_during_the_switch(self) -> None:
        """Between the announcement and the proof nothing is sent to the old master any more."""
        made = self.started()
        self.new.mute = True
        self.fail_over()
        self.assertIsNone(made.address)
        self.assertIsNone(made.connection)
        setting = made.execute("SET", "key", "value")
        self.net.settle()
        self.assertNoResult(setting)
        self.new.mute = False
        self.net.run(5)
        self.assertEqual(self.successResultOf(setting), "OK")
        self.assertEqual((self.old.keys, self.new.keys), ({}, {b"key": b"value"}))

    def test_waiting_has_an_end(self) -> None:
        """A command that finds no master in ``timeout`` seconds fails with a class and a text of its own."""
        made = self.started(timeout=3)
        self.old.crash()
        self.net.settle()
        setting = made.execute("SET", "key", "value")
        self.net.run(2.9)
        self.assertNoResult(setting)
        self.net.run(0.2)
        problem = self.failureResultOf(setting, NoMaster)
        self.assertIn("mymaster within 3 seconds", str(problem.value))
        self.assertIn("refused", str(problem.value))

    def test_too_many_waiting_commands_fail_at_once(self) -> None:
        """The queue is bounded: what does not fit is told so immediately."""
        self.patch(follower, "MAX_WAITING", 1)
        made = self.started(timeout=1)
        self.old.crash()
        self.net.settle()
        first, second = made.execute("PING"), made.execute("PING")
        self.failureResultOf(second, NoMaster)
        self.net.run(1)
        self.failureResultOf(first, NoMaster)

    def test_a_cancelled_command_is_not_sent_later(self) -> None:
        """Who gives up waiting takes the command out of the queue."""
        made = self.started()
        self.old.crash()
        self.net.settle()
        setting = made.execute("SET", "key", "value")
        setting.cancel()
        self.failureResultOf(setting)
        self.old.start()
        self.net.run(2)
        self.assertEqual(self.old.keys, {})

    def test_sent_commands_are_never_replayed(self) -> None:
        """What was on its way when the connection broke fails, and reaches no other server."""
        made = self.started()
        self.old.mute = True
        setting = made.execute("SET", "key", "value")
        self.net.settle()
        self.old.crash()
        self.fail_over()
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.failureResultOf(setting, txredisapi.ConnectionError)
        self.assertEqual(self.new.words("SET"), [])

    def test_a_named_replica_is_asked_about_again(self) -> None:
        """While the announced server still says that it is a replica, the Sentinels are asked again after a moment."""
        made = self.started()
        for sentinel in self.sentinels:
            sentinel.switch("mymaster", NEW, 2)
        self.net.settle()
        self.assertIsNone(made.address)
        self.assertIn("slave", made.last_error)
        self.new.role = "master"
        self.net.run(0.2)
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_a_lost_connection_is_a_question_at_once(self) -> None:
        """When the master breaks off, the Sentinels are asked in the same turn; a switch missed is found so."""
        made = self.started()
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.new.role = "master"
        self.old.crash()
        self.net.settle()
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_a_restarted_master_is_taken_back(self) -> None:
        """If nothing but the connection was lost the follower returns to where it was."""
        made = self.started()
        self.net.run(2)
        self.old.crash()
        self.old.start()
        self.net.settle()
        self.assertEqual(made.address, ("127.0.0.1", OLD))

    def test_a_readonly_reply_is_a_question_at_once(self) -> None:
        """A master demoted behind our back gives itself away; the error still goes to who sent the command."""
        made = self.started()
        self.net.run(2)
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.new.role, self.old.role = "master", "slave"
        problem = self.failureResultOf(self.settled(made.execute("SET", "key", "value")), txredisapi.ResponseError)
        self.assertIn("READONLY", str(problem.value))
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_a_false_alarm_keeps_the_connections(self) -> None:
        """If the doubted server proves to be a master after all, nothing in flight on it is cut off."""
        made = self.started()
        self.net.run(2)
        handler = made.connection
        self.old.role = "slave"
        self.failureResultOf(self.settled(made.execute("SET", "key", "value")), txredisapi.ResponseError)
        self.assertIsNone(made.address)
        self.old.role = "master"
        self.net.run(0.5)
        self.assertIs(made.connection, handler)
        self.assertEqual(len(self.old.connections), 1)

    def test_a_doubted_master_that_vanishes_is_let_go(self) -> None:
        """If it breaks off while it is being asked for its role, the search goes on from the beginning."""
        made = self.started(pool_size=2)
        self.net.run(2)
        self.old.role = "slave"
        self.failureResultOf(self.settled(made.execute("SET", "key", "value")), txredisapi.ResponseError)
        self.old.mute = True
        self.net.run(0.5)
        self.old.crash()
        self.net.run(1)
        self.assertIsNone(made.address)
        self.fail_over()
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.assertEqual(self.result(made.execute("SET", "key", "value")), "OK")

    def test_news_ends_an_attempt_at_an_old_address(self) -> None:
        """While the old master's host is dialled in vain, an answer with a newer epoch is not kept waiting."""
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

    def test_a_master_that_keeps_breaking_off_is_not_dialled_in_a_spin(self) -> None:
        """Losses in quick succession are met ever more slowly."""
        self.started()
        self.net.dialled.clear()
        for _ in range(60):
            for connection in list(self.old.connections):
                connection.transport.abortConnection()  # type: ignore[union-attr]
            self.net.run(0.05)
        self.assertLess(self.net.dialled.count(OLD), 15)

    def test_listeners_hear_of_each_master(self) -> None:
        """They get every address once, the first one included; one that fails does not keep it from the others."""
        heard: list[MasterAddress] = []
        made = self.follower()
        made.add_listener(lambda address: 1 / 0)
        made.add_listener(heard.append)
        made.start()
        self.net.settle()
        self.fail_over()
        self.assertEqual([port for _, port in heard], [OLD, NEW])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        made.remove_listener(heard.append)
        self.assertRaises(ValueError, made.remove_listener, heard.append)

    def settled(self, waiting: Deferred[Any]) -> Deferred[Any]:
        self.net.settle()
        return waiting


class StaleSentinelTests(FollowerCase):
    """Sentinels that are late, cut off, or start over."""

    def test_an_older_epoch_does_not_lead_back(self) -> None:
        """A Sentinel that returns with the memory of an old master is not believed, whatever that server says."""
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
        """A Sentinel that returns with newer knowledge is believed as soon as it is subscribed to."""
        for sentinel in self.sentinels[1:]:
            sentinel.crash()
        made = self.started()
        self.new.role = "master"
        self.sentinels[1].masters["mymaster"] = (NEW, 2)
        self.sentinels[1].start()
        self.net.run(11)
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_the_start_ends_at_the_newest(self) -> None:
        """If the first Sentinel to answer is stale, and so is the master it names, the others' word prevails."""
        self.new.role = "master"
        for sentinel in self.sentinels[1:]:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.assertEqual(self.started().address, ("127.0.0.1", NEW))

    def test_a_late_announcement_of_a_former_master_is_weighed(self) -> None:
        """Two switches on, a Sentinel announces the first of them: epochs show that it is history."""
        third = MemoryRedis(self.net, THIRD)
        made = self.started()
        self.new.role = "master"
        for sentinel in self.sentinels[:2]:
            sentinel.switch("mymaster", NEW, 2)
        self.net.settle()
        for sentinel in self.sentinels[:2]:
            sentinel.switch("mymaster", THIRD, 3)
        self.net.settle()
        self.assertEqual(made.address, ("127.0.0.1", THIRD))
        self.sentinels[2].switch("mymaster", NEW, 2)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", THIRD))
        self.assertEqual(len(third.connections), 1)

    def test_a_late_announcement_of_a_master_never_seen_is_undone(self) -> None:
        """An address that we had skipped is tried, but its epoch gives it away and the follower returns."""
        MemoryRedis(self.net, THIRD)
        self.new.role = "master"
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (THIRD, 3)
        made = self.started()
        self.sentinels[0].switch("mymaster", NEW, 2)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", THIRD))

    def test_a_failback_is_followed(self) -> None:
        """A former master may become the master again: its epoch is the newest then."""
        made = self.started()
        self.fail_over()
        self.net.run(2)
        self.old.role, self.new.role = "master", "slave"
        for sentinel in self.sentinels:
            sentinel.switch("mymaster", OLD, 3)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", OLD))

    def test_epochs_may_start_over(self) -> None:
        """When all Sentinels hold lower epochs, as after a new SENTINEL MONITOR, the follower does not insist."""
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
        """Where SENTINEL MASTER is not permitted the follower moves all the same, and not back by mere memories."""
        for sentinel in self.sentinels:
            sentinel.tells_epochs = False
        made = self.started()
        self.new.role = "master"
        self.sentinels[0].switch("mymaster", NEW, 2)
        self.net.run(1)
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_without_epochs_a_new_address_is_proven_first(self) -> None:
        """A differing memory is looked into while the present master goes on serving, and followed if it is proven."""
        for sentinel in self.sentinels:
            sentinel.tells_epochs = False
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

    def test_a_hanging_sentinel_holds_up_nobody(self) -> None:
        """Rounds of questions go on beside the one that gets no answer."""
        self.sentinels[0].mute = True
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
    """The standing subscriptions."""

    def test_greeting_is_one_write(self) -> None:
        """Question and subscription arrive together, so that no switch can be missed between them."""
        arrived: list[bytes] = []
        original = ServedConnection.dataReceived

        def recording(connection: ServedConnection, data: bytes) -> None:
            arrived.append(data)
            original(connection, data)

        self.patch(ServedConnection, "dataReceived", recording)
        self.started(sentinel_password="secret")
        greetings = [chunk for chunk in arrived if b"SUBSCRIBE" in chunk]
        self.assertEqual(len(greetings), 3)
        for words in (b"AUTH", b"GET-MASTER-ADDR-BY-NAME", b"MASTER"):
            self.assertIn(words, greetings[0])

    def test_a_silent_subscription_is_made_anew(self) -> None:
        """A Sentinel that stops answering PING is dialled again, and asked for the address as it answers."""
        self.started()
        first = self.sentinels[0].subscribers[0]
        self.sentinels[0].mute = True
        self.net.run(2 * KEEPALIVE_INTERVAL + 1)
        self.assertNotIn(first, self.sentinels[0].connections)
        self.sentinels[0].mute = False
        self.net.run(3 * KEEPALIVE_INTERVAL)
        self.assertEqual(len(self.sentinels[0].subscribers), 2)

    def test_a_live_subscription_stays(self) -> None:
        """Answered PINGs keep it for as long as it is wanted."""
        self.started()
        self.net.run(10 * KEEPALIVE_INTERVAL + 1)
        self.assertEqual([len(sentinel.subscribers) for sentinel in self.sentinels], [1, 1, 1])
        self.assertEqual(len(self.sentinels[0].words("PING")), 10)

    def test_a_refused_subscription_becomes_a_poll(self) -> None:
        """A Sentinel that does not let us subscribe is at least asked again and again."""
        for sentinel in self.sentinels:
            sentinel.permits_subscription = False
        made = self.started()
        self.new.role = "master"
        for sentinel in self.sentinels:
            sentinel.masters["mymaster"] = (NEW, 2)
        self.net.run(11)
        self.assertEqual(made.address, ("127.0.0.1", NEW))
        self.assertIn("refuses the subscription", made.last_error)

    def test_nonsense_costs_only_that_connection(self) -> None:
        """What speaks no RESP, or out of turn, is hung up on; the other Sentinels serve."""
        made = self.started()
        for chunk in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n"):
            self.net.run(11)
            connection = self.sentinels[0].subscribers[-1]
            connection.transport.write(chunk)  # type: ignore[union-attr]
            self.net.settle()
            self.assertNotIn(connection, self.sentinels[0].connections)
        self.assertEqual(made.address, ("127.0.0.1", OLD))

    def test_words_of_a_sentinel(self) -> None:
        """Only what can be dialled counts as an address, only digits as an epoch, only our name as ours."""
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
            sentinel.username, sentinel.password = "watcher", "s-secret"
        self.old.username, self.old.password = "app", "d-secret"
        made = self.started(
            username="app", password="d-secret", sentinel_username="watcher", sentinel_password="s-secret", pool_size=2
        )
        self.assertEqual(self.result(made.execute("SET", "key", "value")), "OK")
        self.assertEqual(self.old.words("AUTH"), [[b"AUTH", b"app", b"d-secret"]] * 2)

    def test_a_needless_sentinel_password_does_no_harm(self) -> None:
        """A Sentinel without a password refuses AUTH and is asked all the same."""
        self.started(sentinel_password="secret")

    def test_wrong_passwords_are_named(self) -> None:
        """The reason why nothing works is in the error that commands get."""
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
        """``dbid`` holds for all connections of the pool."""
        self.started(dbid=7, pool_size=3)
        self.assertEqual([connection.database for connection in self.old.connections], [7, 7, 7])

    def test_tls(self) -> None:
        """With ``tls`` and ``sentinel_tls`` everything goes through the connection creators they make, by host."""
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
        self.assertEqual(self.result(made.execute("SET", "key", "value")), "OK")
        self.assertEqual(set(hosts), {"127.0.0.1"})


class PoolTests(FollowerCase):
    """The connections to one master."""

    def test_the_pool_is_filled(self) -> None:
        """``pool_size`` connections, each of them proven, share the commands."""
        made = self.started(pool_size=4)
        self.assertEqual(len(self.old.connections), 4)
        self.assertEqual(len(self.old.words("ROLE")), 4)
        self.assertIn("4 connection(s)", repr(made.connection))

    def test_single_losses_are_made_good(self) -> None:
        """While one connection lives the pool serves on, and is full again a second later."""
        made = self.started(pool_size=2)
        asked = len(self.sentinels[0].words("SENTINEL"))
        self.old.connections[0].transport.abortConnection()  # type: ignore[union-attr]
        self.net.settle()
        self.assertEqual(made.address, ("127.0.0.1", OLD))
        self.assertGreater(len(self.sentinels[0].words("SENTINEL")), asked)
        self.assertEqual(self.result(made.execute("SET", "key", "value")), "OK")
        self.net.run(1.1)
        self.assertEqual(len(self.old.connections), 2)

    def test_a_replacement_that_meets_a_replica_raises_doubt(self) -> None:
        """A server that was demoted in place is found out when a connection is made anew."""
        made = self.started(pool_size=2)
        self.net.run(2)
        self.old.role = "slave"
        self.old.connections[0].transport.abortConnection()  # type: ignore[union-attr]
        self.net.run(1.1)
        self.assertIsNone(made.address)

    def test_a_server_that_accepts_and_hangs_is_given_up(self) -> None:
        """A stopped process keeps its port open; the dial has its own time limit for the proof."""
        self.old.mute = True
        made = self.follower(connect_timeout=1)
        starting = made.start()
        self.net.run(1.5)
        self.assertNoResult(starting)
        self.assertNotEqual(made.last_error, "")
        self.old.mute = False
        self.net.run(2.5)
        self.successResultOf(starting)

    def test_a_server_that_swallows_dials_is_given_up(self) -> None:
        """A host that is gone answers nothing at all; an announcement ends the wait for it at once."""
        made = self.started()
        self.net.black_holes.add(OLD)
        self.old.crash()
        self.net.settle()
        self.assertIsNone(made.address)
        self.fail_over()
        self.assertEqual(made.address, ("127.0.0.1", NEW))

    def test_commands_are_those_of_txredisapi(self) -> None:
        """Methods by name, blocking ones too, which give their connection back; unknown names fail."""
        made = self.started()
        self.assertEqual(self.result(made.commands.set("key", 5)), "OK")
        self.assertEqual(self.result(made.commands.get("key")), 5)
        for _ in range(2):
            self.assertEqual(self.result(made.commands.blpop(["list"], 1)), ["list", "item"])
        self.failureResultOf(made.commands.no_such_command(), AttributeError)
        self.assertFalse(hasattr(made.commands, "_private"))

    def test_replies_as_bytes(self) -> None:
        """Without a charset, and without guessing numbers, replies are what the server sent."""
        made = self.started(charset=None, convert_numbers=False)
        self.result(made.execute("SET", "key", b"17"))
        self.assertEqual(self.result(made.execute("GET", "key")), b"17")

    def test_who_waits_for_a_taken_connection_fails_with_the_pool(self) -> None:
        """Commands queued behind a blocking one do not hang for ever when the master is lost."""
        made = self.started()
        self.old.mute = True
        popping = made.commands.blpop(["list"])
        second = made.commands.blpop(["list"])
        peeking = made.commands.get("key")
        self.net.settle()
        self.old.crash()
        self.net.settle()
        for waiting in (popping, second, peeking):
            self.failureResultOf(waiting, txredisapi.ConnectionError)

    def test_an_old_handler_fails_at_once(self) -> None:
        """Who keeps the handler of a lost master gets an error, not a hang."""
        made = self.started()
        handler = made.connection
        self.fail_over()
        self.failureResultOf(handler.get("key"), txredisapi.ConnectionError)

    def test_a_late_reply_drops_the_connection(self) -> None:
        """``reply_timeout`` runs on the follower's reactor and ends with a new connection."""
        made = self.started(reply_timeout=0.5)
        self.net.run(2)
        self.old.mute = True
        setting = made.execute("SET", "key", "value")
        self.net.run(0.6)
        self.failureResultOf(setting, txredisapi.TimeoutError)
        self.old.mute = False
        self.net.run(4)
        self.assertEqual(self.result(made.execute("SET", "key", "value")), "OK")

    def test_quitting_and_disconnecting_lead_to_new_connections(self) -> None:
        """``handler.disconnect()`` loses the present connections only; the follower stays with the master."""
        made = self.started(pool_size=2)
        self.net.run(2)
        gone = made.connection.disconnect()
        self.net.run(1.5)
        self.successResultOf(gone)
        self.assertEqual(len(self.old.connections), 2)
        self.assertEqual(made.address, ("127.0.0.1", OLD))


class StoppingTests(FollowerCase):
    """Leaving; that nothing is left behind is checked after every test of this module."""

    def test_stop_fails_what_waits(self) -> None:
        """Waiting commands and a start that has not come to its end fail; so do later commands."""
        self.old.crash()
        made = self.follower()
        starting = made.start()
        setting = made.execute("SET", "key", "value")
        self.net.settle()
        made.stop()
        self.failureResultOf(starting, FollowerStopped)
        self.failureResultOf(setting, FollowerStopped)
        self.failureResultOf(made.execute("SET", "key", "value"), FollowerStopped)

    def test_commands_need_a_start(self) -> None:
        """Before ``start`` there is nothing to wait for."""
        made = self.follower()
        self.failureResultOf(made.execute("PING"), FollowerStopped)
        self.assertIsNone(made.address)
        self.assertIsNone(made.connection)
        self.assertEqual(made.last_error, "")

    def test_stop_in_mid_dial(self) -> None:
        """Dials to hosts that never answer are taken back."""
        self.net.black_holes |= {5001, 5002, 5003}
        made = self.follower()
        made.start()
        self.successResultOf(made.stop())

    def test_stop_in_mid_question(self) -> None:
        """Sentinels and servers that hang do not keep ``stop`` from ending."""
        self.sentinels[0].mute = self.old.mute = True
        made = self.follower()
        made.start()
        self.net.settle()
        stopped = made.stop()
        self.net.settle()
        self.successResultOf(stopped)

    def test_stop_says_when_it_is_done(self) -> None:
        """Each call fires once the last connection is gone, not before."""
        made = self.started()
        first, second = made.stop(), made.stop()
        self.assertNoResult(first)
        self.net.settle()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.net.open, [])

    def test_what_was_sent_goes_out_before_the_end(self) -> None:
        """A command given right before ``stop`` reaches the server, though its reply may be lost."""
        made = self.started()
        setting = made.execute("SET", "key", "value")
        setting.addErrback(lambda failure: failure.trap(txredisapi.ConnectionError))
        made.stop()
        self.net.settle()
        self.assertEqual(self.old.keys, {b"key": b"value"})

    def test_a_listener_may_stop_the_follower(self) -> None:
        """Being called back in the middle of a move does no harm."""
        made = self.started()
        made.add_listener(lambda address: made.stop())
        waiting = made.ready()
        self.successResultOf(waiting)
        self.fail_over()
        self.assertIsNone(made.address)
