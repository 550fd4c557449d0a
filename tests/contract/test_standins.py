"""The simulated instances of the benchmarks have the behaviour of real servers that the benchmarks rely on."""

from __future__ import annotations

import time
from collections.abc import Callable
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.standins.fleet import StandInFleet
from benchmarks.standins.layout import ip_address
from tests.contract.redis_servers import TIMEOUT, RealConnection, Servers, becomes_true, call, encode, ends
from tests.contract.test_redis_contract import RedisContract


class StandInServer:
    """One simulated instance of a fleet."""

    def __init__(self, fleet: StandInFleet, name: str) -> None:
        self.name = name
        self.host, self.port = fleet.addresses()[name]
        self._fleet = fleet

    def connect(self) -> RealConnection:
        """See :class:`Server`."""
        return RealConnection(self.port, self.host)

    def restart(self) -> None:
        """See :class:`Server`."""
        self._fleet.crash([self.name])
        self._fleet.restart([self.name])

    def run_endless_script(self) -> None:
        """Unsupported: no Sentinel runs scripts."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Unsupported; see :class:`Server`."""
        raise NotImplementedError

    def thaw(self) -> None:
        """Do nothing; see :class:`Server`."""

    def configuration(self) -> str:
        """Return nothing: there is no file; see :class:`Server`."""
        raise NotImplementedError


class StandInServers:
    """A fleet whose masters are used."""

    def __init__(self) -> None:
        self._fleet = StandInFleet(2, replicas=0, shards=1, sync_seconds=0.0)
        self._names = self._fleet.master_names()

    def seconds(self) -> float:
        """See :class:`Servers`."""
        return time.monotonic()

    def start(self, *, file: bool = True, log: bool = False, diskless: bool = False) -> StandInServer:
        """See :class:`Servers`."""
        return StandInServer(self._fleet, self._names.pop(0))

    def until(self, condition: Callable[[], bool]) -> bool:
        """See :class:`Servers`."""
        return becomes_true(condition)

    def stop(self) -> None:
        """See :class:`Servers`."""
        self._fleet.close()


def make_servers() -> Servers:
    """Start simulated instances in a process of their own."""
    return StandInServers()


NOT_SIMULATED = "no benchmark needs it"


class StandInContractTests(RedisContract, SynchronousTestCase):
    """The contract without what no benchmark needs: pauses, scripts, and failovers by the server."""

    make_servers = staticmethod(make_servers)

    def test_pause_of_writes(self) -> None:
        """See above."""
        raise SkipTest(NOT_SIMULATED)

    test_busy = test_failover = test_failover_needs_replicas = test_pause_of_writes


class StandInFleetTests(SynchronousTestCase):
    """Control of a fleet from outside, and its reports."""

    def setUp(self) -> None:
        self.fleet = StandInFleet(4, replicas=2, shards=2, sync_seconds=0.0)
        self.addCleanup(self.fleet.close)

    def connect(self, name: str) -> RealConnection:
        """Return a connection that is closed after the test."""
        host, port = self.fleet.addresses()[name]
        connection = RealConnection(port, host)
        self.addCleanup(connection.close)
        return connection

    def eventually(self, condition: Callable[[], object]) -> None:
        """Assert that the condition becomes true in time."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_all_instances_run(self) -> None:
        """Every master and replica answers at its own address, and replicas follow their masters."""
        states = self.fleet.query()
        self.assertEqual(len(states), 12)
        for name in self.fleet.addresses():
            self.assertEqual(call(self.connect(name), "PING"), b"PONG")
        self.assertEqual(states["m3r1"]["master"], states["m3"]["address"])
        self.assertEqual([host for _, host, _, _ in self.fleet.monitors()], [ip_address(number) for number in range(4)])

    def test_death(self) -> None:
        """
        An instance that dies resets its connections and refuses new ones; its replicas lose their link, others do not.
        """
        victim, other = self.connect("m0"), self.connect("m1")
        call(victim, "PING")
        self.fleet.crash(["m0"])
        self.assertTrue(ends(victim))
        self.assertRaises(ConnectionRefusedError, self.connect, "m0")
        self.assertEqual(call(other, "PING"), b"PONG")
        states = self.fleet.query(["m0", "m0r0", "m1r0"])
        self.assertEqual([states[name]["link"] for name in ("m0r0", "m1r0")], ["down", "up"])
        self.assertEqual(states["m0"]["state"], "dead")
        self.fleet.restart(["m0"])
        self.assertEqual(call(self.connect("m0"), "PING"), b"PONG")
        self.eventually(lambda: self.fleet.query(["m0r0"])["m0r0"]["link"] == "up")

    def test_hung_instance(self) -> None:
        """A hung instance keeps old connections and accepts new ones, and replies to all once it continues."""
        before = self.connect("m2")
        call(before, "PING")
        self.fleet.hang(["m2"])
        during = self.connect("m2")
        before.send("PING before")
        during.send("PING during")
        self.assertEqual(call(self.connect("m3"), "PING"), b"PONG")
        self.assertTrue(before.idle() and during.idle())
        self.fleet.restart(["m2"])
        self.assertEqual((before.reply(), during.reply()), (b"before", b"during"))

    def test_changes_are_logged(self) -> None:
        """Each role change by a client is recorded with its time, in order, over all processes."""
        began = time.monotonic()
        call(self.connect("m3r0"), "SLAVEOF NO ONE")
        host, port = self.fleet.addresses()["m0r0"]
        call(self.connect("m0r1"), f"SLAVEOF {host} {port}")
        first, second = self.fleet.events()
        self.assertEqual((first["name"], first["what"]), ("m3r0", "promoted"))
        self.assertEqual((second["name"], second["what"], second["to"]), ("m0r1", "reconfigured", f"{host}:{port}"))
        self.assertTrue(began < first["at"] < second["at"] < time.monotonic())

    def test_lag_and_priority(self) -> None:
        """Both can be set from outside and are in INFO."""
        call(self.connect("m1"), ("SET", "key", "x" * 100))
        replica = self.connect("m1r1")
        self.fleet.set(["m1r1"], lag=50, priority=7)
        text = call(replica, "INFO").decode()
        self.assertIn("\r\nslave_priority:7\r\n", text)
        states = self.fleet.query(["m1", "m1r1"])
        self.assertAlmostEqual(states["m1"]["offset"] - states["m1r1"]["offset"], 50, delta=20)

    def test_invalid_command(self) -> None:
        """An invalid command is refused, and the fleet continues."""
        self.assertRaises(ValueError, self.fleet.order, op="invalid")
        self.assertEqual(call(self.connect("m1"), "PING"), b"PONG")

    def test_requests_in_pieces(self) -> None:
        """The reply does not depend on the chunks of a request."""
        subscriber = self.connect("m0")
        call(subscriber, "SUBSCRIBE __sentinel__:hello")
        connection = self.connect("m0")
        requests = encode(("PING", "PUBLISH __sentinel__:hello a,b", "INFO replication", "PING last"))
        for index in range(len(requests)):
            # The connection sends whole requests only.
            connection._socket.sendall(requests[index : index + 1])
        self.assertEqual((connection.reply(), connection.reply()), (b"PONG", 1))
        self.assertTrue(connection.reply().startswith(b"# Replication"))
        self.assertEqual(connection.reply(), b"last")
        self.assertEqual(subscriber.reply(), [b"message", b"__sentinel__:hello", b"a,b"])
