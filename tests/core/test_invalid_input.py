"""Invalid hellos, replies and ``INFO``, which no correct server or Sentinel sends."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.effects import Announce, AskMasterDown, Connect, Note
from txsentinel.core.instances import Master
from txsentinel.core.options import SentinelOptions
from txsentinel.core.sentinel import SentinelCore
from txsentinel.model.address import canonical_ip
from txsentinel.model.timings import Limits, Timings

MY_ID = "a" * 40
PEER_ID = "b" * 40
EPOCH_LIMIT = Limits().highest_epoch
FAR = 1 << 64


class InvalidInputCase(SynchronousTestCase):
    """A core that monitors one master and has no peers."""

    limits = Limits(replicas=5, peers=5)

    def setUp(self) -> None:
        self.now = 1_000_000
        self.core = SentinelCore(SentinelOptions(my_id=MY_ID), Timings(), self.limits, lambda sides: 0)
        self.master: Master = self.core.administration.monitor("m", "10.0.0.1", 6379, 2, self.now)
        self.effects()

    def effects(self) -> list[Any]:
        """Return the effects since the last call."""
        return [effect for _, effect in self.core.outbox.take()]

    def channels(self) -> list[str]:
        """Return the events among them."""
        return [effect.event.channel for effect in self.effects() if isinstance(effect, Announce)]

    def hello(self, **fields: object) -> None:
        """Deliver a hello of the peer with these fields changed."""
        right = {
            "ip": "10.0.1.1",
            "port": 26379,
            "id": PEER_ID,
            "epoch": 0,
            "name": "m",
            "master_ip": "10.0.0.1",
            "master_port": 6379,
            "config_epoch": 0,
        }
        words = [str(word) for word in (right | fields).values()]
        self.core.hello_received(",".join(words).encode("utf-8", "surrogateescape"), self.now, None)

    def announce_and_confirm(self, **fields: object) -> None:
        """Deliver a hello of the peer, and its reply to MYID."""
        self.hello(**fields)
        link = next(effect.link for effect in self.effects() if isinstance(effect, Connect))
        self.core.link_up(link, link.kinds[0], "10.0.2.1", self.now)
        self.core.id_reply(link, str(fields.get("id", PEER_ID)).encode(), self.now)


class HelloTests(InvalidInputCase):
    """Hellos."""

    def test_valid(self) -> None:
        """A correct hello is applied, so that the other tests are meaningful."""
        self.announce_and_confirm()
        self.assertEqual(self.channels(), ["+sentinel"])

    def test_invalid(self) -> None:
        """An invalid hello changes nothing: no peer, no epoch, no address; at most a warning is logged."""
        wrong: list[dict[str, object]] = [
            {"port": 0},
            {"port": 65536},
            {"port": -1},
            {"port": FAR},
            {"port": "x"},
            {"ip": ""},
            {"ip": "no.such.host"},
            {"ip": "256.1.1.1"},
            {"ip": "10.0.1.1\n"},
            {"ip": "fe80::1%eth0"},
            {"ip": "::1%\n1:X 1 Jan 2026 # +switch-master"},
            {"id": ""},
            {"id": MY_ID},
            {"id": "a b"},
            {"id": "a\nb"},
            {"id": "\0" * 40},
            {"id": "\udcff" * 40},
            {"id": "x" * 65},
            {"name": "M"},
            {"name": "m\0"},
            {"name": "\udcff"},
            {"master_port": 0},
            {"master_port": 65536},
            {"epoch": -1, "config_epoch": 5},
            {"epoch": FAR - 1, "config_epoch": FAR - 1},
            {"epoch": FAR, "config_epoch": 0},
            {"epoch": EPOCH_LIMIT + 1, "config_epoch": 1, "master_ip": "10.0.0.2"},
            {"master_ip": "10.0.0.2" + "0" * 5_000},
            {"epoch": 1, "config_epoch": 2, "master_ip": "10.0.0.2"},
            {"epoch": 1, "config_epoch": -1, "master_ip": "10.0.0.2"},
        ]
        for fields in wrong:
            self.hello(**fields)
            warned = [each for each in self.effects() if not isinstance(each, Note)]
            self.assertEqual((fields, warned), (fields, []))
        self.assertEqual((self.core.current_epoch, self.master.config_epoch, self.master.peers), (0, 0, {}))
        self.assertEqual(self.master.address.ip, "10.0.0.1")

    def test_unparsable(self) -> None:
        """Payloads that are no hellos change nothing."""
        whole = b"10.0.1.1,26379," + PEER_ID.encode() + b",0,m,10.0.0.1,6379"
        for payload in (b"", b",", b"," * 7, b"," * 100_000, b"x" * 100_000, whole, whole + b",0,0", bytes(range(256))):
            self.core.hello_received(payload, self.now, None)
        self.assertEqual(self.effects(), [])

    def test_invalid_address(self) -> None:
        """A newer configuration with an invalid address does not use up its epoch."""
        self.announce_and_confirm()
        self.effects()
        for ip in ("no.such.host", "::1%lo", "", "10.0.0.2 "):
            self.hello(epoch=3, config_epoch=3, master_ip=ip)
            self.assertEqual((self.master.config_epoch, self.master.address.ip), (0, "10.0.0.1"))
        self.hello(epoch=3, config_epoch=3, master_ip="10.0.0.2")
        self.assertIn("+switch-master", self.channels())

    def test_forged_sentinels(self) -> None:
        """Forged Sentinels are kept up to a limit, and existing peers are not affected."""
        self.announce_and_confirm()
        for number in range(100):
            self.now += 1_000
            self.announce_and_confirm(id=f"{number:040x}", port=1000 + number)
        self.assertEqual(len(self.master.peers), self.limits.peers)
        # No input or effect shows how many wait.
        self.assertEqual(len(self.core._hello_processing.confirmations), 0)
        self.hello(epoch=7)
        self.assertEqual(self.core.current_epoch, 7)


class VoteRequestTests(InvalidInputCase):
    """Requests for votes."""

    def test_epochs(self) -> None:
        """Epochs out of reach are not adopted, and no vote is given in them."""
        self.announce_and_confirm()
        for epoch in (-1, -FAR, self.limits.epoch_rise_per_second + 1, EPOCH_LIMIT + 1, FAR - 1, FAR):
            vote = self.core.vote_requested("10.0.0.1", 6379, epoch, PEER_ID, self.now)
            self.assertEqual((vote.leader, vote.leader_epoch, self.core.current_epoch), ("*", 0, 0))

    def test_candidates(self) -> None:
        """An unknown candidate gets no vote; its name cannot fill the log."""
        self.effects()
        for candidate in ("", "x" * 10_000_000, "a b", PEER_ID):
            vote = self.core.vote_requested("10.0.0.1", 6379, 5, candidate, self.now)
            self.assertEqual(vote.leader, "*")
        lines = [effect.text for effect in self.effects() if isinstance(effect, Note)]
        self.assertLess(max(map(len, lines)), 1_000)


class OpinionTests(InvalidInputCase):
    """Replies to is-master-down-by-addr."""

    def setUp(self) -> None:
        """A peer that is asked for its opinion."""
        super().setUp()
        self.announce_and_confirm()
        self.peer = self.master.peers[PEER_ID]
        for instance in (self.master, self.peer):
            for kind in instance.link.kinds:
                self.core.link_up(instance.link, kind, "10.0.2.1", self.now)
        self.effects()

    def request_opinion(self) -> None:
        """Make the master S_DOWN, so that the peer is asked."""
        requests = False
        while not requests:
            self.now += 100
            self.core.ping_reply(self.peer.link, self.peer.link.kinds[0], b"PONG", self.now)
            self.core.sweep(self.now, self.now)
            requests = any(isinstance(effect, AskMasterDown) for effect in self.effects())

    def test_invalid_replies(self) -> None:
        """Only integer, bulk string and integer with an acceptable ID are an opinion; the next reply still counts."""
        invalid: list[object] = [
            None,
            1,
            1.5,
            True,
            b"1",
            [],
            [1],
            [1, b"*"],
            [1, b"*", 0, 0],
            [1, 1, 0],
            [b"1", b"*", 0],
            [1, None, 0],
            [1, [b"*"], 0],
            [[1], b"*", 0],
            [True, b"*", 0],
            [1, b"*", b"0"],
            [1, b"", 0],
            [1, b"a b", 3],
            [1, b"\xff\n", 3],
            [1, b"z" * 1_000_000, 3],
            {1: 2},
        ]
        for reply in invalid:
            self.request_opinion()
            self.core.master_down_reply(self.peer.link, self.master, reply, self.now)
            self.assertEqual((reply, self.peer.reports_master_down, self.peer.voted_leader), (reply, False, None))
        self.assertEqual(self.core.current_epoch, 0)
        self.request_opinion()
        self.core.master_down_reply(self.peer.link, self.master, [1, b"*", 0], self.now)
        self.assertTrue(self.peer.reports_master_down)

    def test_epochs(self) -> None:
        """An absurd epoch in a reply is no vote and raises no epoch."""
        for epoch in (-1, -(1 << 63), (1 << 63) - 1):
            self.request_opinion()
            self.core.master_down_reply(self.peer.link, self.master, [0, PEER_ID.encode(), epoch], self.now)
            self.assertEqual((self.peer.voted_leader, self.core.current_epoch), (None, 0))

    def test_unsolicited(self) -> None:
        """Replies without a question are ignored."""
        for _ in range(100):
            self.core.master_down_reply(self.peer.link, self.master, [1, PEER_ID.encode(), 1], self.now)
        self.assertFalse(self.peer.reports_master_down)


class InfoTests(InvalidInputCase):
    """INFO."""

    def info(self, *lines: str) -> None:
        """Deliver INFO of the master."""
        self.core.info_reply(self.master.link, "\r\n".join(lines).encode("utf-8", "surrogateescape"), self.now)

    def replica_lines(self, count: int) -> list[str]:
        """Return INFO lines of that many replicas."""
        return [f"slave{number}:ip=10.0.3.1,port={1000 + number},state=online" for number in range(count)]

    def test_too_many_replicas(self) -> None:
        """Replicas beyond the limit are not monitored, which is logged once."""
        for _ in range(3):
            self.info("role:master", *self.replica_lines(1000))
        self.assertEqual(len(self.master.replicas), self.limits.replicas)
        effects = self.effects()
        self.assertEqual(len([effect for effect in effects if isinstance(effect, Note)]), 1)
        self.assertEqual(len([effect for effect in effects if isinstance(effect, Connect)]), self.limits.replicas)

    def test_maximum_number_of_replicas(self) -> None:
        """As many as the limit allows cause no log line."""
        for _ in range(3):
            self.info("role:master", *self.replica_lines(self.limits.replicas))
        self.assertEqual([effect for effect in self.effects() if isinstance(effect, Note)], [])

    def test_invalid_replicas(self) -> None:
        """Lines without a valid address are skipped."""
        self.info(
            "role:master",
            "slave0:ip=::1%x,port=1,state=online",
            "slave1:ip=no.such.host,port=1",
            "slave2:ip=10.0.3.1,port=0",
            "slave3:ip=10.0.3.1,port=65536",
            "slave4:ip=10.0.3.1,port=-1",
            "slave5:ip=,port=1",
            "slave6:ip=\udcff,port=1",
            "slave7:ip=10.0.3.1",
            "slave8:",
            "slave9:ip=10.0.3.9,port=1",
        )
        self.assertEqual(list(self.master.replicas), ["10.0.3.9:1"])

    def test_replica_at_the_address_of_the_master(self) -> None:
        """
        A replica that announces the address of its master, such as by a wrong port, is not monitored.

        The server there would report to be a master, and be ordered to follow itself.
        """
        self.info("role:master", "slave0:ip=10.0.0.1,port=6379,state=online", "slave1:ip=10.0.0.1,port=6380")
        self.assertEqual(list(self.master.replicas), ["10.0.0.1:6380"])


class AddressTests(SynchronousTestCase):
    """Literal addresses."""

    def test_scopes(self) -> None:
        """An address with a scope is refused: it is local, and any text may follow the percent sign."""
        for text in ("fe80::1%eth0", "::1%", "::1%\n", "::1%x y", "1.2.3.4%5"):
            self.assertIsNone(canonical_ip(text))
