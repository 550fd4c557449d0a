"""Evaluation of histories, logs and hellos."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.outside.failovers import Outage, Promotion, is_reached, needless, outages
from tests.outside.outcomes import (
    AFTER_FAULT,
    UNAFFECTED,
    Outcome,
    Read,
    Span,
    Write,
    count_lost_by_fault,
    count_writes,
    load,
    save,
    unwritable,
)
from tests.outside.plan import (
    GENERAL_FAULTS,
    GUARDED_FAULTS,
    SENTINEL_ERRORS,
    SERVER_ERRORS,
    Fault,
    FaultType,
    Participants,
    both,
)
from tests.outside.vote_logs import Election, Vote, configuration_faults, election_faults, read_log, vote_faults

US, THEM = "a" * 40, "b" * 40


def write(member: str, outcome: Outcome = Outcome.ACKNOWLEDGED, at: float = 0.0, server: int = 1) -> Write:
    """Return a write that was answered at once."""
    return Write(member, server, at, at, outcome)


class LedgerTests(SynchronousTestCase):
    """Counting writes."""

    def test_every_outcome(self) -> None:
        """Each write is counted by its outcome: present, lost, refused, unknown, or written by no client."""
        writes = [
            write("kept"),
            write("lost"),
            write("refused", Outcome.FAILED),
            write("sneaked in", Outcome.FAILED),
            write("came through", Outcome.UNKNOWN),
            write("did not", Outcome.UNKNOWN),
        ]
        counted = count_writes(writes, {"kept", "sneaked in", "came through", "nobody's"})
        self.assertEqual((counted.acknowledged, counted.failed, counted.unknown), (2, 2, 2))
        self.assertEqual(counted.lost, [writes[1]])
        self.assertEqual(counted.refused_present, [writes[3]])
        self.assertEqual(counted.unknown_present, 1)
        self.assertEqual(counted.unwritten, ["nobody's"])

    def test_time_without_a_master(self) -> None:
        """Gaps between writes that are still present add up, at both ends too; lost and refused writes end no gap."""
        writes = [
            write("a", at=1.0),
            write("b", at=1.2),
            write("lost", at=3.0),
            write("refused", Outcome.FAILED, at=4.0),
            write("c", at=5.2),
        ]
        self.assertAlmostEqual(unwritable(writes, {"a", "b", "c", "refused"}, 0.5, 5.3, 0.25), 0.5 + 4.0)

    def test_no_writes(self) -> None:
        """Without any write the whole time counts; writes outside of it end no gap."""
        self.assertEqual(unwritable([write("early", at=0.5)], {"early"}, 1.0, 3.0, 0.25), 2.0)

    def test_lost_by_fault(self) -> None:
        """A lost write is counted for each fault that affected its server then, or shortly after, and for no other."""
        spans = [Span("kill", 1, 10.0, 12.0), Span("outbound", 1, 11.5, 13.0), Span("inbound", 2, 10.0, 12.0)]
        lost = [write("before", at=9.5), write("amid", at=11.9), write("long before", at=5.0), write("late", at=13.5)]
        self.assertEqual(count_lost_by_fault(lost, spans), {"kill": 2, "outbound": 1, UNAFFECTED: 1, AFTER_FAULT: 1})

    def test_saved_histories(self) -> None:
        """Histories are read as they were saved."""
        path = Path(self.mktemp())
        writes = [write("a"), Write("b", 7, 1.0, 2.5, Outcome.UNKNOWN, "timed out")]
        reads = [Read("a", 7, 3.0, False)]
        save(path, writes, reads)
        self.assertEqual(load(path), (writes, reads))


class VoteLogTests(SynchronousTestCase):
    """Evaluation of logs and hellos."""

    def line(self, event: str) -> str:
        """Return a line of a log."""
        return f"4711:X 21 Nov 2026 02:53:55.881 # {event}\n"

    def test_log(self) -> None:
        """Votes, elections with their epochs, and promotions are found in either kind of log."""
        log = (
            self.line(f"+vote-for-leader {THEM} 3")
            + self.line(f"+vote-for-leader {US} 4")
            + self.line("+elected-leader master mymaster 127.0.0.11 7000")
            + self.line("+promoted-slave slave 127.0.0.12:7001 127.0.0.12 7001 @ mymaster 127.0.0.11 7000")
        )
        vote_logs = read_log("ours", US, log)
        self.assertEqual(vote_logs.votes, [Vote(THEM, 3), Vote(US, 4)])
        self.assertEqual(vote_logs.elections, [Election("ours", 4)])
        at = datetime(2026, 11, 21, 2, 53, 55, 881_000).timestamp()
        self.assertEqual(vote_logs.promotions, [Promotion(at, 7000)])

    def test_elected_without_campaign(self) -> None:
        """An election without a campaign is an error."""
        self.assertRaises(ValueError, read_log, "ours", US, self.line("+elected-leader master m 127.0.0.1 1"))

    def test_votes_rise(self) -> None:
        """A second vote in an epoch is a violation, and so is one in an older epoch."""
        self.assertEqual(vote_faults("s", [Vote(US, 1), Vote(THEM, 2)]), [])
        self.assertEqual(len(vote_faults("s", [Vote(US, 1), Vote(THEM, 1)])), 1)
        self.assertEqual(len(vote_faults("s", [Vote(US, 2), Vote(US, 1)])), 1)

    def test_one_leader_an_epoch(self) -> None:
        """Two leaders of one epoch are a violation; of different epochs they are not."""
        self.assertEqual(election_faults([Election("a", 1), Election("b", 2)]), [])
        self.assertEqual(election_faults([Election("a", 1), Election("b", 1)]), ["a and b were elected for epoch 1"])

    def test_one_address_an_epoch(self) -> None:
        """A config epoch that is announced with two addresses, by any Sentinels, is a violation."""
        hello = "127.0.0.21,26379,{},5,mymaster,127.0.0.{},7000,{}"
        fine = [hello.format(US, 11, 0), hello.format(THEM, 11, 0), hello.format(US, 12, 3), "something else"]
        self.assertEqual(configuration_faults(fine), [])
        self.assertEqual(
            configuration_faults([*fine, hello.format(THEM, 13, 3)]),
            ["config epoch 3 was given to 127.0.0.12:7000 and 127.0.0.13:7000"],
        )


class FailoverTests(SynchronousTestCase):
    """Which failovers were needed."""

    participants = Participants()
    sentinels = participants.sentinel_names

    def outages(self, *plan: Fault) -> list[Outage]:
        """Return the outages of a plan under a quorum of two of three Sentinels."""
        return outages(plan, self.participants.servers, self.sentinels, 2)

    def test_stopped_servers(self) -> None:
        """A server that is dead, stopped, or behind a closed port is out, for the time of the fault only."""
        for kind in (FaultType.KILL, FaultType.FREEZE, FaultType.EMPTY_RESTART, FaultType.CLOSE_PORT):
            self.assertEqual(self.outages(Fault(kind, 1.0, 2.0, ("master",))), [Outage("master", 1.0, 3.0)])
        self.assertEqual(self.outages(Fault(FaultType.KILL, 1.0, 2.0, ("sentinel-1",))), [])

    def test_separated_from_a_quorum(self) -> None:
        """A server is out while a quorum of Sentinels is separated from it, in any direction, by one fault or more."""
        one = Fault(FaultType.PAIRS, 0.0, 4.0, ("master", "sentinel-1"), both([("master", "sentinel-1")]))
        other = Fault(FaultType.REFUSE, 2.0, 4.0, ("master",), (("sentinel-2", "master"),))
        self.assertEqual(self.outages(one), [])
        self.assertEqual(self.outages(one, other), [Outage("master", 2.0, 4.0)])

    def test_slow_and_reset_connections(self) -> None:
        """Delays, and connections that can be made again, separate nobody."""
        routes = both(("master", sentinel) for sentinel in self.sentinels)
        for kind in (FaultType.DELAY, FaultType.RESET):
            self.assertEqual(self.outages(Fault(kind, 0.0, 4.0, ("master",), routes, 0.5)), [])

    def test_rejection(self) -> None:
        """A server that rejects all is out; one that rejects the Sentinels serves its clients."""
        routes = tuple((sentinel, "master") for sentinel in self.sentinels)
        for error in SENTINEL_ERRORS + SERVER_ERRORS:
            found = self.outages(Fault(FaultType.REJECT, 0.0, 4.0, ("master",), routes, error=error))
            self.assertEqual(bool(found), error in SERVER_ERRORS, error)

    def test_every_kind_is_judged(self) -> None:
        """Each kind that affects the master from all Sentinels is an outage, except those that leave it usable."""
        routes = both(("master", sentinel) for sentinel in self.sentinels)
        usable = {
            kind
            for kind in GENERAL_FAULTS + GUARDED_FAULTS
            if not self.outages(Fault(kind, 0.0, 4.0, ("master",), routes, error=SENTINEL_ERRORS[0]))
        }
        self.assertEqual(usable, {FaultType.DELAY, FaultType.RESET, FaultType.REJECT})

    def test_reached(self) -> None:
        """A server is reached if one Sentinel runs and no route between the two is impaired, in either direction."""
        cut = [
            Fault(FaultType.ONE_WAY, 0.0, 1.0, ("master", sentinel), routes)
            for sentinel, routes in (
                ("sentinel-1", (("sentinel-1", "master"),)),
                ("sentinel-2", (("master", "sentinel-2"),)),
            )
        ]
        self.assertTrue(is_reached("master", cut, self.sentinels))
        self.assertTrue(is_reached("replica-1", cut, self.sentinels))
        for kind in (FaultType.FREEZE, FaultType.KILL):
            self.assertFalse(is_reached("master", [*cut, Fault(kind, 0.0, 1.0, ("sentinel-3",))], self.sentinels))
            self.assertFalse(is_reached("master", [Fault(kind, 0.0, 1.0, ("master",))], self.sentinels))
        for kind, reached in ((FaultType.DELAY, True), (FaultType.REFUSE, False), (FaultType.REJECT, False)):
            last = Fault(kind, 0.0, 1.0, ("master",), (("sentinel-3", "master"),))
            self.assertEqual(is_reached("master", [*cut, last], self.sentinels), reached, kind)

    def test_needless(self) -> None:
        """A promotion is needed if the server that it replaced was out then, or shortly before."""
        found = [Outage("master", 1.0, 3.0)]
        ports = {7000: "master", 7001: "replica-1"}
        promotions = [Promotion(100.0 + at, 7000) for at in (0.5, 1.5, 4.0, 9.0)] + [Promotion(102.0, 7001)]
        self.assertEqual([needless([each], found, ports, 100.0) for each in promotions], [1, 0, 0, 1, 1])
        self.assertEqual(needless(promotions, found, ports, 100.0), 3)
