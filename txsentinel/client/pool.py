"""
A pool of verified ``txredisapi`` connections to one master.

This module and the search that uses it are imported only when a follower starts, because the import of ``txredisapi``
installs the global reactor. Its connection classes and its handler are used, but not its functions for connecting,
which use that reactor.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Protocol

import txredisapi
from twisted.internet.defer import Deferred, FirstError, fail, gatherResults, succeed
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from txsentinel.client.links import Access, MasterAddress

RETRY_DELAY: Final = 1.0
"""Seconds before a lost connection of a pool is replaced while others of the pool are in use."""


class NotMaster(Exception):
    """The server is not a master, or refused the handshake. ``str(error)`` has the reason."""


class PoolOwner(Protocol):
    """Receives the notifications of a pool. They are never made from within ``open``."""

    def pool_verified(self, pool: MasterPool) -> None:
        """The first connection is verified: the pool can be used."""

    def pool_failed(self, pool: MasterPool, reason: str) -> None:
        """The last connection is lost, or none could be made: the pool is unusable and should be closed."""

    def pool_doubted(self, pool: MasterPool, demoted: bool) -> None:
        """A connection was lost while others remain; ``demoted`` if the server reported that it is no master."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The options of the connections of a pool; ``reply_timeout`` is in seconds, ``None`` for no limit."""

    access: Access
    size: int = 1
    dbid: int | None = None
    charset: str | None = "utf-8"
    convert_numbers: bool = True
    reply_timeout: float | None = None


class MasterConnection(txredisapi.RedisProtocol):  # type: ignore[misc]
    """A connection that notifies its pool of ``-READONLY`` replies."""

    attempt: ConnectAttempt

    def connectionMade(self) -> None:
        """Send the handshake."""
        super().connectionMade()
        self.attempt.send_handshake(self)

    def replyReceived(self, reply: Any) -> None:
        """Pass every reply on, and notify the pool of ``-READONLY``."""
        if isinstance(reply, txredisapi.ResponseError) and str(reply).startswith("READONLY"):
            self.factory.write_refused()
        super().replyReceived(reply)


class ConnectAttempt(ClientFactory):
    """One connection of a pool, from the attempt to connect to its end. ROLE verifies it before it is used."""

    noisy = False

    def __init__(self, pool: MasterPool, verified: Deferred[MasterConnection]) -> None:
        """:param verified: fires with the verified connection, or fails with the reason why there is none."""
        self._pool = pool
        self._access = pool.options.access
        self._verified: Deferred[MasterConnection] | None = verified
        self._connector: IConnector | None = None
        self._deadline: IDelayedCall | None = None
        self._connection: MasterConnection | None = None

    def start(self) -> None:
        """Connect."""
        self._connector = self._access.connect(self._pool.address, self)

    def close(self) -> None:
        """Close after the output is sent, or abort after the timeout."""
        if self._connector is not None:
            self._connector.disconnect()
        if self._connection is not None and self._deadline is None:
            self._deadline = self._access.reactor.callLater(self._access.timeout, self._abort)

    def buildProtocol(self, addr: IAddress | None) -> MasterConnection:
        """Return the connection, and start the timeout for its verification: a stopped process still accepts."""
        self._connection = self._pool.new_connection()
        self._connection.attempt = self
        self._deadline = self._access.reactor.callLater(self._access.timeout, self._abort)
        return self._connection

    def send_handshake(self, connection: MasterConnection) -> None:
        """Send AUTH, SELECT and ROLE in one write."""
        auth, dbid = self._access.auth, self._pool.options.dbid
        before: list[tuple[object, ...]] = [] if auth is None else [auth]
        if dbid is not None:
            before.append(("SELECT", dbid))
        answers = gatherResults(
            [connection.execute_command(*words) for words in [*before, ("ROLE",)]], consumeErrors=True
        )
        answers.addCallbacks(lambda replies: self._role_received(connection, replies[-1]), self._refused)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Fail the verification."""
        self._end(reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """Process the end of the connection."""
        self._end(reason)

    def _role_received(self, connection: MasterConnection, reply: Any) -> None:
        role = reply[0] if isinstance(reply, list) and reply else reply
        if role in ("master", b"master"):
            self._cancel_deadline()
            verified, self._verified = self._verified, None
            if verified is not None:
                verified.callback(connection)
        else:
            word = role.decode("ascii", "replace") if isinstance(role, bytes) else role
            self._fail_verification(NotMaster(f"{self._pool.address} reports that it is a {word}"))
            self.close()

    def _refused(self, failure: Failure) -> Failure | None:
        if not isinstance(failure.value, FirstError):
            return failure
        reason = failure.value.subFailure.value
        if isinstance(reason, txredisapi.ResponseError):
            reason = NotMaster(f"{self._pool.address} refused the handshake: {reason}")
        self._fail_verification(reason)
        self.close()
        return None

    def _fail_verification(self, reason: Failure | BaseException | None) -> None:
        verified, self._verified = self._verified, None
        if verified is not None:
            verified.errback(reason)

    def _abort(self) -> None:
        self._deadline = None
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abortConnection()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, reason: Failure) -> None:
        self._cancel_deadline()
        self._fail_verification(reason)
        self._pool.attempt_ended(self)


class MasterPool(txredisapi.RedisFactory):  # type: ignore[misc]
    """
    Connections to one address, as a factory for the handler of ``txredisapi``.

    A pool is usable as long as it has a verified connection. Lost connections are replaced. When the last one is
    lost, the pool has failed, and every command that waits for a connection fails with ``txredisapi.ConnectionError``.
    """

    protocol = MasterConnection

    def __init__(self, address: MasterAddress, options: PoolOptions, owner: PoolOwner) -> None:
        super().__init__(str(address), None, options.size, True, charset=options.charset)
        self.address = address
        self.options = options
        self._owner = owner
        self._attempts: set[ConnectAttempt] = set()
        self._retries: deque[IDelayedCall] = deque()
        self._unresolved = 0
        self._used = False
        self._closed: Deferred[None] | None = None

    def open(self) -> None:
        """Open all connections. The owner is notified of the first verified one, or when none can be made."""
        for _ in range(self.options.size):
            self._fill()

    def close(self) -> Deferred[None]:
        """
        Close all connections and fail the waiting commands. Call this once.

        :returns: fires with ``None`` when the last connection is closed.
        """
        self._closed = Deferred()
        for retry in self._retries:
            retry.cancel()
        self._retries.clear()
        waiting = [*self.connectionQueue.peekers, *self.connectionQueue.waiting]
        self.connectionQueue.peekers, self.connectionQueue.waiting = [], []
        for waiter in waiting:
            waiter.errback(txredisapi.ConnectionError("Lost connection"))
        for attempt in list(self._attempts):
            attempt.close()
        return succeed(None) if not self._attempts else self._closed

    @property
    def serving(self) -> bool:
        """Whether there is a verified connection."""
        return self._closed is None and bool(self.pool)

    def verify(self) -> Deferred[None]:
        """
        Query the role of the server again, over a new connection, as those in use may be in a transaction.

        :returns: fires with ``None`` if it is a master; fails with :class:`NotMaster` or the error of connecting.
        """

        def verified(connection: MasterConnection) -> None:
            connection.transport.loseConnection()

        return self._connect_one().addCallback(verified)

    def new_connection(self) -> MasterConnection:
        """Return a connection that uses the given reactor for timeouts; the attempt sends AUTH and SELECT."""
        connection = self.protocol(
            self.charset, replyTimeout=self.options.reply_timeout, convertNumbers=self.options.convert_numbers
        )
        connection.factory = self
        connection.callLater = self.options.access.reactor.callLater
        return connection

    def write_refused(self) -> None:
        """Notify the owner of a ``-READONLY`` reply."""
        if self._closed is None:
            self._owner.pool_doubted(self, True)

    def attempt_ended(self, attempt: ConnectAttempt) -> None:
        """Remove an attempt after the end of its connection, or after its failure."""
        self._attempts.discard(attempt)
        if self._closed is not None and not self._attempts:
            self._closed.callback(None)

    def getConnection(self, peek: bool = False) -> Deferred[MasterConnection]:
        """Return a connection for a command of the handler; fail at once without a verified connection."""
        if not self.serving:
            return fail(txredisapi.ConnectionError("Not connected"))
        connection: Deferred[MasterConnection] = super().getConnection(peek)
        return connection

    def stopTrying(self) -> Deferred[None]:
        """Do nothing after QUIT and SHUTDOWN, because the follower decides about reconnecting."""
        return succeed(None)

    def disconnect(self) -> Deferred[None]:
        """Close the present connections, for ``handler.disconnect()``. The follower reconnects unless stopped."""
        for connection in list(self.pool):
            connection.transport.loseConnection()
        gone: Deferred[None] = self.waitForEmptyPool()
        return gone

    def _connect_one(self) -> Deferred[MasterConnection]:
        verified: Deferred[MasterConnection] = Deferred()
        attempt = ConnectAttempt(self, verified)
        self._attempts.add(attempt)
        attempt.start()
        return verified

    def _fill(self) -> None:
        self._unresolved += 1
        self._connect_one().addCallbacks(self._filled, self._not_filled)

    def _filled(self, connection: MasterConnection) -> None:
        self._unresolved -= 1
        if self._closed is not None:
            return
        self.addConnection(connection)
        # Called after txredisapi's own callback, which removes the connection from the pool.
        connection.whenDisconnected().addCallback(self._lost)
        if not self._used:
            self._used = True
            self._owner.pool_verified(self)

    def _not_filled(self, reason: Failure) -> None:
        self._unresolved -= 1
        if self._closed is None:
            self._connection_missing(reason.getErrorMessage(), demoted=isinstance(reason.value, NotMaster))

    def _lost(self, connection: MasterConnection) -> None:
        if self._closed is None:
            self._connection_missing(f"the connection to {self.address} was lost", demoted=False)

    def _connection_missing(self, reason: str, demoted: bool) -> None:
        if self.pool:
            self._retries.append(self.options.access.reactor.callLater(RETRY_DELAY, self._retry))
            self._owner.pool_doubted(self, demoted)
        elif self._used or not self._unresolved:
            self._owner.pool_failed(self, reason)

    def _retry(self) -> None:
        self._retries.popleft()  # all have the same delay, so the oldest one is due first
        self._fill()
