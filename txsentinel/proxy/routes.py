"""Which server a client is connected to: the master, or the replica that has most of what the master has written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionLost
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from txsentinel.client import FollowError, MasterAddress, MasterFollower, NoMaster
from txsentinel.client.links import REPLY_LIMITS, Access, usable_address
from txsentinel.proxy.session import ProxySession, ServerSide
from txsentinel.wire.replies import NEED_MORE, ReplyReader, ReplyViolation
from txsentinel.wire.resp import pack, text
from txsentinel.wire.values import ErrorLine

MASTER_PORT: Final = "master"
REPLICA_PORT: Final = "replica"
"""The names of the two ports in metrics."""


class UnusableReplica(FollowError):
    """A replica cannot be read from; ``str(error)`` has the reason."""


@dataclass(frozen=True, slots=True)
class OnlineReplica:
    """A replica that its master lists as online, and the offset that it has acknowledged."""

    address: MasterAddress
    offset: int


class RoleQueue:
    """
    Asks the master for its role, once for all sessions that wait.

    A session gets a reply to a question that was sent after it has asked, so that its own connection, which it has
    made before, leads to a server that was a master then.
    """

    def __init__(self, follower: MasterFollower) -> None:
        self._follower = follower
        self._waiting: list[Deferred[list[Any]]] = []
        self._asking = False

    def ask(self) -> Deferred[list[Any]]:
        """
        Return the reply to ``ROLE``.

        :returns: fails with ``FollowError`` if the server is no master, or does not answer.
        """
        waiting: Deferred[list[Any]] = Deferred(self._forget)
        self._waiting.append(waiting)
        self._next()
        return waiting

    def _forget(self, waiting: Deferred[list[Any]]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _next(self) -> None:
        if not self._asking and self._waiting:
            self._asking = True
            waiting, self._waiting = self._waiting, []
            self._follower.role().addBoth(self._answered, waiting)

    def _answered(self, result: list[Any] | Failure, waiting: list[Deferred[list[Any]]]) -> None:
        self._asking = False
        for each in waiting:
            if not each.called:
                each.callback(result)
        self._next()


def online_replicas(reply: list[Any]) -> list[OnlineReplica]:
    """Return the replicas in the reply of a master to ``ROLE``; those whose address is unusable are left out."""
    found = []
    for entry in reply[2] if len(reply) > 2 and isinstance(reply[2], list) else ():
        words = [text(word) if isinstance(word, bytes) else str(word) for word in entry]
        if len(words) >= 3 and words[2].isdigit():
            address = usable_address(words[0], words[1])
            if address is not None:
                found.append(OnlineReplica(address, int(words[2])))
    return found


class ServerConnection(ClientFactory):
    """
    An attempt to connect to a server for a session.

    ``made`` fires with the connection; it can be cancelled.
    """

    noisy = False

    def __init__(self, access: Access, address: MasterAddress) -> None:
        self.made: Deferred[ServerSide] = Deferred(self._cancel)
        self._address = address
        self._cancelled = False
        # The bytes of the client are passed on as they are, with TLS or without.
        self._connector = Access(access.reactor, access.timeout).connect(address, self)

    def _cancel(self, made: Deferred[ServerSide]) -> None:
        self._cancelled = True
        self._connector.disconnect()

    def buildProtocol(self, addr: IAddress | None) -> ServerSide:
        """Return the connection."""
        return ServerSide(self._address, self.made)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Report the failure, unless it is due to the cancellation."""
        if not self._cancelled:
            self.made.errback(reason)


class ReplicaCheck(Protocol):
    """Asks one replica for its role, over a connection of its own."""

    def __init__(self, factory: ReplicaCheckFactory, access: Access) -> None:
        self._factory = factory
        self._auth = access.auth
        self._reader = ReplyReader(REPLY_LIMITS)
        self._to_skip = 0

    def connectionMade(self) -> None:
        """Send AUTH and ROLE in one write."""
        assert self.transport is not None
        self._to_skip = int(self._auth is not None)
        self.transport.write((pack(*self._auth) if self._auth is not None else b"") + pack("ROLE"))

    def dataReceived(self, data: bytes) -> None:
        """Report the reply to ``ROLE``. A refused AUTH shows in it."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.next_reply()) is not NEED_MORE:
                if self._to_skip:
                    self._to_skip -= 1
                else:
                    self._factory.finish(role_problem(reply))
        except ReplyViolation as violation:
            self._factory.finish(f"violates the protocol: {violation}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report the loss, if there was no reply."""
        self._factory.finish("closed the connection")


def role_problem(reply: object) -> str:
    """Return why a server with this reply to ``ROLE`` is not read from; empty for a replica with its master."""
    if isinstance(reply, ErrorLine):
        return f"refuses ROLE: {text(reply)}"
    words = [text(word) if isinstance(word, bytes) else str(word) for word in reply] if isinstance(reply, list) else []
    if len(words) < 4 or words[0] != "slave":
        return f"reports that it is a {words[0]}" if words else f"answers ROLE with {reply!r}"
    return "" if words[3] == "connected" else f"has no link to its master: {words[3]}"


class ReplicaCheckFactory(ClientFactory):
    """One :class:`ReplicaCheck`; ``result`` fires with ``None``, or fails with :class:`UnusableReplica`."""

    noisy = False

    def __init__(self, access: Access, address: MasterAddress) -> None:
        self.result: Deferred[None] = Deferred(self._cancelled)
        self._access = access
        self._address = address
        self._deadline: IDelayedCall | None = access.reactor.callLater(2 * access.timeout, self._timed_out)
        self._connector = access.connect(address, self)

    def buildProtocol(self, addr: IAddress | None) -> ReplicaCheck:
        """Return the connection."""
        return ReplicaCheck(self, self._access)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Report the failure."""
        self.finish(reason.getErrorMessage())

    def finish(self, problem: str) -> None:
        """Report the result, and close the connection."""
        if self._stop() and not self.result.called:
            if problem:
                self.result.errback(UnusableReplica(f"{self._address} {problem}"))
            else:
                self.result.callback(None)

    def _cancelled(self, result: Deferred[None]) -> None:
        self._stop()

    def _timed_out(self) -> None:
        self._deadline = None
        if not self.result.called:
            self.result.errback(UnusableReplica(f"{self._address} did not answer in time"))
        self._connector.disconnect()

    def _stop(self) -> bool:
        if self._deadline is None:
            return False
        self._deadline.cancel()
        self._deadline = None
        self._connector.disconnect()
        return True


class MasterRoute:
    """The read-write port: every client is connected to the master."""

    label = MASTER_PORT

    def __init__(self, follower: MasterFollower, roles: RoleQueue, access: Access) -> None:
        self._follower = follower
        self._roles = roles
        self._access = access

    @property
    def available(self) -> bool:
        """Whether there is a verified master."""
        return self._follower.address is not None

    @inlineCallbacks
    def open(self, session: ProxySession) -> Any:
        """Connect to the master, and ask it for its role when the connection is made."""
        yield self._follower.ready()
        address = self._follower.address
        if address is None:
            raise NoMaster("the master was lost")
        session.trying, session.uses_master = address, True
        server: ServerSide = yield ServerConnection(self._access, address).made
        try:
            yield self._roles.ask()
            check_connected(server)
            if self._follower.address != address:
                raise NoMaster(f"{address} is no longer the master")
        except BaseException:
            server.transport.abortConnection()
            raise
        return server


class ReplicaRoute:
    """
    The read-only port: a client is connected to the replica with the highest acknowledged offset.

    Of equal ones it is the replica with fewer clients. If none can be used, it is the master.

    :param used: returns how many clients are connected to a server.
    :param fell_back: called with the reason when the master is used.
    """

    label = REPLICA_PORT

    def __init__(
        self,
        master: MasterRoute,
        roles: RoleQueue,
        access: Access,
        used: Callable[[MasterAddress], int],
        fell_back: Callable[[str], None],
    ) -> None:
        self._master = master
        self._roles = roles
        self._access = access
        self._used = used
        self._fell_back = fell_back

    @property
    def available(self) -> bool:
        """Whether there is a verified master, which knows its replicas."""
        return self._master.available

    @inlineCallbacks
    def open(self, session: ProxySession) -> Any:
        """Connect to the first replica that can be used."""
        session.uses_master = False
        role: list[Any] = yield self._roles.ask()
        problem = "the master has no replica"
        for replica in self._ordered(online_replicas(role)):
            session.trying = replica.address
            try:
                server = yield self._open(replica.address)
                return server
            except (UnusableReplica, ConnectError, ConnectionClosed) as error:
                problem = str(error)
        self._fell_back(problem)
        server = yield self._master.open(session)
        return server

    def _ordered(self, replicas: Iterable[OnlineReplica]) -> list[OnlineReplica]:
        return sorted(replicas, key=lambda replica: (-replica.offset, self._used(replica.address), replica.address))

    @inlineCallbacks
    def _open(self, address: MasterAddress) -> Any:
        server: ServerSide = yield ServerConnection(self._access, address).made
        try:
            yield ReplicaCheckFactory(self._access, address).result
            check_connected(server)
        except BaseException:
            server.transport.abortConnection()
            raise
        return server


def check_connected(server: ServerSide) -> None:
    """
    Check a connection that was made before.

    :raises ConnectionLost: if the server has closed it.
    """
    if server.lost:
        raise ConnectionLost(f"{server.address} closed the connection")
