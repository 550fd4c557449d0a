"""
A Sentinel for the tests of extensions: a view and an operator made of frozen records.

It has three masters: ``mymaster`` is well, ``sessions`` is being failed over, and ``queue`` does not answer to this
Sentinel, which reaches no other one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from tests.model import records
from tests.model.records import RECORD
from txsentinel.interfaces import CommandRefused, IOperator, ISentinelView
from txsentinel.model.comparison import Difference, DifferenceKind, GroupComparison
from txsentinel.model.doctor import Finding, GroupHealth, Severity
from txsentinel.model.events import SentinelEvent
from txsentinel.model.explanation import (
    Agreement,
    AgreementVoter,
    Block,
    Evidence,
    Explanation,
    FleetOpinion,
    JournalRecord,
    Phase,
    Remedy,
    ReplicaFitness,
    ReplicaView,
    SdownState,
    Timer,
    Unfit,
    UnfitCode,
    Verdict,
    VerdictCode,
)
from txsentinel.model.history import (
    DataLoss,
    FailoverRecord,
    LossVerdict,
    PhaseTime,
    ReplicaRecord,
    ServerRecord,
    VoterRecord,
    failover_group,
)
from txsentinel.model.measurements import Histogram, Measurements, MeasurementsState
from txsentinel.model.publications import (
    LAG_BOUNDS,
    MasterPublication,
    PublisherRegistry,
    PublisherState,
    PublishOutcome,
)
from txsentinel.model.snapshots import (
    CommandRefusal,
    Endpoint,
    FailoverSnapshot,
    FailureReport,
    Instant,
    LoadState,
    MasterSettings,
    MasterSnapshot,
    PeerSnapshot,
    Principal,
    ProbeTimes,
    ReplicaSnapshot,
    SentinelSnapshot,
    StorageState,
    TiltState,
    ViewChange,
)
from txsentinel.model.timings import Millis

START_MS = 1_800_000_000_000
"""The start of the Sentinel on the wall clock: 2027-01-15T08:00:00Z."""

OWN_ID = "a" * 40
PEER_IDS = ("b" * 40, "c" * 40)


def instant(seconds: float) -> Instant:
    """Return the point in time some seconds after the start of the Sentinel."""
    return Instant(START_MS + int(seconds * 1000))


REFUSED = FailureReport("refused", "Connection refused", instant(50))


def sentinel_snapshot() -> SentinelSnapshot:
    """A Sentinel that has run for a minute."""
    return SentinelSnapshot(
        version="0.1.0",
        build="pure",
        run_id="d" * 40,
        sentinel_id=OWN_ID,
        pid=4242,
        started_at=instant(0),
        uptime_ms=60_000,
        listens=("127.0.0.1:26379",),
        current_epoch=7,
        tilt=TiltState(False, None, None, None, 0),
        storage=StorageState("ok", None, 12, 12, 0),
        masters=3,
        stopping=False,
    )


def settings(quorum: int = 2) -> MasterSettings:
    """The settings that a master has by default, with a faster ``down-after-milliseconds``."""
    return replace(records.SETTINGS, quorum=quorum, failover_timeout_ms=180_000)


def replica(host: str, port: int = 6379, *, master: Endpoint | None = None) -> ReplicaSnapshot:
    """A replica that is up and has all data."""
    address = Endpoint(host, port)
    return replace(
        records.REPLICA,
        name=str(address),
        address=address,
        run_id=None,
        master_address=master,
        replid="e" * 40,
        would_be_promoted=False,
    )


def peer(sentinel_id: str, host: str, kind: str = "txsentinel") -> PeerSnapshot:
    """Another Sentinel that is up and considers the master up."""
    return replace(
        records.PEER,
        sentinel_id=sentinel_id,
        address=Endpoint(host, 26379),
        kind=kind,
        acknowledges=True if kind == "txsentinel" else None,
    )


def healthy_master(name: str = "mymaster", host: str = "10.0.0.1") -> MasterSnapshot:
    """A master that is up, with two replicas, of which one must not be promoted, and two other Sentinels."""
    address = Endpoint(host, 6379)
    return replace(
        records.MASTER,
        name=name,
        address=address,
        run_id="f" * 40,
        switched_at=instant(10),
        replid="e" * 40,
        voters=3,
        voters_reachable=3,
        ok_replicas=2,
        ok_sentinels=3,
        settings=settings(),
        replicas=(
            replace(replica("10.0.0.2", master=address), would_be_promoted=True),
            replace(
                replica("10.0.0.3", master=address),
                master_link_up=False,
                master_link_down_ms=61_000,
                priority=0,
                offset=4_000_000,
                lag_bytes=1_215_869,
                fit=False,
                unfit_code="priority_zero",
                unfit_text="its priority is 0",
            ),
        ),
        peers=(peer(PEER_IDS[0], "10.0.0.12"), peer(PEER_IDS[1], "10.0.0.13", "c")),
    )


def switching_master() -> MasterSnapshot:
    """A master that is down by agreement while this Sentinel waits for the promotion of a replica."""
    address = Endpoint("10.0.1.1", 6379)
    promoted = replica("10.0.1.2", master=address)
    return replace(
        healthy_master("sessions", "10.0.1.1"),
        flags=("s_down", "o_down", "master", "disconnected", "failover_in_progress"),
        status="odown",
        sdown_since=instant(50),
        odown_since=instant(51),
        connected=False,
        failure=REFUSED,
        offset=None,
        failover=FailoverSnapshot("wait_promotion", 8, instant(52), False, False, promoted.name),
        replicas=(replace(promoted, flags=("slave", "promoted"), lag_bytes=None),),
        ok_replicas=1,
        peers=(replace(peer(PEER_IDS[0], "10.0.0.12"), reports_master_down=True, voted_leader=OWN_ID, voted_epoch=8),),
        voters=2,
        voters_reachable=2,
        ok_sentinels=2,
        verdict="promoting",
    )


def isolated_master() -> MasterSnapshot:
    """A master without replicas that does not answer; neither do the two other Sentinels."""
    down = FailureReport("timeout", "no answer for 5000 ms", instant(40))
    silent = [
        replace(peer(each, host), flags=("s_down", "sentinel"), sdown_since=instant(45), connected=False, failure=down)
        for each, host in zip(PEER_IDS, ("10.0.0.12", "10.0.0.13"), strict=True)
    ]
    return replace(
        healthy_master("queue"),
        address=Endpoint("2001:db8::5", 6390),
        run_id=None,
        flags=("s_down", "master", "disconnected"),
        status="sdown",
        sdown_since=instant(45),
        connected=False,
        failure=down,
        config_epoch=0,
        switched_at=None,
        offset=None,
        replid=None,
        voters_reachable=1,
        ok_replicas=0,
        ok_sentinels=1,
        replicas=(),
        peers=tuple(silent),
        verdict="majority_unreachable",
    )


def load_state() -> LoadState:
    """A Sentinel whose last sweep was 100 ms before the end of its first minute."""
    return LoadState(
        swept_at=instant(59.9),
        sweep_period_ms=1_000,
        clients=5,
        commands_processed=1_234,
        rejected_connections=0,
        pending_scripts=0,
        running_scripts=0,
        links=9,
        simulated_failures=0,
        scheduled_operations=2,
    )


def journal_records(name: str) -> tuple[JournalRecord, ...]:
    """Three records: down, down by agreement, and our vote."""
    return (
        JournalRecord(1, instant(50), "sdown", name, None, None, None, "no acceptable answer for 5000 ms"),
        JournalRecord(2, instant(51), "odown", name, None, None, None, "2 of 2 Sentinels agree"),
        JournalRecord(3, instant(52), "vote-given", name, 8, OWN_ID, None, "own vote", (("stagger_ms", 12),)),
    )


def failover_record(name: str = "mymaster", epoch: int = 7) -> FailoverRecord:
    """An automatic failover of ten seconds after the start that lost 42 bytes."""
    old = ServerRecord(Endpoint("10.0.0.9", 6379), None, "e" * 40, 5_000_042, 100)
    new = ServerRecord(Endpoint("10.0.0.1", 6379), "f" * 40, "e" * 40, 5_000_000, 100)
    return replace(
        RECORD,
        record_id=f"01JE0000000000000000000{epoch:03}",
        group=failover_group(name, epoch),
        master=name,
        from_server=old,
        to_server=new,
        epoch=epoch,
        config_epoch=epoch,
        phases=(
            PhaseTime("sdown", instant(8), None),
            PhaseTime("odown", instant(8.5), 500),
            PhaseTime("elected", instant(9), 500),
            PhaseTime("switched", instant(10), 1_000),
        ),
        voters=(VoterRecord(PEER_IDS[0], "txsentinel", instant(8.6), instant(8.7), OWN_ID, epoch, None),),
        replicas=(ReplicaRecord(Endpoint("10.0.0.1", 6379), 5_000_000, 42, 100, 1, None),),
        loss=DataLoss(LossVerdict.LOST, 42, 5_000_000, 5_000_042, "the old master had 42 bytes more"),
        ack=None,
    )


def publisher_state() -> PublisherState:
    """A publisher that published one master, failed to publish another one, and is in conflict about the third."""
    address = Endpoint("10.0.0.1", 6379)
    lag = Histogram(LAG_BOUNDS)
    lag.observe(40)
    masters = (
        MasterPublication("mymaster", address, 7, PublishOutcome.FAILED, None, instant(0), 3, "refused"),
        MasterPublication("sessions", address, 7, PublishOutcome.PUBLISHED, instant(1), None, 0, None),
        MasterPublication("queue", address, 0, PublishOutcome.CONFLICT, instant(1), None, 0, "it has 10.0.0.9:6379"),
    )
    return PublisherState("etcd", "10.0.0.5:2379", masters, {"published": 1, "failed": 3, "conflict": 1}, lag.state())


def explanation(master: MasterSnapshot) -> Explanation:
    """The explanation that fits the snapshot in what the tests of extensions need."""
    down = master.sdown_since is not None
    return Explanation(
        verdict=Verdict(VerdictCode(master.verdict), f"the state of {master.name} is {master.status}"),
        asked_at=instant(60),
        by=OWN_ID,
        master=master.name,
        address=master.address,
        config_epoch=master.config_epoch,
        phase=Phase.PROMOTING if master.failover else Phase.SUSPECTING if down else Phase.WATCHING,
        evidence=Evidence(
            instant(49 if down else 60),
            instant(49 if down else 60),
            instant(49 if down else 59),
            master.connected,
            master.failure,
            None,
            "none",
            tuple(
                ReplicaView(each.name, each.master_link_up, each.master_link_down_ms, 900) for each in master.replicas
            ),
        ),
        sdown=SdownState(master.sdown_since, 5_000, "no acceptable answer for 5000 ms" if down else None),
        agreement=Agreement(
            master.settings.quorum,
            int(down),
            master.odown_since,
            (AgreementVoter(OWN_ID, None, "self", True, master.sdown_since, master.failure, down, None, None),),
        ),
        election=None,
        replicas=tuple(
            ReplicaFitness(
                each.name,
                each.address,
                each.fit,
                None if each.unfit_code is None else Unfit(UnfitCode(each.unfit_code), each.unfit_text or ""),
                each.priority,
                each.offset,
                each.run_id,
                1 if each.fit else None,
            )
            for each in master.replicas
        ),
        timers=(Timer("failover-timeout", instant(240), 180_000),) if master.failover else (),
        blocked_by=(Block(VerdictCode.MAJORITY_UNREACHABLE, "1 of 2 needed Sentinels can be reached"),)
        if master.verdict == "majority_unreachable"
        else (),
        unblock=(Remedy("start the Sentinel at 10.0.0.12:26379", PEER_IDS[0]),)
        if master.verdict == "majority_unreachable"
        else (),
        would_promote=next((each.name for each in master.replicas if each.would_be_promoted), None),
        would_promote_because=None,
        journal=journal_records(master.name),
    )


@implementer(ISentinelView)
class FakeView:
    """A view whose state the test sets: the attributes ``sentinel`` to ``journals``, and masters by :meth:`put`."""

    def __init__(self, *masters: MasterSnapshot) -> None:
        self.sentinel = sentinel_snapshot()
        self.publishers = PublisherRegistry()
        self.load_now = load_state()
        self.measured = Measurements()
        self.records: list[FailoverRecord] = [failover_record(epoch=7), failover_record(epoch=5)]
        self.journals: dict[str, tuple[JournalRecord, ...]] = {}
        self.explained: list[str] = []
        """The masters that were explained."""

        self.compared: list[str] = []
        """The masters of which groups were compared."""

        self.differences: tuple[Difference, ...] = (
            Difference(PEER_IDS[0], Endpoint("10.0.0.12", 26379), DifferenceKind.QUORUM, "quorum", "2", "3"),
            Difference(PEER_IDS[0], Endpoint("10.0.0.12", 26379), DifferenceKind.EPOCH, "config-epoch", "7", "6"),
        )
        self.examined: list[tuple[str, bool]] = []
        self.examination_problem: Exception | None = None
        self.subscribers: list[Callable[[ViewChange], None]] = []
        self.event_subscribers: list[Callable[[ViewChange], None]] = []
        """Those that want no changes of snapshots."""

        self._masters = {each.name: each for each in masters}
        self._revision = len(masters)

    def put(self, master: MasterSnapshot) -> None:
        """Add or change a master."""
        self._revision += 1
        self._masters[master.name] = replace(master, revision=self._revision)
        self._notify(ViewChange(master.name))

    def remove(self, name: str) -> None:
        """Remove a master."""
        self._revision += 1
        del self._masters[name]
        self._notify(ViewChange(name))

    def publish(self, channel: str, payload: str, master: str | None = None) -> None:
        """Publish an event of the Sentinel."""
        self._notify(ViewChange(master, SentinelEvent(channel, payload, master)))

    def _notify(self, change: ViewChange) -> None:
        subscribers = [*self.subscribers, *(self.event_subscribers if change.event is not None else ())]
        for callback in subscribers:
            callback(change)

    def identity(self) -> SentinelSnapshot:
        """See ``ISentinelView``."""
        return replace(self.sentinel, masters=len(self._masters))

    def names(self) -> tuple[str, ...]:
        """See ``ISentinelView``."""
        return tuple(self._masters)

    def masters(self, *, offsets: bool = True) -> tuple[MasterSnapshot, ...]:
        """See ``ISentinelView``."""
        return tuple(self._masters.values())

    def master(self, name: str) -> MasterSnapshot:
        """See ``ISentinelView``."""
        return self._masters[name]

    def revision(self, *, offsets: bool = True) -> int:
        """See ``ISentinelView``."""
        return self._revision

    def probe_times(self, name: str) -> Mapping[str, ProbeTimes]:
        """See ``ISentinelView``. What is connected answered a second ago, the others before they were down."""
        master = self._masters[name]
        times = {name: self._times(master.connected)}
        times.update((each.name, self._times(each.connected)) for each in master.replicas)
        times.update((each.sentinel_id, self._times(each.connected)) for each in master.peers)
        return times

    def _times(self, connected: bool) -> ProbeTimes:
        at = instant(59 if connected else 40)
        return ProbeTimes(at, at, at, at)

    def explain(self, name: str) -> Explanation:
        """See ``ISentinelView``."""
        self.explained.append(name)
        return explanation(self._masters[name])

    def explain_group(self, name: str) -> Deferred[Explanation]:
        """See ``ISentinelView``: all but the last of the other Sentinels answer, one of them differently."""
        mine = self.explain(name)
        *answering, silent = [each.sentinel_id for each in self._masters[name].peers]
        opinions = [
            FleetOpinion(each, mine.verdict.code.value, mine.address, 6, "it has epoch 6") for each in answering
        ]
        return succeed(replace(mine, fleet=tuple(opinions), missing=(silent,)))

    def compare_group(self, name: str) -> Deferred[GroupComparison]:
        """See ``ISentinelView``."""
        self.compared.append(name)
        peers = [each.sentinel_id for each in self._masters[name].peers]
        found = tuple(each for each in self.differences if each.sentinel_id in peers)
        return succeed(GroupComparison(name, instant(60), tuple(peers[:1]), ((peers[-1], "no answer in time"),), found))

    def examine_group(self, name: str, *, active: bool = False) -> Deferred[GroupHealth]:
        """See ``ISentinelView``."""
        if self.examination_problem is not None:
            return fail(self.examination_problem)
        self.examined.append((name, active))
        found = (
            Finding("D02", Severity.ERROR, name, "3 of 3 Sentinels are needed for a failover, 2 are live"),
            Finding("D13", Severity.WARNING, "10.0.0.1:6379", "min-replicas-to-write is 0", "CONFIG SET", {"value": 0}),
        )
        return succeed(GroupHealth(name, instant(60), active, found, 20, 3, 2, 3, 3))

    def journal(self, name: str, after: int = 0) -> tuple[JournalRecord, ...]:
        """See ``ISentinelView``."""
        records = self.journals.get(name) or journal_records(self._masters[name].name)
        return tuple(each for each in records if each.sequence > after)

    def history(self, name: str | None = None, limit: int = 100) -> tuple[FailoverRecord, ...]:
        """See ``ISentinelView``."""
        return tuple(each for each in self.records if name in (None, each.master))[:limit]

    def subscribe(self, callback: Callable[[ViewChange], None], *, changes: bool = True) -> Callable[[], None]:
        """See ``ISentinelView``."""
        subscribers = self.subscribers if changes else self.event_subscribers
        subscribers.append(callback)
        return lambda: subscribers.remove(callback)

    def load(self) -> LoadState:
        """See ``ISentinelView``."""
        return self.load_now

    def reply_ages(self) -> Sequence[Millis]:
        """See ``ISentinelView``: of a minute after the start."""
        return [1_000 if each.connected else 20_000 for each in self._masters.values()]

    def measurements(self) -> MeasurementsState:
        """See ``ISentinelView``."""
        return self.measured.state()


def three_masters() -> FakeView:
    """The view of the Sentinel that the module describes."""
    return FakeView(healthy_master(), switching_master(), isolated_master())


@implementer(IOperator)
class FakeOperator:
    """
    An operator that executes nothing.

    ``passwords`` has the users of the ACL; ``default`` needs none unless it has one there. ``denied`` has the users
    with commands, in lower case, that they may not execute, and ``replies`` the replies by command; others are
    answered by ``OK``.
    """

    def __init__(self) -> None:
        self.passwords: dict[str, str] = {}
        self.denied: set[tuple[str, str]] = set()
        self.replies: dict[str, object] = {}
        self.executed: list[tuple[Principal, tuple[bytes, ...]]] = []
        self.attempts: list[tuple[str, str]] = []
        """User and origin of each check of a password."""

    def run(self, principal: Principal, words: Sequence[bytes]) -> Deferred[object]:
        """See ``IOperator``."""
        refusal = self.allowed(principal, words)
        if refusal is not None:
            return fail(CommandRefused(refusal))
        self.executed.append((principal, tuple(words)))
        reply = next((self.replies[each] for each in self._commands(words) if each in self.replies), b"OK")
        if isinstance(reply, CommandRefusal):
            return fail(CommandRefused(reply))
        return reply if isinstance(reply, Deferred) else succeed(reply)

    def allowed(self, principal: Principal, words: Sequence[bytes]) -> CommandRefusal | None:
        """See ``IOperator``."""
        if any((principal.user, command) in self.denied for command in self._commands(words)):
            text = f"NOPERM User {principal.user} has no permissions to run the '{self._commands(words)[0]}' command"
            return CommandRefusal("NOPERM", text)
        return None

    def authenticate(self, user: str, password: str, origin: str) -> Principal | None:
        """See ``IOperator``."""
        self.attempts.append((user, origin))
        if self.passwords.get(user) != password:
            return None
        return Principal(user, "password", origin)

    def by_certificate(self, certificate: object, origin: str) -> Principal | None:
        """See ``IOperator``: here a certificate is the name of its user."""
        known = isinstance(certificate, str) and certificate in self.passwords
        return Principal(str(certificate), "certificate", origin) if known else None

    def anonymous(self, origin: str) -> Principal | None:
        """See ``IOperator``."""
        return None if "default" in self.passwords else Principal("default", "none", origin)

    def has_passwords(self) -> bool:
        """See ``IOperator``."""
        return bool(self.passwords)

    def _commands(self, words: Sequence[bytes]) -> tuple[str, ...]:
        """The command with its subcommand, and the command alone."""
        texts = [word.decode().lower() for word in words[:2]]
        return ("|".join(texts), texts[0])
