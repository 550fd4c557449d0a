"""Discovery of Sentinels, their agreement, and the choice of a replica."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.remote.samples import (
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
from txsentinel.model.explanation import UnfitCode
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.fitness import fitness_of, preferred_because
from txsentinel.remote.fleet import collect
from txsentinel.remote.reports import InstanceReport, SentinelReport


def answering(*reports: SentinelReport) -> Callable[[Endpoint], SentinelReport]:
    """Return a reader of these Sentinels; others refuse connections."""
    found = {each.endpoint: each for each in reports}

    def read(endpoint: Endpoint) -> SentinelReport:
        return found.get(endpoint) or SentinelReport(endpoint, problem="connection refused")

    return read


def at(host: str) -> Endpoint:
    """The address of a Sentinel."""
    return Endpoint(host, 26379)


class DiscoveryTests(SynchronousTestCase):
    """From one address to the whole group."""

    def test_all_are_found(self) -> None:
        """Sentinels that one names are read, too, and returned in the order of their addresses."""
        hosts = ("10.0.0.9", "10.0.0.10", "10.0.0.100")
        peers = [peer(each) for each in hosts]
        reports = [
            sentinel(each, master_report(each, peers=[p for p in peers if p.endpoint.host != each])) for each in hosts
        ]
        found = collect([at("10.0.0.100")], answering(*reports))
        self.assertEqual([each.endpoint.host for each in found.sentinels], list(hosts))

    def test_an_unreachable_one_is_shown(self) -> None:
        """It has its reason, the ID that others know, and hides nobody."""
        found = collect([at(SENTINELS[0])], answering(sentinel(SENTINELS[0]), sentinel(SENTINELS[2])))
        self.assertEqual([each.reachable for each in found.sentinels], [True, True, False])
        self.assertEqual(
            (found.sentinels[2].problem, found.sentinels[2].sentinel_id), ("connection refused", f"{12:0>40}")
        )
        self.assertEqual(len(found.of_master(NAME)), 3)

    def test_without_discovery(self) -> None:
        """Only the given addresses are read."""
        found = collect([at(SENTINELS[0])], answering(*(sentinel(each) for each in SENTINELS)), discover=False)
        self.assertEqual(len(found.sentinels), 1)

    def test_two_addresses_of_one(self) -> None:
        """A Sentinel that is given by a name, and named by its address, is returned once."""
        named = sentinel(SENTINELS[0])
        other = SentinelReport(Endpoint("localhost", 26379), named.identity, named.masters, None, named.sentinel_id)
        found = collect([other.endpoint], answering(other, *(sentinel(each) for each in SENTINELS)))
        self.assertEqual(
            sorted(each.endpoint.host for each in found.sentinels), ["10.0.0.12", "10.0.0.13", "localhost"]
        )

    def test_endless_names(self) -> None:
        """A hostile Sentinel that names others without end is stopped."""

        def read(endpoint: Endpoint) -> SentinelReport:
            count = endpoint.port * 10
            peers = [peer("10.9.9.9", port=str(count + each), runid=f"{count + each:040}") for each in range(10)]
            return (
                sentinel("10.9.9.9", master_report("", peers=peers))
                if endpoint.port == 26379
                else SentinelReport(
                    endpoint, None, {NAME: master_report("", peers=peers)}, None, f"{endpoint.port:040}"
                )
            )

        found = collect([Endpoint("10.9.9.9", 1)], read)
        self.assertLessEqual(len(found.sentinels), 500)
        self.assertGreater(len(found.sentinels), 400)


class AgreementTests(SynchronousTestCase):
    """Which address the Sentinels have."""

    def test_sound(self) -> None:
        """All agree."""
        found = agreement_on(fleet(), NAME)
        self.assertEqual((str(found.endpoint), found.epoch, found.quorum, found.known), ("10.0.0.2:6379", 7, 2, 3))
        self.assertTrue(found.agreed and found.complete)
        self.assertEqual(found.drifts, ())

    def test_a_newer_epoch_counts(self) -> None:
        """One Sentinel with a newer address is right, but not a majority."""
        newer = sentinel(SENTINELS[2], ip="10.0.0.1", config_epoch="8")
        found = agreement_on(fleet(sentinel(SENTINELS[0]), sentinel(SENTINELS[1]), newer), NAME)
        self.assertEqual((str(found.endpoint), len(found.naming)), ("10.0.0.1:6379", 1))
        self.assertFalse(found.agreed)

    def test_ghosts_count(self) -> None:
        """Sentinels that do not answer raise the majority."""
        ghosts = [peer(f"10.0.0.{number}") for number in range(20, 24)]
        reports = [sentinel(each, master_report(each, peers=ghosts)) for each in SENTINELS]
        found = agreement_on(fleet(*reports), NAME)
        self.assertEqual((found.known, found.majority, found.agreed), (5, 3, True))
        found = agreement_on(fleet(*reports[:2], *(unreachable(each.endpoint.host) for each in ghosts)), NAME)
        self.assertEqual((found.known, found.majority, found.agreed), (6, 4, False))

    def test_unknown(self) -> None:
        """A name that nobody monitors has no address."""
        self.assertIsNone(agreement_on(fleet(), "other").endpoint)

    def test_drift(self) -> None:
        """The Sentinel with another value is named; without a usual value all are."""
        odd = sentinel(SENTINELS[2], quorum="3", notification_script="/x")
        drifts = agreement_on(fleet(sentinel(SENTINELS[0]), sentinel(SENTINELS[1]), odd), NAME).drifts
        self.assertEqual(
            [(each.setting, each.usual, each.different) for each in drifts],
            [("quorum", "2", (at(SENTINELS[2]),)), ("notification-script", "", (at(SENTINELS[2]),))],
        )
        (drift,) = agreement_on(fleet(sentinel(SENTINELS[0]), sentinel(SENTINELS[1], quorum="1")), NAME).drifts
        self.assertEqual((drift.usual, len(drift.different)), (None, 2))

    def test_down_is_not_complete(self) -> None:
        """Agreement on an address of a master that is down is not complete."""
        reports = [sentinel(each, flags="master,s_down,o_down") for each in SENTINELS]
        found = agreement_on(fleet(*reports), NAME)
        self.assertTrue(found.agreed)
        self.assertFalse(found.complete)


class FitnessTests(SynchronousTestCase):
    """The rules of C Sentinels."""

    def unfit(self, master: dict[str, str] | None = None, **changed: str) -> object:
        """Return the reason why a replica with these fields is unfit."""
        (found,) = fitness_of(master_report("", master, [replica("10.0.0.1", **changed)]))
        return None if found.unfit is None else (found.unfit.code, found.unfit.measured, found.unfit.limit)

    def test_reasons(self) -> None:
        """Each reason has its code and its numbers; values at the limit are fit."""
        down = master_fields(flags="master,s_down,o_down", s_down_time="4000")
        suspected = master_fields(flags="master,s_down", s_down_time="4000")
        self.assertEqual(self.unfit(flags="slave,s_down", s_down_time="9"), (UnfitCode.DOWN, 9, None))
        self.assertEqual(self.unfit(flags="slave,disconnected"), (UnfitCode.DISCONNECTED, None, None))
        self.assertEqual(self.unfit(last_ok_ping_reply="5001"), (UnfitCode.SILENT, 5001, 5000))
        self.assertIsNone(self.unfit(last_ok_ping_reply="5000"))
        self.assertEqual(self.unfit(slave_priority="0"), (UnfitCode.PRIORITY_ZERO, None, None))
        self.assertEqual(self.unfit(runid=""), (UnfitCode.NO_INFO, None, None))
        self.assertEqual(self.unfit(info_refresh="30001"), (UnfitCode.STALE_INFO, 30001, 30000))
        self.assertEqual(self.unfit(down, info_refresh="5001"), (UnfitCode.STALE_INFO, 5001, 5000))
        self.assertIsNone(self.unfit(info_refresh="5001"))
        self.assertIsNone(self.unfit(suspected, info_refresh="5001"))
        late = UnfitCode.MASTER_LINK_DOWN_TOO_LONG
        self.assertEqual(self.unfit(master_link_down_time="15001"), (late, 15001, 15000))
        self.assertEqual(self.unfit(down, master_link_down_time="19001"), (late, 19001, 19000))
        self.assertIsNone(self.unfit(down, master_link_down_time="19000"))

    def order(self, *replicas: InstanceReport) -> tuple[list[str], str | None]:
        """Return the hosts in the order of promotion, and why the first is before the second."""
        found = fitness_of(master_report("", replicas=replicas))
        return [each.address.host for each in found if each.fit], preferred_because(found)

    def test_order(self) -> None:
        """Priority, then data, then the run ID."""
        low = replica("10.0.0.1", slave_priority="10", slave_repl_offset="1")
        much = replica("10.0.0.4", slave_repl_offset="5215900")
        self.assertEqual(
            self.order(replica("10.0.0.3"), much, low),
            (["10.0.0.1", "10.0.0.4", "10.0.0.3"], "its priority is 10, that of the next one 100"),
        )
        self.assertEqual(self.order(replica("10.0.0.3"), much)[1], "it has 31 bytes more than the next one")
        self.assertEqual(
            self.order(replica("10.0.0.9"), replica("10.0.0.3")),
            (["10.0.0.3", "10.0.0.9"], "its run ID is the first of equal ones"),
        )
        self.assertEqual(self.order(much)[1], "it is the only fit one")
        self.assertEqual(self.order(), ([], None))
