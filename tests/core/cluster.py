"""
A cluster of Sentinel cores and simulated servers that exchange messages through queues.

It uses neither Twisted nor sockets; only hellos and INFO are encoded. All random numbers derive from one seed.
:class:`InvariantChecker` checks every vote, promotion and hello, and raises if an invariant is violated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random

from txsentinel.core.effects import (
    Announce,
    AskMasterDown,
    Connect,
    Disconnect,
    Effect,
    Ping,
    PublishHello,
    Reconfigure,
    Reconnect,
    RequestId,
    RequestInfo,
)
from txsentinel.core.instances import InstanceLink
from txsentinel.core.link import LinkKind
from txsentinel.core.options import MasterOptions, SentinelOptions, copied
from txsentinel.core.sentinel import SentinelCore
from txsentinel.core.voting import Vote
from txsentinel.model.address import Address
from txsentinel.model.timings import Limits, Millis, Timings
from txsentinel.runtime.durability import DurabilityBarrier

NAME = "mymaster"


@dataclass
class SimulatedServer:
    """A server: its role, the master that it follows, and whether it answers."""

    address: Address
    run_id: str
    follows: Address | None = None
    up: bool = True
    hung: bool = False
    offset: int = 1
    unread: list[Callable[[], None]] = field(default_factory=list)
    """Commands that arrived while it hung."""

    def info(self, others: list[SimulatedServer]) -> bytes:
        """Return its INFO."""
        lines = [f"run_id:{self.run_id}", f"role:{'slave' if self.follows else 'master'}"]
        if self.follows is None:
            followers = [o for o in others if o.up and o.follows == self.address]
            lines += [f"slave{n}:ip={o.address.ip},port={o.address.port},state=online" for n, o in enumerate(followers)]
        else:
            source = next(o for o in others if o.address == self.follows)
            lines += [f"master_host:{self.follows.ip}", f"master_port:{self.follows.port}"]
            lines += [f"master_link_status:{'up' if source.up and not source.hung else 'down'}"]
            lines += ["slave_priority:100", f"slave_repl_offset:{self.offset}"]
        return "\r\n".join([*lines, ""]).encode()


@dataclass
class Saved:
    """The durable state of one Sentinel."""

    epoch: int = 0
    place: Address | None = None
    config_epoch: int = 0
    leader_epoch: int = 0
    replicas: list[Address] = field(default_factory=list)
    peers: list[tuple[Address, str]] = field(default_factory=list)


class Node:
    """One Sentinel: a core, the real durability barrier, a disk with latency, connections with delays."""

    def __init__(
        self, cluster: Cluster, sentinel_id: str, address: Address, options: MasterOptions, saved: Saved
    ) -> None:
        self.cluster, self.sentinel_id, self.address, self.options, self.saved = (
            cluster,
            sentinel_id,
            address,
            options,
            saved,
        )
        self.up = True
        self.disk_works = True
        self.disk_delay: Millis = 2
        self.start()

    def start(self) -> None:
        """Start the process with the durable state."""
        cluster = self.cluster
        self.incarnation = cluster.token()
        self.up = True
        self.events: list[str] = []
        self._connections: dict[tuple[int, LinkKind], int] = {}
        self._writing = False
        self._wake = 0
        self.sweeps: Counter[int] = Counter()
        """Second → how often the core was swept in it."""

        settings = SentinelOptions(my_id=self.sentinel_id, port=self.address.port)
        self.core = SentinelCore(settings, Timings(), Limits(), cluster.random.randrange)
        self.core.state.current_epoch = self.saved.epoch
        self.barrier = DurabilityBarrier(self._perform, bool)
        saved = self.saved
        assert saved.place is not None
        self.core.administration.restore(
            NAME,
            saved.place,
            self.options,
            cluster.now,
            config_epoch=saved.config_epoch,
            leader_epoch=saved.leader_epoch,
            replicas=saved.replicas,
            peers=saved.peers,
        )
        self.turn()
        self._sweep()

    def crash(self) -> None:
        """Crash the process; state that is not durable is lost."""
        self.up = False
        self.incarnation = self.cluster.token()

    def later(self, delay: Millis, action: Callable[[], None]) -> None:
        """Schedule a call that is cancelled by a crash of the process."""
        incarnation = self.incarnation
        self.cluster.later(delay, lambda: action() if self.incarnation == incarnation else None)

    def turn(self) -> None:
        """Execute the effects of the core."""
        outbox = self.core.outbox
        while outbox.pending:
            for generation, effect in outbox.take():
                self.barrier.submit(generation, effect)
        if outbox.dirty and not self._writing:
            self._write()
        self.cluster.checker.check_epochs(self)
        due = self.core.next_due
        if due is not None and due + 2 < self._wake:
            self._sleep()

    def opinion(self, effect: AskMasterDown, reply: Callable[[Vote], None]) -> None:
        """Send a reply to a peer once it may be sent."""
        vote = self.core.vote_requested(effect.host, effect.port, effect.epoch, effect.candidate, self.cluster.now)
        self.turn()
        self.barrier.defer_reply(vote.generation, lambda: reply(vote), lambda: reply(vote.fallback()))

    def connections_lost(self, address: Address, kinds: set[LinkKind]) -> None:
        """Handle that the process at ``address`` closed its connections of these kinds."""
        for link in self._links(address):
            for kind in link.kinds:
                if kind in kinds and (link.link_id, kind) in self._connections:
                    self._drop(link, kind)

    def _links(self, address: Address) -> list[InstanceLink]:
        links = {i.link.link_id: i.link for i in self.core.registry.instances() if i.link.address == address}
        return list(links.values())

    def _sweep(self) -> None:
        self.sweeps[self.cluster.now // 1_000] += 1
        self.core.sweep(self.cluster.now, self.cluster.now)
        self.turn()
        self._sleep()

    def _sleep(self) -> None:
        due = self.core.next_due
        now = self.cluster.now
        self._wake = now + (100 if due is None else max(2, min(100, due - now)))
        wake = self._wake
        self.later(self._wake - now, lambda: self._sweep() if self._wake == wake else None)

    def _write(self) -> None:
        outbox, master = self.core.outbox, self.core.master(NAME)
        outbox.dirty.clear()
        generation = outbox.generation
        place = master.published_address
        replicas = [master.address if r.address == place else r.address for r in master.replicas.values()]
        peers = [(peer.address, peer.name) for peer in master.peers.values()]
        new = Saved(self.core.current_epoch, place, master.config_epoch, master.leader_epoch, replicas, peers)
        self._writing = True
        self.later(self.cluster.random.randint(1, self.disk_delay), lambda: self._written(generation, new))

    def _written(self, generation: int, new: Saved) -> None:
        self._writing = False
        now = self.cluster.now
        if self.disk_works:
            self.saved = new
            self.core.committed(generation, now)
            self.barrier.committed(generation)
        else:
            self.core.commit_failed(generation, now)
            self.barrier.commit_failed()
            self.later(50, lambda: self.core.outbox.dirty.add(None))
            self.later(51, self.turn)
        self.turn()

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Announce):
            self.events.append(str(effect.event))
        elif isinstance(effect, Connect):
            for kind in effect.link.kinds:
                self._connect(effect.link, kind)
        elif isinstance(effect, Reconnect):
            for kind in effect.link.kinds if effect.kind is None else (effect.kind,):
                self._connections.pop((effect.link.link_id, kind), None)
                self._connect(effect.link, kind)
        elif isinstance(effect, Disconnect):
            for kind in effect.link.kinds:
                self._connections.pop((effect.link.link_id, kind), None)
        elif isinstance(effect, Ping | RequestInfo | RequestId | PublishHello | AskMasterDown | Reconfigure):
            if isinstance(effect, PublishHello):
                self.cluster.checker.check_hello(effect.payload)
            if isinstance(effect, Reconfigure) and effect.promotes:
                self.cluster.checker.check_promotion(self, effect)
            self._send(effect)

    def _connect(self, link: InstanceLink, kind: LinkKind) -> None:
        """Connect, and retry once a second."""

        def attempt() -> None:
            if link.closed or (link.link_id, kind) in self._connections:
                return
            if self.cluster.reachable(self, link.address):
                self._connections[link.link_id, kind] = self.cluster.token()
                self.core.link_up(link, kind, self.address.ip, self.cluster.now)
            else:
                if not self.cluster.blocked(self, link.address):
                    self.core.link_down(link, kind, "refused", self.cluster.now)
                self.later(1_000, attempt)
            self.turn()

        self.later(self.cluster.delay(), attempt)

    def _drop(self, link: InstanceLink, kind: LinkKind) -> None:
        del self._connections[link.link_id, kind]
        self.core.link_down(link, kind, "lost", self.cluster.now)
        self._connect(link, kind)
        self.turn()

    def _send(self, effect: Ping | RequestInfo | RequestId | PublishHello | AskMasterDown | Reconfigure) -> None:
        link = effect.link
        kind = effect.kind if isinstance(effect, Ping) else LinkKind.COMMANDS
        connection = self._connections.get((link.link_id, kind))
        if connection is None:
            return

        def arrives() -> None:
            if self._connections.get((link.link_id, kind)) == connection:
                self.cluster.deliver(self, effect, respond)

        def respond(reply: Callable[[], None]) -> None:
            def replied() -> None:
                if self._connections.get((link.link_id, kind)) == connection and not link.closed:
                    if self.cluster.reachable(self, link.address):
                        reply()
                        self.turn()

            self.cluster.in_order(connection, replied, self)

        self.cluster.in_order(-connection, arrives, self)


class Cluster:
    """Simulated time, delays, servers, Sentinels and partitions."""

    def __init__(self, seed: int, sentinels: int = 3, servers: int = 3, **options: int) -> None:
        self.random = Random(seed)
        self.now: Millis = 1_000_000
        self.checker = InvariantChecker()
        self.cut: set[tuple[str, Address]] = set()
        self._heap: list[tuple[Millis, int, Callable[[], None]]] = []
        self._token = 0
        self._last: dict[int, Millis] = {}
        places = [Address.literal(f"10.0.0.{n}", 6379) for n in range(1, servers + 1)]
        self.servers = {
            place: SimulatedServer(place, f"{n:040d}", places[0] if n else None) for n, place in enumerate(places)
        }
        self.nodes: list[Node] = []
        settings = MasterOptions(2, down_after=1_000, failover_timeout=4_000)
        for name, value in options.items():
            setattr(settings, name, value)
        for n in range(sentinels):
            address = Address.literal(f"10.0.1.{n + 1}", 26379)
            saved = Saved(place=places[0])
            node = Node(self, chr(ord("a") + n) * 40, address, copied(settings), saved)
            self.nodes.append(node)

    def token(self) -> int:
        """Return a number that was not used before."""
        self._token += 1
        return self._token

    def delay(self) -> Millis:
        """Return the latency of a message."""
        return self.random.choice((0, 1, 1, 1, 2, 5, 20))

    def later(self, delay: Millis, action: Callable[[], None]) -> None:
        """Schedule a call."""
        heappush(self._heap, (self.now + delay, self.token(), action))

    def in_order(self, stream: int, action: Callable[[], None], sender: Node) -> None:
        """Deliver after all earlier messages of that stream."""
        at = max(self._last.get(stream, 0), self.now + self.delay())
        self._last[stream] = at
        sender.later(at - self.now, action)

    def run(self, milliseconds: Millis) -> None:
        """Advance the time."""
        end = self.now + milliseconds
        while self._heap and self._heap[0][0] <= end:
            at, _, action = heappop(self._heap)
            self.now = at
            action()
        self.now = end

    def node_at(self, address: Address) -> Node | None:
        """Return the Sentinel at that address."""
        return next((node for node in self.nodes if node.address == address), None)

    def blocked(self, sender: Node, address: Address) -> bool:
        """Whether a connection attempt would hang."""
        return (sender.sentinel_id, address) in self.cut

    def reachable(self, sender: Node, address: Address) -> bool:
        """Whether ``who`` can reach ``address``."""
        if self.blocked(sender, address):
            return False
        server = self.servers.get(address)
        if server is not None:
            return server.up
        node = self.node_at(address)
        return node is not None and node.up and (node.sentinel_id, sender.address) not in self.cut

    def deliver(
        self,
        sender: Node,
        effect: Ping | RequestInfo | RequestId | PublishHello | AskMasterDown | Reconfigure,
        respond: Callable[[Callable[[], None]], None],
    ) -> None:
        """Execute a command at a server or Sentinel."""
        link = effect.link
        if not self.reachable(sender, link.address):
            return
        core = sender.core
        server = self.servers.get(link.address)
        if server is not None:
            if server.hung:
                server.unread.append(lambda: self._serve(sender, server, effect, respond))
            else:
                self._serve(sender, server, effect, respond)
            return
        node = self.node_at(link.address)
        assert node is not None
        if isinstance(effect, Ping):
            respond(lambda: core.ping_reply(link, effect.kind, b"PONG", self.now))
        elif isinstance(effect, RequestId):
            respond(lambda: core.id_reply(link, node.sentinel_id.encode(), self.now))
        elif isinstance(effect, PublishHello):
            node.core.hello_received(effect.payload, self.now)
            node.turn()
            respond(lambda: core.publish_reply(link, effect.instance, True, self.now))
        elif isinstance(effect, AskMasterDown):

            def send(vote: Vote) -> None:
                self.checker.check_vote(node, vote, effect)
                reply = [int(vote.down), vote.leader.encode(), vote.leader_epoch]
                respond(lambda: core.master_down_reply(link, effect.master, reply, self.now))

            node.opinion(effect, send)

    def _serve(
        self, sender: Node, server: SimulatedServer, effect: Effect, respond: Callable[[Callable[[], None]], None]
    ) -> None:
        core, others = sender.core, list(self.servers.values())
        if isinstance(effect, Ping):
            respond(lambda: core.ping_reply(effect.link, effect.kind, b"PONG", self.now))
        elif isinstance(effect, RequestInfo):
            text = server.info(others)
            respond(lambda: core.info_reply(effect.link, text, self.now))
        elif isinstance(effect, PublishHello):
            for node in self.nodes:
                for link in node._links(server.address) if node.up else ():
                    if (link.link_id, LinkKind.PUBSUB) in node._connections:
                        node.later(self.delay(), partial(self._hello_received, node, effect.payload, link))
            respond(lambda: core.publish_reply(effect.link, effect.instance, True, self.now))
        elif isinstance(effect, Reconfigure):
            server.follows = None if effect.host is None else Address.literal(effect.host, effect.port)
            for node in self.nodes:
                if node is not sender and node.up:
                    node.connections_lost(server.address, {LinkKind.COMMANDS, LinkKind.PUBSUB})
            text = server.info(others)
            respond(lambda: core.info_reply(effect.link, text, self.now))

    def _hello_received(self, node: Node, payload: bytes, link: InstanceLink) -> None:
        if self.reachable(node, link.address):
            node.core.hello_received(payload, self.now, link)
            node.core.pubsub_active(link, self.now)
            node.turn()

    # Faults.

    def kill(self, address: Address) -> None:
        """Stop a server."""
        server = self.servers[address]
        server.up = server.hung = False
        server.unread.clear()
        self._broken(address)

    def revive(self, address: Address) -> None:
        """Start a server again in its former role, or let it continue and read its connections."""
        server = self.servers[address]
        server.up, server.hung = True, False
        unread, server.unread = server.unread, []
        for each in unread:
            each()

    def crash(self, node: Node) -> None:
        """Crash a Sentinel."""
        node.crash()
        self._broken(node.address)

    def isolate(self, node: Node, *, servers: bool = True) -> None:
        """Isolate a Sentinel completely or, without ``servers``, from the other Sentinels only."""
        for other in self.nodes:
            if other is not node:
                self.cut |= {(node.sentinel_id, other.address), (other.sentinel_id, node.address)}
        if servers:
            self.cut |= {(node.sentinel_id, address) for address in self.servers}

    def heal(self) -> None:
        """Heal all partitions: affected connections are reset and may reconnect."""
        cut, self.cut = self.cut, set()
        for sentinel_id, address in sorted(cut, key=lambda pair: (pair[0], pair[1].ip)):
            node = next(o for o in self.nodes if o.sentinel_id == sentinel_id)
            if node.up:
                node.connections_lost(address, {LinkKind.COMMANDS, LinkKind.PUBSUB})

    def _broken(self, address: Address) -> None:
        for node in self.nodes:
            if node.up and not self.blocked(node, address):
                node.connections_lost(address, {LinkKind.COMMANDS, LinkKind.PUBSUB})

    def masters(self) -> set[tuple[int, Address]]:
        """Return config epoch and address at each running Sentinel."""
        views = [node.core.master(NAME) for node in self.nodes if node.up]
        return {(master.config_epoch, master.published_address) for master in views}


class InvariantChecker:
    """Raises as soon as an invariant is violated; the message has the name of the invariant."""

    def __init__(self) -> None:
        self._votes: dict[tuple[str, int], str] = {}
        self._leaders: dict[int, str] = {}
        self._places: dict[int, str] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self.promotions = 0

    def check_vote(self, node: Node, vote: Vote, effect: AskMasterDown) -> None:
        """Check a vote that is sent: it must be the only one of its epoch, for ever."""
        if vote.leader == "*":
            return
        known = self._votes.setdefault((node.sentinel_id, vote.leader_epoch), vote.leader)
        assert known == vote.leader, f"two votes of {node.sentinel_id[0]} in epoch {vote.leader_epoch}"
        assert node.saved.leader_epoch >= vote.leader_epoch, "a vote is sent before it is durable"

    def check_promotion(self, node: Node, effect: Reconfigure) -> None:
        """Check a SLAVEOF NO ONE: one leader per epoch, whose own vote is durable."""
        failover = node.core.master(NAME).failover
        assert failover is not None, "a promotion without a failover"
        self.promotions += 1
        known = self._leaders.setdefault(failover.epoch, node.sentinel_id)
        assert known == node.sentinel_id, f"two leaders in epoch {failover.epoch}"
        assert node.saved.leader_epoch >= failover.epoch, "a leader acts before its vote is durable"
        assert node.saved.epoch >= failover.epoch, "a leader acts before its epoch is durable"
        voter = self._votes.setdefault((node.sentinel_id, failover.epoch), node.sentinel_id)
        assert voter == node.sentinel_id, f"{node.sentinel_id[0]} leads in an epoch in which it voted for {voter[0]}"

    def check_hello(self, payload: bytes) -> None:
        """Check a hello: one address per config epoch."""
        fields = payload.decode().split(",")
        epoch, place = int(fields[7]), f"{fields[5]}:{fields[6]}"
        if epoch:
            known = self._places.setdefault(epoch, place)
            assert known == place, f"config epoch {epoch} means {known} and {place}"
        assert epoch <= int(fields[3]), "a config epoch above the current epoch"

    def check_epochs(self, node: Node) -> None:
        """Check that epochs never decrease while a process runs, nor below the durable ones."""
        core, master = node.core, node.core.master(NAME)
        assert master.leader_epoch <= core.current_epoch
        assert master.config_epoch <= core.current_epoch
        for word, value, saved in (
            ("current", core.current_epoch, node.saved.epoch),
            ("config", master.config_epoch, node.saved.config_epoch),
            ("leader", master.leader_epoch, node.saved.leader_epoch),
        ):
            key = (f"{node.sentinel_id}{node.incarnation}", word)
            assert value >= max(self._epochs.get(key, 0), saved), f"the {word} epoch goes back"
            self._epochs[key] = value
