"""Promises of the reports on instances, apart from the commands that ask for them."""

from __future__ import annotations

import random
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.instances import Failover, FailoverState, Instance, Master, Peer, Replica, Role, SyncStep
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.core.options import MasterOptions
from txsentinel.model.address import Address
from txsentinel.server.reports import Bulks, encoded_report, flags, instance_report
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
"""Every flag word, in the order of the wire."""


def drawn(dice: random.Random) -> Instance:
    """A master, a replica or a peer in some state or other, likely or not."""

    def moment() -> int | None:
        return dice.choice([None, dice.randrange(NOW)])

    link = InstanceLink(1, Address.literal("127.0.0.1", 6379), tuple(LinkKind), dice.randrange(NOW))
    link.unanswered_ping_at = moment()
    link.pending_commands = dice.randrange(3)
    link.commands_since, link.pubsub_since = moment(), moment()
    options = MasterOptions(
        dice.randrange(1, 5),
        notification_script=dice.choice([None, "/bin/tell"]),
        client_reconfig_script=dice.choice([None, "/bin/r\xe9configure"]),
    )
    master = Master("m\udcff" if dice.random() < 0.1 else "mymaster", link.address, link, 7, options=options)
    master.odown_since, master.rebooting_since, master.info_refreshed_at = moment(), moment(), moment()
    replica = Replica("127.0.0.1:6380", replace(link.address, port=6380, hostname="replica"), link, 8, of=master)
    replica.sync, replica.announced = dice.choice(list(SyncStep)), dice.random() < 0.8
    replica.role_reported = dice.choice(list(Role))
    replica.master_host = dice.choice([None, "127.0.0.1"])
    peer = Peer("b" * 40, replace(link.address, port=26380), link, 9, of=master, run_id="b" * 40)
    peer.reports_master_down, peer.leader = dice.random() < 0.5, dice.choice([None, "c" * 40])
    if dice.random() < 0.5:
        master.failover = Failover(3, 4, 5, dice.choice(list(FailoverState)[1:]))
        master.failover.promoted = dice.choice([None, replica])
        master.failover.forced, master.failover.coordinated = dice.random() < 0.5, dice.random() < 0.5
    for each in (master, replica, peer):
        each.sdown_since, each.script_kill_sent = moment(), dice.random() < 0.5
    return dice.choice([master, replica, peer])


class ReportTests(SynchronousTestCase):
    """Form and order of what is told."""

    def test_encoded_as_any_reply(self) -> None:
        """A report has the bytes that the general encoder makes of it, in both protocols, again and again."""
        dice = random.Random(4)
        for _ in range(500):
            report = instance_report(drawn(dice), dice.random() < 0.5, NOW)
            as_text = {name: str(value) for name, value in report.items()}
            for protocol in (2, 3):
                self.assertEqual(encoded_report(report, protocol), encode(as_text, protocol))

    def test_flags_in_order(self) -> None:
        """Flag words come in the order of the C Sentinels; each is seen, and none but these."""
        dice = random.Random(5)
        seen = set()
        for _ in range(500):
            words = flags(drawn(dice)).split(",")
            self.assertEqual(words, [word for word in WORDS if word in words])
            self.assertEqual(len({"master", "slave", "sentinel"} & set(words)), 1)
            seen |= set(words)
        self.assertEqual(seen, set(WORDS))

    def test_nothing_before_its_time(self) -> None:
        """What never happened has no age; conditions that do not hold have no field."""
        link = InstanceLink(1, Address.literal("127.0.0.1", 6379), tuple(LinkKind), NOW - 500)
        link.unanswered_ping_at = None
        report = instance_report(Master("m", link.address, link, NOW), False, NOW)
        self.assertEqual((report["last-ping-sent"], report["info-refresh"], report["last-ping-reply"]), (0, 0, 500))
        self.assertEqual({"s-down-time", "o-down-time", "failover-state"} & set(report), set())


class BulkTests(SynchronousTestCase):
    """Values that are kept encoded."""

    def test_kept_within_bounds(self) -> None:
        """However many values there are, so many are kept; long ones never are."""
        bulks = Bulks()
        for number in range(Bulks.MAX_ENTRIES + 10):
            self.assertEqual(bulks[number], b"$%d\r\n%d\r\n" % (len(str(number)), number))
        self.assertLess(len(bulks), Bulks.MAX_ENTRIES)
        kept = len(bulks)
        self.assertEqual(bulks["x" * 100], b"$100\r\n%b\r\n" % (b"x" * 100))
        self.assertEqual(len(bulks), kept)

    def test_text_and_numbers(self) -> None:
        """Text is measured in bytes; a number and the text of it are the same on the wire."""
        bulks = Bulks()
        self.assertEqual((bulks["\xe9"], bulks["\udcff"]), (b"$2\r\n\xc3\xa9\r\n", b"$1\r\n\xff\r\n"))
        self.assertEqual(bulks[12], bulks["12"])
