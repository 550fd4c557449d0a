"""The public face of following a master: start, stop, commands that wait, and who is told of a change."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from txsentinel.client.links import Access, MasterAddress, Reactor

if TYPE_CHECKING:
    from txsentinel.client.search import MasterSearch

MAX_WAITING: Final = 10_000
"""Commands that may wait for a master; further ones fail at once."""

log = Logger()


class FollowError(Exception):
    """A command could not be sent, and certainly had no effect."""


class NoMaster(FollowError):
    """No master was found in time; ``str(error)`` has the last obstacle."""


class FollowerStopped(FollowError):
    """The follower was not started yet, or is stopped."""


class Commands:
    """The commands of ``txredisapi`` as methods: each waits for a master, then goes to it."""

    def __init__(self, follower: MasterFollower) -> None:
        self._follower = follower

    def __getattr__(self, method: str) -> Callable[..., Deferred[Any]]:
        """A method by its name in ``txredisapi``; calling one that it does not have fails with ``AttributeError``."""
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Deferred[Any]:
            return self._follower.ready().addCallback(lambda handler: getattr(handler, method)(*args, **kwargs))

        return call


class MasterFollower:
    """
    Connections to the present master of one name. See :mod:`txsentinel.client` for what to expect of it.

    :param reactor: what to run on: ``IReactorTCP`` and ``IReactorTime``.
    :param sentinels: ``(host, port)`` of all Sentinels known; one that answers is enough.
    :param name: the master's name in the Sentinels' configuration.
    :param pool_size: connections to the master, at least one.
    :param password, username: for the master. :param dbid: database to select there.
    :param sentinel_password, sentinel_username: for the Sentinels, which need not be the same.
    :param timeout: seconds that a command waits for a master.
    :param connect_timeout: seconds for each dial, and again for the answers to its greeting.
    :param reply_timeout: seconds for the reply to a command, or ``None`` for as long as it takes; a connection on which
        it runs out is dropped.
    :param charset: of replies, or ``None`` for bytes. :param convert_numbers: make replies that look like numbers
        numbers, as ``txredisapi`` does by default.
    :param tls, sentinel_tls: connection creators by host, such as ``twisted.internet.ssl.optionsForClientTLS``.
    :raises ValueError: if there are no Sentinels, or no connections.
    """

    def __init__(
        self,
        reactor: Reactor,
        sentinels: Iterable[tuple[str, int]],
        name: str,
        *,
        pool_size: int = 1,
        password: str | None = None,
        username: str | None = None,
        dbid: int | None = None,
        sentinel_password: str | None = None,
        sentinel_username: str | None = None,
        timeout: float = 10.0,
        connect_timeout: float = 2.0,
        reply_timeout: float | None = None,
        charset: str | None = "utf-8",
        convert_numbers: bool = True,
        tls: Callable[[str], Any] | None = None,
        sentinel_tls: Callable[[str], Any] | None = None,
    ) -> None:
        self.name = name
        self.sentinels = tuple(MasterAddress(host, port) for host, port in sentinels)
        if not self.sentinels:
            raise ValueError("a follower needs at least one Sentinel")
        if pool_size < 1:
            raise ValueError("a follower needs at least one connection")
        self.commands = Commands(self)
        self._reactor = reactor
        self._timeout = timeout
        self._access = Access(reactor, connect_timeout, password, username, tls)
        self._sentinel_access = Access(reactor, connect_timeout, sentinel_password, sentinel_username, sentinel_tls)
        self._pool_settings: dict[str, Any] = {
            "size": pool_size,
            "dbid": dbid,
            "charset": charset,
            "convert_numbers": convert_numbers,
            "reply_timeout": reply_timeout,
        }
        self._search: MasterSearch | None = None
        self._started: Deferred[MasterFollower] = Deferred()
        self._gone: Deferred[None] | None = None
        self._listeners: list[Callable[[MasterAddress], object]] = []
        self._told: MasterAddress | None = None
        self._waiting: deque[Deferred[Any]] = deque()

    def start(self) -> Deferred[MasterFollower]:
        """
        Begin to follow.

        :returns: fires with this follower once there is a connection to a proven master, however long that takes: give
            it a time limit of your own if you want one, which then ends only the waiting. Fails with
            :exc:`FollowerStopped` if stopped before.
        :raises RuntimeError: if started before; a follower is used once.
        """
        if self._search is not None or self._gone is not None:
            raise RuntimeError("a follower starts once")
        from txsentinel.client.pool import PoolOptions
        from txsentinel.client.search import MasterSearch

        options = PoolOptions(self._access, **self._pool_settings)
        self._search = MasterSearch(self.name, self.sentinels, self._sentinel_access, options, self._found)
        self._search.start()
        return self._started

    def stop(self) -> Deferred[None]:
        """
        Leave the master and all Sentinels; what still waits fails with :exc:`FollowerStopped`.

        :returns: fires with ``None`` when no connection and no timer is left.
        """
        if self._gone is None:
            self._gone = succeed(None) if self._search is None else self._search.stop()
            while self._waiting:
                self._waiting.popleft().errback(FollowerStopped("the follower was stopped"))
            if self._search is not None and not self._started.called:
                self._started.errback(FollowerStopped("the follower was stopped"))
        done: Deferred[None] = Deferred()
        self._gone.addCallback(lambda _: done.callback(None))
        return done

    @property
    def last_error(self) -> str:
        """What went wrong last, as a text for people; empty if nothing ever did."""
        return "" if self._search is None else self._search.last_error

    @property
    def address(self) -> MasterAddress | None:
        """Where the present master is, or ``None`` while there is no proven one."""
        return None if self._search is None else self._search.address

    @property
    def connection(self) -> Any:
        """
        The ``txredisapi`` handler of the present master, or ``None`` while there is no proven one.

        Ask for it anew each time: it dies with that master, its commands then failing with
        ``txredisapi.ConnectionError``.
        """
        return None if self._search is None else self._search.handler

    def add_listener(self, listener: Callable[[MasterAddress], object]) -> None:
        """Have ``listener(address)`` called on each change of the master, the first one included."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[MasterAddress], object]) -> None:
        """
        Call it no more.

        :raises ValueError: if it was not added.
        """
        self._listeners.remove(listener)

    def execute(self, command: str, *args: Any) -> Deferred[Any]:
        """
        Send one command to the master, once.

        :returns: fires with the reply; fails with :exc:`FollowError` if it was not sent, ``txredisapi.ResponseError``
            if the server refused it, ``txredisapi.ConnectionError`` if the reply was lost.
        """
        return self.commands.execute_command(command, *args)

    def ready(self) -> Deferred[Any]:
        """
        Wait for a proven master, at most ``timeout`` seconds.

        :returns: fires with its ``txredisapi`` handler, at once if there is one; fails with :exc:`NoMaster` or
            :exc:`FollowerStopped`.
        """
        if self._search is None or self._gone is not None:
            return fail(FollowerStopped("the follower is not running"))
        if (connection := self.connection) is not None:
            return succeed(connection)
        if len(self._waiting) >= MAX_WAITING:
            return fail(NoMaster("too many commands are waiting for a master"))
        waiting: Deferred[Any] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting.addTimeout(self._timeout, self._reactor, self._too_late)

    def _found(self, address: MasterAddress) -> None:
        if address != self._told:
            self._told = address
            for listener in list(self._listeners):
                try:
                    listener(address)
                except Exception:
                    log.failure("a listener to the master of {name} failed", name=self.name)
        while self._waiting and (connection := self.connection) is not None:
            self._waiting.popleft().callback(connection)
        if self.connection is not None and not self._started.called:
            self._started.callback(self)

    def _too_late(self, result: object, timeout: float) -> Any:
        raise NoMaster(
            f"no master of {self.name} within {timeout} seconds; {self.last_error or 'no Sentinel has answered'}"
        )
