"""Explanations of C groups, and records that ours send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.remote.samples import (
    MASTER,
    NAME,
    SENTINELS,
    fleet,
    master_fields,
    master_report,
    peer,
    replica,
    sentinel,
    unreachable,
)
from txsentinel.model.explanation import Election, Explanation, JournalRecord, Phase, VerdictCode
from txsentinel.model.plain import plain, unix_instant
from txsentinel.model.snapshots import Instant
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.decoding import UnknownForm, decoded, plain_reply
from txsentinel.remote.explaining import explain_fleet
from txsentinel.remote.reports import InstanceReport, SentinelReport

NOW = Instant(1_800_000_000_000)
DOWN: dict[str, Any] = {"flags": "master,s_down", "s_down_time": "41000", "last_ok_ping_reply": "42500"}


def explain(*sentinels: SentinelReport) -> Explanation:
    """Explain the master of these Sentinels."""
    return explain_fleet(agreement_on(fleet(*sentinels), NAME), NOW)


def group(
    replicas: list[InstanceReport] | None = None, peers: list[InstanceReport] | None = None, **changed: str
) -> list[SentinelReport]:
    """Return three Sentinels that report the same."""
    found = []
    for host in SENTINELS:
        others = [each for each in peers or [peer(each) for each in SENTINELS] if each.endpoint.host != host]
        found.append(sentinel(host, master_report(host, master_fields(**changed), replicas, others)))
    return found


class VerdictTests(SynchronousTestCase):
    """Each verdict, with what would change it."""

    def verdict(self, *sentinels: SentinelReport) -> tuple[VerdictCode, list[str]]:
        """Return the code, and what would unblock a failover."""
        found = explain(*sentinels)
        return found.verdict.code, [each.do for each in found.unblock]

    def test_healthy(self) -> None:
        """In peace it names the replica that would be promoted, and nothing blocks."""
        found = explain(*group())
        self.assertEqual(found.verdict.code, VerdictCode.HEALTHY)
        self.assertEqual(
            found.verdict.text, "mymaster 10.0.0.2:6379 is up; 10.0.0.1:6379 would be promoted if it failed"
        )
        self.assertEqual((found.blocked_by, found.unblock, found.phase), ((), (), Phase.WATCHING))
        self.assertIsNone(found.election)

    def test_down_and_agreed(self) -> None:
        """If nothing known blocks, it states that C Sentinels do not report the rest."""
        found = explain(*group(**DOWN))
        self.assertEqual((found.verdict.code, found.agreement.have), (VerdictCode.AGREED_WAITING, 3))
        self.assertIn("has been down for 41 s", found.verdict.text)
        self.assertEqual(found.sdown.since, Instant(NOW.unix_ms - 41_000))
        self.assertIn("42,500 ms", found.sdown.why or "")
        self.assertIn("do not report when they try again", found.warnings[-1])

    def test_down_here_only(self) -> None:
        """One Sentinel alone is no quorum."""
        one, *others = group()
        alone = sentinel(SENTINELS[0], **DOWN)
        self.assertEqual(self.verdict(alone, *others), (VerdictCode.DOWN_HERE_ONLY, ["the quorum becomes 1"]))
        self.assertEqual(one.endpoint, alone.endpoint)

    def test_majority_unreachable(self) -> None:
        """With two of three gone, each that comes back suffices; a lower quorum does not."""
        peers = [peer(each, flags="s_down,sentinel,disconnected", last_hello_message="9000") for each in SENTINELS]
        alive = sentinel(SENTINELS[0], master_report("", master_fields(quorum="1", **DOWN), None, peers[1:]))
        code, unblock = self.verdict(alive, *(unreachable(each) for each in SENTINELS[1:]))
        self.assertEqual(code, VerdictCode.MAJORITY_UNREACHABLE)
        self.assertEqual(unblock, ["10.0.0.12:26379 comes back", "10.0.0.13:26379 comes back"])

    def test_alone(self) -> None:
        """The last of three considers the master down; one that comes back makes quorum and majority."""
        peers = [peer(each, flags="s_down,sentinel,disconnected", last_hello_message="9000") for each in SENTINELS]
        alone = sentinel(SENTINELS[0], master_report("", master_fields(**DOWN), None, peers[1:]))
        code, unblock = self.verdict(alone, *(unreachable(each) for each in SENTINELS[1:]))
        self.assertEqual(code, VerdictCode.QUORUM_UNREACHABLE)
        self.assertEqual(unblock, ["10.0.0.12:26379 comes back", "10.0.0.13:26379 comes back"])

    def test_quorum_unreachable(self) -> None:
        """A quorum above the number of live Sentinels can be lowered to the majority."""
        code, unblock = self.verdict(*group(quorum="4"))
        self.assertEqual(code, VerdictCode.QUORUM_UNREACHABLE)
        self.assertEqual(unblock, ["the quorum becomes 3", "the quorum becomes 2", "the quorum becomes 1"])

    def test_absurd_quorum(self) -> None:
        """A quorum of twenty digits, as a hostile Sentinel may report it, is explained at once."""
        code, unblock = self.verdict(*group(quorum="99999999999999999999"))
        self.assertEqual(code, VerdictCode.QUORUM_UNREACHABLE)
        self.assertEqual(unblock[0], "the quorum becomes 3")

    def test_ghosts(self) -> None:
        """Sentinels that are gone for long can be forgotten."""
        gone = {"flags": "s_down,sentinel,disconnected", "last_hello_message": str(6 * 86_400_000)}
        ghosts = [peer(f"10.0.0.{number}", **gone) for number in range(14, 18)]
        sentinels = group(peers=[*(peer(each) for each in SENTINELS), *ghosts])
        found = explain(*sentinels)
        self.assertEqual(found.verdict.code, VerdictCode.MAJORITY_COUNTS_GHOSTS)
        self.assertIn("4 of 7 Sentinels needed, 3 live", found.verdict.text)
        command = "txsentinel forget mymaster 10.0.0.14:26379 --reset-c-peers --force"
        self.assertEqual(found.unblock[-1].command, command)
        self.assertEqual(len(found.unblock), 5)
        self.assertIn("has sent no hello for 144 hours", found.warnings[0])

    def test_replicas(self) -> None:
        """None, none that may be promoted, or all with priority 0."""
        self.assertEqual(self.verdict(*group(replicas=[])), (VerdictCode.NO_REPLICAS, []))
        zero = [replica("10.0.0.1", slave_priority="0")]
        self.assertEqual(
            self.verdict(*group(zero)), (VerdictCode.ALL_PRIORITY_ZERO, ["10.0.0.1:6379 gets a priority above 0"])
        )
        lost = [replica("10.0.0.1", flags="slave,disconnected"), replica("10.0.0.3", slave_priority="0")]
        code, unblock = self.verdict(*group(lost))
        self.assertEqual(code, VerdictCode.NO_FIT_REPLICA)
        self.assertEqual(unblock, ["10.0.0.1:6379 becomes fit", "10.0.0.3:6379 gets a priority above 0"])

    def test_two_blocks(self) -> None:
        """If two things block, no single change is offered."""
        found = explain(*group(replicas=[], quorum="4"))
        self.assertEqual([each.code.value for each in found.blocked_by], ["quorum_unreachable", "no_replicas"])
        self.assertEqual(found.unblock, ())

    def test_tilt(self) -> None:
        """Sentinels in TILT do not act."""
        tilted = []
        for each in group():
            assert each.identity is not None
            tilted.append(replace(each, identity=replace(each.identity, server_fields={"sentinel_tilt": "1"})))
        self.assertEqual(explain(*tilted).verdict.code, VerdictCode.TILT)

    def test_running(self) -> None:
        """A running failover has its phase, and nothing blocks."""
        one = sentinel(SENTINELS[0], flags="master,s_down,o_down,failover_in_progress", failover_state="wait_promotion")
        found = explain(one, *group(**DOWN)[1:])
        self.assertEqual((found.verdict.code, found.phase), (VerdictCode.PROMOTING, Phase.PROMOTING))
        self.assertEqual(found.blocked_by, ())

    def test_the_former_address_does_not_count(self) -> None:
        """A Sentinel that still reports the old master down does not make the new one down."""
        new = [sentinel(each, ip="10.0.0.1", config_epoch="8") for each in SENTINELS[:2]]
        found = explain(*new, sentinel(SENTINELS[2], **DOWN))
        self.assertEqual(found.agreement.have, 0)
        self.assertEqual([each.contradiction for each in found.fleet][2], f"it has {MASTER}:6379 of epoch 7")


class ElectionTests(SynchronousTestCase):
    """Votes as others report them."""

    HOSTS = [f"10.0.0.{number}" for number in range(11, 16)]
    FIRST, SECOND = (f"{number:040}" for number in (11, 12))

    def election(self, votes: dict[str, str], silent: tuple[str, ...] = ()) -> Election:
        """Return the election of five Sentinels in epoch 9 with these votes; ``silent`` ones do not answer."""

        def seen(host: str) -> InstanceReport:
            leader = votes.get(host, "?")
            flags = "s_down,sentinel,disconnected" if host in silent else "sentinel"
            return peer(host, voted_leader=leader, voted_leader_epoch="0" if leader == "?" else "9", flags=flags)

        reports = []
        for host in self.HOSTS:
            others = [seen(each) for each in self.HOSTS if each != host]
            report = master_report(host, master_fields(**DOWN), None, others)
            reports.append(unreachable(host) if host in silent else sentinel(host, report))
        found = explain(*reports).election
        assert found is not None
        return found

    def test_won(self) -> None:
        """Two candidates vote for themselves; one of them has two more votes, and three are needed."""
        found = self.election({"10.0.0.13": self.FIRST, "10.0.0.14": self.SECOND, "10.0.0.15": self.FIRST})
        self.assertEqual((found.epoch, found.needed, found.mine, found.open, found.outcome), (9, 3, 3, 0, "won"))
        reasons = {each.sentinel_id: each.reason for each in found.voters}
        self.assertEqual(reasons[self.FIRST], "a candidate, which votes for itself")

    def test_lost(self) -> None:
        """Two votes each and one Sentinel that does not answer: nobody can have three."""
        found = self.election({"10.0.0.13": self.FIRST, "10.0.0.14": self.SECOND}, ("10.0.0.15",))
        self.assertEqual((found.mine, found.open, found.candidacies, found.outcome), (2, 0, 2, "lost"))

    def test_open(self) -> None:
        """One that answers has not voted yet."""
        found = self.election({"10.0.0.13": self.FIRST, "10.0.0.14": self.SECOND})
        self.assertEqual((found.mine, found.open, found.outcome), (2, 1, "open"))


class DecodingTests(SynchronousTestCase):
    """Records survive the way through RESP."""

    def test_round_trip(self) -> None:
        """An explanation is the same after it was sent as a map."""
        for sentinels in (group(), group(**DOWN), group(replicas=[], quorum="4")):
            found = explain(*sentinels)
            sent = plain(found, unix_instant)
            self.assertEqual(decoded(Explanation, sent), found)

    def test_journal(self) -> None:
        """The data of a record may be texts, numbers or nothing."""
        data = (("votes", 3), ("leader", "ab"), ("address", None))
        record = JournalRecord(1, NOW, "elected", NAME, 5, None, None, "elected", data)
        self.assertEqual(decoded(JournalRecord, plain(record, unix_instant)), record)

    def test_bytes(self) -> None:
        """Texts of replies are bytes, also as keys."""
        self.assertEqual(
            plain_reply({b"a": [b"\xff", 1, None, True, {b"b": 1.5}]}), {"a": ["\udcff", 1, None, True, {"b": 1.5}]}
        )

    def test_other_versions(self) -> None:
        """Unknown fields are ignored; missing ones are empty; a wrong type is refused with its path."""
        sent = plain(explain(*group()), unix_instant)
        assert isinstance(sent, dict)
        del sent["timers"]
        sent["new"] = 5
        self.assertEqual(decoded(Explanation, sent).timers, ())
        sent["phase"] = "dancing"
        self.assertIn("Explanation.phase: 'dancing'", str(self.assertRaises(UnknownForm, decoded, Explanation, sent)))
        sent["phase"] = "watching"
        sent["replicas"] = [{"name": 5}]
        error = self.assertRaises(UnknownForm, decoded, Explanation, sent)
        self.assertIn("Explanation.replicas[0].name: unexpected 5", str(error))
        self.assertRaises(UnknownForm, decoded, Explanation, [])
