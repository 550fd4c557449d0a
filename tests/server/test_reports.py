"""Tests of the reports about instances, without the commands that return them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.failover_state import FailoverState, SyncStep
from txsentinel.core.instances import Failover, Instance, InstanceLink, Master, Peer, Replica
from txsentinel.core.link import LinkKind
from txsentinel.core.options import MasterOptions
from txsentinel.core.role import Role
from txsentinel.model.address import Address
from txsentinel.model.failure import FailureClass, LinkFailure
from txsentinel.server.reports import (
    MASTER_FORMS,
    MAX_FORM_BYTES,
    MAX_MASTER_FORMS,
    Bulks,
    encoded_instance,
    encoded_report,
    flags,
    instance_report,
)
from txsentinel.wire.resp import encode

NOW = 5_000_000

WORDS = [
    "s_down",
    "o_down",
    "master",
    "slave",
    "sentinel",
    "disconnected",
    "master_down",
    "failover_in_progress",
    "promoted",
    "reconf_sent",
    "reconf_inprog",
    "reconf_done",
    "force_failover",
    "coordinated_failover",
    "script_kill_sent",
    "master_reboot",
]
"""Every flag word, in wire order."""


def random_instance(rng: random.Random) -> Instance:
    """Return a master, a replica or a peer in a random state."""

    def moment() -> int | None:
        return rng.choice([None, rng.randrange(NOW)])

    link = InstanceLink(1, Address.literal("127.0.0.1", 6379), tuple(LinkKind), rng.randrange(NOW))
    link.unanswered_ping_at = moment()
    link.pending_commands = rng.randrange(3)
    link.commands_since, link.pubsub_since = moment(), moment()
    options = MasterOptions(
        rng.randrange(1, 5),
        notification_script=rng.choice([None, "/bin/notify"]),
        client_reconfig_script=rng.choice([None, "/bin/r\xe9configure"]),
    )
    master = Master("m\udcff" if rng.random() < 0.1 else "mymaster", link.address, link, 7, options=options)
    master.odown_since, master.rebooting_since, master.info_refreshed_at = moment(), moment(), moment()
    replica = Replica("127.0.0.1:6380", replace(link.address, port=6380, hostname="replica"), link, 8, of=master)
    replica.sync, replica.announced = rng.choice(list(SyncStep)), rng.random() < 0.8
    replica.role_reported = rng.choice(list(Role))
    replica.master_host = rng.choice([None, "127.0.0.1"])
    peer = Peer("b" * 40, replace(link.address, port=26380), link, 9, of=master, run_id="b" * 40)
    peer.reports_master_down, peer.voted_leader = rng.random() < 0.5, rng.choice([None, "c" * 40])
    if rng.random() < 0.5:
        master.failover = Failover(3, 4, 5, rng.choice(list(FailoverState)[1:]))
        master.failover.promoted = rng.choice([None, replica])
        master.failover.forced, master.failover.coordinated = rng.random() < 0.5, rng.random() < 0.5
    for each in (master, replica, peer):
        each.sdown_since, each.script_kill_sent = moment(), rng.random() < 0.5
    return rng.choice([master, replica, peer])


def random_master(rng: random.Random) -> Master:
    """Return a master without a failure, or with one in up to two of its fields."""
    address = replace(Address.literal("127.0.0.1", 6379), hostname="host%b")
    link = InstanceLink(1, address, tuple(LinkKind), rng.randrange(NOW))
    link.commands_since = link.pubsub_since = 3
    link.unanswered_ping_at = rng.choice([None, rng.randrange(NOW)])
    link.available_at, link.last_reply_at = rng.randrange(NOW), rng.randrange(NOW)
    options = MasterOptions(2)
    master = Master(rng.choice(["m%b", "\udcff"]), address, link, 7, options=options)
    master.info_refreshed_at = rng.choice([None, rng.randrange(NOW)])
    master.role_reported_at = rng.randrange(NOW)
    link.instances[master] = None
    changes: list[Callable[[], None]] = [
        lambda: setattr(link, "pending_commands", 2),
        lambda: setattr(link, "failure", LinkFailure(FailureClass.REFUSED, "Connection refused", NOW - 40)),
        lambda: setattr(link, "commands_since", None),
        lambda: link.instances.update({Master("m", address, link, 7): None}),
        lambda: setattr(options, "quorum", rng.randrange(9)),
        lambda: setattr(options, "down_after", rng.randrange(1, 9)),
        lambda: setattr(options, "failover_timeout", rng.randrange(9)),
        lambda: setattr(options, "parallel_syncs", rng.randrange(9)),
        lambda: setattr(options, "notification_script", "/100%d"),
        lambda: setattr(options, "client_reconfig_script", "/r\xe9configure"),
        lambda: setattr(options, "guards", replace(options.guards, pause_events=True)),
        lambda: setattr(master, "role_reported", Role.REPLICA),
        lambda: setattr(master, "run_id", rng.choice([None, "a" * 40])),
        lambda: setattr(master, "config_epoch", rng.randrange(9)),
        lambda: setattr(master, "script_kill_sent", True),
        lambda: setattr(master, "sdown_since", 4),
        lambda: setattr(master, "odown_since", 5),
        lambda: setattr(master, "rebooting_since", 6),
        lambda: setattr(master, "failover", Failover(3, 4, 5, FailoverState.WAIT_START)),
        lambda: master.replicas.update(r=Replica("r", address, link, 8, of=master)),
        lambda: master.peers.update(p=Peer("p", address, link, 9, of=master)),
    ]
    for change in rng.sample(changes, rng.choice((0, 0, 1, 1, 2))):
        change()
    return master


class ReportTests(SynchronousTestCase):
    """Content and order of reports."""

    def test_encoded_as_any_reply(self) -> None:
        """A report has the bytes of the general encoder, in both protocols, also when it is repeated."""
        rng = random.Random(4)
        for _ in range(500):
            report = instance_report(random_instance(rng), rng.random() < 0.5, NOW)
            as_text = {name: str(value) for name, value in report.items()}
            for protocol in (2, 3):
                self.assertEqual(encoded_report(report, protocol), encode(as_text, protocol))

    def test_encoded_instance(self) -> None:
        """The bytes of an instance are those of its report, whatever was encoded before, with and without a failure."""
        rng = random.Random(6)
        self.addCleanup(MASTER_FORMS.clear)
        for _ in range(1500):
            instance = random_master(rng) if rng.random() < 0.8 else random_instance(rng)
            by_hostname, protocol = rng.random() < 0.5, rng.choice((2, 3))
            now = NOW + rng.randrange(50)
            expected = encoded_report(instance_report(instance, by_hostname, now), protocol)
            self.assertEqual(encoded_instance(instance, by_hostname, now, protocol), expected)
        self.assertGreater(len(MASTER_FORMS), 10)
        self.assertLess(len(MASTER_FORMS), 1200)

    def test_long_options(self) -> None:
        """A report with long values is not cached."""
        self.addCleanup(MASTER_FORMS.clear)
        MASTER_FORMS.clear()
        master = random_master(random.Random(7))
        master.options.notification_script = "/" + "%" * MAX_FORM_BYTES
        expected = encoded_report(instance_report(master, False, NOW), 2)
        self.assertEqual(encoded_instance(master, False, NOW, 2), expected)
        self.assertEqual(len(MASTER_FORMS), 0)

    def test_bound(self) -> None:
        """The number of cached forms is limited."""
        self.addCleanup(MASTER_FORMS.clear)
        master = random_master(random.Random(8))
        for master.config_epoch in range(MAX_MASTER_FORMS + 5):
            encoded_instance(master, False, NOW, 2)
        self.assertLessEqual(len(MASTER_FORMS), MAX_MASTER_FORMS)

    def test_flags_in_order(self) -> None:
        """Flag words come in the order of the C Sentinels; all of them occur, and no others."""
        rng = random.Random(5)
        seen = set()
        for _ in range(500):
            words = flags(random_instance(rng)).split(",")
            self.assertEqual(words, [word for word in WORDS if word in words])
            self.assertEqual(len({"master", "slave", "sentinel"} & set(words)), 1)
            seen |= set(words)
        self.assertEqual(seen, set(WORDS))

    def test_absent_fields(self) -> None:
        """An event that never happened has no age; conditions that do not hold have no field."""
        link = InstanceLink(1, Address.literal("127.0.0.1", 6379), tuple(LinkKind), NOW - 500)
        link.unanswered_ping_at = None
        report = instance_report(Master("m", link.address, link, NOW), False, NOW)
        self.assertEqual((report["last-ping-sent"], report["info-refresh"], report["last-ping-reply"]), (0, 0, 500))
        self.assertEqual({"s-down-time", "o-down-time", "failover-state"} & set(report), set())

    def test_last_failure(self) -> None:
        """The last failure of a link comes after all fields of the C Sentinels."""
        link = InstanceLink(1, Address.literal("127.0.0.1", 6379), tuple(LinkKind), NOW - 500)
        link.failure = LinkFailure(FailureClass.REFUSED, "Connection refused", NOW - 40)
        for instance in (
            Master("m", link.address, link, NOW),
            Replica("r", link.address, link, NOW, of=Master("m", link.address, link, NOW)),
            Peer("p", link.address, link, NOW, of=Master("m", link.address, link, NOW)),
        ):
            last = list(instance_report(instance, False, NOW).items())[-3:]
            self.assertEqual(
                last,
                [
                    ("last-failure-class", "refused"),
                    ("last-failure-error", "Connection refused"),
                    ("last-failure-time", 40),
                ],
            )


class BulkTests(SynchronousTestCase):
    """Values that are cached in encoded form."""

    def test_cache_is_bounded(self) -> None:
        """The number of cached values is limited; long ones are never cached."""
        bulks = Bulks()
        for number in range(Bulks.MAX_ENTRIES + 10):
            self.assertEqual(bulks[number], b"$%d\r\n%d\r\n" % (len(str(number)), number))
        self.assertLess(len(bulks), Bulks.MAX_ENTRIES)
        count = len(bulks)
        self.assertEqual(bulks["x" * 100], b"$100\r\n%b\r\n" % (b"x" * 100))
        self.assertEqual(len(bulks), count)

    def test_text_and_numbers(self) -> None:
        """The length of text is measured in bytes; a number and its text have the same encoding."""
        bulks = Bulks()
        self.assertEqual((bulks["\xe9"], bulks["\udcff"]), (b"$2\r\n\xc3\xa9\r\n", b"$1\r\n\xff\r\n"))
        self.assertEqual(bulks[12], bulks["12"])
