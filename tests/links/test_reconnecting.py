"""Tests of connecting, reconnecting and closing links."""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionLost, TimeoutError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.links.fixture import FakeConnector, FakeTransport, Fixture
from txsentinel.core.effects import Announce, Connect, Disconnect, Ping, Reconfigure, Reconnect
from txsentinel.core.instances import InstanceLink, Replica
from txsentinel.core.link import LinkKind
from txsentinel.core.options import GuardOptions
from txsentinel.links.attempts import MAX_UNDER_WAY
from txsentinel.links.factory import RESTART_PERIOD, RESTART_RETRY_INTERVAL
from txsentinel.model.address import Address
from txsentinel.model.events import SentinelEvent
from txsentinel.wire.resp import pack

REFUSED = "Connection refused"


class ReconnectingTests(SynchronousTestCase):
    """Tests of the attempts of one link."""

    def setUp(self) -> None:
        self.fixture = Fixture()
        self.link = self.fixture.link((LinkKind.COMMANDS,))

    def connector(self) -> FakeConnector:
        """Return the connector of the link."""
        self.fixture.do(Connect(self.link))
        return self.fixture.reactor.connectors[-1]

    def lose(self, transport: FakeTransport) -> None:
        """Close the connection from the other side."""
        transport.lost(ConnectionLost())

    def test_address_and_timeout(self) -> None:
        """The attempt is made to the address of the link, with a timeout of two ping periods and any local address."""
        connector = self.connector()
        self.assertEqual(
            (connector.host, connector.port, connector.timeout, connector.source), ("10.0.0.9", 6379, 2.0, None)
        )

    def test_timeouts_are_bounded(self) -> None:
        """However long or short the ping period, an attempt takes one to five seconds."""
        for period, timeout in ((10, 1.0), (60_000, 5.0)):
            self.fixture = Fixture()
            self.fixture.core.timings.ping_period = period
            self.assertEqual(self.connector().timeout, timeout)

    def test_source_address(self) -> None:
        """``bind-source-addr`` is the local address of connections."""
        self.fixture.settings.bind_source_addr = "10.0.0.5"
        self.assertEqual(self.connector().source, ("10.0.0.5", 0))

    def test_both_kinds(self) -> None:
        """A server gets two connections, a peer one."""
        self.fixture.do(Connect(self.fixture.link()))
        self.assertEqual(len(self.fixture.reactor.connectors), 2)

    def test_peers_have_their_own_function(self) -> None:
        """Servers and peers have separate connect functions, so that neither's input waits for the other's."""
        ways: list[tuple[str, str]] = []

        def record(name: str) -> Callable[..., None]:
            return lambda host, *arguments, **named: ways.append((name, host))

        fixture = Fixture(connect_server=record("server"), connect_peer=record("peer"))
        fixture.do(Connect(fixture.link()))
        peer = fixture.link((LinkKind.COMMANDS,), "10.0.0.7")
        peer.link_id = 8
        fixture.do(Connect(peer))
        self.assertEqual(ways, [("server", "10.0.0.9"), ("server", "10.0.0.9"), ("peer", "10.0.0.7")])

    def test_connect_again(self) -> None:
        """A second Connect for the same link changes nothing."""
        self.connector()
        self.fixture.do(Connect(self.link))
        self.assertEqual(len(self.fixture.reactor.connectors), 1)

    def test_unusable_addresses(self) -> None:
        """Port 0 and unresolved names are never connected to; a name that is resolved later is."""
        for address in (Address.literal("10.0.0.9", 0), Address("redis.example", "", 6379)):
            self.link.address = address
            self.fixture.do(Connect(self.link))
            self.assertEqual(self.fixture.reactor.connectors, [])
        self.link.address = Address("redis.example", "10.0.0.9", 6379)
        self.fixture.do(Connect(self.link))
        self.assertEqual(len(self.fixture.reactor.connectors), 1)

    def test_refused(self) -> None:
        """A refused attempt is reported, and repeated each ping period."""
        connector = self.connector()
        for attempt in range(1, 4):
            connector.refuse()
            now = self.fixture.host.now()
            self.assertEqual(self.fixture.core.take_inputs(), [("down", LinkKind.COMMANDS, REFUSED, now)])
            self.fixture.pass_time(999)
            self.assertEqual(connector.attempts, attempt)
            self.fixture.pass_time(1)
            self.assertEqual(connector.attempts, attempt + 1)

    def test_interval_with_short_down_after(self) -> None:
        """With a short down-after, a server that is back in time is reconnected in time."""
        master = self.link.first
        master.master.options.down_after = 900
        connector = self.connector()
        connector.refuse()
        self.fixture.pass_time(299)
        self.assertEqual(connector.attempts, 1)
        self.fixture.pass_time(1)
        self.assertEqual(connector.attempts, 2)

    def test_many_servers_down(self) -> None:
        """With a thousand servers down, attempts are rarer, but at least three before a server counts as down."""
        master = self.link.first
        master.master.options.down_after = 6_000
        connector = self.connector()
        self.fixture.fail(1_000)
        connector.refuse()
        self.fixture.pass_time(1_999)
        self.assertEqual(connector.attempts, 1)
        self.fixture.pass_time(1)
        self.assertEqual(connector.attempts, 2)
        self.fixture.fail(10_000)
        for _ in range(2):
            connector.refuse()
            self.fixture.pass_time(2_000)
        self.assertEqual(connector.attempts, 4)
        self.link.sdown_instances[master] = None
        connector.refuse()
        self.fixture.pass_time(4_999)
        self.assertEqual(connector.attempts, 4)
        self.fixture.pass_time(1)
        self.assertEqual(connector.attempts, 5)

    def test_one_attempt_for_both(self) -> None:
        """The Pub/Sub connection is attempted only while the command connection is established, then at once."""
        self.fixture.do(Connect(self.fixture.link()))
        commands, subscription = self.fixture.reactor.connectors
        commands.refuse()
        subscription.refuse()
        self.fixture.pass_time(1_000)
        self.assertEqual((commands.attempts, subscription.attempts), (2, 1))
        commands.accept()
        self.fixture.run_turn()
        self.assertEqual(subscription.attempts, 2)

    def test_subscribing_alone(self) -> None:
        """While there is a command connection, the Pub/Sub connection has the same retry interval."""
        self.fixture.do(Connect(self.fixture.link()))
        commands, subscription = self.fixture.reactor.connectors
        commands.accept()
        subscription.refuse()
        self.fixture.pass_time(1_000)
        self.assertEqual(subscription.attempts, 2)

    def test_period_is_read_at_the_time(self) -> None:
        """A ping period that is changed at run time applies from the next wait on."""
        connector = self.connector()
        self.fixture.core.timings.ping_period = 50
        connector.refuse()
        self.fixture.pass_time(50)
        self.assertEqual(connector.attempts, 2)

    def test_attempts_without_answer(self) -> None:
        """Attempts without an answer follow each other at their timeout: the interval counts from their start."""
        connector = self.connector()
        self.fixture.pass_time(2_000)
        self.assertEqual(len(self.fixture.core.take_inputs()), 1)
        self.fixture.run_turn()
        self.assertEqual(connector.attempts, 2)

    def test_lost_connection(self) -> None:
        """An established connection that is lost is attempted again in the next turn."""
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(1000)
        self.fixture.core.take_inputs()
        self.lose(transport)
        self.assertEqual([each[:2] for each in self.fixture.core.take_inputs()], [("down", LinkKind.COMMANDS)])
        self.assertEqual(connector.attempts, 1)
        self.fixture.run_turn()
        self.assertEqual(connector.attempts, 2)

    def test_short_lived_connection(self) -> None:
        """A server that accepts and closes is attempted once per ping period, counted from the previous attempt."""
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(400)
        self.lose(transport)
        self.fixture.pass_time(599)
        self.assertEqual(connector.attempts, 1)
        self.fixture.pass_time(1)
        self.assertEqual(connector.attempts, 2)

    def become_replica(self) -> None:
        """Make the user of the link a replica in place of a master."""
        (master,) = self.link.instances
        self.link.part(master)
        self.link.join(Replica("replica", self.link.address, self.link, self.fixture.host.now(), of=master.master))

    def test_first_failure_after_a_loss(self) -> None:
        """Only the first attempt after a loss is made at once."""
        self.await_restarts()
        self.become_replica()
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(5_000)
        self.lose(transport)
        self.fixture.run_turn()
        connector.refuse()
        self.fixture.pass_time(999)
        self.assertEqual(connector.attempts, 2)

    def await_restarts(self) -> None:
        """Set ``empty-restart-failover`` for the master of the link."""
        (master,) = self.link.instances
        master.master.options.guards = GuardOptions(empty_restart_failover=True)

    def test_restart_by_default(self) -> None:
        """Without ``empty-restart-failover`` a refused attempt to connect to a master is repeated as to any server."""
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(5_000)
        self.lose(transport)
        self.fixture.run_turn()
        connector.refuse()
        self.fixture.pass_time(900)
        self.assertEqual(connector.attempts, 2)

    def test_restart_of_a_master(self) -> None:
        """After the loss of a master's connection, refused attempts are repeated soon, but only for a while."""
        self.await_restarts()
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(5_000)
        self.lose(transport)
        self.fixture.run_turn()
        for attempts in range(2, 2 + RESTART_PERIOD // RESTART_RETRY_INTERVAL):
            self.assertEqual(connector.attempts, attempts)
            connector.refuse()
            self.fixture.pass_time(RESTART_RETRY_INTERVAL)
        self.fixture.pass_time(RESTART_RETRY_INTERVAL)
        before = connector.attempts
        connector.refuse()
        self.fixture.pass_time(900)
        self.assertEqual(connector.attempts, before)

    def test_unanswered_attempts_to_a_master(self) -> None:
        """Attempts that time out are no sign of a restart."""
        self.await_restarts()
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(5_000)
        self.lose(transport)
        self.fixture.run_turn()
        connector.connectionFailed(Failure(TimeoutError()))
        self.fixture.pass_time(500)
        self.assertEqual(connector.attempts, 2)

    def test_connection_to_an_ending_process(self) -> None:
        """A connection that the kernel accepted for a master that was about to end is made again soon."""
        self.await_restarts()
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(5_000)
        self.lose(transport)
        self.fixture.run_turn()
        self.lose(connector.accept())
        self.fixture.pass_time(RESTART_RETRY_INTERVAL)
        self.assertEqual(connector.attempts, 3)

    def test_master_that_closes_at_once(self) -> None:
        """A master that accepts and closes at once is not flooded."""
        self.await_restarts()
        connector = self.connector()
        self.lose(connector.accept())
        self.fixture.pass_time(900)
        self.assertEqual(connector.attempts, 1)

    def test_commands_without_connection(self) -> None:
        """Commands without an established connection are dropped, also those of an unknown link."""
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS), Reconfigure(self.link, None))
        connector = self.connector()
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS), Ping(self.link, LinkKind.PUBSUB))
        connector.refuse()
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS))
        self.fixture.pass_time(1_000)
        self.assertEqual(connector.accept().take_written().count(b"PING"), 0)

    def test_recycle(self) -> None:
        """Reconnect closes the connection at once, whatever its age, and attempts it again in the next turn."""
        connector = self.connector()
        transport = connector.accept()
        self.fixture.core.take_inputs()
        self.fixture.do(Reconnect(self.link, LinkKind.COMMANDS, "half dead"), Ping(self.link, LinkKind.COMMANDS))
        self.assertTrue(transport.aborted)
        self.assertNotIn(b"PING", transport.take_written())
        self.fixture.run_turn()
        self.assertEqual(self.fixture.core.take_inputs(), [("down", LinkKind.COMMANDS, "half dead", 0)])
        self.fixture.run_turn()
        self.assertEqual(connector.attempts, 2)

    def test_recycle_one_of_two(self) -> None:
        """Reconnect affects one connection of a link, or both if no kind is given."""
        link = self.fixture.link()
        self.fixture.do(Connect(link))
        commands, subscription = (connector.accept() for connector in self.fixture.reactor.connectors)
        self.fixture.do(Reconnect(link, LinkKind.PUBSUB, "silent"))
        self.assertEqual((commands.aborted, subscription.aborted), (False, True))
        self.fixture.do(Reconnect(link, None, "new password"))
        self.assertTrue(commands.aborted)

    def test_recycle_while_waiting(self) -> None:
        """Reconnect ends the wait of a link for its next attempt."""
        connector = self.connector()
        connector.refuse()
        self.fixture.do(Reconnect(self.link, None, "new password"))
        self.fixture.run_turn()
        self.assertEqual(connector.attempts, 2)

    def test_recycle_while_connecting(self) -> None:
        """An attempt in progress continues, because it has not authenticated yet."""
        connector = self.connector()
        self.link.password = "new"
        self.fixture.do(Reconnect(self.link, None, "new password"))
        self.assertIn(pack("AUTH", "new"), connector.accept().take_written())
        self.assertEqual(connector.attempts, 1)

    def disconnect(self) -> None:
        """Execute Disconnect, as the core does when the last instance leaves a link."""
        self.link.closed = True
        self.fixture.core.take_inputs()
        self.fixture.do(Disconnect(self.link))

    def assert_over(self, connector: FakeConnector, attempts: int) -> None:
        """Assert that no attempt is made and that the core gets no input."""
        self.fixture.pass_time(10_000)
        self.assertEqual(connector.attempts, attempts)
        self.assertEqual(connector.state, "disconnected")
        self.assertEqual(self.fixture.core.take_inputs(), [])
        self.assertEqual(self.fixture.reactor.getDelayedCalls(), [])
        self.assertEqual(len(self.fixture.pool), 0)

    def test_disconnect_a_connection(self) -> None:
        """Disconnect closes the link in an orderly way."""
        connector = self.connector()
        transport = connector.accept()
        self.disconnect()
        self.assertTrue(transport.disconnecting)
        self.assert_over(connector, 1)
        self.assertFalse(transport.aborted)

    def test_disconnect_a_hanging_connection(self) -> None:
        """A link that does not close in time is aborted."""
        connector = self.connector()
        transport = connector.accept()
        transport.hangs = True
        self.disconnect()
        self.assert_over(connector, 1)
        self.assertTrue(transport.aborted)

    def test_disconnect_while_connecting(self) -> None:
        """An attempt in progress is aborted."""
        connector = self.connector()
        self.disconnect()
        self.assert_over(connector, 1)

    def other_links(self, count: int) -> list[InstanceLink]:
        """Return further links, which an attempt was ordered for."""
        links = []
        for number in range(count):
            link = self.fixture.link()
            link.link_id = 1000 + number
            links.append(link)
            self.fixture.do(Connect(link))
        return links

    def test_disconnected_links_do_not_count_as_failing(self) -> None:
        """The interval of attempts grows with the number of failing links that are still there."""
        self.link.first.master.options.down_after = 6_000
        others = self.other_links(1_000)
        for connector in self.fixture.reactor.connectors:
            connector.refuse()  # This has the throttle begin another one.
        self.assertEqual(len(self.fixture.reactor.connectors), 2_000)
        for link in others:
            self.fixture.do(Disconnect(link))
        connector = self.connector()
        connector.refuse()
        self.fixture.pass_time(1_000)
        self.assertEqual(connector.attempts, 2)

    def test_disconnect_while_queued(self) -> None:
        """An attempt that waits for the outcome of others is never made."""
        self.other_links(MAX_UNDER_WAY // 2)
        under_way = list(self.fixture.reactor.connectors)
        self.assertEqual(len(under_way), MAX_UNDER_WAY)
        link = self.fixture.link()
        self.fixture.do(Connect(link))
        self.assertEqual(len(self.fixture.reactor.connectors), MAX_UNDER_WAY)
        self.fixture.do(Disconnect(link))
        for connector in under_way:
            connector.accept()
        self.fixture.pass_time(500)
        self.assertEqual(len(self.fixture.reactor.connectors), MAX_UNDER_WAY)

    def test_first_attempt_in_the_queue(self) -> None:
        """A link whose first attempt is queued is marked, until the outcome of another one lets it begin."""
        self.other_links(MAX_UNDER_WAY // 2)
        under_way = self.fixture.reactor.connectors[0]
        link = self.fixture.link()
        self.fixture.do(Connect(link))
        self.assertTrue(link.attempt_waiting)
        under_way.accept()
        self.assertEqual(len(self.fixture.reactor.connectors), MAX_UNDER_WAY + 1)
        self.assertFalse(link.attempt_waiting)

    def test_attempt_after_a_loss_in_the_queue(self) -> None:
        """A link that was lost is marked as well if its next attempt is queued."""
        link = self.fixture.link((LinkKind.COMMANDS, LinkKind.PUBSUB))
        self.fixture.do(Connect(link))
        transport = self.fixture.reactor.connectors[0].accept()
        self.fixture.pass_time(5_000)
        self.other_links(MAX_UNDER_WAY // 2)
        self.lose(transport)
        self.fixture.pass_time(1)
        self.assertTrue(link.attempt_waiting)

    def test_later_attempt_in_the_queue(self) -> None:
        """A link that was attempted since its connection was lost is not marked."""
        link = self.fixture.link()
        self.fixture.do(Connect(link))
        for connector in list(self.fixture.reactor.connectors):
            connector.refuse()
        self.fixture.pass_time(950)
        self.other_links(MAX_UNDER_WAY // 2)
        self.fixture.pass_time(50)
        self.assertEqual(self.fixture.reactor.connectors[0].attempts, 1)
        self.assertFalse(link.attempt_waiting)

    def test_reconnect_before_the_first_attempt(self) -> None:
        """A link whose address was not resolved before is connected by Reconnect, too."""
        self.link.address = Address("redis.example", "", 6379)
        self.fixture.do(Connect(self.link))
        self.link.address = Address("redis.example", "10.0.0.9", 6379)
        self.fixture.do(Reconnect(self.link, None, "the address has changed"))
        self.assertEqual(len(self.fixture.reactor.connectors), 1)

    def test_established_after_disconnect(self) -> None:
        """An attempt that could not be cancelled any more has no protocol, and its end is not reported."""
        connector = self.connector()
        self.disconnect()
        self.assertIsNone(connector.factory.buildProtocol(None))
        connector.factory.clientConnectionLost(connector, Failure(ConnectionLost()))
        self.assert_over(connector, 1)

    def test_disconnect_while_waiting(self) -> None:
        """No further attempt is made."""
        connector = self.connector()
        connector.refuse()
        self.disconnect()
        self.assert_over(connector, 1)

    def test_disconnect_in_reaction_to_a_loss(self) -> None:
        """The core may close a link in the turn in which it gets its loss."""
        connector = self.connector()
        self.fixture.reaction = self.disconnect
        connector.refuse()
        self.fixture.reaction = None
        self.assert_over(connector, 1)

    def test_disconnect_after_recycle(self) -> None:
        """A link that is closed during a reconnect is not attempted again."""
        connector = self.connector()
        connector.accept()
        self.fixture.do(Reconnect(self.link, None, "silent"))
        self.disconnect()
        self.assert_over(connector, 1)

    def test_not_an_effect_of_links(self) -> None:
        """Effects that do not concern links raise an exception."""
        with self.assertRaises(KeyError):
            self.fixture.pool.perform(Announce(SentinelEvent("+tilt", "")))


class StopTests(SynchronousTestCase):
    """Tests of stopping the pool."""

    def setUp(self) -> None:
        self.fixture = Fixture()

    def test_nothing_to_stop(self) -> None:
        """Without connections the pool stops at once."""
        self.successResultOf(self.fixture.pool.stop())

    def test_all_states(self) -> None:
        """Connected, connecting and waiting links all end; the Deferred fires when the last one is closed."""
        links = [self.fixture.link(ip=f"10.0.0.{number}") for number in range(3)]
        for link_id, link in enumerate(links):
            link.link_id = link_id
            self.fixture.do(Connect(link))
        connected, _, _, _, waiting, other_waiting = self.fixture.reactor.connectors
        transport = connected.accept()
        transport.hangs = True
        waiting.refuse()
        other_waiting.refuse()
        self.fixture.core.take_inputs()
        stopped = self.fixture.pool.stop()
        self.assertNoResult(stopped)
        self.fixture.pass_time(999)
        self.assertNoResult(stopped)
        self.fixture.pass_time(1)
        self.successResultOf(stopped)
        self.assertEqual(self.fixture.core.take_inputs(), [])
        self.assertEqual(self.fixture.reactor.getDelayedCalls(), [])

    def test_waits_for_closing_links(self) -> None:
        """A link that was closed just before is waited for, too."""
        link = self.fixture.link((LinkKind.COMMANDS,))
        self.fixture.do(Connect(link))
        self.fixture.reactor.connectors[-1].accept()
        self.fixture.do(Disconnect(link))
        stopped = self.fixture.pool.stop()
        self.assertNoResult(stopped)
        self.fixture.run_turn()
        self.successResultOf(stopped)

    def test_no_more_connections(self) -> None:
        """No link connects after the stop, and stopping twice raises an exception."""
        self.successResultOf(self.fixture.pool.stop())
        self.fixture.do(Connect(self.fixture.link()))
        self.assertEqual(self.fixture.reactor.connectors, [])
        with self.assertRaises(RuntimeError):
            self.fixture.pool.stop()

    def test_last_commands(self) -> None:
        """The commands of the last turn are delivered."""
        link = self.fixture.link((LinkKind.COMMANDS,))
        self.fixture.do(Connect(link))
        transport = self.fixture.reactor.connectors[-1].accept()
        transport.take_written()
        self.fixture.pool.perform(Ping(link, LinkKind.COMMANDS))
        self.fixture.pool.stop()
        self.assertEqual(transport.take_written(), pack("PING"))
