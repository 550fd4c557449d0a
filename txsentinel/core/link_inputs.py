"""The inputs of the core from links: connections, replies and messages."""

from __future__ import annotations

from txsentinel.core.instances import Instance, InstanceLink, Master, Peer, Replica, Server
from txsentinel.core.link import LinkKind
from txsentinel.core.parts import CoreParts
from txsentinel.core.reported_state import ReportedState, reported_state
from txsentinel.core.switchover_state import WriteLimits
from txsentinel.model.address import Address
from txsentinel.model.failure import FailureClass
from txsentinel.model.timings import Millis
from txsentinel.wire.resp import text
from txsentinel.wire.values import ErrorLine


class LinkInputs(CoreParts):
    """Dispatches what links receive to the modules that decide."""

    def link_up(self, link: InstanceLink, kind: LinkKind, local_ip: str, now: Millis) -> None:
        """Handle an established connection of ``link``; ``local_ip`` is its local address."""
        if link.closed:
            return
        self._probing.link_up(link, kind, local_ip, now)
        self.state.touch_link(link)
        if kind is LinkKind.COMMANDS:
            self._failures.connected(link)
            self._crashes.link_up(link)
            self._failovers.link_up(link)
            self._failovers.holds.link_up(link)
        self._failovers.handovers.link_up(link, kind)
        self._hello_processing.confirmations.link_up(link, now)
        for instance in list(link.instances):
            if isinstance(instance, Peer):
                self._evaluation.ask_new_peer(instance, now)
                self.pauses.peer_connected(now)
            self._evaluation.evaluate(instance, now)

    def link_down(
        self, link: InstanceLink, kind: LinkKind, reason: str, now: Millis, failure: FailureClass | None = None
    ) -> None:
        """
        Handle the loss of a connection of ``link``, or a failed attempt to connect.

        :param failure: its class; ``None`` if this Sentinel closed the connection without a failure of its own.
        """
        if link.closed:
            return
        was_up = link.since(kind) is not None
        self._probing.link_down(link, kind, now)
        self.state.touch_link(link)
        if kind is LinkKind.COMMANDS:
            if failure is not None:
                self._failures.connection_failed(link, failure, reason, now)
            self._crashes.link_down(link, was_up, failure, reason, now)
            self.registry.resolve_again(link.address, now)
            self._hello_processing.confirmations.link_down(link, reason)
            self.fan_out.link_down(link, reason)
        for instance in link.instances:
            self._evaluation.schedule(instance, now)
            if instance.master.failover is not None:
                # Fewer peers can vote, or the order to promote may be lost.
                self.state.due.schedule(instance.master, now)

    def ping_reply(self, link: InstanceLink, kind: LinkKind, reply: bytes | None, now: Millis) -> None:
        """Handle a reply to PING: the text of a status or error, ``None`` for anything else."""
        if link.closed:
            return
        self._probing.ping_reply(link, kind, reply, now)
        if reply is not None and reply.startswith(b"PONG"):
            if link.refusals:
                self._failures.command_accepted(link, "PING")
                self._failures.command_accepted(link, "SCRIPT KILL")
            self._observation.pong(link)
        elif reply is not None:
            self._failures.command_refused(link, "PING", text(reply), now)
        self._evaluation.recheck(link, now)

    def info_reply(self, link: InstanceLink, info: bytes | None, now: Millis) -> None:
        """Handle a reply to INFO; ``None`` if it was an error or not a bulk string."""
        if link.closed:
            return
        for instance in list(link.instances):
            if not isinstance(instance, Server):
                continue
            self._probing.info_answered(instance)
            if info is None:
                # An error is no evidence of availability, so it does not delay the next PING either.
                link.silent_since = None
                self._evaluation.schedule(instance, now)
                self._readiness.info_answered(instance, now)
                continue
            if link.refusals:
                self._failures.command_accepted(link, "INFO")
            self._probing.alive(link, now)
            before = reported_state(instance) if self.state.change_observer is not None else None
            tilt = self.tilt.active
            self._observation.info(instance, info, now, tilt=tilt)
            if before is not None:
                self._report_change(instance, before)
            if not link.closed:
                self._evaluation.recheck(link, now)
            master = instance.master
            self._crashes.advance(master, now)
            if master.restart is not None and not tilt and not master.gone and self._restarts.judge(instance, now):
                self._evaluation.evaluate(master, now)
            if not master.gone and (master.failover is not None or master.odown_since is not None):
                self._evaluation.step(master, now)
            if self._fencing.concerns(instance) and not instance.gone:
                self._evaluation.evaluate(instance, now)
            self._evaluation.schedule(instance, now)
            self._readiness.info_answered(instance, now)
        if self.state.operations.pending:
            self.switchovers.advance(now)

    def _report_change(self, server: Server, before: ReportedState) -> None:
        """Report what an INFO has changed: usually the offset and nothing else."""
        master = server.master
        stable = master.sdown_since is None and master.failover is None and master.restart is None
        if stable and before == reported_state(server):
            self.state.touch_offsets(master)
        else:
            self.state.touch(master)

    def writes_held(self, link: InstanceLink, info: bytes, now: Millis) -> None:
        """Handle that the server of ``link`` holds writes for a switchover; ``info`` is its INFO of that moment."""
        self._failovers.holds.held(link, info, now)
        for instance in list(link.instances):
            if isinstance(instance, Master):
                self._evaluation.step(instance, now)

    def write_limits_read(self, link: InstanceLink, limits: WriteLimits | None, error: str, now: Millis) -> None:
        """Handle the settings by which a server rejects writes; ``None`` if ``error`` was the answer."""
        problem = self.rejections.limits_read(link, limits, error, now)
        for instance in list(link.instances):
            if isinstance(instance, Master):
                if problem is not None:
                    self._failovers.ends.handover_refused(instance, "CONFIG GET", problem, now)
                self._evaluation.step(instance, now)

    def old_master_demoted(self, link: InstanceLink, info: bytes | None, to_write: int | None, now: Millis) -> None:
        """
        Handle that a server whose writes were held has answered the order to follow the new master.

        :param info: its INFO of the moment before; ``None`` if it refused the order.
        :param to_write: its ``min-replicas-to-write`` then, if that was asked for.
        """
        self.switchovers.old_master_demoted(link, info, to_write, now)

    def rights_checked(self, link: InstanceLink, denied: dict[str, str], now: Millis) -> None:
        """Handle the result of ``CheckRights``: the denied commands with the errors."""
        self.switchovers.rights_checked(link, denied, now)

    def clients_closed(self, link: InstanceLink, clients: int, now: Millis) -> None:
        """Handle that the server of ``link`` disconnected its clients when it was ordered to follow another one."""
        self._order_replies.clients_closed(link, clients, now)
        self.switchovers.clients_closed(link, clients, now)

    def writes_paused(self, link: InstanceLink, now: Millis) -> None:
        """Handle that the server of ``link`` has paused its writes."""
        self._fencing.paused(link, now)

    def write_pause_refused(self, link: InstanceLink) -> None:
        """Handle that the server of ``link`` refused to pause its writes."""
        self._fencing.pause_refused(link)

    def writes_resumed(self, link: InstanceLink) -> None:
        """Handle that the server of ``link`` answered the order to end such a pause."""
        self._fencing.resumed(link)

    def command_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle an error reply to ``command``; its consequences for availability follow with the reply itself."""
        if not link.closed:
            self._failures.command_refused(link, command, error, now)

    def role_reply(self, link: InstanceLink, role: bytes | None, refused: bool, now: Millis) -> None:
        """Handle a reply to ROLE: its first word, or ``None``. ``refused``: do not send it again on this connection."""
        if not link.closed:
            self._probing.role_answered(link, role, now, refused=refused)

    def publish_reply(self, link: InstanceLink, instance: Instance, accepted: bool, now: Millis) -> None:
        """Handle a reply to our hello. A hand-over that waited for it may be ordered now."""
        if link.closed:
            return
        sent_at = instance.hello_sent_at
        self._probing.hello_answered(link, instance, accepted, now)
        if accepted and self.journal.awaits_hello:
            self.journal.hello_accepted(instance.master.name, instance.name, sent_at, now)
        if accepted and link.refusals:
            self._failures.command_accepted(link, "PUBLISH")
            self._evaluation.recheck(link, now)
        if isinstance(instance, Master) and not instance.gone and instance.failover is not None:
            self._evaluation.step(instance, now)

    def pubsub_active(self, link: InstanceLink, now: Millis) -> None:
        """Handle any message or reply on the Pub/Sub connection but a hello."""
        link.pubsub_active_at = now

    def hello_received(self, payload: bytes, now: Millis, link: InstanceLink | None = None) -> None:
        """Handle a hello that arrived by the subscription of ``link`` or, if ``None``, by a direct PUBLISH."""
        if link is not None and not link.closed:
            link.pubsub_active_at = now
            self._probing.message_received(link, now)
            self._evaluation.recheck(link, now)
        self._hello_processing.hello(payload, now, through_server=link is not None, link=link)
        if self.state.operations.pending:
            self.switchovers.advance(now)

    def master_down_reply(self, link: InstanceLink, master: Master, reply: object, now: Millis) -> None:
        """Handle a reply to ``is-master-down-by-addr``, which is parsed but not validated."""
        if link.closed:
            return
        if isinstance(reply, list):
            self._probing.alive(link, now)
        self.state.touch(master)
        peer = self._questions.answered(link, master, reply, now)
        self._evaluation.recheck(link, now)
        if peer is not None and not self.tilt.active:
            self._evaluation.check_agreement(master, now)

    def command_reply(self, link: InstanceLink, number: int, reply: object, now: Millis) -> None:
        """Handle a reply to a command of TXSENTINEL, which is parsed but not validated."""
        if not link.closed:
            if not isinstance(reply, ErrorLine):
                self._probing.alive(link, now)
            self.fan_out.replied(link, number, reply)

    def promotion_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle that the server of ``link`` refused ``command`` of its promotion, so that no part was executed."""
        self.state.touch_link(link)
        for replica in [each for each in link.instances if isinstance(each, Replica)]:
            self._failovers.promotion_refused(replica, command, error, now)
            self._evaluation.schedule(replica.master, now)

    def handover_refused(self, link: InstanceLink, command: str, error: str, now: Millis) -> None:
        """Handle that the server of ``link`` refused ``command`` of a hand-over."""
        for instance in list(link.instances):
            if isinstance(instance, Master):
                self._failovers.ends.handover_refused(instance, command, error, now)
                self._evaluation.schedule(instance, now)

    def address_resolved(self, address: Address, ip: str | None, now: Millis) -> None:
        """Handle the result of a name resolution; with ``None``, for a failure, the last known IP is kept."""
        self._failures.resolved(address, ip is not None)
        if ip is not None:
            self.registry.resolved(address, ip, now)
            self._hello_processing.confirmations.resolved(address, ip, now)
