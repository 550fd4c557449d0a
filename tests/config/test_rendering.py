"""Rendering of the hard state as lines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.config.disk import MemoryDisk
from tests.config.state import add_peer, add_replica, address, make_master
from txsentinel.config.configuration import load
from txsentinel.config.directives import classify
from txsentinel.config.document import ConfigDocument
from txsentinel.config.rendering import master_lines, own_head_lines, own_tail_lines, writes_hostnames
from txsentinel.core.failover_state import FailoverState
from txsentinel.core.instances import Failover, Master
from txsentinel.core.options import MasterOptions, SentinelOptions


class MasterLinesTests(SynchronousTestCase):
    """The lines of one master."""

    def texts(self, master: Master, by_hostname: bool = False) -> list[str]:
        """Return the lines without their common word."""
        return [line.text.removeprefix("sentinel ") for line in master_lines(master, by_hostname)]

    def test_defaults_are_not_written(self) -> None:
        """A master with the defaults has three lines."""
        self.assertEqual(
            self.texts(make_master("m")), ["monitor m 10.0.0.1 6379 2", "config-epoch m 0", "leader-epoch m 0"]
        )

    def test_everything_in_order(self) -> None:
        """All lines of a master, in the order of C Sentinels."""
        master = make_master("m")
        master.options = MasterOptions(2, 1, 2, 3, "/n", "/c", "pw", "al", 4, {"CONFIG": "x"}, {"CONFIG": "Config"})
        master.config_epoch, master.leader_epoch = 5, 6
        add_replica(master, address("10.0.0.2", 1))
        add_peer(master, "b" * 40, address("::1", 2))
        self.assertEqual(
            self.texts(master),
            [
                "monitor m 10.0.0.1 6379 2",
                "down-after-milliseconds m 1",
                "failover-timeout m 2",
                "parallel-syncs m 3",
                "notification-script m /n",
                "client-reconfig-script m /c",
                "auth-pass m pw",
                "auth-user m al",
                "master-reboot-down-after-period m 4",
                "config-epoch m 5",
                "leader-epoch m 6",
                "known-replica m 10.0.0.2 1",
                f"known-sentinel m ::1 2 {'b' * 40}",
                "rename-command m Config x",
            ],
        )

    def test_promoted(self) -> None:
        """Once the promotion was seen, the file has the new master, and the old one as its replica."""
        master = make_master("m")
        promoted = add_replica(master, address("10.0.0.2", 1))
        add_replica(master, address("10.0.0.3", 1))
        master.failover = Failover(1, 0, 0, promoted=promoted)
        self.assertEqual(self.texts(master)[0], "monitor m 10.0.0.1 6379 2")
        master.failover.state = FailoverState.RECONF_REPLICAS
        texts = self.texts(master)
        self.assertEqual(texts[0], "monitor m 10.0.0.2 1 2")
        self.assertEqual(texts[3:], ["known-replica m 10.0.0.1 6379", "known-replica m 10.0.0.3 1"])

    def test_no_duplicates(self) -> None:
        """Two instances at one address have one line, as C refuses two."""
        master = make_master("m")
        for name in ("a", "b"):
            add_replica(master, address("10.0.0.2", 1)).name = name
            master.replicas[name] = master.replicas.pop("10.0.0.2:1")
        self.assertEqual(len(master.replicas), 2)
        self.assertEqual(self.texts(master)[3:], ["known-replica m 10.0.0.2 1"])

    def test_names(self) -> None:
        """Names are written if they are announced; a name without an IP is always written."""
        master = make_master("m")
        add_replica(master, address("known.example", 1, "10.0.0.2"))
        add_replica(master, address("unknown.example", 1))
        self.assertEqual(self.texts(master)[3:], ["known-replica m 10.0.0.2 1", "known-replica m unknown.example 1"])
        self.assertEqual(self.texts(master, by_hostname=True)[3], "known-replica m known.example 1")
        self.assertFalse(writes_hostnames(SentinelOptions(announce_hostnames=True)))
        self.assertTrue(writes_hostnames(SentinelOptions(announce_hostnames=True, resolve_hostnames=True)))

    def test_special_characters(self) -> None:
        """Any name, password or command from a client is read again as it was."""
        disk = MemoryDisk({"/my hooks/n.sh": b"#!"})
        master = make_master('my "master"\n')
        options = master.options
        options.auth_pass, options.auth_user = 'a\nsentinel myid "', ""
        options.notification_script = "/my hooks/n.sh"
        options.renamed_commands, options.rename_spellings = {"A B": "c'd"}, {"A B": "a b"}
        text = "".join(f"{line.text}\n" for line in master_lines(master, False))
        (record,) = load("s.conf", text.encode(), disk=disk).masters
        self.assertEqual(record.name, master.name)
        self.assertEqual(record.options, options)


class OwnLinesTests(SynchronousTestCase):
    """The lines of the Sentinel itself."""

    def test_defaults(self) -> None:
        """Only the ID and the epoch are always written."""
        document = ConfigDocument(b"", classify)
        options = SentinelOptions(my_id="a" * 40)
        self.assertEqual([line.text for line in own_head_lines(options, document)], [f"sentinel myid {'a' * 40}"])
        self.assertEqual([line.text for line in own_tail_lines(options, 7)], ["sentinel current-epoch 7"])
        self.assertEqual(own_head_lines(SentinelOptions(), document), [])

    def test_everything_in_order(self) -> None:
        """All lines; yes/no directives stay in the file once they are there."""
        document = ConfigDocument(b"sentinel announce-hostnames yes\n", classify)
        options = SentinelOptions(
            "a" * 40,
            "10.0.0.9",
            7,
            resolve_hostnames=True,
            deny_scripts_reconfig=False,
            sentinel_user="u",
            sentinel_pass="p w",
        )
        self.assertEqual(
            [line.text for line in own_head_lines(options, document)],
            [
                f"sentinel myid {'a' * 40}",
                "sentinel deny-scripts-reconfig no",
                "sentinel resolve-hostnames yes",
                "sentinel announce-hostnames no",
            ],
        )
        self.assertEqual(
            [line.text for line in own_tail_lines(options, 7)],
            [
                "sentinel current-epoch 7",
                'sentinel announce-ip "10.0.0.9"',
                "sentinel announce-port 7",
                "sentinel sentinel-user u",
                'sentinel sentinel-pass "p w"',
            ],
        )
