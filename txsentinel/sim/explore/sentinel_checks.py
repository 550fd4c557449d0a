"""
The invariants of one Sentinel, checked in every step of it; ``docs/testing.rst`` lists them.

The checker keeps records of its own, as :mod:`txsentinel.sim.checks` does. They are part of the state of the Sentinel,
survive its crashes, and are compared with what it decides, publishes, sends and saves. S3 and S5 concern the whole
group; for these it returns claims that the group compares.

Points in time are those of the Sentinel's own clock. A clock that a restart resets is no problem, as all records that
contain one are dropped then.
"""

from __future__ import annotations

from typing import Final

from txsentinel.core.crash_evidence import MIN_REFUSALS
from txsentinel.core.effects import Announce, Effect, Note
from txsentinel.core.instances import Master
from txsentinel.core.sentinel import SentinelCore
from txsentinel.core.voting import UNCONFIRMED_CANDIDATE
from txsentinel.model.events import SentinelEvent
from txsentinel.model.timings import Millis
from txsentinel.sim.explore.messages import Answer, Broken, Claim
from txsentinel.sim.explore.saved_state import Saved
from txsentinel.sim.explore.servers import NO_ONE
from txsentinel.sim.explore.topology import (
    FAILOVER_TIMEOUT,
    MASTER_NAME,
    SENTINEL_IDS,
    SENTINEL_NAMES,
    SERVER_NAMES,
    SERVERS,
    TARGET_OF,
    GroupSettings,
)

NEVER: Final = 0

FROZEN_IN_TILT: Final = frozenset(
    {"+sdown", "-sdown", "+odown", "-odown", "+try-failover", "+elected-leader", "+selected-slave", "+promoted-slave"}
)

FORGED: Final = "A vote request was forged"
"""The kind of log lines about a vote whose candidate denies its candidacy, as after a restart without its own vote."""

DISTANCE: Final[Millis] = 2 * FAILOVER_TIMEOUT


class SentinelChecker:
    """The records and checks of one Sentinel."""

    def __init__(self, sentinel: int, settings: GroupSettings) -> None:
        self._sentinel = sentinel
        self._who = SENTINEL_NAMES[sentinel]
        self._settings = settings
        self._broken: list[Broken] = []
        self._votes: dict[int, int] = {}
        """Epoch → candidate: all votes that were published, and those that this process has decided."""

        self._published_votes: dict[int, None] = {}
        self._newest_vote = 0
        self._config_epoch = 0
        self._place = 0
        self._durable_places: dict[tuple[int, int], None] = {(0, 0): None}
        """``(config epoch, server)`` of every file."""

        self._hellos: dict[tuple[int, int], None] = {}
        """``(config epoch, server)`` of every hello that was received."""

        self._opinions: dict[tuple[int, int], Millis] = {}
        """``(server, peer)`` → when the peer last reported it down; removed when it reports the opposite."""

        self._voters: dict[int, tuple[int, ...]] = {}
        """Epoch → the peers whose votes for this Sentinel were received."""

        self._began: Millis | None = None
        self._began_before: Millis | None = None
        self._voted_for_other: Millis | None = None
        self._ordered = False
        """Whether an operator ordered the failover in progress."""

        self._led: dict[int, None] = {}
        self._saw_master = [NEVER] * SERVERS
        self._saw_replica = [NEVER] * SERVERS
        self._became_replica = [NEVER] * SERVERS
        self._follows = [NO_ONE] * SERVERS
        self._saw_pong = [NEVER] * SERVERS
        self._refusals = [0] * SERVERS
        """For each server, how many attempts to connect were refused since there was a connection."""

    def take_broken(self) -> list[Broken]:
        """Return the violations since the last call."""
        broken, self._broken = self._broken, []
        return broken

    def _expect(self, holds: object, invariant: str, what: str) -> None:
        if not holds:
            self._broken.append(Broken(invariant, f"{self._who} {what}"))

    # The process

    def crashed(self, file: Saved) -> None:
        """The process ended; this is its file. Votes that were not published are undone, and all times are void."""
        for epoch in [each for each in self._votes if each not in self._published_votes and each > file.leader_epoch]:
            del self._votes[epoch]
        self._newest_vote = max(self._votes, default=0)
        self._config_epoch, self._place = file.config_epoch, file.place
        self._opinions.clear()
        self._voters.clear()
        self._began = self._began_before = self._voted_for_other = None
        self._ordered = False
        for times in (self._saw_master, self._saw_replica, self._became_replica, self._saw_pong):
            times[:] = [NEVER] * SERVERS

    def started(self, core: SentinelCore, file: Saved) -> None:
        """A process started with this file, which it must not fall behind."""
        master = core.master(MASTER_NAME)
        self._expect(master.config_epoch >= file.config_epoch, "S6", "restarts below its durable config epoch")
        self._expect(core.current_epoch >= file.epoch, "S7", "restarts below its durable current epoch")

    def saved(self, before: Saved, after: Saved) -> None:
        """A file became durable."""
        self._expect(after.epoch >= before.epoch, "S7", f"wrote current epoch {after.epoch} after {before.epoch}")
        fine = after.config_epoch >= before.config_epoch
        self._expect(fine, "S6", f"wrote config epoch {after.config_epoch} after {before.config_epoch}")
        fine = after.leader_epoch >= before.leader_epoch
        self._expect(fine, "S2", f"wrote leader epoch {after.leader_epoch} after {before.leader_epoch}")
        self._durable_places[after.config_epoch, after.place] = None
        _drop_below(self._durable_places, after.config_epoch)

    def inspect(self, core: SentinelCore, now: Millis) -> None:
        """Check the state after a step."""
        master = core.registry.masters.get(MASTER_NAME)
        if master is None:
            return
        epoch, place, current = master.config_epoch, TARGET_OF[master.published_address], core.current_epoch
        self._expect(epoch <= current, "S8", f"has config epoch {epoch}, above its current epoch {current}")
        self._expect(master.leader_epoch <= current, "S9", f"voted in {master.leader_epoch}, above {current}")
        self._expect(epoch >= self._config_epoch, "S6", f"fell from config epoch {self._config_epoch} to {epoch}")
        if place != self._place:
            name = SERVER_NAMES[place]
            self._expect(epoch > self._config_epoch, "S12", f"moved to {name} without a higher config epoch")
            adopted = (epoch, place) in self._hellos
            seen = self._saw_master[place] != NEVER and self._saw_master[place] >= self._saw_replica[place]
            self._expect(adopted or seen, "S12", f"moved to {name}@{epoch}, which it did not see as a master")
            self._opinions.clear()
            self._forget_attempts()
        if epoch != self._config_epoch:
            _drop_below(self._hellos, epoch)
            self._voters = {each: peers for each, peers in self._voters.items() if each > epoch}
        self._config_epoch, self._place = epoch, place

    def claims(self, master: Master) -> list[Claim]:
        """Return what it holds about addresses, for S5."""
        return [Claim("S5", master.config_epoch, TARGET_OF[master.published_address])]

    # Decisions

    def decided(self, core: SentinelCore, effect: Effect, now: Millis) -> None:
        """The core emitted an effect."""
        if isinstance(effect, Note):
            if effect.kind in (UNCONFIRMED_CANDIDATE, FORGED):
                self._voted_for_other = None
            return
        if not isinstance(effect, Announce):
            return
        event = effect.event
        channel = event.channel
        if channel in FROZEN_IN_TILT and not self._ordered:
            self._expect(not core.tilt.active, "S13", f"decided {channel} in TILT")
        if channel == "+sdown" and event.payload.startswith("master "):
            self._decided_down(core.master(MASTER_NAME), now)
        elif channel == "+vote-for-leader":
            self._voted(event, published=False)
            if SENTINEL_IDS.index(event.payload.split()[0]) != self._sentinel:
                self._voted_for_other = now
        elif channel in ("+switch-master", "+reset-master"):
            self._forget_attempts()
        elif channel == "+try-failover":
            self._attempted(core, now)
        elif channel == "-failover-abort-master-is-back":
            self._began = self._began_before

    def _decided_down(self, master: Master, now: Millis) -> None:
        """The master is S_DOWN: it is silent for long enough, or its crash is evident."""
        if master.crash.confirmed_at is not None:
            refusals = self._refusals[TARGET_OF[master.address]]
            self._expect(refusals >= MIN_REFUSALS, "crash", f"takes the master for crashed after {refusals} refusals")

    def _voted(self, event: SentinelEvent, *, published: bool) -> None:
        words = event.payload.split()
        candidate, epoch = SENTINEL_IDS.index(words[0]), int(words[1])
        self._vote(epoch, candidate, published=published)
        if not published:
            self._expect(epoch > self._newest_vote, "S2", f"voted in {epoch} after {self._newest_vote}")
            self._newest_vote = max(epoch, self._newest_vote)

    def _vote(self, epoch: int, candidate: int, *, published: bool) -> None:
        given = self._votes.setdefault(epoch, candidate)
        if published:
            self._published_votes[epoch] = None
        names = f"{SENTINEL_NAMES[given]} and {SENTINEL_NAMES[candidate]}"
        self._expect(given == candidate, "S1", f"voted for {names} in epoch {epoch}")

    def _attempted(self, core: SentinelCore, now: Millis) -> None:
        master = core.master(MASTER_NAME)
        failover = master.failover
        self._expect(failover is not None, "S11", "announced an attempt without a failover")
        if failover is None:
            return
        if failover.forced or failover.planned:
            self._expect(self._ordered, "S10", "began a failover that was not ordered")
            return
        about = TARGET_OF[master.address]
        if self._taken_over(about):
            self._forget_attempts()
        if self._began is not None:
            self._expect(now - self._began >= DISTANCE, "S15", f"tried again after {now - self._began} ms")
        if self._voted_for_other is not None:
            since = now - self._voted_for_other
            self._expect(since >= DISTANCE, "S16", f"tried {since} ms after its vote for another")
        self._began_before = self._began
        self._began = now
        self._expect(master.sdown_since is not None, "S10", "tried although the master is up to it")
        life = 5 * core.timings.ask_period
        agreeing = 1 + sum(1 for (place, _), at in self._opinions.items() if place == about and now - at <= life)
        quorum = self._settings.quorum
        self._expect(agreeing >= quorum, "S10", f"tried with {agreeing} of {quorum} opinions on {SERVER_NAMES[about]}")

    def _taken_over(self, about: int) -> bool:
        """Whether the monitored server became a replica after the last vote, and the one it follows is a master."""
        became = self._became_replica[about]
        if became == NEVER or became < max(self._began or NEVER, self._voted_for_other or NEVER):
            return False
        followed = self._follows[about]
        return self._saw_master[about] <= became and followed != NO_ONE and self._saw_master[followed] >= became

    def _forget_attempts(self) -> None:
        self._began = self._began_before = self._voted_for_other = None

    def failover_ordered(self, now: Millis) -> None:
        """An operator orders a failover."""
        self._ordered = True

    # Received

    def hello_received(self, payload: bytes) -> None:
        """A hello arrived."""
        words = payload.decode().split(",")
        self._hellos[int(words[7]), _server_at(words[5])] = None

    def answer_received(self, peer: int, answer: Answer, now: Millis) -> None:
        """A reply of a peer arrived."""
        if answer.down:
            self._opinions[answer.about, peer] = now
        else:
            self._opinions.pop((answer.about, peer), None)
        if answer.leader == self._sentinel:
            voters = self._voters.get(answer.epoch, ())
            self._voters[answer.epoch] = tuple(sorted({*voters, peer}))

    def info_received(self, server: int, text: bytes, now: Millis) -> None:
        """An INFO arrived."""
        if b"role:master" in text:
            self._saw_master[server] = now
            return
        if self._saw_master[server] >= self._became_replica[server]:
            self._became_replica[server] = now
        self._saw_replica[server] = now
        host = text.split(b"master_host:")[1].split(b"\r\n")[0].decode()
        self._follows[server] = _server_at(host)

    def connection_refused(self, target: int) -> None:
        """An attempt to connect was refused."""
        if target < SERVERS:
            self._refusals[target] = min(self._refusals[target] + 1, MIN_REFUSALS)

    def connection_established(self, target: int) -> None:
        """A connection was established."""
        if target < SERVERS:
            self._refusals[target] = 0

    def pong_received(self, target: int, now: Millis) -> None:
        """A PONG arrived."""
        if target < SERVERS:
            self._saw_pong[target] = now

    # Sent

    def published(self, event: SentinelEvent, file: Saved) -> None:
        """An event is published."""
        if event.channel == "+vote-for-leader":
            self._voted(event, published=True)
            epoch = int(event.payload.split()[1])
            fine = file.leader_epoch >= epoch
            self._expect(fine, "durable", f"published its vote of {epoch}, durable is {file.leader_epoch}")

    def answer_determined(self, core: SentinelCore, answer: Answer) -> None:
        """A reply was determined; it may have to wait for the replies before it."""
        if answer.down:
            self._expect(not core.tilt.active, "S13", "reported in TILT that the master is down")
            fine = core.master(MASTER_NAME).sdown_since is not None
            self._expect(fine, "S10", "reported that the master is down, which it does not hold")

    def answer_sent(self, core: SentinelCore, answer: Answer, file: Saved) -> None:
        """A reply leaves: a vote is durable by then."""
        if answer.leader < 0:
            return
        self._vote(answer.epoch, answer.leader, published=True)
        fine = answer.epoch <= file.leader_epoch
        self._expect(fine, "durable", f"sent its vote of {answer.epoch}, durable is {file.leader_epoch}")
        self._expect(answer.epoch <= core.current_epoch, "S9", f"sent a vote of {answer.epoch}")

    def hello_sent(self, payload: bytes, file: Saved, core: SentinelCore) -> None:
        """A hello leaves: it has nothing that a crash could undo, unless the disk is known to fail."""
        words = payload.decode().split(",")
        epoch, place = int(words[7]), _server_at(words[5])
        self._expect(epoch <= int(words[3]), "S8", f"announces config epoch {epoch} and current epoch {int(words[3])}")
        fine = (epoch, place) in self._durable_places or core.state.storage_failing or epoch < file.config_epoch
        self._expect(fine, "durable", f"announces {SERVER_NAMES[place]}@{epoch}, which is not on disk")

    def ordered(self, core: SentinelCore, server: int, follows: int, file: Saved, now: Millis) -> None:
        """A server is ordered to change its role."""
        name = SERVER_NAMES[server]
        master = core.master(MASTER_NAME)
        if follows != NO_ONE:
            fine = follows == TARGET_OF[master.published_address] and follows != server
            self._expect(fine, "S11", f"ordered {name} to follow {SERVER_NAMES[follows]}")
            return
        failover = master.failover
        if failover is None or failover.promoted is None or TARGET_OF[failover.promoted.address] != server:
            self._expect(False, "S11", f"made {name} a master without leading a failover to it")
            return
        epoch = failover.epoch
        self._expect(not core.tilt.active, "S13", "promoted in TILT")
        self._expect(self._settings.priorities[server] != 0, "S14", f"promoted {name}, whose priority is 0")
        self._expect(file.leader_epoch >= epoch, "durable", f"acts in {epoch}, its durable vote is {file.leader_epoch}")
        self._expect(file.epoch >= epoch, "durable", f"acts in {epoch}, which is not on disk")
        if not failover.forced and master.crash.confirmed_at is None:
            old = TARGET_OF[master.address]
            replica = self._saw_replica[old] > self._saw_master[old]
            period = min(master.options.down_after, core.timings.ping_period)
            fine = replica or self._saw_pong[old] == NEVER or now - self._saw_pong[old] >= period
            self._expect(fine, "S17", f"promotes {name} although the master answered")
        votes = 1 + len(self._voters.get(epoch, ()))
        needed = max((max(len(master.peers), len(file.peers)) + 1) // 2 + 1, self._settings.quorum)
        if votes >= needed:
            self._led[epoch] = None
        self._expect(failover.forced or votes >= needed, "S4", f"acts in {epoch} with {votes} votes of {needed}")

    def acts(self, core: SentinelCore) -> list[Claim]:
        """Return the claim of a leader that promotes a replica, for S3; none if it proceeds without a majority."""
        failover = core.master(MASTER_NAME).failover
        if failover is None or failover.epoch not in self._led:
            return []
        return [Claim("S3", failover.epoch, self._sentinel)]


def _server_at(host: str) -> int:
    return int(host.rpartition(".")[2]) - 1


def _drop_below(known: dict[tuple[int, int], None], epoch: int) -> None:
    """Drop what concerns older config epochs."""
    for each in [each for each in known if each[0] < epoch]:
        del known[each]
