"""Leases of votes, over Sentinels in memory that vote as C Sentinels do."""

from __future__ import annotations

from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from tests.remote.samples import NAME, SENTINELS, fleet, master_report, peer, sentinel, unreachable
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.connection import ConnectionFailed, ConnectionSettings, RemoteConnection
from txsentinel.remote.reports import SentinelReport
from txsentinel.remote.vote_lease import Holding, VoteLease
from txsentinel.wire.values import Reply

CANDIDATE = "f" * 40


class FakeVoter:
    """One C Sentinel: it votes once in each epoch that is not below its current one."""

    def __init__(self, epoch: int = 7) -> None:
        self.epoch = epoch
        self.leader = "?"
        self.leader_epoch = 0
        self.requests = 0
        self.lost = False
        """Whether the connections that are open are lost."""

    def close(self) -> None:
        """Note nothing: the connection has no state."""

    def __enter__(self) -> FakeVoter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.requests += 1

    def call(self, *words: str | int) -> Reply:
        """Answer a request for a vote, or PING."""
        if self.lost:
            raise ConnectionFailed("the connection was closed")
        if words == ("PING",):
            return b"PONG"
        command, subcommand, host, port, epoch, candidate = words
        assert (command, subcommand, host, port) == ("SENTINEL", "IS-MASTER-DOWN-BY-ADDR", "10.0.0.2", 6379)
        assert isinstance(epoch, int)
        self.epoch = max(self.epoch, epoch)
        if self.leader_epoch < epoch and self.epoch <= epoch:
            self.leader, self.leader_epoch = str(candidate), epoch
        return [0, self.leader.encode(), self.leader_epoch]


class LeaseTests(SynchronousTestCase):
    """One master and its Sentinels."""

    def setUp(self) -> None:
        self.voters = {Endpoint(host, 26379): FakeVoter() for host in SENTINELS}
        self.now = 100.0

    def connect(self, endpoint: Endpoint, settings: ConnectionSettings) -> RemoteConnection:
        """Connect to a voter."""
        if endpoint not in self.voters:
            raise ConnectionFailed("connection refused")
        return cast(RemoteConnection, self.voters[endpoint])

    def lease(self, *sentinels: SentinelReport) -> VoteLease:
        """Return a lease of these Sentinels, by default three C ones."""
        agreement = agreement_on(fleet(*sentinels), NAME)
        return VoteLease(agreement, ConnectionSettings(), self.connect, lambda: self.now, CANDIDATE)

    def test_restarted(self) -> None:
        """A connection that is lost, and one that is back, are reasons to renew at once; nothing else is."""
        lease = self.lease()
        lease.renew()
        self.assertEqual(lease.check_seconds, 0.3)
        self.assertEqual([lease.changed() for _ in range(3)], [False] * 3)
        endpoint = Endpoint(SENTINELS[1], 26379)
        voter = self.voters.pop(endpoint)
        voter.lost = True
        self.assertEqual([lease.changed() for _ in range(3)], [True, False, False])
        self.assertEqual(self.held(lease.renew()), 2)
        self.voters[endpoint] = FakeVoter()
        self.assertEqual([lease.changed() for _ in range(3)], [True, False, False])
        self.assertEqual(self.held(lease.renew()), 3)
        lease.close()

    def held(self, holding: Holding) -> int:
        """Return how many are held."""
        return sum(each.until is not None for each in holding.leases)

    def test_all(self) -> None:
        """All vote for the candidate in one epoch; the lease lasts for twice the failover-timeout of 60 s."""
        lease = self.lease()
        self.assertTrue(lease.possible.guaranteed)
        holding = lease.renew()
        self.assertTrue(holding.guaranteed)
        self.assertEqual((holding.until, holding.free, lease.renewal_seconds), (220.0, (), 60.0))
        self.assertEqual({(each.leader, each.leader_epoch) for each in self.voters.values()}, {(CANDIDATE, 8)})

    def test_renewal(self) -> None:
        """Each renewal takes one further epoch and one request."""
        lease = self.lease()
        lease.renew()
        self.now = 160.0
        self.assertEqual(lease.renew().until, 280.0)
        self.assertEqual({(each.leader_epoch, each.requests) for each in self.voters.values()}, {(9, 2)})

    def test_epoch_is_found(self) -> None:
        """A current epoch that is much higher is found; the others follow in the next renewal."""
        self.voters[Endpoint(SENTINELS[1], 26379)].epoch = 500
        lease = self.lease()
        self.assertTrue(lease.renew().guaranteed)
        self.assertTrue(lease.renew().guaranteed)
        self.assertEqual(len({each.leader_epoch for each in self.voters.values()}), 1)
        self.assertLess(max(each.epoch for each in self.voters.values()), 1100)

    def test_one_is_lost(self) -> None:
        """One that does not answer is free, and the two others could vote for it."""
        lease = self.lease()
        del self.voters[Endpoint(SENTINELS[2], 26379)]
        holding = lease.renew()
        self.assertFalse(holding.guaranteed)
        self.assertEqual((self.held(holding), holding.free), (2, (Endpoint(SENTINELS[2], 26379),)))
        self.assertEqual(holding.leases[2].problem, "connection refused")

    def test_ours_are_free(self) -> None:
        """A Sentinel of ours is not asked, as it refuses."""
        ours = sentinel(SENTINELS[0], kind="txsentinel", version="0.2.0")
        lease = self.lease(ours, *fleet().sentinels[1:])
        self.assertFalse(lease.possible.guaranteed)
        lease.renew()
        self.assertEqual(self.voters[Endpoint(SENTINELS[0], 26379)].requests, 0)

    def test_too_few_to_fail_over(self) -> None:
        """If too few are left for a majority, none being held, a failover is impossible anyway."""
        alone = [sentinel(SENTINELS[0], kind="txsentinel", version="0.2.0")]
        peers = [peer(each) for each in SENTINELS[1:]]
        alone[0] = sentinel(SENTINELS[0], master_report("", peers=peers), "txsentinel", "0.2.0")
        lease = self.lease(*alone, unreachable(SENTINELS[1]), unreachable(SENTINELS[2]))
        self.assertFalse(lease.possible.guaranteed)  # those that do not answer here may answer each other
        self.assertEqual(lease.possible.leases, ())

    def test_refusal(self) -> None:
        """One that never votes for an unknown Sentinel is not held."""

        class Refusing(FakeVoter):
            """It answers like one of ours."""

            def call(self, *words: str | int) -> Reply:
                return [0, b"*", 0]

        self.voters[Endpoint(SENTINELS[0], 26379)] = Refusing()
        holding = self.lease().renew()
        self.assertEqual(holding.leases[0].problem, "it does not vote for an unknown Sentinel")
        self.assertFalse(holding.guaranteed)
