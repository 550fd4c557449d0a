"""
The inputs of the core: everything that can happen to a Sentinel, handed to the part that decides.

Each input takes ``now`` in milliseconds of the host's monotonic clock, acts at once as far as the
cause allows, and leaves effects in ``outbox``. Nothing here waits, reads a clock or touches a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

from txsentinel.core.availability import Availability, ProcessorTime, TiltGuard
from txsentinel.core.blockers import Blocker, blockers
from txsentinel.core.effects import Outbox, Reconfigure
from txsentinel.core.errors import CommandError, InvalidAddress
from txsentinel.core.evaluation import Evaluation
from txsentinel.core.failover import Failovers
from txsentinel.core.gossip import Gossip
from txsentinel.core.handover import check_handover_supported
from txsentinel.core.instances import Instance, Master, Peer, Removed, Replica, Server
from txsentinel.core.justification import is_outdated
from txsentinel.core.link import InstanceLink, LinkKind
from txsentinel.core.observation import Observation
from txsentinel.core.options import MasterOptions, SentinelOptions
from txsentinel.core.probing import Probing
from txsentinel.core.registry import Registry
from txsentinel.core.selection import choose
from txsentinel.core.state import UNKNOWN_STORAGE_ERROR, SentinelState, StorageError
from txsentinel.core.switching import Switching
from txsentinel.core.voting import Vote, Voting
from txsentinel.model.address import Address
from txsentinel.model.events import Level
from txsentinel.model.timings import Limits, Millis, Timings

OptionSetter = Callable[[MasterOptions, str, Sequence[str], SentinelOptions], object]
"""``(options of the master, option, values, options of the Sentinel)``: validate and set, or raise."""


class SentinelCore:
    """Watches, agrees, elects, fails over and remembers, as a function of its inputs."""

    def __init__(self, options: SentinelOptions, timings: Timings, limits: Limits, rng: Callable[[int], int]) -> None:
        self.state = SentinelState(options, timings, limits, rng)
        self.tilt = TiltGuard(timings)
        self.registry = Registry(self.state)
        self._probing = Probing(self.state)
        self._availability = Availability(self.state, self.registry)
        self._voting = Voting(self.state, self.registry, self.tilt)
        self._switching = Switching(self.state, self.registry, self._voting, self._probing)
        self._failovers = Failovers(self.state, self._voting, self._probing, self._switching)
        self._observation = Observation(self.state, self.registry, self._failovers, self._switching)
        self._gossip = Gossip(self.state, self.registry, self._switching, self._failovers)
        self.id_reply = self._gossip.confirmations.answered
        self._evaluation = Evaluation(
            self.state, self.tilt, self._probing, self._availability, self._voting, self._failovers, self._gossip
        )
        self._swept_at: Millis | None = None
        self._swept_late = False

    @property
    def options(self) -> SentinelOptions:
        """The settings of the Sentinel itself."""
        return self.state.options

    @property
    def timings(self) -> Timings:
        """The periods in force."""
        return self.state.timings

    @property
    def outbox(self) -> Outbox:
        """What is to be done."""
        return self.state.outbox

    @property
    def current_epoch(self) -> int:
        """The highest epoch that we know of."""
        return self.state.current_epoch

    @property
    def durable_generation(self) -> int:
        """The hard state up to this generation is on disk."""
        return self.state.durable_generation

    @property
    def simulate_crash(self) -> set[str]:
        """The words of ``SENTINEL SIMULATE-FAILURE`` in force."""
        return self.state.simulated_crashes

    @property
    def next_due(self) -> Millis | None:
        """By when :meth:`sweep` must be called."""
        return self.state.due.next_due

    def master(self, name: str) -> Master:
        """
        The master of that name.

        :raises NoSuchMaster: if it is not monitored here.
        """
        return self.registry.master(name)

    # What happens by itself.

    def sweep(self, now: Millis, wall_now: Millis, processor: ProcessorTime | None = None) -> None:
        """
        Do what is due by time. ``wall_now`` is the wall clock in ms, watched for jumps; ``processor`` explains TILT.

        After a pause too short for TILT, nobody is judged in the first sweep: the answers that came
        meanwhile are still unread. Whatever happened, clients have their turn after some visits.
        """
        late = self._swept_at is not None and now - self._swept_at > 2 * self.timings.sweep_period
        # Twice in a row it is no pause but the pace of a busy machine, and somebody has to judge.
        late, self._swept_late = late and not self._swept_late, late
        if self._swept_at is None:
            self.registry.start_clocks(now)
        self._swept_at = now
        if self.tilt.swept(now, wall_now, processor):
            self.state.announce_text("+tilt", "#tilt mode entered", None)
            period = self.timings.tilt_period
            self.state.note(Level.WARNING, f"TILT: {self.tilt.report}; nobody is judged for {period} ms, until", period)
        elif self.tilt.over(now):
            self.state.announce_text("-tilt", "#tilt mode exited", None)
        self.registry.count_instances(now)
        self._gossip.confirmations.sweep(now)
        for instance in self.state.due.take_due(now, None if late else self.state.limits.evaluations):
            if late:
                self._probing.evaluate(instance, now)
                self.state.due.schedule(instance, now + 1)
            else:
                self._evaluation.evaluate(instance, now)

    def committed(self, generation: int, now: Millis) -> None:
        """The hard state up to ``generation`` is on disk."""
        before, self.state.durable_generation = self.state.durable_generation, generation
        recovered, self.state.storage_error = self.state.storage_failing, None
        if recovered:
            self.state.note(Level.NOTICE, "This Sentinel can save its votes again: it votes and leads failovers.")
        for master in self.registry.masters.values():
            self._voting.committed(master, generation)
            failover = master.failover
            if failover is None:
                continue
            # With many failovers under way, most commits concern few of them.
            if recovered or (failover.vote_generation is not None and before < failover.vote_generation <= generation):
                self._evaluation.step(master, now)

    def commit_failed(self, generation: int, now: Millis, error: StorageError = UNKNOWN_STORAGE_ERROR) -> None:
        """Saving ``generation`` failed: until a commit succeeds, promise nothing and lead nothing new."""
        if not self.state.storage_failing:
            until = "Until it can, it neither votes nor leads failovers, and refuses to be reconfigured."
            self.state.note(Level.WARNING, f"{error.sentence}. {until}")
        self.state.storage_error = error
        for master in self.registry.masters.values():
            # Who asks where it is must not wait for what may never be.
            master.address_before = None
            if master.failover is not None:
                self._evaluation.step(master, now)

    # What links tell.

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        """A connection of ``link`` is established; ``local_ip`` is its near end."""
        if link.closed:
            return
        self._probing.link_up(link, kind, local_ip, now)
        self._failovers.handovers.link_up(link, kind)
        self._gossip.confirmations.link_up(link, now)
        for instance in list(link.instances):
            if isinstance(instance, Peer):
                self._evaluation.ask_new_peer(instance, now)
            self._evaluation.evaluate(instance, now)

    def link_down(self, link: InstanceLink, kind: LinkKind, reason: str, now: Millis) -> None:
        """A connection of ``link`` is lost, or an attempt to make it failed."""
        if link.closed:
            return
        self._probing.link_down(link, kind, now)
        if kind is LinkKind.COMMANDS:
            self.registry.resolve_again(link.address, now)
            self._gossip.confirmations.link_down(link)
        for instance in link.instances:
            self._evaluation.schedule(instance, now)
            if instance.master.failover is not None:
                # Fewer can vote, or the promotion lost its way.
                self.state.due.schedule(instance.master, now)

    def ping_reply(self, link: InstanceLink, kind: LinkKind, reply: bytes | None, now: Millis) -> None:
        """An answer to PING: the text of a status or error, ``None`` for anything else."""
        if link.closed:
            return
        self._probing.ping_reply(link, kind, reply, now)
        self._evaluation.recheck(link, now)

    def info_reply(self, link: InstanceLink, text: bytes | None, now: Millis) -> None:
        """An answer to INFO; ``None`` if it was an error or no bulk string."""
        if link.closed:
            return
        for instance in list(link.instances):
            if not isinstance(instance, Server):
                continue
            instance.info_requested_at = None
            if text is None:
                # An error proves nothing, so it does not put off the next PING either.
                link.silent_since = None
                self._evaluation.schedule(instance, now)
                continue
            self._probing.alive(link, now)
            tilt = self.tilt.active
            self._observation.info(instance, text, now, tilt=tilt)
            if not link.closed:
                self._evaluation.recheck(link, now)
            master = instance.master
            if not master.gone and (master.failover is not None or master.odown_since is not None):
                self._evaluation.step(master, now)
            self._evaluation.schedule(instance, now)

    def role_reply(self, link: InstanceLink, role: bytes | None, refused: bool, now: Millis) -> None:
        """The first word of an answer to ROLE, or ``None``; ``refused``: there will be none on this connection."""
        if not link.closed:
            self._probing.role_answered(link, role, now, refused=refused)

    def publish_reply(self, link: InstanceLink, instance: Instance, accepted: bool, now: Millis) -> None:
        """An answer to our hello; a hand-over is not ordered behind one that is not answered."""
        if link.closed:
            return
        instance.hello_sent_at = None
        if accepted:
            instance.hello_published_at = now
            self._probing.alive(link, now)
            self._evaluation.recheck(link, now)
        else:
            link.silent_since = None
            instance.hello_published_at = now - self.timings.publish_period // 2
        if isinstance(instance, Master) and not instance.gone and instance.failover is not None:
            self._evaluation.step(instance, now)

    def pubsub_active(self, link: InstanceLink, now: Millis) -> None:
        """Something was heard on the subscription."""
        link.pubsub_active_at = now

    def hello_received(self, payload: bytes, now: Millis, link: InstanceLink | None = None) -> None:
        """A hello came, by the subscription of ``link`` or (``None``) by a direct PUBLISH."""
        if link is not None and not link.closed:
            self._probing.heard(link, now)
            self._evaluation.recheck(link, now)
        self._gossip.hello(payload, now, through_server=link is not None)

    def master_down_reply(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> None:
        """An answer to ``is-master-down-by-addr``, parsed but not validated."""
        if link.closed:
            return
        if isinstance(reply, list):
            self._probing.alive(link, now)
        peer = self._voting.answered(link, master, reply, now)
        self._evaluation.recheck(link, now)
        if peer is not None and not self.tilt.active:
            self._evaluation.agree(master, now)

    def promotion_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """The server of ``link`` refused ``command`` of the transaction that was to promote it, and so all of it."""
        for replica in [each for each in link.instances if isinstance(each, Replica)]:
            self._failovers.promotion_refused(replica, command, error, now)
            self._evaluation.schedule(replica.master, now)

    def handover_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """The server of ``link`` refused ``command`` of the transaction that has it hand over its role."""
        for instance in list(link.instances):
            if isinstance(instance, Master):
                self._failovers.handover_refused(instance, command, error)
                self._evaluation.schedule(instance, now)

    def address_resolved(self, address: Address, ip: str | None, now: Millis) -> None:
        """A host name was looked up; ``None`` if it means nothing at present: the last known good is kept."""
        if ip is not None:
            self.registry.resolved(address, ip, now)
            self._gossip.confirmations.resolved(address, ip, now)

    # What clients and peers ask for.

    def vote_requested(self, host: str, port: int, epoch: int, candidate: str, now: Millis) -> Vote:
        """``SENTINEL is-master-down-by-addr``: our opinion, and our vote unless ``candidate`` is ``*``."""
        vote = self._voting.requested(host, port, epoch, candidate, now)
        master = self.registry.by_address(host, port)
        if master is None:
            return vote
        failover = master.failover
        if failover is not None and master.leader not in (None, self.options.my_id):
            self._failovers.concede(master)
        if master.sdown_since is not None and master.odown_since is None and not self.tilt.active:
            # Whoever asks about it holds it down: hear the others again, now rather than a period later.
            self._evaluation.ask_again(master, now)
        return vote

    def holds_down(self, host: str, port: int) -> bool:
        """Whether the master at that address is down in our opinion, which we have none of in TILT."""
        master = self.registry.by_address(host, port)
        return master is not None and master.sdown_since is not None and not self.tilt.active

    def monitor(self, name: str, host: str, port: int, quorum: int, now: Millis) -> Master:
        """
        ``SENTINEL MONITOR``: watch one more master.

        Its last vote counts as given in the current epoch: a name that was removed and comes back
        must not be voted for twice in one epoch.

        :raises CommandError: for a bad address or a name in use.
        """
        address = self.registry.address(host, port)
        if address is None:
            raise InvalidAddress
        if not 0 < port <= 65535:
            raise CommandError("ERR Invalid port number.")
        if name in self.registry.masters:
            raise CommandError("ERR Duplicate master name.")
        options = MasterOptions(
            quorum,
            down_after=self.timings.default_down_after,
            failover_timeout=self.timings.default_failover_timeout,
        )
        master = self.registry.add_master(name, address, options, now)
        master.leader_epoch = master.durable_leader_epoch = self.current_epoch
        self.state.changed(master)
        self.state.announce("+monitor", master, f"quorum {quorum}", binding=True)
        return master

    def readmit(self, removed: Removed, now: Millis) -> None:
        """Watch a master again whose removal could not be saved; its last vote is as durable as it was."""
        before = removed.master
        master = self.restore(
            before.name,
            removed.address,
            before.options,
            now,
            config_epoch=before.config_epoch,
            leader_epoch=before.leader_epoch,
            replicas=removed.replicas,
            peers=removed.peers,
        )
        master.leader, master.voted_at = before.leader, before.voted_at
        master.vote_generation, master.durable_leader_epoch = before.vote_generation, before.durable_leader_epoch
        self.state.changed(master)

    def restore(
        self,
        name: str,
        address: Address,
        options: MasterOptions,
        now: Millis,
        *,
        config_epoch: int,
        leader_epoch: int,
        replicas: Sequence[Address],
        peers: Sequence[tuple[Address, str]],
    ) -> Master:
        """A master as the file remembers it, at start; duplicates among replicas and peers are one."""
        master = self.registry.add_master(name, address, options, now)
        master.config_epoch = config_epoch
        master.leader_epoch = master.durable_leader_epoch = leader_epoch
        self.state.current_epoch = max(self.current_epoch, config_epoch, leader_epoch)
        for place in replicas:
            if not place.same(address):
                self.registry.add_replica(master, place, now)
        for place, peer_id in peers:
            if peer_id not in master.peers and peer_id != self.options.my_id:
                self.registry.add_peer(master, peer_id, place, now)
        return master

    def announce_monitored(self) -> None:
        """``+monitor`` for every master, at start."""
        for master in self.registry.masters.values():
            self.state.announce("+monitor", master, f"quorum {master.options.quorum}")

    def remove(self, name: str, now: Millis, *, announce: bool = True) -> Removed:
        """
        ``SENTINEL REMOVE``: forget a master.

        :returns: what :meth:`readmit` needs if that could not be saved.
        :raises NoSuchMaster: if it is not monitored here.
        """
        master = self.master(name)
        address = master.published_address
        servers = [master.address, *(replica.address for replica in master.replicas.values())]
        removed = Removed(
            master,
            address,
            [place for place in servers if not place.same(address)],
            [(peer.address, peer.name) for peer in master.peers.values()],
        )
        self._gossip.forget_all(master)
        self._failovers.discard(master)
        self.state.changed(master)
        if announce:
            self.state.announce("-monitor", master, binding=True)
        self.registry.remove_master(master)
        return removed

    def reset(self, pattern: str, now: Millis) -> int:
        """``SENTINEL RESET``: begin anew with every master that matches; how many there were."""
        masters = self.registry.matching(pattern)
        for master in masters:
            self.reset_master(master, now)
        return len(masters)

    def reset_master(self, master: Master, now: Millis) -> None:
        """Begin anew with one master."""
        self._gossip.forget_all(master)
        # A promotion that was published is a fact: its config epoch must not lead back to the old address.
        self._failovers.finish(master, now)
        self._failovers.discard(master)
        self._switching.reset(master, now)

    def set_option(self, name: str, option: str, values: Sequence[str], now: Millis, apply: OptionSetter) -> None:
        """
        ``SENTINEL SET``: one option, validated and set by ``apply``.

        :raises NoSuchMaster: if it is not monitored here.
        """
        master = self.master(name)
        apply(master.options, option, values, self.options)
        word = option.lower()
        if word in ("auth-pass", "auth-user"):
            self.registry.renew_credentials([master, *master.replicas.values()], f"{word} changed")
        elif word == "rename-command":
            for server in (master, *master.replicas.values()):
                self.registry.set_credentials(server.link, server)
        self.state.changed(master)
        shown = "******" if word == "auth-pass" else " ".join(values)
        self.state.announce("+set", master, f"{option} {shown}", binding=True)
        self._options_took_effect(master, now)

    def reset_options(self, name: str, options: MasterOptions, now: Millis) -> None:
        """``SENTINEL SET`` could not be saved: go back to ``options``, which is a copy of those before."""
        master = self.registry.masters.get(name)
        if master is None:
            return
        renew = (master.options.auth_pass, master.options.auth_user) != (options.auth_pass, options.auth_user)
        for row in fields(MasterOptions):
            setattr(master.options, row.name, getattr(options, row.name))
        servers = (master, *master.replicas.values())
        if renew:
            self.registry.renew_credentials([*servers], "credentials changed")
        for server in servers:
            self.registry.set_credentials(server.link, server)
        self.state.changed(master)
        self._options_took_effect(master, now)

    def _options_took_effect(self, master: Master, now: Millis) -> None:
        """Evaluate everybody by the options that are in force now."""
        for instance in (master, *master.replicas.values(), *master.peers.values()):
            instance.link.min_down_after = None
            self.state.due.schedule(instance, now)

    def options_changed(self, now: Millis, *, peers_log_in_anew: bool = False) -> None:
        """``SENTINEL CONFIG SET`` changed the options of the Sentinel itself."""
        self.state.changed(None)
        if peers_log_in_anew:
            peers: list[Instance] = [i for i in self.registry.instances() if isinstance(i, Peer)]
            self.registry.renew_credentials(peers, "sentinel-user or sentinel-pass changed")

    def failover(self, name: str, now: Millis, *, coordinated: bool = False) -> None:
        """
        ``SENTINEL FAILOVER``: promote a replica now.

        :param coordinated: have the master, which must be up, hand its role over without losing a write.
        :raises CommandError: if the master is unknown, is being failed over, has no fit replica, or
            cannot do what ``coordinated`` asks for; or in TILT, with the time that is left of it.
        """
        master = self.master(name)
        if master.failover is not None and not master.failover.republish:
            raise CommandError("INPROG Failover already in progress")
        if self.tilt.active:
            raise CommandError(f"TILT Nothing is decided here for another {self.tilt.left(now)} ms")
        if coordinated:
            check_handover_supported(master)
        if self.state.storage_error is not None:
            raise CommandError(f"ERR Failed to save config file: {self.state.storage_error}")
        chosen, master.last_refusals = choose(master, self.timings, now)
        if chosen is None:
            raise CommandError("NOGOODSLAVE No suitable replica to promote")
        self._failovers.force(master, now, coordinated=coordinated)
        self._evaluation.step(master, now)

    def flush(self) -> None:
        """``SENTINEL FLUSHCONFIG``: have everything written."""
        self.state.changed(None)
        for master in self.registry.masters.values():
            self.state.changed(master)

    def blockers(self, master: Master, now: Millis) -> list[Blocker]:
        """What would keep this Sentinel from failing ``master`` over now; empty if nothing would."""
        return list(blockers(master, self.state, self.tilt, now))

    def is_outdated(self, order: Reconfigure) -> bool:
        """Whether ``order``, which waited for the disk, would be wrong now."""
        return is_outdated(order, by_hostname=self.options.announce_hostnames)
