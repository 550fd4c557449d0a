"""Tests of the fake Sentinel of ``tests.extensions.fixture``."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.extensions.fixture import FakeOperator, healthy_master, three_masters
from txsentinel.interfaces import CommandRefused, IOperator, ISentinelView
from txsentinel.model.plain import plain
from txsentinel.model.snapshots import CommandRefusal, Principal, ViewChange


class FakeViewTests(SynchronousTestCase):
    """The view provides what the interface defines."""

    def test_interfaces(self) -> None:
        """Both fakes have the methods of the interfaces, with their signatures."""
        verifyObject(ISentinelView, three_masters())
        verifyObject(IOperator, FakeOperator())

    def test_changes(self) -> None:
        """A changed master has a new revision and is reported, as is an event, until the subscription ends."""
        view = three_masters()
        changes: list[ViewChange] = []
        cancel = view.subscribe(changes.append)
        before = view.revision()
        view.put(replace(healthy_master(), config_epoch=8))
        view.publish("+switch-master", "mymaster 10.0.0.1 6379 10.0.0.2 6379", "mymaster")
        cancel()
        view.remove("queue")
        self.assertEqual(
            [(each.master, each.event is None) for each in changes], [("mymaster", True), ("mymaster", False)]
        )
        self.assertEqual(view.master("mymaster").config_epoch, 8)
        self.assertGreater(view.master("mymaster").revision, before)
        self.assertEqual(view.names(), ("mymaster", "sessions"))
        self.assertRaises(LookupError, view.master, "queue")

    def test_records_are_plain(self) -> None:
        """All that the view returns can be represented as JSON."""
        view = three_masters()
        for name in view.names():
            for record in (view.master(name), view.explain(name), view.journal(name), view.probe_times(name)):
                plain(record)
        plain((view.identity(), view.load(), view.history()))


class FakeOperatorTests(SynchronousTestCase):
    """The operator records what it executes."""

    def test_run(self) -> None:
        """A denied command fails, another one is recorded and answered."""
        operator = FakeOperator()
        alice = Principal("alice", "password", "127.0.0.1")
        operator.denied.add(("alice", "sentinel|failover"))
        operator.replies["sentinel|remove"] = CommandRefusal("ERR", "ERR No such master with that name")
        self.assertEqual(self.successResultOf(operator.run(alice, [b"PING"])), b"OK")
        for words in ([b"SENTINEL", b"FAILOVER", b"m"], [b"SENTINEL", b"REMOVE", b"m"]):
            self.failureResultOf(operator.run(alice, words), CommandRefused)
        self.assertEqual([words[0] for _, words in operator.executed], [b"PING", b"SENTINEL"])

    def test_authenticate(self) -> None:
        """Only the right password of a known user is accepted."""
        operator = FakeOperator()
        operator.passwords["alice"] = "secret"
        self.assertEqual(
            operator.authenticate("alice", "secret", "10.0.0.9"), Principal("alice", "password", "10.0.0.9")
        )
        self.assertIsNone(operator.authenticate("alice", "wrong", "10.0.0.9"))
        self.assertIsNone(operator.authenticate("bob", "secret", "10.0.0.9"))
        self.assertEqual(operator.anonymous("10.0.0.9"), Principal("default", "none", "10.0.0.9"))
        operator.passwords["default"] = "another"
        self.assertIsNone(operator.anonymous("10.0.0.9"))
