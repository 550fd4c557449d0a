"""When links are connected, connected anew, and given up."""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from tests.links.fixture import Fixture, StageConnector, StageTransport
from txsentinel.core.effects import Announce, Connect, Disconnect, Ping, Reconfigure, Reconnect
from txsentinel.core.link import LinkKind
from txsentinel.model.address import Address
from txsentinel.model.events import SentinelEvent
from txsentinel.wire.resp import pack

REFUSED = "Connection was refused by other side."


class ReconnectingTests(SynchronousTestCase):
    """The beat of one command connection, unless a test says otherwise."""

    def setUp(self) -> None:
        self.fixture = Fixture()
        self.link = self.fixture.link((LinkKind.COMMANDS,))

    def connector(self) -> StageConnector:
        """The link, being connected."""
        self.fixture.do(Connect(self.link))
        return self.fixture.reactor.connectors[-1]

    def lose(self, transport: StageTransport) -> None:
        """The other side goes away."""
        transport.lost(ConnectionLost())

    def test_where_to(self) -> None:
        """The address of the link is connected to, within two ping periods, from wherever the system likes."""
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
        """``bind-source-addr`` is where connections come from."""
        self.fixture.settings.bind_source_addr = "10.0.0.5"
        self.assertEqual(self.connector().source, ("10.0.0.5", 0))

    def test_both_kinds(self) -> None:
        """A server is connected to twice, a peer once."""
        self.fixture.do(Connect(self.fixture.link()))
        self.assertEqual(len(self.fixture.reactor.connectors), 2)

    def test_peers_apart(self) -> None:
        """Servers are connected to by one way, peers by another, so that neither's word waits for the other's."""
        ways: list[tuple[str, str]] = []

        def way(name: str) -> Callable[..., None]:
            return lambda host, *arguments, **named: ways.append((name, host))

        self.fixture.pool.connect_with(way("server"), way("peer"))
        self.fixture.do(Connect(self.fixture.link()))
        peer = self.fixture.link((LinkKind.COMMANDS,), "10.0.0.7")
        peer.link_id = 8
        self.fixture.do(Connect(peer))
        self.assertEqual(ways, [("server", "10.0.0.9"), ("server", "10.0.0.9"), ("peer", "10.0.0.7")])

    def test_connect_again(self) -> None:
        """Asking for a link that is there already changes nothing."""
        self.connector()
        self.fixture.do(Connect(self.link))
        self.assertEqual(len(self.fixture.reactor.connectors), 1)

    def test_nowhere_to_go(self) -> None:
        """Port 0 and unresolved names are never connected to; a name that is resolved later is."""
        for address in (Address.literal("10.0.0.9", 0), Address("redis.example", "", 6379)):
            self.link.address = address
            self.fixture.do(Connect(self.link))
            self.assertEqual(self.fixture.reactor.connectors, [])
        self.link.address = Address("redis.example", "10.0.0.9", 6379)
        self.fixture.do(Connect(self.link))
        self.assertEqual(len(self.fixture.reactor.connectors), 1)

    def test_refused(self) -> None:
        """A refused attempt is told, and repeated each ping period for as long as it takes."""
        connector = self.connector()
        for attempt in range(1, 4):
            connector.refuse()
            now = self.fixture.host.now()
            self.assertEqual(self.fixture.core.told(), [("down", LinkKind.COMMANDS, REFUSED, now)])
            self.fixture.pass_time(999)
            self.assertEqual(connector.attempts, attempt)
            self.fixture.pass_time(1)
            self.assertEqual(connector.attempts, attempt + 1)

    def test_beat_of_the_impatient(self) -> None:
        """With a short down-after a server that comes back in time is found in time."""
        master = self.link.first
        master.master.options.down_after = 900
        connector = self.connector()
        connector.refuse()
        self.fixture.pass_time(299)
        self.assertEqual(connector.attempts, 1)
        self.fixture.pass_time(1)
        self.assertEqual(connector.attempts, 2)

    def test_many_gone(self) -> None:
        """With a thousand servers gone each is knocked at less often, but thrice before it counts as down."""
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

    def test_one_knock_does_for_both(self) -> None:
        """While no command connection can be had nobody tries to subscribe; once it is there, at once."""
        self.fixture.do(Connect(self.fixture.link()))
        commands, subscription = self.fixture.reactor.connectors
        commands.refuse()
        subscription.refuse()
        self.fixture.pass_time(1_000)
        self.assertEqual((commands.attempts, subscription.attempts), (2, 1))
        commands.accept()
        self.fixture.turn_over()
        self.assertEqual(subscription.attempts, 2)

    def test_subscribing_alone(self) -> None:
        """While there is a command connection, attempts to subscribe have the beat of all others."""
        self.fixture.do(Connect(self.fixture.link()))
        commands, subscription = self.fixture.reactor.connectors
        commands.accept()
        subscription.refuse()
        self.fixture.pass_time(1_000)
        self.assertEqual(subscription.attempts, 2)

    def test_period_is_read_at_the_time(self) -> None:
        """A ping period changed at run time counts from the next wait on."""
        connector = self.connector()
        self.fixture.core.timings.ping_period = 50
        connector.refuse()
        self.fixture.pass_time(50)
        self.assertEqual(connector.attempts, 2)

    def test_silence(self) -> None:
        """Attempts that nobody answers follow each other as they time out: the beat counts from their start."""
        connector = self.connector()
        self.fixture.pass_time(2_000)
        self.assertEqual(len(self.fixture.core.told()), 1)
        self.fixture.turn_over()
        self.assertEqual(connector.attempts, 2)

    def test_lost_connection(self) -> None:
        """An established connection that is lost is made anew in the next turn."""
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(1000)
        self.fixture.core.told()
        self.lose(transport)
        self.assertEqual([each[:2] for each in self.fixture.core.told()], [("down", LinkKind.COMMANDS)])
        self.assertEqual(connector.attempts, 1)
        self.fixture.turn_over()
        self.assertEqual(connector.attempts, 2)

    def test_short_lived_connection(self) -> None:
        """Whoever accepts only to hang up is tried once in a ping period, counted from the attempt before."""
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(400)
        self.lose(transport)
        self.fixture.pass_time(599)
        self.assertEqual(connector.attempts, 1)
        self.fixture.pass_time(1)
        self.assertEqual(connector.attempts, 2)

    def test_first_failure_after_a_loss(self) -> None:
        """Only the first attempt after a loss is made at once."""
        connector = self.connector()
        transport = connector.accept()
        self.fixture.pass_time(5_000)
        self.lose(transport)
        self.fixture.turn_over()
        connector.refuse()
        self.fixture.pass_time(999)
        self.assertEqual(connector.attempts, 2)

    def test_nothing_is_said_to_nobody(self) -> None:
        """Commands for a connection that is not there are dropped, also by a link that nobody knows."""
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS), Reconfigure(self.link, None))
        connector = self.connector()
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS), Ping(self.link, LinkKind.PUBSUB))
        connector.refuse()
        self.fixture.do(Ping(self.link, LinkKind.COMMANDS))
        self.fixture.pass_time(1_000)
        self.assertEqual(connector.accept().said().count(b"PING"), 0)

    def test_recycle(self) -> None:
        """A recycled connection is closed at once, whatever its age, and made anew in the next turn."""
        connector = self.connector()
        transport = connector.accept()
        self.fixture.core.told()
        self.fixture.do(Reconnect(self.link, LinkKind.COMMANDS, "half dead"), Ping(self.link, LinkKind.COMMANDS))
        self.assertTrue(transport.aborted)
        self.assertNotIn(b"PING", transport.said())
        self.fixture.turn_over()
        self.assertEqual(self.fixture.core.told(), [("down", LinkKind.COMMANDS, "half dead", 0)])
        self.fixture.turn_over()
        self.assertEqual(connector.attempts, 2)

    def test_recycle_one_of_two(self) -> None:
        """The other connection of a link is left alone, unless both are meant."""
        link = self.fixture.link()
        self.fixture.do(Connect(link))
        commands, subscription = (connector.accept() for connector in self.fixture.reactor.connectors)
        self.fixture.do(Reconnect(link, LinkKind.PUBSUB, "silent"))
        self.assertEqual((commands.aborted, subscription.aborted), (False, True))
        self.fixture.do(Reconnect(link, None, "new password"))
        self.assertTrue(commands.aborted)

    def test_recycle_while_waiting(self) -> None:
        """A link that waits to be connected is connected now."""
        connector = self.connector()
        connector.refuse()
        self.fixture.do(Reconnect(self.link, None, "new password"))
        self.fixture.turn_over()
        self.assertEqual(connector.attempts, 2)

    def test_recycle_while_connecting(self) -> None:
        """An attempt under way goes on: it has not logged in yet."""
        connector = self.connector()
        self.link.password = "new"
        self.fixture.do(Reconnect(self.link, None, "new password"))
        self.assertIn(pack("AUTH", "new"), connector.accept().said())
        self.assertEqual(connector.attempts, 1)

    def give_up(self) -> None:
        """What the core does when the last instance leaves a link."""
        self.link.closed = True
        self.fixture.core.told()
        self.fixture.do(Disconnect(self.link))

    def assert_over(self, connector: StageConnector, attempts: int) -> None:
        """Nothing happens any more, and the core is told nothing."""
        self.fixture.pass_time(10_000)
        self.assertEqual(connector.attempts, attempts)
        self.assertEqual(connector.state, "disconnected")
        self.assertEqual(self.fixture.core.told(), [])
        self.assertEqual(self.fixture.reactor.getDelayedCalls(), [])
        self.assertEqual(len(self.fixture.pool), 0)

    def test_disconnect_a_connection(self) -> None:
        """A link that is given up is closed politely."""
        connector = self.connector()
        transport = connector.accept()
        self.give_up()
        self.assertTrue(transport.disconnecting)
        self.assert_over(connector, 1)
        self.assertFalse(transport.aborted)

    def test_disconnect_a_hanging_connection(self) -> None:
        """If it does not close politely, then otherwise."""
        connector = self.connector()
        transport = connector.accept()
        transport.hangs = True
        self.give_up()
        self.assert_over(connector, 1)
        self.assertTrue(transport.aborted)

    def test_disconnect_while_connecting(self) -> None:
        """An attempt under way is abandoned."""
        connector = self.connector()
        self.give_up()
        self.assert_over(connector, 1)

    def test_disconnect_while_waiting(self) -> None:
        """No further attempt is made."""
        connector = self.connector()
        connector.refuse()
        self.give_up()
        self.assert_over(connector, 1)

    def test_disconnect_in_reaction_to_a_loss(self) -> None:
        """The core may give a link up in the very turn in which it hears of its loss."""
        connector = self.connector()
        self.fixture.reaction = self.give_up
        connector.refuse()
        self.fixture.reaction = None
        self.assert_over(connector, 1)

    def test_disconnect_after_recycle(self) -> None:
        """A link given up while it is being recycled does not come back."""
        connector = self.connector()
        connector.accept()
        self.fixture.do(Reconnect(self.link, None, "silent"))
        self.give_up()
        self.assert_over(connector, 1)

    def test_not_an_effect_of_links(self) -> None:
        """Effects that concern somebody else are refused loudly."""
        with self.assertRaises(KeyError):
            self.fixture.pool.perform(Announce(SentinelEvent("+tilt", "")))


class StopTests(SynchronousTestCase):
    """The end of all links."""

    def setUp(self) -> None:
        self.fixture = Fixture()

    def test_nothing_to_stop(self) -> None:
        """Without connections there is nothing to wait for."""
        self.successResultOf(self.fixture.pool.stop())

    def test_all_states(self) -> None:
        """Connected, connecting and waiting links all end, and the end is told once the last one is closed."""
        links = [self.fixture.link(ip=f"10.0.0.{number}") for number in range(3)]
        for link_id, link in enumerate(links):
            link.link_id = link_id
            self.fixture.do(Connect(link))
        connected, _, _, _, waiting, other_waiting = self.fixture.reactor.connectors
        transport = connected.accept()
        transport.hangs = True
        waiting.refuse()
        other_waiting.refuse()
        self.fixture.core.told()
        stopped = self.fixture.pool.stop()
        self.assertNoResult(stopped)
        self.fixture.pass_time(999)
        self.assertNoResult(stopped)
        self.fixture.pass_time(1)
        self.successResultOf(stopped)
        self.assertEqual(self.fixture.core.told(), [])
        self.assertEqual(self.fixture.reactor.getDelayedCalls(), [])

    def test_waits_for_those_that_were_closing_already(self) -> None:
        """A link given up just before counts too."""
        link = self.fixture.link((LinkKind.COMMANDS,))
        self.fixture.do(Connect(link))
        self.fixture.reactor.connectors[-1].accept()
        self.fixture.do(Disconnect(link))
        stopped = self.fixture.pool.stop()
        self.assertNoResult(stopped)
        self.fixture.turn_over()
        self.successResultOf(stopped)

    def test_no_more_connections(self) -> None:
        """Nothing is connected any more, and stopping twice is an error of ours."""
        self.successResultOf(self.fixture.pool.stop())
        self.fixture.do(Connect(self.fixture.link()))
        self.assertEqual(self.fixture.reactor.connectors, [])
        with self.assertRaises(RuntimeError):
            self.fixture.pool.stop()

    def test_last_words(self) -> None:
        """What was said in the last turn is delivered."""
        link = self.fixture.link((LinkKind.COMMANDS,))
        self.fixture.do(Connect(link))
        transport = self.fixture.reactor.connectors[-1].accept()
        transport.said()
        self.fixture.pool.perform(Ping(link, LinkKind.COMMANDS))
        self.fixture.pool.stop()
        self.assertEqual(transport.said(), pack("PING"))
