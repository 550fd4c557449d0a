"""Explanations: each verdict, what is reported beside it, and that nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.core.fixture import MASTER, ME, Fixture, identity
from txsentinel.core.options import GuardOptions, Lineage
from txsentinel.core.pauses import PauseRequest
from txsentinel.core.state import StorageError
from txsentinel.model.address import Address
from txsentinel.model.explanation import Explanation, Phase, VerdictCode
from txsentinel.sim.explore.images import attribute_names

WALL: Final = 1_700_000_000_000
"""The wall clock at the beginning of a test, in milliseconds."""

SECOND = Address.literal("10.0.0.2", 6379)
THIRD = Address.literal("10.0.0.3", 6379)


def explain(fixture: Fixture) -> Explanation:
    """Explain the master of a fixture."""
    return fixture.core.explain("mymaster", fixture.now, WALL + fixture.now)


def state_of(value: object, seen: dict[int, int] | None = None) -> object:
    """Return everything that an object refers to as nested tuples."""
    seen = {} if seen is None else seen
    if value is None or isinstance(value, (bool, int, float, str, bytes, Enum)):
        return repr(value)
    if id(value) in seen:
        return ("seen", seen[id(value)])
    seen[id(value)] = len(seen)
    if isinstance(value, Mapping):
        return tuple((state_of(key, seen), state_of(each, seen)) for key, each in value.items())
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(repr(each) for each in value))
    if hasattr(value, "__iter__"):
        return tuple(state_of(each, seen) for each in value)
    if callable(value):
        return type(value).__name__
    return tuple((name, state_of(getattr(value, name), seen)) for name in attribute_names(value))


def group(peers: str = "bc", **settings: object) -> Fixture:
    """Return a master with two replicas and some peers, which has been watched for three seconds."""
    fixture = Fixture()
    for number in (2, 3):
        fixture.add_replica(number, **settings)
    for letter in peers:
        fixture.add_peer(letter)
    fixture.wait(3_000, 50)
    return fixture


def down(fixture: Fixture, milliseconds: int = 1_200) -> Fixture:
    """Kill the master, and wait until it is S_DOWN."""
    fixture.kill(MASTER)
    fixture.wait(milliseconds, 50)
    return fixture


def agreed(fixture: Fixture, letters: str = "bc") -> None:
    """Have peers consider the master down."""
    for letter in letters:
        fixture.servers[fixture.peer(letter).address].reports_down = True


def lose_peers(fixture: Fixture, letters: str) -> None:
    """Kill peers, and wait until they are S_DOWN."""
    for letter in letters:
        fixture.kill(fixture.peer(letter).address)
    fixture.wait(1_200, 50)


def healthy() -> Fixture:
    """Nothing is wrong."""
    return group()


def down_here_only() -> Fixture:
    """The peers consider the master up."""
    return down(group())


def agreed_waiting() -> Fixture:
    """Everything is ready, and the next evaluation starts the failover."""
    fixture = down(group())
    master = fixture.master
    for peer in master.peers.values():
        peer.reports_master_down = True
    master.odown_since = master.campaign_at = fixture.now
    fixture.now += 200
    return fixture


def electing() -> Fixture:
    """The peers have not answered yet."""
    fixture = group()
    fixture.master.options.quorum = 1
    for letter in "bc":
        fixture.servers[fixture.peer(letter).address].unresponsive = True
    return down(fixture)


def vote_split() -> Fixture:
    """Both peers have voted for others in the epoch of the campaign."""
    fixture = group()
    agreed(fixture)
    for letter, rival in (("b", "c"), ("c", "b")):
        fixture.servers[fixture.peer(letter).address].reply = [1, identity(rival).encode(), 1]
    fixture.kill(MASTER)
    while fixture.master.failover is None:
        fixture.wait(10)
    return fixture


def promoting() -> Fixture:
    """The replicas do not obey."""
    fixture = group(obeys=False)
    agreed(fixture)
    return down(fixture)


def switched() -> Fixture:
    """One replica does not follow the new master yet."""
    fixture = group()
    fixture.servers[THIRD].obeys = False
    agreed(fixture)
    return down(fixture)


def resting() -> Fixture:
    """An attempt failed, and the master returned."""
    fixture = lost_election()
    fixture.revive(MASTER)
    fixture.wait(1_500, 50)
    return fixture


def lost_election() -> Fixture:
    """An election was lost, as no peer votes."""
    fixture = group()
    agreed(fixture)
    for letter in "bc":
        fixture.servers[fixture.peer(letter).address].unresponsive = False
        fixture.servers[fixture.peer(letter).address].reply = [1, b"*", 0]
    down(fixture)
    fixture.wait(fixture.core.timings.election_timeout + 2_000, 50)
    return fixture


def tilt() -> Fixture:
    """The process stood still."""
    fixture = group()
    fixture.now += 5_000
    fixture.sweep()
    return fixture


def storage_failing() -> Fixture:
    """The file cannot be written."""
    fixture = group()
    agreed(fixture)
    fixture.core.commit_failed(1, fixture.now, StorageError("EACCES", "Permission denied", "/x/sentinel.conf"))
    return down(fixture)


def monitors_replica() -> Fixture:
    """The monitored address is a replica of another server."""
    fixture = Fixture()
    server = fixture.servers[MASTER]
    server.role, server.follows = "slave", Address.literal("10.0.0.9", 6379)
    for letter in "bc":
        fixture.add_peer(letter)
    fixture.wait(25_000, 100)
    return fixture


def no_replicas() -> Fixture:
    """There is no replica."""
    fixture = Fixture()
    for letter in "bc":
        fixture.add_peer(letter)
    fixture.wait(3_000, 50)
    agreed(fixture)
    return down(fixture)


def no_fit_replica() -> Fixture:
    """One replica is down, and the other one has priority 0."""
    fixture = group()
    fixture.servers[THIRD].priority = 0
    fixture.wait(11_000, 100)
    fixture.kill(SECOND)
    agreed(fixture)
    return down(fixture)


def all_priority_zero() -> Fixture:
    """All replicas have priority 0."""
    fixture = group(priority=0)
    agreed(fixture)
    return down(fixture)


def quorum_not_reached() -> Fixture:
    """Two of the quorum of three consider it down."""
    fixture = group("bcde")
    fixture.master.options.quorum = 3
    agreed(fixture, "b")
    return down(fixture)


def quorum_unreachable() -> Fixture:
    """The quorum is above the number of Sentinels."""
    fixture = group()
    fixture.master.options.quorum = 4
    agreed(fixture)
    return down(fixture)


def majority_unreachable() -> Fixture:
    """Three of five Sentinels are dead."""
    fixture = group("bcde")
    lose_peers(fixture, "cde")
    agreed(fixture, "b")
    return down(fixture)


def majority_counts_ghosts() -> Fixture:
    """Three of five Sentinels have never answered."""
    fixture = Fixture()
    for number in (2, 3):
        fixture.add_replica(number)
    fixture.add_peer("b")
    for letter in "cde":
        fixture.add_peer(letter, up=False)
        fixture.peer(letter).link.commands_since = None
        fixture.kill(fixture.peer(letter).address)
        fixture.peer(letter).link.last_reply_at = fixture.peer(letter).link.created_at
    fixture.wait(3_000, 50)
    agreed(fixture, "b")
    return down(fixture)


def voted_for_other() -> Fixture:
    """A peer got our vote and did not fail over."""
    fixture = down(group())
    fixture.core.vote_requested("10.0.0.1", 6379, 7, identity("b"), fixture.now)
    fixture.finish()
    agreed(fixture)
    fixture.wait(300, 50)
    return fixture


def lost_to_rival() -> Fixture:
    """Both peers voted for the same rival, and no failover followed."""
    fixture = group()
    agreed(fixture)
    for letter in "bc":
        fixture.servers[fixture.peer(letter).address].reply = [1, identity("b").encode(), 1]
    down(fixture)
    fixture.wait(fixture.core.timings.election_timeout + 2_000, 50)
    return fixture


def return_awaited() -> Fixture:
    """The whole group was unreachable, and the replicas are back."""
    fixture = group()
    agreed(fixture)
    for address in (MASTER, SECOND, THIRD):
        fixture.servers[address].hung = True
        fixture.servers[address].up = False
        for link in {each.link.link_id: each.link for each in fixture.core.registry.instances()}.values():
            if link.address.same(address):
                for kind in link.kinds:
                    fixture.core.link_down(link, kind, "unreachable", fixture.now)
    fixture.finish()
    fixture.wait(1_500, 50)
    fixture.revive(SECOND)
    fixture.revive(THIRD)
    fixture.wait(100, 20)
    return fixture


def not_our_turn() -> Fixture:
    """Two candidates with lower IDs campaign first."""
    fixture = group()
    fixture.core.timings.candidate_stagger = 5_000
    agreed(fixture)
    return down(fixture)


def offsets_pending() -> Fixture:
    """The replicas have not answered INFO since the master went down."""
    fixture = group("no")
    agreed(fixture, "no")
    fixture.kill(MASTER)
    fixture.wait(900, 50)
    for address in (SECOND, THIRD):
        fixture.servers[address].refuses = True
    while fixture.master.odown_since is None:
        fixture.wait(10)
    return fixture


def config_newer_elsewhere() -> Fixture:
    """A peer announces an address whose data this Sentinel does not accept."""
    fixture = group()
    fixture.master.options.guards = replace(fixture.master.options.guards, lineage=Lineage.STRICT)
    fixture.wait(100, 50)
    fixture.hello("b", Address.literal("10.0.0.8", 6379), 5)
    fixture.kill(MASTER)
    fixture.wait(1_200, 50)
    return fixture


def auth_failing() -> Fixture:
    """The password of the master is wrong."""
    fixture = group()
    fixture.servers[MASTER].ping_text = b"NOAUTH Authentication required."
    fixture.wait(1_500, 50)
    link = fixture.master.link
    fixture.core.command_refused(link, "AUTH", "WRONGPASS invalid username-password pair", fixture.now)
    return fixture


def not_permitted() -> Fixture:
    """The master does not permit PING."""
    fixture = group()
    fixture.servers[MASTER].ping_text = b"NOPERM this user has no permissions to run the 'ping' command"
    fixture.wait(1_500, 50)
    return fixture


def paused() -> Fixture:
    """An operator has paused failovers."""
    fixture = group()
    fixture.core.pauses.order("mymaster", PauseRequest(60_000), fixture.now, fixture.now)
    fixture.finish()
    agreed(fixture)
    return down(fixture)


def recently_failed_over() -> Fixture:
    """An automatic failover took place a moment ago, and is not acknowledged."""
    fixture = group()
    fixture.master.options.guards = GuardOptions(failover_block_period=600_000)
    fixture.core.failover_blocks.failed_over(fixture.master, 3, fixture.now)
    agreed(fixture)
    return down(fixture)


CASES: Final[Mapping[VerdictCode, Callable[[], Fixture]]] = {
    VerdictCode.HEALTHY: healthy,
    VerdictCode.DOWN_HERE_ONLY: down_here_only,
    VerdictCode.AGREED_WAITING: agreed_waiting,
    VerdictCode.ELECTING: electing,
    VerdictCode.VOTE_SPLIT: vote_split,
    VerdictCode.PROMOTING: promoting,
    VerdictCode.SWITCHED: switched,
    VerdictCode.RESTING: resting,
    VerdictCode.PAUSED: paused,
    VerdictCode.TILT: tilt,
    VerdictCode.STORAGE_FAILING: storage_failing,
    VerdictCode.MONITORS_REPLICA: monitors_replica,
    VerdictCode.NO_REPLICAS: no_replicas,
    VerdictCode.NO_FIT_REPLICA: no_fit_replica,
    VerdictCode.ALL_PRIORITY_ZERO: all_priority_zero,
    VerdictCode.QUORUM_NOT_REACHED: quorum_not_reached,
    VerdictCode.QUORUM_UNREACHABLE: quorum_unreachable,
    VerdictCode.MAJORITY_UNREACHABLE: majority_unreachable,
    VerdictCode.MAJORITY_COUNTS_GHOSTS: majority_counts_ghosts,
    VerdictCode.ATTEMPT_TOO_RECENT: lost_election,
    VerdictCode.VOTED_FOR_OTHER: voted_for_other,
    VerdictCode.RECENTLY_FAILED_OVER: recently_failed_over,
    VerdictCode.RETURN_AWAITED: return_awaited,
    VerdictCode.NOT_OUR_TURN: not_our_turn,
    VerdictCode.OFFSETS_PENDING: offsets_pending,
    VerdictCode.LOST_TO_RIVAL: lost_to_rival,
    VerdictCode.CONFIG_NEWER_ELSEWHERE: config_newer_elsewhere,
    VerdictCode.AUTH_FAILING: auth_failing,
    VerdictCode.NOT_PERMITTED: not_permitted,
}
"""How each verdict is reached; a new code needs a case."""


class VerdictTests(SynchronousTestCase):
    """Each verdict."""

    def test_every_code_has_a_case(self) -> None:
        """No code is left out."""
        self.assertEqual(set(CASES), set(VerdictCode))

    def test_verdicts(self) -> None:
        """Each case has its verdict, whose sentence names the master."""
        found = {code: explain(make()) for code, make in CASES.items()}
        self.assertEqual({code: code for code in CASES}, {code: each.verdict.code for code, each in found.items()})
        for code, each in found.items():
            self.assertIn("mymaster", each.verdict.text, code)
            self.assertFalse(each.verdict.text.endswith("."), each.verdict.text)

    def test_nothing_is_changed(self) -> None:
        """An explanation changes no state, emits nothing and draws no random number."""
        for code, make in CASES.items():
            fixture = make()

            def refuse(below: int) -> int:
                raise AssertionError("a random number was drawn")

            fixture.core.state.rng = refuse
            before = state_of(fixture.core)
            first = explain(fixture)
            self.assertEqual(state_of(fixture.core), before, code)
            self.assertEqual(explain(fixture), first, code)


class LogTests(SynchronousTestCase):
    """What the log has about masters that are down."""

    def lines(self, fixture: Fixture) -> list[str]:
        """Return the new lines on why there is no failover."""
        return [line for line in fixture.output() if line.startswith("note No failover of")]

    def test_change(self) -> None:
        """A reason is logged when it changes, and once a minute while it does not."""
        fixture = all_priority_zero()
        self.assertEqual(self.lines(fixture), [])
        fixture.wait(1_000, 50)
        zero = "its priority is 0"
        expected = f"no replica can be promoted (10.0.0.2:6379: {zero}; 10.0.0.3:6379: {zero})"
        self.assertEqual(self.lines(fixture), [f"note No failover of mymaster: {expected}"])
        fixture.wait(50_000, 100)
        self.assertEqual(self.lines(fixture), [])
        fixture.wait(15_000, 100)
        self.assertEqual(self.lines(fixture), [f"note No failover of mymaster: {expected}"])
        fixture.kill(SECOND)
        fixture.wait(10_000, 100)
        [line] = self.lines(fixture)
        self.assertIn("10.0.0.2:6379: it is down", line)

    def test_disagreement(self) -> None:
        """That only this Sentinel considers a master down is logged, as no event reports it."""
        fixture = down(group(), 2_500)
        [line] = self.lines(fixture)
        self.assertIn("only this Sentinel considers it down, and the quorum is 2", line)

    def test_peace(self) -> None:
        """Nothing is logged while the master is up, nor during a failover that succeeds."""
        fixture = quorum_unreachable()
        fixture.revive(MASTER)
        fixture.wait(2_000, 50)
        fixture.output()
        fixture.wait(20_000, 100)
        self.assertEqual(self.lines(fixture), [])
        fixture = group()
        agreed(fixture)
        fixture.output()
        down(fixture, 5_000)
        self.assertNotEqual(fixture.master.address, MASTER)
        self.assertEqual(self.lines(fixture), [])


class FindingTests(SynchronousTestCase):
    """Warnings that do not block a failover."""

    def check(self, fixture: Fixture, *words: str) -> None:
        """Check that one warning has all these words."""
        warnings = explain(fixture).warnings
        self.assertTrue(any(all(word in each for word in words) for each in warnings), warnings)

    def test_none(self) -> None:
        """A healthy group has none."""
        self.assertEqual(explain(group()).warnings, ())

    def test_copied_id(self) -> None:
        """Another Sentinel has our ID."""
        fixture = group()
        fixture.core.hello_received(f"10.0.1.7,26379,{ME},0,mymaster,10.0.0.1,6379,0".encode(), fixture.now)
        self.check(fixture, "10.0.1.7 port 26379", "has the ID of this one", "sentinel myid")

    def test_refusals(self) -> None:
        """A server refuses a command, until it accepts it."""
        fixture = group()
        link = fixture.master.replicas["10.0.0.2:6379"].link
        fixture.core.command_refused(link, "PUBLISH", "NOPERM no permissions", fixture.now)
        self.check(fixture, "10.0.0.2:6379", "PUBLISH: NOPERM", "lacks the permission")
        fixture.wait(5_000, 50)
        self.assertEqual(explain(fixture).warnings, ())

    def test_names(self) -> None:
        """An announced name is ignored."""
        fixture = group()
        fixture.master.ignored_addresses["a replica of mymaster at 'r.example' port 6379"] = None
        self.check(fixture, "r.example", "resolve-hostnames")

    def test_busy(self) -> None:
        """A script keeps the master busy, and SCRIPT KILL is refused."""
        fixture = group()
        fixture.servers[MASTER].ping_text = b"BUSY Redis is busy running a script."
        fixture.wait(4_000, 50)
        self.check(fixture, "10.0.0.1:6379", "busy by a script", "SCRIPT KILL was sent")

    def test_one_way(self) -> None:
        """The hellos of a peer arrive, but it cannot be reached."""
        fixture = group()
        fixture.kill(fixture.peer("b").address)
        fixture.wait(2_500, 50)
        fixture.hello("b", MASTER, 0)
        self.check(fixture, "10.0.1.98:26379", "hellos", "announce-port")

    def test_password_of_a_peer(self) -> None:
        """A peer requires another password."""
        fixture = group()
        link = fixture.peer("b").link
        fixture.core.command_refused(link, "PING", "NOAUTH Authentication required.", fixture.now)
        self.check(fixture, "10.0.1.98:26379", "NOAUTH", "requirepass")

    def test_stale_replica(self) -> None:
        """A replica has no link to the master, with the limit from which on it cannot be promoted."""
        fixture = group()
        server = fixture.servers[SECOND]
        server.link_status, server.down_for = "down", 5
        fixture.wait(11_000, 100)
        self.check(fixture, "10.0.0.2:6379", "5.0 s", "10.0 s")

    def test_no_good_replicas(self) -> None:
        """The master refuses writes."""
        fixture = group()
        fixture.servers[MASTER].extra = ["min_slaves_good_slaves:0"]
        fixture.wait(11_000, 100)
        self.check(fixture, "10.0.0.1:6379", "refuses writes", "min-replicas-to-write")


class PartTests(SynchronousTestCase):
    """The parts of an explanation."""

    def test_last_election(self) -> None:
        """The last election outlives its failover, with the answer of each voter."""
        found = explain(lost_to_rival()).election
        assert found is not None
        self.assertEqual((found.epoch, found.outcome, found.needed, found.mine), (1, "lost", 2, 1))
        self.assertEqual([each.vote for each in found.voters], [identity("b"), identity("b")])
        self.assertIn("a C Sentinel gives no reason", found.voters[0].reason or "")

    def test_phases(self) -> None:
        """The phase of each state."""
        phases = {
            healthy: Phase.WATCHING,
            down_here_only: Phase.AGREEING,
            not_our_turn: Phase.CAMPAIGN_WAITING,
            lost_election: Phase.RESTING,
            electing: Phase.ELECTING,
            promoting: Phase.PROMOTING,
            switched: Phase.RECONFIGURING,
        }
        self.assertEqual({make: explain(make()).phase for make in phases}, phases)
        fixture = group()
        fixture.kill(MASTER)
        fixture.wait(700, 50)
        self.assertIs(explain(fixture).phase, Phase.SUSPECTING)

    def test_peace(self) -> None:
        """While the master is up, the explanation states what would block a failover, and what would be promoted."""
        fixture = all_priority_zero()
        fixture.revive(MASTER)
        fixture.wait(3_000, 50)
        found = explain(fixture)
        self.assertIs(found.verdict.code, VerdictCode.HEALTHY)
        self.assertEqual([each.code for each in found.blocked_by], [VerdictCode.ALL_PRIORITY_ZERO])
        self.assertIsNone(found.would_promote)
        self.assertEqual(found.unblock[0].command, "CONFIG SET replica-priority 100")

    def test_limits_are_shown(self) -> None:
        """The text follows the limit that decides."""
        fixture = group()
        for number in (SECOND, THIRD):
            fixture.servers[number].link_status, fixture.servers[number].down_for = "down", 500
        agreed(fixture)
        fixture.wait(11_000, 100)
        down(fixture)
        before = explain(fixture).verdict.text
        self.assertIn("it was without its master for 500000 ms (the limit is 11", before)
        fixture.master.options.down_after *= 2
        self.assertIn("it was without its master for 500000 ms (the limit is 21", explain(fixture).verdict.text)
