"""
A fixture with one Sentinel core, fake servers and peers, and a clock that tests advance.

Servers and peers that are *up* answer PING, INFO and PUBLISH at once; peers answer questions as configured in
:class:`FakeServer`. The output of the core is recorded as lines of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from txsentinel.core.effects import (
    AbortHandOver,
    Announce,
    AskMasterDown,
    Connect,
    Crash,
    Disconnect,
    Effect,
    FinishHandOver,
    HandOver,
    KillScript,
    LinkEffect,
    Note,
    PauseWrites,
    Ping,
    PublishHello,
    Reconfigure,
    Reconnect,
    ReportAnswers,
    RequestId,
    RequestInfo,
    RequestRole,
    ResolveAddress,
    ResumeWrites,
    RunScript,
    SendCommand,
)
from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Server
from txsentinel.core.link import LinkKind
from txsentinel.core.options import MasterOptions, SentinelOptions
from txsentinel.core.sentinel import SentinelCore
from txsentinel.model.address import Address
from txsentinel.model.failure import FailureClass
from txsentinel.model.timings import Limits, Millis, Timings
from txsentinel.runtime.durability import is_binding

ME = "m" * 40
MASTER = Address.literal("10.0.0.1", 6379)


def identity(letter: str) -> str:
    """Return the ID of the Sentinel with that letter."""
    return letter * 40


@dataclass
class FakeServer:
    """A fake server or peer Sentinel, by address."""

    address: Address
    up: bool = True
    hung: bool = False
    """Connected but not answering: hung, or behind a partition."""

    role: str = "master"
    follows: Address | None = None
    link_status: str = "up"
    down_for: int = 0
    priority: int = 100
    offset: int = 100
    run_id: str = ""
    extra: list[str] = field(default_factory=list)
    attempts_fail_by: FailureClass = FailureClass.REFUSED
    """The class of failed attempts to connect while it is not up."""

    obeys: bool = True
    ping_text: bytes = b"PONG"
    reports_down: bool = False
    grants: bool = True
    """Whether it votes for any candidate; otherwise it replies with ``answer``."""

    answer: tuple[str, int] | None = None
    reply: object = None
    """Its reply to any question, instead of a valid one."""

    confirms: bool = True
    """Whether it confirms that it is a candidate when it is asked."""

    unresponsive: bool = False
    """Whether it leaves questions unanswered."""

    paused: bool = False
    """CLIENT PAUSE WRITE: blocks PUBLISH, and all later commands on that connection."""

    paused_until: Millis | None = None
    """When a pause that a Sentinel ordered ends by its timeout; ``None`` for any other pause."""

    refuses_pause: bool = False
    """Whether it refuses CLIENT PAUSE WRITE."""

    refuses: bool = False
    """Whether it replies to INFO and PUBLISH with an error."""

    sentinel_id: object = None
    """Its reply to SENTINEL MYID; by default the ID that belongs to its address."""

    command_reply: object = None
    """Its reply to other commands, or a function of their words; ``None`` if it leaves them unanswered."""

    unread: list[LinkEffect] = field(default_factory=list)
    """Commands that arrived while it was silent."""

    def info(self) -> bytes:
        """Return its INFO."""
        lines = [f"run_id:{self.run_id or 'a' * 40}", f"role:{self.role}"]
        if self.role == "slave":
            assert self.follows is not None
            lines += [f"master_host:{self.follows.ip}", f"master_port:{self.follows.port}"]
            lines += [f"master_link_status:{self.link_status}", f"slave_repl_offset:{self.offset}"]
            lines += [f"slave_priority:{self.priority}", "replica_announced:1"]
            if self.link_status != "up":
                lines.append(f"master_link_down_since_seconds:{self.down_for}")
        return "\r\n".join([*lines, *self.extra, ""]).encode()


@dataclass
class Saved:
    """The durable state of our master."""

    epoch: int = 0
    place: Address = MASTER
    config_epoch: int = 0
    leader_epoch: int = 0
    replicas: list[Address] = field(default_factory=list)
    peers: list[tuple[Address, str]] = field(default_factory=list)


class Fixture:
    """A core with fake servers; ``lines`` is its output since the last call of :meth:`output`."""

    def __init__(
        self, settings: Mapping[str, int] | None = None, *, my_id: str = ME, rng: int = 0, **master_options: int
    ) -> None:
        """Set up one master; ``settings`` and the other keywords are names and values of its options."""
        self.now: Millis = 1_000_000
        self.wall_skew: Millis = 0
        self.options = SentinelOptions(my_id=my_id, port=26379)
        self.core = SentinelCore(self.options, Timings(), Limits(), lambda n: min(rng, n - 1))
        self.servers: dict[Address, FakeServer] = {}
        self.disk_works = True
        self.disk_slow = False
        self.lines: list[str] = []
        self.payloads: list[tuple[Instance, bytes]] = []
        self.sent: list[tuple[Millis, Effect]] = []
        self._held: list[tuple[int, Effect]] = []
        self._rng = rng
        self.saved = Saved()
        self.sweeps = 0
        self._stuck: set[int] = set()
        """Links whose command connection is blocked by a paused PUBLISH."""

        options = MasterOptions(quorum=2, down_after=1_000, failover_timeout=10_000)
        for name, value in {**(settings or {}), **master_options}.items():
            setattr(options, name, value)
        self.servers[MASTER] = FakeServer(MASTER)
        self.master: Master = self.core.administration.restore(
            "mymaster", MASTER, options, self.now, config_epoch=0, leader_epoch=0, replicas=[], peers=[]
        )
        self.finish()

    def add_master(self, name: str, number: int) -> Master:
        """Add a master at 10.1.0.<number>, with the options of the first, and a replica at 10.2.0.<number>."""
        address = Address.literal(f"10.1.0.{number}", 6379)
        replica = Address.literal(f"10.2.0.{number}", 6379)
        self.servers[address] = FakeServer(address)
        self.servers[replica] = FakeServer(replica, role="slave", follows=address, run_id=f"{number:040d}")
        options = replace(self.master.options, renamed_commands={}, rename_spellings={})
        peers = [(peer.address, peer.name) for peer in self.master.peers.values()]
        master = self.core.administration.restore(
            name, address, options, self.now, config_epoch=0, leader_epoch=0, replicas=[replica], peers=peers
        )
        self.finish()
        return master

    def add_replica(self, number: int, **settings: object) -> FakeServer:
        """Add a replica at 10.0.0.<number> that is in the master's INFO."""
        address = Address.literal(f"10.0.0.{number}", 6379)
        server = self.servers.setdefault(address, FakeServer(address))
        server.role, server.follows, server.run_id = "slave", self.master.address, f"{number:040d}"
        for name, value in settings.items():
            setattr(server, name, value)
        self.core.registry.add_replica(self.master, address, self.now)
        self.core.outbox.changed(self.master.name)
        self.finish()
        return server

    def add_peer(self, letter: str, **settings: object) -> FakeServer:
        """Add the Sentinel with that letter, at 10.0.1.<its code>."""
        address = Address.literal(f"10.0.1.{ord(letter)}", 26379)
        server = self.servers.setdefault(address, FakeServer(address))
        for name, value in settings.items():
            setattr(server, name, value)
        self.core.registry.add_peer(self.master, identity(letter), address, self.now)
        self.core.outbox.changed(self.master.name)
        self.finish()
        return server

    def peer(self, letter: str) -> Peer:
        """Return the peer with that letter."""
        return self.master.peers[identity(letter)]

    def replica(self, number: int) -> Server:
        """Return the replica with that number."""
        return self.master.replicas[f"10.0.0.{number}:6379"]

    def kill(self, address: Address) -> None:
        """Stop a process: connections are lost and new ones are refused."""
        self.servers[address].up = False
        self.servers[address].unread.clear()
        for link in self._links_to(address):
            for kind in link.kinds:
                was_up = link.since(kind) is not None
                failure = FailureClass.RESET if was_up else FailureClass.REFUSED
                self.core.link_down(link, kind, "Connection was refused by other side", self.now, failure)
        self.finish()

    def revive(self, address: Address) -> None:
        """Start a process again, or let it continue."""
        server = self.servers[address]
        server.up, server.hung = True, False
        unread, server.unread = server.unread, []
        for effect in unread:
            if not isinstance(effect, Connect | Reconnect):
                self._execute(effect, server)
        for link in self._links_to(address):
            self._bring_up(link)
        self.finish()

    def reset_connections(self, address: Address, *kinds: LinkKind) -> None:
        """Reset connections of these kinds (all, without ``kinds``), and reconnect at once."""
        for link in self._links_to(address):
            for kind in kinds or link.kinds:
                self.core.link_down(link, kind, "Connection was reset", self.now)
            self._bring_up(link)
        self.finish()

    def restart(self) -> None:
        """Crash the process, and start it with the durable state."""
        saved, old = self.saved, self.core
        self._held.clear()
        self.core = SentinelCore(self.options, old.timings, old.state.limits, lambda n: min(self._rng, n - 1))
        self.core.state.current_epoch = saved.epoch
        self.master = self.core.administration.restore(
            "mymaster",
            saved.place,
            self.master.options,
            self.now,
            config_epoch=saved.config_epoch,
            leader_epoch=saved.leader_epoch,
            replicas=saved.replicas,
            peers=saved.peers,
        )
        self.finish()

    def idle(self, milliseconds: Millis) -> int:
        """Advance the time and sweep when an instance is due, as the service does; return the number of sweeps."""
        end, before = self.now + milliseconds, self.sweeps
        while self.now < end:
            due = self.core.next_due
            gap = 100 if due is None else max(2, min(100, due - self.now))
            self.now = min(end, self.now + gap)
            self.sweep()
        return self.sweeps - before

    def wait(self, milliseconds: Millis, step: Millis = 10) -> None:
        """Advance the time with a sweep per step."""
        end = self.now + milliseconds
        while self.now < end:
            self.now = min(end, self.now + step)
            self.sweep()

    def sweep(self) -> None:
        """Sweep once at the current time."""
        self.sweeps += 1
        for server in self.servers.values():
            if server.paused_until is not None and server.paused_until < self.now:
                self._unpause(server)
        self.core.sweep(self.now, self.now + self.wall_skew)
        self.finish()

    def hello(
        self, letter: str, address: Address, config_epoch: int, epoch: int | None = None, own: bool = True
    ) -> None:
        """Deliver a hello of a Sentinel about our master; the Sentinel answers at its address."""
        place = Address.literal(f"10.0.1.{ord(letter)}", 26379)
        self.servers.setdefault(place, FakeServer(place))
        mark = "0" if own else ""
        current = config_epoch if epoch is None else epoch
        self.core.hello_received(
            f"{place.ip},{place.port},{identity(letter)},{mark}{current},mymaster,"
            f"{address.ip},{address.port},{config_epoch}".encode(),
            self.now,
        )
        self.finish()

    def output(self) -> list[str]:
        """Return and clear the output: events as they are published, orders, log lines."""
        lines, self.lines = self.lines, []
        return lines

    def events(self) -> list[str]:
        """Return the channels of the events in :meth:`output`."""
        return [line.split()[1] for line in self.output() if line.startswith("event ")]

    def commit(self) -> None:
        """Save all changes up to now, or fail to."""
        outbox = self.core.outbox
        outbox.dirty.clear()
        if self.disk_works:
            generation = outbox.generation
            self._save()
            # As in production: the core comes first, so that replies agree with the effects.
            self.core.committed(generation, self.now)
            while self._held and self._held[0][0] <= generation:
                self._perform(self._held.pop(0)[1])
        else:
            self.core.commit_failed(outbox.generation, self.now)
            held, self._held = self._held, [entry for entry in self._held if is_binding(entry[1])]
            for _, effect in held:
                if not is_binding(effect):
                    self._perform(effect)

    def _save(self) -> None:
        core, master = self.core, self.master
        place = master.published_address
        self.saved = Saved(
            core.current_epoch,
            place,
            master.config_epoch,
            master.leader_epoch,
            [master.address if r.address == place else r.address for r in master.replicas.values()],
            [(peer.address, peer.name) for peer in master.peers.values()],
        )

    def finish(self) -> None:
        """Execute effects until the core emits no more."""
        core = self.core
        for _ in range(1000):
            if core.outbox.pending:
                for generation, effect in core.outbox.take():
                    if generation <= core.durable_generation:
                        self._perform(effect)
                    else:
                        self._held.append((generation, effect))
            elif not self.disk_slow and core.outbox.dirty:
                self.commit()
            else:
                return
        raise AssertionError("the core does not come to rest")

    def _links_to(self, address: Address) -> list[InstanceLink]:
        found = {i.link.link_id: i.link for i in self.core.registry.instances() if i.link.address.same(address)}
        return list(found.values())

    def _bring_up(self, link: InstanceLink) -> None:
        for kind in link.kinds:
            if link.since(kind) is None and not link.closed:
                self.core.link_up(link, kind, "10.0.9.9", self.now)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Announce):
            self.lines.append(f"event {effect.event}")
        elif isinstance(effect, Note):
            self.lines.append(f"note {effect.text}")
        elif isinstance(effect, RunScript):
            self.lines.append(f"script {effect.path} {' '.join(effect.arguments)}")
        elif isinstance(effect, Crash):
            self.lines.append("crash")
        elif isinstance(effect, ResolveAddress):
            self.lines.append(f"resolve {effect.address.hostname}")
        elif isinstance(effect, ReportAnswers):
            effect.report()
        else:
            self.sent.append((self.now, effect))
            server = self.servers.get(effect.link.address)
            if isinstance(effect, RequestId):
                self.lines.append(f"ask {effect.link.address.joined()} for its ID")
            if (server is not None and not effect.link.closed) or isinstance(effect, Disconnect):
                self._execute(effect, server or FakeServer(effect.link.address))

    def _unpause(self, server: FakeServer) -> None:
        server.paused, server.paused_until = False, None
        self._stuck.difference_update(link.link_id for link in self._links_to(server.address))

    def _execute(self, effect: LinkEffect, server: FakeServer) -> None:
        if isinstance(effect, Connect | Reconnect):
            self._stuck.discard(effect.link.link_id)
            if server.up and not server.hung:
                self._bring_up(effect.link)
            elif not server.hung:
                for kind in effect.link.kinds:
                    self.core.link_down(effect.link, kind, "refused", self.now, server.attempts_fail_by)
            return
        if isinstance(effect, Reconfigure):
            target = "NO ONE" if effect.promotes else f"{effect.host} {effect.port}"
            self.lines.append(f"order {server.address.ip} SLAVEOF {target}")
        elif isinstance(effect, AskMasterDown):
            who = "*" if effect.candidate == "*" else effect.candidate[0]
            self.lines.append(f"ask {chr(int(server.address.ip.split('.')[3]))} {effect.epoch} {who}")
        elif isinstance(effect, HandOver):
            self.lines.append(
                f"order {server.address.ip} FAILOVER TO {effect.host} {effect.port} within {effect.timeout}"
            )
        elif isinstance(effect, FinishHandOver):
            self.lines.append(f"order {server.address.ip} CLIENT UNPAUSE")
        elif isinstance(effect, PauseWrites):
            self.lines.append(f"order {server.address.ip} CLIENT PAUSE {effect.period} WRITE")
        elif isinstance(effect, ResumeWrites):
            self.lines.append(f"order {server.address.ip} CLIENT UNPAUSE")
        elif isinstance(effect, AbortHandOver):
            self.lines.append(f"order {server.address.ip} FAILOVER ABORT")
        elif isinstance(effect, KillScript):
            self.lines.append(f"order {server.address.ip} SCRIPT KILL")
        elif isinstance(effect, SendCommand):
            words = b" ".join(effect.words).decode()
            self.lines.append(f"send {chr(int(server.address.ip.split('.')[3]))} {words}")
        elif isinstance(effect, PublishHello):
            self.payloads.append((effect.instance, effect.payload))
        if server.paused and isinstance(effect, PublishHello):
            self._stuck.add(effect.link.link_id)
        by_subscription = isinstance(effect, Ping) and effect.kind is LinkKind.PUBSUB
        if server.paused and effect.link.link_id in self._stuck and not by_subscription:
            return
        if server.hung:
            server.unread.append(effect)
        if not server.up or server.hung:
            return
        core, link, now = self.core, effect.link, self.now
        if isinstance(effect, Ping):
            core.ping_reply(link, effect.kind, server.ping_text, now)
        elif isinstance(effect, RequestInfo):
            core.info_reply(link, None if server.refuses else server.info(), now)
        elif isinstance(effect, RequestRole):
            core.role_reply(link, None if server.refuses else server.role.encode(), server.refuses, now)
        elif isinstance(effect, SendCommand):
            reply = server.command_reply
            if callable(reply):
                reply = reply(effect.words)
            if reply is not None:
                core.command_reply(link, effect.number, reply, now)
        elif isinstance(effect, RequestId):
            own_id = server.sentinel_id
            core.id_reply(
                link,
                identity(chr(int(server.address.ip.split(".")[3]))).encode() if own_id is None else own_id,
                now,
            )
        elif isinstance(effect, PublishHello):
            core.publish_reply(link, effect.instance, not server.refuses, now)
        elif isinstance(effect, PauseWrites):
            if server.refuses_pause:
                core.write_pause_refused(link)
            else:
                server.paused, server.paused_until = True, max(server.paused_until or 0, now + effect.period)
                core.writes_paused(link, now)
        elif isinstance(effect, ResumeWrites):
            self._unpause(server)
            core.writes_resumed(link)
        elif isinstance(effect, Reconfigure):
            if server.obeys:
                server.role = "master" if effect.promotes else "slave"
                server.follows = None if effect.host is None else Address.literal(effect.host, effect.port)
            core.info_reply(link, server.info(), now)
        elif isinstance(effect, HandOver):
            server.paused = True
            if not server.obeys:
                server.extra = ["master_failover_state:waiting-for-sync"]
            else:
                successor = self.servers[Address.literal(effect.host, effect.port)]
                server.role, server.follows = "slave", successor.address
                successor.role, successor.follows = "master", None
        elif isinstance(effect, FinishHandOver | AbortHandOver):
            server.paused = False
            self._stuck.discard(link.link_id)
            link.handover_end = None
        elif isinstance(effect, AskMasterDown) and not server.unresponsive:
            core.master_down_reply(link, effect.master, self._answer(server, effect), now)

    @staticmethod
    def _answer(server: FakeServer, effect: AskMasterDown) -> object:
        if server.reply is not None:
            return server.reply
        down = int(server.reports_down)
        if effect.candidate == "*":
            return [down, b"*", 0]
        if effect.candidate == identity(chr(int(server.address.ip.split(".")[3]) or 1)) and effect.epoch == 0:
            return [down, effect.candidate.encode(), 1 << 52] if server.confirms else [down, b"*", 0]
        if server.grants and (server.answer is None or server.answer[1] < effect.epoch):
            server.answer = (effect.candidate, effect.epoch)
        leader, epoch = server.answer or ("*", 0)
        return [down, leader.encode(), epoch]
