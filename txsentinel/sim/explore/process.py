"""
One explored Sentinel: the real core behind the real durability barrier, its disk and its connections.

Each input is one atomic step: the core decides, effects are executed or deferred, and everything that is answered
within a round trip is answered at once: PING, INFO, ROLE, connecting, PUBLISH on a server. A connection on which
something else is unanswered is an exception: its probes are answered behind that, as the order of replies requires.
What reaches another process is an output; the group delivers it later.

The clock is this Sentinel's own. It advances by ticks only, so all inputs between two ticks have one time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from txsentinel.core.effects import (
    Announce,
    AskMasterDown,
    Connect,
    Disconnect,
    Effect,
    Note,
    Ping,
    PublishHello,
    Reconfigure,
    Reconnect,
    RequestInfo,
    RequestRole,
    RunScript,
)
from txsentinel.core.errors import CommandError
from txsentinel.core.instances import InstanceLink
from txsentinel.core.link import LinkKind
from txsentinel.core.sentinel import SentinelCore
from txsentinel.core.voting import NO_CANDIDATE, Vote
from txsentinel.model.failure import FailureClass
from txsentinel.model.timings import Millis
from txsentinel.runtime.durability import DurabilityBarrier
from txsentinel.sim.explore.images import START_GENERATION, START_TIME
from txsentinel.sim.explore.messages import Answer, Closed, HelloMessage, Order, Output, Query, Replied, Report, Sent
from txsentinel.sim.explore.saved_state import Saved, initial_file
from txsentinel.sim.explore.sentinel_checks import SentinelChecker
from txsentinel.sim.explore.servers import NO_ONE, Condition
from txsentinel.sim.explore.topology import (
    MASTER_NAME,
    SENTINEL_ADDRESSES,
    SENTINEL_IDS,
    SERVER_ADDRESSES,
    SERVERS,
    TARGET_OF,
    TARGETS,
    TICK,
    GroupSettings,
    limits,
    master_options,
    sentinel_options,
    timings,
)
from txsentinel.sim.explore.views import View

PING_OWED: Final = 1
INFO_OWED: Final = 2


def _renumber(barrier: DurabilityBarrier) -> None:
    """Number the deferred replies of a barrier anew, in order, as states that differ only in them are equal."""
    replies = sorted(barrier._replies, key=lambda entry: entry[1])
    numbers = {entry[1]: at for at, entry in enumerate(replies, 1)}
    barrier._replies[:] = [(generation, numbers[at], command) for generation, at, command in barrier._replies]
    barrier._sequence = len(replies)


@dataclass(slots=True, eq=False)
class ReplySlot:
    """The place of one reply among those to a peer; replies leave in order."""

    process: SentinelModel
    sentinel: int
    about: int
    vote: Vote
    answer: Answer | None = None
    """The reply, once it may be sent."""

    def released(self) -> None:
        """The vote is durable."""
        self.process.reply(self, self.vote)

    def failed(self) -> None:
        """The vote could not be saved."""
        self.process.reply(self, self.vote.fallback())


def no_random_number(below: int) -> int:
    """Return 0: a random delay ends within one tick, and the clocks of the Sentinels are independent anyway."""
    return 0


class SentinelModel:
    """A Sentinel; the methods are its inputs. After each, :meth:`take_outputs` returns what it has put out."""

    def __init__(self, sentinel: int, settings: GroupSettings) -> None:
        self.sentinel = sentinel
        self.options = master_options(settings)
        self.up = False
        self.now: Millis = START_TIME
        self.saved_state = initial_file(sentinel)
        self.saving: int | None = None
        """The generation that is durable but not reported yet; ``None`` if there is none."""

        self.awaiting = [0] * TARGETS
        """For each target, how many messages to it have not been answered."""

        self.owed = [0] * TARGETS
        """For each target, the probes that are answered once all messages are; ``PING_OWED``, ``INFO_OWED``."""

        self.link_ids = [0] * TARGETS
        """The ``link_id`` of the connection to each target; 0 without one."""

        self.slots: list[ReplySlot] = []
        self.checker = SentinelChecker(sentinel, settings)
        self.core = SentinelCore(sentinel_options(sentinel), timings(), limits(), no_random_number)
        self.barrier = DurabilityBarrier(self._perform, bool)
        self.core.outbox.observer = self._decided
        self.events: list[str] = []
        """The events of the last input, for traces."""

        self._outputs: list[Output] = []
        self._answers: list[tuple[str, InstanceLink, object]] = []
        """What is answered within a round trip: kind of probe, link, and for PUBLISH the effect."""

        self._view = View((), ())

    def take_outputs(self) -> tuple[Output, ...]:
        """Return the outputs of the last input, and prepare for the next image."""
        outputs = (*self._outputs, *self.checker.take_broken())
        self._outputs.clear()
        self._view = View((), ())
        self.events.clear()
        _renumber(self.barrier)
        for master in self.core.registry.masters.values():
            # These only keep the log short or save computing time.
            master.encoded_hello = None
            master.last_refusals = []
            diagnosis = master.diagnosis
            diagnosis.delay_logged_for = diagnosis.logged = diagnosis.election = None
            diagnosis.logged_at = diagnosis.verdict_due = 0
            for server in (master, *master.replicas.values()):
                server.info_kept = None
        return outputs

    @property
    def must_save(self) -> bool:
        """Whether hard state has changed since the last save."""
        return bool(self.core.outbox.dirty)

    # Inputs

    def begin(self) -> None:
        """Set the generations of a new process; to be called once, before the first image of it is taken."""
        self.core.outbox.generation = START_GENERATION
        self.core.state.durable_generation = self.barrier.durable = START_GENERATION

    def start(self, view: View) -> None:
        """Start with the durable state; the process must be as new."""
        self._view, self.up = view, True
        file = self.saved_state
        self.core.state.current_epoch = max(self.core.current_epoch, file.epoch)
        self.core.administration.restore(
            MASTER_NAME,
            SERVER_ADDRESSES[file.place],
            self.options,
            self.now,
            config_epoch=file.config_epoch,
            leader_epoch=file.leader_epoch,
            replicas=[SERVER_ADDRESSES[each] for each in file.replicas],
            peers=[(SENTINEL_ADDRESSES[each], SENTINEL_IDS[each]) for each in file.peers],
        )
        self.core.administration.announce_monitored()
        self.checker.started(self.core, file)
        self._turn()
        self.core.sweep(self.now, self.now)
        self._turn()

    def tick(self, view: View, milliseconds: Millis = TICK) -> None:
        """Let time pass: lost connections are noticed and made again, probes and deadlines are processed."""
        self._view = view
        self.now += milliseconds
        for link in self._links():
            target = TARGET_OF[link.address]
            condition = view.conditions[target]
            if view.lost >> target & 1 or condition is Condition.DEAD:
                self._lose(link, target)
            if condition is Condition.DEAD:
                self._refuse(link, None)
            if condition is Condition.UP:
                if not link.commands_up:
                    self._establish(link, None)
                self._pay(target)
        self.core.sweep(self.now, self.now)
        self._turn()

    def ask(self, sender: int, question: Query, view: View) -> None:
        """A peer asks about a master, or for a vote."""
        self._view = view
        address = SERVER_ADDRESSES[question.about]
        candidate = NO_CANDIDATE if question.candidate < 0 else SENTINEL_IDS[question.candidate]
        vote = self.core.vote_requested(address.ip, address.port, question.epoch, candidate, self.now)
        self._turn()
        if sender < 0:
            # The connection is gone: the request has its effect, and the reply is lost.
            return
        slot = ReplySlot(self, sender, question.about, vote)
        self.slots.append(slot)
        self.barrier.defer_reply(vote.generation, slot.released, slot.failed)
        self._turn()

    def hello(self, message: HelloMessage, view: View) -> None:
        """A peer sends a hello."""
        self._view = view
        self.checker.hello_received(message.payload)
        self.core.hello_received(message.payload, self.now)
        self._turn()

    def answer(self, peer: int, answer: Answer, view: View) -> None:
        """A peer answers."""
        self._view = view
        link = self._link_to(SERVERS + peer)
        if link is None:
            return
        master = self.core.master(MASTER_NAME)
        leader = NO_CANDIDATE if answer.leader < 0 else SENTINEL_IDS[answer.leader]
        self._answered(SERVERS + peer)
        self.checker.answer_received(peer, answer, self.now)
        self.core.master_down_reply(link, master, [int(answer.down), leader.encode(), answer.epoch], self.now)
        self._turn()
        self._pay(SERVERS + peer)

    def report(self, server: int, report: Report, view: View) -> None:
        """A server has executed an order."""
        self._view = view
        link = self._link_to(server)
        if link is None:
            return
        self._answered(server)
        self._info(link, report.text)
        self._turn()
        self._pay(server)

    def save(self) -> None:
        """The hard state becomes durable; :meth:`report_saved` is called later."""
        outbox, master = self.core.outbox, self.core.master(MASTER_NAME)
        outbox.dirty.clear()
        self.saving = outbox.generation
        place = master.published_address
        replicas = {master.address if each.address == place else each.address for each in master.replicas.values()}
        file = Saved(
            self.core.current_epoch,
            TARGET_OF[place],
            master.config_epoch,
            master.leader_epoch,
            tuple(sorted(TARGET_OF[each] for each in replicas if each != place)),
            tuple(sorted(TARGET_OF[peer.address] - SERVERS for peer in master.peers.values())),
        )
        self.checker.saved(self.saved_state, file)
        self.saved_state = file

    def report_saved(self, view: View) -> None:
        """The core learns that its state is durable, and the effects that waited are released."""
        self._view = view
        generation, self.saving = self.saving, None
        assert generation is not None
        self.core.committed(generation, self.now)
        self.barrier.committed(generation)
        self._turn()

    def fail_to_save(self, view: View) -> None:
        """The disk refuses to save; the next attempt is another step."""
        self._view = view
        self.core.commit_failed(self.core.outbox.generation, self.now)
        self.barrier.commit_failed()
        self._turn()

    def order_failover(self, view: View) -> None:
        """An operator orders a failover."""
        self._view = view
        self.checker.failover_ordered(self.now)
        try:
            self.core.administration.failover(MASTER_NAME, self.now)
        except CommandError as refusal:
            self.events.append(f"refused: {refusal}")
        self._turn()

    def lose_client(self, sentinel: int) -> None:
        """The connection from a peer was closed; its replies are dropped."""
        for slot in self.slots:
            if slot.sentinel == sentinel:
                slot.sentinel = -1
        self._flush()

    # Effects

    def _decided(self, effect: Effect) -> None:
        self.checker.decided(self.core, effect, self.now)

    def _turn(self) -> None:
        """Execute the effects of the core, and answer what is answered within a round trip, until nothing is left."""
        outbox = self.core.outbox
        while outbox.pending or self._answers:
            for generation, effect in outbox.take():
                if generation:
                    self.barrier.submit(generation, effect)
                else:
                    self._perform(effect)
            if self._answers and not outbox.pending:
                self._receive(*self._answers.pop(0))
        self.checker.inspect(self.core, self.now)
        master = self.core.registry.masters.get(MASTER_NAME)
        if master is not None and master.config_epoch:
            self._outputs += self.checker.claims(master)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Announce):
            self.events.append(str(effect.event))
            self.checker.published(effect.event, self.saved_state)
        elif isinstance(effect, Note | RunScript):
            return
        elif isinstance(effect, Connect):
            self._connect(effect.link, None)
        elif isinstance(effect, Reconnect):
            if effect.kind is not LinkKind.PUBSUB:
                self._close(effect.link)
            self._connect(effect.link, effect.kind)
        elif isinstance(effect, Disconnect):
            self._close(effect.link)
        elif isinstance(effect, Ping | RequestInfo | RequestRole | PublishHello | AskMasterDown | Reconfigure):
            self._send(effect)
        else:
            raise TypeError(f"{effect} is not explored")

    def _connect(self, link: InstanceLink, kind: LinkKind | None) -> None:
        if link.closed:
            return
        condition = self._view.conditions[TARGET_OF[link.address]]
        if condition is Condition.UP:
            self._establish(link, kind)
        elif condition is Condition.DEAD:
            self._answers.append(("refused", link, kind))

    def _refuse(self, link: InstanceLink, kind: LinkKind | None) -> None:
        """An attempt to connect is refused."""
        if kind is not LinkKind.PUBSUB:
            self.checker.connection_refused(TARGET_OF[link.address])
        for each in link.kinds if kind is None else (kind,):
            if not link.closed:
                self.core.link_down(link, each, "refused", self.now, FailureClass.REFUSED)
                self._turn()

    def _establish(self, link: InstanceLink, kind: LinkKind | None) -> None:
        target = TARGET_OF[link.address]
        if kind is not LinkKind.PUBSUB:
            self.link_ids[target] = link.link_id
            self.awaiting[target] = self.owed[target] = 0
            self.checker.connection_established(target)
        for each in link.kinds if kind is None else (kind,):
            self.core.link_up(link, each, SENTINEL_ADDRESSES[self.sentinel].ip, self.now)
            self._turn()

    def _lose(self, link: InstanceLink, target: int) -> None:
        if link.link_id != self.link_ids[target] or not link.commands_up:
            return
        self.link_ids[target] = self.awaiting[target] = self.owed[target] = 0
        for kind in reversed(link.kinds):
            self.core.link_down(link, kind, "closed", self.now, FailureClass.RESET)
            self._turn()

    def _close(self, link: InstanceLink) -> None:
        target = TARGET_OF[link.address]
        if self.link_ids[target] == link.link_id:
            self.link_ids[target] = self.awaiting[target] = self.owed[target] = 0
            self._outputs.append(Closed(target))

    def _send(self, effect: Ping | RequestInfo | RequestRole | PublishHello | AskMasterDown | Reconfigure) -> None:
        link = effect.link
        target = TARGET_OF[link.address]
        if link.link_id != self.link_ids[target] or not link.commands_up:
            return
        answered = self._view.conditions[target] is Condition.UP and not self._view.lost >> target & 1
        if isinstance(effect, AskMasterDown):
            about = TARGET_OF[effect.master.address]
            candidate = -1 if effect.candidate == NO_CANDIDATE else SENTINEL_IDS.index(effect.candidate)
            self.awaiting[target] += 1
            self._outputs.append(Sent(target, Query(about, effect.epoch, candidate)))
        elif isinstance(effect, Reconfigure):
            if self.core.is_outdated(effect):
                return
            follows = NO_ONE if effect.host is None else _server_at(effect.host)
            self.checker.ordered(self.core, target, follows, self.saved_state, self.now)
            if effect.promotes:
                self._outputs += self.checker.acts(self.core)
            self.awaiting[target] += 1
            self._outputs.append(Sent(target, Order(follows)))
        elif isinstance(effect, PublishHello):
            self.checker.hello_sent(effect.payload, self.saved_state, self.core)
            if target >= SERVERS:
                self._outputs.append(Sent(target, HelloMessage(effect.payload)))
            if answered:
                self._answers.append(("publish", link, effect))
        elif isinstance(effect, RequestRole):
            # As a server whose ACL does not permit it, which is documented to work: INFO shows the role as well.
            self._answers.append(("role", link, None))
        elif self.awaiting[target] or not answered:
            self.owed[target] |= PING_OWED if isinstance(effect, Ping) else INFO_OWED
        else:
            self._answers.append(("ping", link, effect.kind) if isinstance(effect, Ping) else ("info", link, None))

    def _receive(self, probe: str, link: InstanceLink, detail: object) -> None:
        """Process the answer to a probe."""
        target = TARGET_OF[link.address]
        if probe == "refused":
            self._refuse(link, detail if isinstance(detail, LinkKind) else None)
            return
        if link.closed or self.link_ids[target] != link.link_id:
            return
        if probe == "ping":
            self.checker.pong_received(target, self.now)
            self.core.ping_reply(link, LinkKind.COMMANDS if detail is None else detail, b"PONG", self.now)  # type: ignore[arg-type]
        elif probe == "info":
            self._info(link, self._view.infos[target])
        elif probe == "role":
            self.core.role_reply(link, None, True, self.now)
        elif isinstance(detail, PublishHello):
            if target < SERVERS and link.pubsub_since is not None:
                self.core.pubsub_active(link, self.now)
                self.core.hello_received(detail.payload, self.now, link)
            self.core.publish_reply(link, detail.instance, True, self.now)

    def _info(self, link: InstanceLink, text: bytes) -> None:
        self.checker.info_received(TARGET_OF[link.address], text, self.now)
        self.core.info_reply(link, text, self.now)

    def _answered(self, target: int) -> None:
        self.awaiting[target] = max(self.awaiting[target] - 1, 0)

    def _pay(self, target: int) -> None:
        """Answer the probes that waited for the answers before them."""
        owed = self.owed[target]
        view = self._view
        if not owed or self.awaiting[target] or view.conditions[target] is not Condition.UP or view.lost >> target & 1:
            return
        self.owed[target] = 0
        link = self._link_to(target)
        if link is None:
            return
        if owed & PING_OWED:
            self._answers.append(("ping", link, LinkKind.COMMANDS))
        if owed & INFO_OWED:
            self._answers.append(("info", link, None))
        self._turn()

    def _links(self) -> list[InstanceLink]:
        found = {each.link.link_id: each.link for each in self.core.registry.instances()}
        return [link for _, link in sorted(found.items())]

    def _link_to(self, target: int) -> InstanceLink | None:
        """Return the link of the connection to ``target``, ``None`` if there is no connection."""
        for link in self._links():
            if link.link_id == self.link_ids[target] and link.commands_up:
                return link
        return None

    def reply(self, slot: ReplySlot, vote: Vote) -> None:
        """Complete a reply, and send all that have no incomplete one before them."""
        address = SERVER_ADDRESSES[slot.about]
        down = vote.down and self.core.holds_down(address.ip, address.port)
        leader = -1 if vote.leader == NO_CANDIDATE else SENTINEL_IDS.index(vote.leader)
        slot.answer = Answer(slot.about, down, leader, vote.leader_epoch)
        self.checker.answer_determined(self.core, slot.answer)
        self._flush()

    def _flush(self) -> None:
        blocked = set()
        remaining = []
        for slot in self.slots:
            if slot.answer is None or slot.sentinel in blocked:
                blocked.add(slot.sentinel)
                remaining.append(slot)
            elif slot.sentinel >= 0:
                self.checker.answer_sent(self.core, slot.answer, self.saved_state)
                self._outputs.append(Replied(slot.sentinel, slot.answer))
        self.slots[:] = [slot for slot in remaining if slot.sentinel >= 0 or slot.answer is None]


def _server_at(host: str) -> int:
    for number, address in enumerate(SERVER_ADDRESSES):
        if address.ip == host:
            return number
    raise ValueError(host)
