"""
A pool of verified ``txredisapi`` connections to one master.

Imported, with the search that uses it, only when a follower starts: ``txredisapi`` installs the global reactor as it is
imported. Of it we use the connection classes and the handler, and none of its dialling, which is tied to that reactor.
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
"""Seconds before a lost connection of a pool is replaced while others of it still serve."""


class NotMaster(Exception):
    """The server was reached and is not a master, or would not say. ``str(error)`` says which."""


class PoolOwner(Protocol):
    """Who is told what becomes of a pool; called from within the reactor's turn, never from ``open``."""

    def pool_verified(self, pool: MasterPool) -> None:
        """A first connection has proven to lead to a master: the pool can be used."""

    def pool_failed(self, pool: MasterPool, reason: str) -> None:
        """No connection is left, or none could be made: the pool is of no more use, and waits to be closed."""

    def pool_doubted(self, pool: MasterPool, demoted: bool) -> None:
        """A connection was lost while others live on; with ``demoted`` the server itself denied being a master."""


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """What every connection of a pool is made with; ``reply_timeout`` in seconds, ``None`` to wait for ever."""

    access: Access
    size: int = 1
    dbid: int | None = None
    charset: str | None = "utf-8"
    convert_numbers: bool = True
    reply_timeout: float | None = None


class MasterConnection(txredisapi.RedisProtocol):  # type: ignore[misc]
    """A connection that tells its pool of replies which only a replica gives."""

    attempt: ConnectAttempt

    def connectionMade(self) -> None:
        """Up, though not yet proven."""
        super().connectionMade()
        self.attempt.greet(self)

    def replyReceived(self, reply: Any) -> None:
        """Pass every reply on; ``-READONLY`` is also news about the server."""
        if isinstance(reply, txredisapi.ResponseError) and str(reply).startswith("READONLY"):
            self.factory.write_refused()
        super().replyReceived(reply)


class ConnectAttempt(ClientFactory):
    """One connection of a pool, from the dial to its end; verified with ROLE before anybody may use it."""

    noisy = False

    def __init__(self, pool: MasterPool, verified: Deferred[MasterConnection]) -> None:
        """:param verified: fires with the connection once it is proven, or fails with the reason why it is not."""
        self._pool = pool
        self._access = pool.options.access
        self._verified: Deferred[MasterConnection] | None = verified
        self._connector: IConnector | None = None
        self._deadline: IDelayedCall | None = None
        self._connection: MasterConnection | None = None

    def start(self) -> None:
        """Dial."""
        self._connector = self._access.connect(self._pool.address, self)

    def close(self) -> None:
        """Hang up; what is written still goes out, but the far end gets only so long to take it."""
        if self._connector is not None:
            self._connector.disconnect()
        if self._connection is not None and self._deadline is None:
            self._deadline = self._access.reactor.callLater(self._access.timeout, self._abort)

    def buildProtocol(self, addr: IAddress | None) -> MasterConnection:
        """The connection, with a limit to how long it may stay unproven: a stopped process still accepts."""
        self._connection = self._pool.new_connection()
        self._connection.attempt = self
        self._deadline = self._access.reactor.callLater(self._access.timeout, self._abort)
        return self._connection

    def greet(self, connection: MasterConnection) -> None:
        """Log in, choose the database and ask for the role, all in one go."""
        auth, dbid = self._access.auth, self._pool.options.dbid
        before: list[tuple[object, ...]] = [] if auth is None else [auth]
        if dbid is not None:
            before.append(("SELECT", dbid))
        answers = gatherResults(
            [connection.execute_command(*words) for words in [*before, ("ROLE",)]], consumeErrors=True
        )
        answers.addCallbacks(lambda replies: self._role_received(connection, replies[-1]), self._refused)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Nobody is there."""
        self._end(reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """It was there, and is no longer."""
        self._end(reason)

    def _role_received(self, connection: MasterConnection, reply: Any) -> None:
        role = reply[0] if isinstance(reply, list) and reply else reply
        if role in ("master", b"master"):
            self._cancel_timer_()
            verified, self._verified = self._verified, None
            if verified is not None:
                verified.callback(connection)
        else:
            word = role.decode("ascii", "replace") if isinstance(role, bytes) else role
            self._unproven(NotMaster(f"{self._pool.address} says that it is a {word}"))
            self.close()

    def _refused(self, failure: Failure) -> Failure | None:
        if not isinstance(failure.value, FirstError):
            return failure
        reason = failure.value.subFailure.value
        if isinstance(reason, txredisapi.ResponseError):
            reason = NotMaster(f"{self._pool.address} refused our greeting: {reason}")
        self._unproven(reason)
        self.close()
        return None

    def _unproven(self, reason: Failure | BaseException | None) -> None:
        verified, self._verified = self._verified, None
        if verified is not None:
            verified.errback(reason)

    def _abort(self) -> None:
        self._deadline = None
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abortConnection()

    def _cancel_timer_(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, reason: Failure) -> None:
        self._cancel_timer_()
        self._unproven(reason)
        self._pool.attempt_ended(self)


class MasterPool(txredisapi.RedisFactory):  # type: ignore[misc]
    """
    Connections to one address, in the shape in which ``txredisapi``'s handler takes them.

    A pool lives as long as one verified connection does: single losses are made good, with the last one it is over and
    every command still waiting for a connection of it fails with ``txredisapi.ConnectionError``.
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
        """Dial all connections; the owner hears of the first proven one, or of the end of the last hope."""
        for _ in range(self.options.size):
            self._fill()

    def close(self) -> Deferred[None]:
        """
        Hang up everywhere and fail what waits. To be called once.

        :returns: fires with ``None`` when the last connection is gone.
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
        """Is there a verified connection?"""
        return self._closed is None and bool(self.pool)

    def verify(self) -> Deferred[None]:
        """
        Ask the server for its role once more, on a connection made for that: those in use may be in a transaction.

        :returns: fires with ``None`` if it is a master; fails with :class:`NotMaster` or the error of the dial.
        """

        def proven(connection: MasterConnection) -> None:
            connection.transport.loseConnection()

        return self._connect_one().addCallback(proven)

    def new_connection(self) -> MasterConnection:
        """A connection object whose timeouts run on our reactor; AUTH and SELECT are the business of the dial."""
        connection = self.protocol(
            self.charset, replyTimeout=self.options.reply_timeout, convertNumbers=self.options.convert_numbers
        )
        connection.factory = self
        connection.callLater = self.options.access.reactor.callLater
        return connection

    def write_refused(self) -> None:
        """A connection got ``-READONLY``."""
        if self._closed is None:
            self._owner.pool_doubted(self, True)

    def attempt_ended(self, attempt: ConnectAttempt) -> None:
        """A connection is gone, or never came about."""
        self._attempts.discard(attempt)
        if self._closed is not None and not self._attempts:
            self._closed.callback(None)

    def getConnection(self, peek: bool = False) -> Deferred[MasterConnection]:
        """Called by the handler for each command; never waits on a pool that has nothing to wait for."""
        if not self.serving:
            return fail(txredisapi.ConnectionError("Not connected"))
        connection: Deferred[MasterConnection] = super().getConnection(peek)
        return connection

    def stopTrying(self) -> Deferred[None]:
        """Called for QUIT and SHUTDOWN. Whether we dial again is for the follower to say, so this does nothing."""
        return succeed(None)

    def disconnect(self) -> Deferred[None]:
        """What ``handler.disconnect()`` does: lose the present connections. Stop the follower to stay away."""
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
        connection.whenDisconnected().addCallback(self._lost)  # behind txredisapi's own, which takes it from the pool
        if not self._used:
            self._used = True
            self._owner.pool_verified(self)

    def _not_filled(self, reason: Failure) -> None:
        self._unresolved -= 1
        if self._closed is None:
            self._one_less(reason.getErrorMessage(), demoted=isinstance(reason.value, NotMaster))

    def _lost(self, connection: MasterConnection) -> None:
        if self._closed is None:
            self._one_less(f"the connection to {self.address} was lost", demoted=False)

    def _one_less(self, reason: str, demoted: bool) -> None:
        if self.pool:
            self._retries.append(self.options.access.reactor.callLater(RETRY_DELAY, self._retry))
            self._owner.pool_doubted(self, demoted)
        elif self._used or not self._unresolved:
            self._owner.pool_failed(self, reason)

    def _retry(self) -> None:
        self._retries.popleft()  # all have the same delay, so the first one set is the first one due
        self._fill()
