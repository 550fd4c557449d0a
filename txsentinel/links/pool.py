"""All outgoing connections: executes the effects of the core that concern links."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

from txsentinel.core.effects import (
    AbortHandOver,
    AcceptWrites,
    AskMasterDown,
    CheckRights,
    Connect,
    DemoteHeld,
    Disconnect,
    Effect,
    FinishHandOver,
    HandOver,
    HoldWrites,
    KillScript,
    PauseClients,
    PauseWrites,
    Ping,
    PublishHello,
    ReadWriteLimits,
    Reconfigure,
    Reconnect,
    RejectWrites,
    RequestId,
    RequestInfo,
    RequestRole,
    ResumeWrites,
    SendCommand,
)
from txsentinel.core.instances import InstanceLink
from txsentinel.core.link import LinkKind
from txsentinel.interfaces import IHost
from txsentinel.links.attempts import ConnectThrottle
from txsentinel.links.command_link import CommandLink
from txsentinel.links.context import ConnectOptions, CoreInputs, LinkContext, Secure
from txsentinel.links.factory import AnyLinkFactory, LinkFactory, command_factory, pubsub_factory
from txsentinel.links.pubsub_link import PubSubLink
from txsentinel.model.measurements import Measurements
from txsentinel.model.timings import Limits, Millis

DEFAULT_LIMITS: Final = Limits()


class LinkPool:
    """
    The links of a Sentinel, by ``link_id``.

    A command for a connection that is not established is dropped silently: every loss is reported to the core, which
    sends the command again.
    """

    def __init__(
        self,
        host: IHost,
        core: CoreInputs,
        options: ConnectOptions,
        turn: Callable[[], None],
        limits: Limits = DEFAULT_LIMITS,
        *,
        connect_server: Callable[..., object] | None = None,
        connect_peer: Callable[..., object] | None = None,
        received_until: Callable[[Millis], Millis] = lambda now: now,
        secure: Secure | None = None,
        measurements: Measurements | None = None,
    ) -> None:
        """
        Build an empty pool.

        :param turn: executes the decisions of the core; called after each input to the core.
        :param connect_server: connects to servers; has the signature of the reactor's ``connectTCP``, the default.
        :param connect_peer: the same for peers.
        :param received_until: takes the present time, returns the time until which all input has been read.
        :param secure: adds TLS to every link; ``None`` for plain TCP.
        :param measurements: counts failures, and measures round trips.
        """
        self._context = LinkContext(
            host,
            core,
            options,
            limits,
            turn,
            connect_server or host.reactor.connectTCP,
            connect_peer or host.reactor.connectTCP,
            ConnectThrottle(host, received_until),
            measurements or Measurements(),
            secure,
        )
        self._commands: dict[int, LinkFactory[CommandLink]] = {}
        self._subscriptions: dict[int, LinkFactory[PubSubLink]] = {}
        self._leaving: dict[AnyLinkFactory, None] = {}
        self._stopped: Deferred[None] | None = None
        self._actions: dict[type[Any], Callable[[Any], None]] = {
            Connect: self._connect,
            Reconnect: self._reconnect,
            Disconnect: self._disconnect,
            Ping: self._ping,
            RequestInfo: self._request_info,
            RequestRole: self._request_role,
            RequestId: self._request_id,
            PublishHello: self._publish_hello,
            AskMasterDown: self._ask_master_down,
            Reconfigure: self._reconfigure,
            HandOver: self._hand_over,
            FinishHandOver: self._finish_hand_over,
            AbortHandOver: self._abort_hand_over,
            HoldWrites: self._hold_writes,
            ReadWriteLimits: self._read_write_limits,
            RejectWrites: self._reject_writes,
            AcceptWrites: self._accept_writes,
            DemoteHeld: self._demote_held,
            CheckRights: self._check_rights,
            KillScript: self._kill_script,
            PauseClients: self._pause_clients,
            PauseWrites: self._pause_writes,
            ResumeWrites: self._resume_writes,
            SendCommand: self._send_command,
        }

    def __len__(self) -> int:
        """Return the number of links."""
        return len(self._commands)

    def perform(self, effect: Effect) -> None:
        """
        Execute one effect. Its bytes are sent by the next :meth:`flush`.

        :raises KeyError: for an effect that does not concern links.
        """
        self._actions[type(effect)](effect)

    def flush(self) -> None:
        """Send the commands queued since the last call, in one write per connection."""
        self._context.flush()

    def stop(self) -> Deferred[None]:
        """
        Close all links for good, and report nothing more to the core.

        :returns: fires with ``None`` when no connection is left, after ``CLOSING_GRACE`` at most.
        :raises RuntimeError: if it was called before.
        """
        if self._stopped is not None:
            raise RuntimeError("the links are being closed already")
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        for link_id in list(self._commands):
            self._retire(link_id)
        self._check_stopped()
        return stopped

    def _connect(self, effect: Connect) -> None:
        link = effect.link
        if link.closed or self._stopped is not None:
            return
        if link.link_id not in self._commands:
            self._commands[link.link_id] = commands = command_factory(self._context, link, self._gone)
            if LinkKind.PUBSUB in link.kinds:
                self._subscriptions[link.link_id] = subscription = pubsub_factory(self._context, link, self._gone)
                subscription.follow(commands)
        for factory in self._factories(link, None):
            factory.start()

    def _reconnect(self, effect: Reconnect) -> None:
        failure = effect.link.failure
        if failure is not None and failure.error == effect.reason:
            # The core gives the connection up because of it, which is no failure that the transport reports.
            self._context.count_failure(effect.link, failure.failure_class)
        for factory in self._factories(effect.link, effect.kind):
            factory.reconnect(effect.reason)

    def _disconnect(self, effect: Disconnect) -> None:
        self._retire(effect.link.link_id)

    def _ping(self, effect: Ping) -> None:
        table: dict[int, Any] = self._commands if effect.kind is LinkKind.COMMANDS else self._subscriptions
        factory = table.get(effect.link.link_id)
        if factory is not None and factory.connection is not None:
            factory.connection.ping()

    def _request_info(self, effect: RequestInfo) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.request_info()

    def _request_role(self, effect: RequestRole) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.request_role()

    def _request_id(self, effect: RequestId) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.request_id()

    def _publish_hello(self, effect: PublishHello) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.publish_hello(effect.instance, effect.payload)

    def _ask_master_down(self, effect: AskMasterDown) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.ask_master_down(effect)

    def _reconfigure(self, effect: Reconfigure) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.reconfigure(effect)

    def _hand_over(self, effect: HandOver) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.hand_over(effect)

    def _finish_hand_over(self, effect: FinishHandOver) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.finish_hand_over()

    def _abort_hand_over(self, effect: AbortHandOver) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.abort_hand_over()

    def _hold_writes(self, effect: HoldWrites) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.hold_writes(effect)

    def _read_write_limits(self, effect: ReadWriteLimits) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.read_write_limits()

    def _reject_writes(self, effect: RejectWrites) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.reject_writes(effect)

    def _accept_writes(self, effect: AcceptWrites) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.accept_writes(effect)

    def _demote_held(self, effect: DemoteHeld) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.demote_held(effect)

    def _check_rights(self, effect: CheckRights) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.check_rights(effect)

    def _kill_script(self, effect: KillScript) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.kill_script()

    def _pause_clients(self, effect: PauseClients) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.pause_clients(effect.period)

    def _pause_writes(self, effect: PauseWrites) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.pause_writes(effect.period)

    def _resume_writes(self, effect: ResumeWrites) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.resume_writes()

    def _send_command(self, effect: SendCommand) -> None:
        connection = self._command_link(effect.link)
        if connection is not None:
            connection.send_command(effect.number, effect.words)

    def _command_link(self, link: InstanceLink) -> CommandLink | None:
        factory = self._commands.get(link.link_id)
        return None if factory is None else factory.connection

    def _factories(self, link: InstanceLink, kind: LinkKind | None) -> list[AnyLinkFactory]:
        """Return the factories of one kind, or of both for ``None``, as far as the link has them."""
        found: list[AnyLinkFactory] = []
        if kind is not LinkKind.PUBSUB and link.link_id in self._commands:
            found.append(self._commands[link.link_id])
        if kind is not LinkKind.COMMANDS and link.link_id in self._subscriptions:
            found.append(self._subscriptions[link.link_id])
        return found

    def _retire(self, link_id: int) -> None:
        retiring: list[AnyLinkFactory] = []
        commands = self._commands.pop(link_id, None)
        if commands is not None:
            retiring.append(commands)
        subscription = self._subscriptions.pop(link_id, None)
        if subscription is not None:
            retiring.append(subscription)
        for factory in retiring:
            self._leaving[factory] = None
        for factory in retiring:
            factory.retire()

    def _gone(self, factory: AnyLinkFactory) -> None:
        self._leaving.pop(factory, None)
        self._check_stopped()

    def _check_stopped(self) -> None:
        stopped = self._stopped
        if stopped is not None and not stopped.called and not self._commands and not self._leaving:
            stopped.callback(None)
