"""
A small model of a C Sentinel, used as a peer: it decides by ticks and trusts everything that it receives.

It keeps the behaviour that makes mixed quorums difficult: it votes for whichever candidate asks first, counts votes by
the current epoch, switches on any newer hello, tries to connect once a second, and sends INFO once a second during a
failover. TILT, scripts, parallel-syncs and operator commands are left out.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import Final

from txsentinel.sim.c_links import CLink, CPort
from txsentinel.sim.groups import Shape, SimMaster
from txsentinel.sim.host import SimHost
from txsentinel.sim.network import SimNetwork
from txsentinel.sim.simulation import Simulation
from txsentinel.sim.values import Failed, Word
from txsentinel.wire.info import InfoReport, parse_info
from txsentinel.wire.resp import OK, PONG, ErrorReply, Value

Place = tuple[str, int]

PORT: Final = 26379
PING, INFO, FAST_INFO, HELLO, ASK = 1_000, 10_000, 1_000, 2_000, 1_000
ELECTION: Final = 10_000


class CInstance:
    """A server or a peer of one master."""

    def __init__(self, host: SimHost, place: Place, now: int, owner: CMaster | None = None) -> None:
        self.place = place
        self.commands = CLink(host, place)
        self.hellos: CLink | None = None if owner is None else CLink(host, place, owner.hello_received)
        self.unanswered_since: int | None = now
        self.pinged_at = self.published_at = self.asked_info_at = now
        self.down = False
        self.report: InfoReport | None = None
        self.role, self.role_since = "", now
        self.reported_at = 0
        self.ordered = False
        # Used for peers only.
        self.reports_down = False
        self.opinion_at = 0
        self.leader: tuple[str, int] = ("*", 0)

    def close(self) -> None:
        """Close the connections."""
        self.commands.close()
        if self.hellos is not None:
            self.hellos.close()


class CMaster:
    """One master, with its replicas and peers."""

    def __init__(self, sentinel: CSentinel, name: str, place: Place, now: int) -> None:
        self.sentinel = sentinel
        self.name = name
        self.instance = CInstance(sentinel.host, place, now, self)
        self.replicas: dict[Place, CInstance] = {}
        self.peers: dict[str, CInstance] = {}
        self.config_epoch = self.leader_epoch = self.failover_epoch = 0
        self.leader = "*"
        self.objectively_down = False
        self.state = ""
        self.began_at = -(1 << 40)
        self.entered_at = 0
        self.promoted: CInstance | None = None

    @property
    def published(self) -> Place:
        """Return the address and the config epoch that hellos announce."""
        promoted = self.promoted
        return promoted.place if promoted is not None and self.state == "reconf" else self.instance.place

    def hello_received(self, payload: bytes) -> None:
        """Handle a hello received on the subscription."""
        self.sentinel.hello_received(payload)

    def all_instances(self) -> list[CInstance]:
        """The master, its replicas and the peers."""
        return [self.instance, *self.replicas.values(), *self.peers.values()]


class CSentinel:
    """One modelled C Sentinel."""

    def __init__(
        self, simulation: Simulation, network: SimNetwork, number: int, ip: str, groups: list[SimMaster], shape: Shape
    ) -> None:
        self.name = f"c{number}"
        self._groups = groups
        self._shape = shape
        self.host = SimHost(simulation, network, self.name, ip, self._program)
        self.my_id = ""
        self.current_epoch = 0
        self.masters: dict[str, CMaster] = {}
        self._persisted: dict[str, tuple[Place, int, int]] = {}

    def _program(self, host: SimHost) -> None:
        """Start from the saved state. Every save completes at once and none fails."""
        now = host.now()
        self.my_id = self.my_id or f"{host.random.getrandbits(160):040x}"
        self.masters = {}
        for group in self._groups:
            place, config_epoch, leader_epoch = self._persisted.get(group.name, (group.servers[0].address, 0, 0))
            master = self.masters[group.name] = CMaster(self, group.name, place, now)
            master.config_epoch, master.leader_epoch = config_epoch, leader_epoch
        host.reactor.listenTCP(PORT, CPort(self._answer))
        self._tick()

    def _save(self) -> None:
        for master in self.masters.values():
            self._persisted[master.name] = (master.published, master.config_epoch, master.leader_epoch)

    # Timers

    def _tick(self) -> None:
        self.host.reactor.callLater(1 / (10 + self.host.random.randrange(10)), self._tick)
        now = self.host.now()
        for master in self.masters.values():
            for instance in master.all_instances():
                self._probe(master, instance, now)
                self._check_down(master, instance, now)
            self._agree(master, now)
            if self._may_start(master, now):
                self._start(master, now)
                self._ask(master, now, at_once=True)
            self._step(master, now)
            self._ask(master, now, at_once=False)
        for master in self.masters.values():
            # Apply the switch at the end of the turn, when nothing iterates over the dictionary.
            if master.state == "update" and master.promoted is not None:
                self._switch(master, master.promoted.place, now)

    def _probe(self, master: CMaster, instance: CInstance, now: int) -> None:
        if instance.commands.connect(now) and instance.unanswered_since is None:
            instance.unanswered_since = now
        if instance.hellos is not None:
            instance.hellos.connect(now)
        if not instance.commands.up:
            if instance.unanswered_since is None:
                instance.unanswered_since = now
            return
        if instance.hellos is not None:
            fast = master.objectively_down or master.state
            period = FAST_INFO if fast and instance is not master.instance else INFO
            if now - instance.asked_info_at > period or instance.report is None:
                instance.asked_info_at = now
                instance.report = instance.report or parse_info(b"")
                instance.commands.ask(("INFO",), lambda reply: self._reported(master, instance, reply))
        if now - instance.pinged_at > min(PING, self._shape.down_after):
            instance.pinged_at = now
            if instance.unanswered_since is None:
                instance.unanswered_since = now
            instance.commands.ask(("PING",), lambda reply: self._ponged(instance, reply))
        if now - instance.published_at > HELLO:
            instance.published_at = now
            instance.commands.ask(("PUBLISH", "__sentinel__:hello", self._hello(master)), lambda reply: None)

    def _hello(self, master: CMaster) -> str:
        ip, port = master.published
        own = f"{self.host.ip},{PORT},{self.my_id},{self.current_epoch}"
        return f"{own},{master.name},{ip},{port},{master.config_epoch}"

    @staticmethod
    def _ponged(instance: CInstance, reply: Word) -> None:
        if isinstance(reply, bytes) and reply.startswith((b"PONG", b"LOADING", b"MASTERDOWN")):
            instance.unanswered_since = None

    def _check_down(self, master: CMaster, instance: CInstance, now: int) -> None:
        down_after = self._shape.down_after
        since = instance.unanswered_since
        down = since is not None and now - since > down_after
        if instance is master.instance and instance.role == "slave":
            down = down or now - instance.role_since > down_after + 2 * INFO
        instance.down = down

    def _agree(self, master: CMaster, now: int) -> None:
        agreeing = 1 + sum(peer.reports_down for peer in master.peers.values())
        master.objectively_down = master.instance.down and agreeing >= self._shape.quorum

    def _may_start(self, master: CMaster, now: int) -> bool:
        timeout = self._shape.failover_timeout
        return master.objectively_down and not master.state and now - master.began_at >= 2 * timeout

    def _start(self, master: CMaster, now: int) -> None:
        self.current_epoch += 1
        master.failover_epoch = self.current_epoch
        master.state, master.entered_at = "wait", now
        master.began_at = now + self.host.random.randrange(1_000)

    def _ask(self, master: CMaster, now: int, *, at_once: bool) -> None:
        for peer in master.peers.values():
            if now - peer.opinion_at > 5 * ASK:
                peer.reports_down, peer.leader = False, ("*", peer.leader[1])
            if not master.instance.down or not peer.commands.up or (not at_once and now - peer.opinion_at < ASK):
                continue
            candidate = self.my_id if master.state else "*"
            ip, port = master.instance.place
            words = ("SENTINEL", "is-master-down-by-addr", ip, port, self.current_epoch, candidate)
            peer.commands.ask(words, lambda reply, peer=peer: self._opinion(peer, reply))  # type: ignore[misc]

    def _opinion(self, peer: CInstance, reply: Word) -> None:
        if isinstance(reply, list) and len(reply) == 3 and isinstance(reply[1], bytes) and isinstance(reply[2], int):
            peer.opinion_at = self.host.now()
            peer.reports_down = reply[0] == 1
            if reply[1] != b"*":
                peer.leader = (reply[1].decode(), reply[2])

    # Votes

    def _vote(self, master: CMaster, epoch: int, candidate: str) -> tuple[str, int]:
        """Vote for the candidate that asks first in an epoch."""
        if epoch > self.current_epoch:
            self.current_epoch = epoch
        if master.leader_epoch < epoch and self.current_epoch <= epoch:
            master.leader, master.leader_epoch = candidate, self.current_epoch
            if candidate != self.my_id:
                master.began_at = self.host.now() + self.host.random.randrange(1_000)
            self._save()
        return master.leader, master.leader_epoch

    def _leads(self, master: CMaster) -> bool:
        """Count the votes as C does: peers by the current epoch, the own vote by the epoch of the failover."""
        votes: dict[str, int] = {}
        for peer in master.peers.values():
            if peer.leader[0] != "*" and peer.leader[1] == self.current_epoch:
                votes[peer.leader[0]] = votes.get(peer.leader[0], 0) + 1
        winner = max(votes, key=lambda candidate: votes[candidate], default=self.my_id)
        mine, epoch = self._vote(master, master.failover_epoch, winner)
        if epoch == master.failover_epoch and mine != "*":
            votes[mine] = votes.get(mine, 0) + 1
        needed = max((len(master.peers) + 1) // 2 + 1, self._shape.quorum)
        return votes.get(self.my_id, 0) >= needed and max(votes.values()) == votes[self.my_id]

    # The failover

    def _step(self, master: CMaster, now: int) -> None:
        timeout = self._shape.failover_timeout
        if master.state == "wait":
            if self._leads(master):
                self._select(master, now)
            elif now - master.began_at > min(ELECTION, timeout):
                master.state = ""
        elif master.state == "promote" and master.promoted is not None:
            if master.promoted.commands.up:
                self._order(master.promoted, None)
                master.state, master.entered_at = "promotion", now
            elif now - master.entered_at > timeout:
                master.state, master.promoted = "", None
        elif master.state == "promotion" and now - master.entered_at > timeout:
            master.state, master.promoted = "", None
        elif master.state == "reconf" and master.promoted is not None:
            others = [replica for replica in master.replicas.values() if replica is not master.promoted]
            for replica in others:
                if not replica.ordered and replica.commands.up:
                    replica.ordered = True
                    self._order(replica, master.promoted.place)
            if now - master.entered_at > timeout or all(self._follows(master, replica) for replica in others):
                master.state = "update"

    def _select(self, master: CMaster, now: int) -> None:
        fit = [replica for replica in master.replicas.values() if self._fit(replica, now)]
        if not fit:
            master.state = ""
            return
        master.promoted = min(fit, key=_rank)
        master.state, master.entered_at = "promote", now

    @staticmethod
    def _fit(replica: CInstance, now: int) -> bool:
        report = replica.report
        fresh = report is not None and now - replica.reported_at <= 5_000
        return fresh and report is not None and not replica.down and replica.commands.up and report.priority != 0

    @staticmethod
    def _follows(master: CMaster, replica: CInstance) -> bool:
        report = replica.report
        if replica.down or report is None or master.promoted is None:
            return True
        there = (report.master_host, report.master_port) == master.promoted.place
        return there and bool(report.master_link_up)

    @staticmethod
    def _order(server: CInstance, master: Place | None) -> None:
        target = ("NO", "ONE") if master is None else master
        for words in (
            ("MULTI",),
            ("SLAVEOF", *target),
            ("CONFIG", "REWRITE"),
            ("CLIENT", "KILL", "TYPE", "normal"),
            ("CLIENT", "KILL", "TYPE", "pubsub"),
            ("EXEC",),
        ):
            server.commands.ask(words, lambda reply: None)

    def _switch(self, master: CMaster, place: Place, now: int) -> None:
        """Reset the master to the new address."""
        places = {master.instance.place, *master.replicas} - {place}
        for instance in (master.instance, *master.replicas.values()):
            instance.close()
        master.instance = CInstance(self.host, place, now, master)
        master.replicas = {other: CInstance(self.host, other, now, master) for other in sorted(places)}
        master.state, master.promoted, master.leader = "", None, "*"
        master.began_at = -(1 << 40)
        self._save()

    # Messages received

    def _reported(self, master: CMaster, instance: CInstance, reply: Word) -> None:
        if not isinstance(reply, bytes) or isinstance(reply, Failed):
            return
        now = self.host.now()
        report = instance.report = parse_info(reply)
        instance.reported_at = now
        if report.role is not None and report.role != instance.role:
            instance.role, instance.role_since = report.role, now
        if instance is master.instance:
            for place in report.replicas:
                if place not in master.replicas and place != master.instance.place:
                    master.replicas[place] = CInstance(self.host, place, now, master)
        elif report.role == "master" and instance is master.promoted and master.state == "promotion":
            master.config_epoch = master.failover_epoch
            master.state, master.entered_at = "reconf", now
            for each in master.all_instances():
                each.published_at = now - HELLO - 1
            self._save()
        elif not master.state and master.replicas.get(instance.place) is instance:
            self._correct_role(master, instance, report, now)

    def _correct_role(self, master: CMaster, replica: CInstance, report: InfoReport, now: int) -> None:
        """Correct a server that claims to be a master or follows another one, if the master is healthy."""
        sane = master.instance.role == "master" and not master.instance.down
        if not sane:
            return
        misdirected = (report.master_host, report.master_port) != master.instance.place
        lost = report.role == "slave" and misdirected and now - replica.role_since > self._shape.failover_timeout
        if (report.role == "master" and now - replica.role_since > 4 * HELLO) or lost:
            replica.role_since = now
            self._order(replica, master.instance.place)

    def hello_received(self, payload: bytes) -> None:
        """Apply the hello without verifying it."""
        ip, port, peer_id, epoch, name, master_ip, master_port, config_epoch = payload.decode().split(",")
        master = self.masters.get(name)
        if master is None or peer_id == self.my_id:
            return
        now, place = self.host.now(), (ip, int(port))
        peer = master.peers.get(peer_id)
        if peer is None or peer.place != place:
            if peer is not None:
                peer.close()
            master.peers[peer_id] = CInstance(self.host, place, now)
        self.current_epoch = max(self.current_epoch, int(epoch))
        if int(config_epoch) > master.config_epoch:
            master.config_epoch = int(config_epoch)
            if (master_ip, int(master_port)) != master.instance.place:
                self._switch(master, (master_ip, int(master_port)), now)

    def _answer(self, words: list[bytes]) -> Value:
        command = words[0].upper()
        if command == b"PING":
            return PONG
        if command == b"PUBLISH":
            self.hello_received(words[2])
            return 1
        if command == b"SENTINEL" and words[1].lower() == b"is-master-down-by-addr":
            place = (words[2].decode(), int(words[3]))
            master = next((each for each in self.masters.values() if each.instance.place == place), None)
            if master is None:
                return [0, "*", 0]
            candidate = words[5].decode()
            leader, epoch = ("*", 0) if candidate == "*" else self._vote(master, int(words[4]), candidate)
            return [int(master.instance.down), leader, epoch]
        if command == b"SENTINEL" and words[1].upper() == b"MYID":
            return self.my_id
        return OK if command == b"CLIENT" else ErrorReply("ERR unknown command")


def _rank(replica: CInstance) -> tuple[int, int, str]:
    report = replica.report
    assert report is not None
    return (report.priority or 100, -(report.repl_offset or 0), report.run_id or "")
