"""The public interface of the client: start, stop, waiting commands, and listeners to changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsentinel.client.links import Access, MasterAddress, Reactor

if TYPE_CHECKING:
    from txsentinel.client.search import MasterSearch

MAX_WAITING: Final = 10_000
"""Maximum number of commands that wait for a master; further ones fail at once."""

log = Logger(namespace=__name__)


class FollowError(Exception):
    """A command could not be sent, and certainly had no effect."""


class NoMaster(FollowError):
    """No master was found in time; ``str(error)`` has the last error."""


class FollowerStopped(FollowError):
    """The follower was not started yet, or is stopped."""


class Commands:
    """The commands of ``txredisapi`` as methods. Each waits for a master and is then sent to it."""

    def __init__(self, follower: MasterFollower) -> None:
        self._follower = follower

    def __getattr__(self, method: str) -> Callable[..., Deferred[Any]]:
        """Return a method of ``txredisapi`` by name; the call of an unknown one fails with ``AttributeError``."""
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Deferred[Any]:
            return self._follower.ready().addCallback(lambda handler: getattr(handler, method)(*args, **kwargs))

        return call


class MasterFollower:
    """
    Connections to the present master of one name. Its behaviour is described in :mod:`txsentinel.client`.

    :param reactor: provides ``IReactorTCP`` and ``IReactorTime``.
    :param sentinels: ``(host, port)`` of all known Sentinels; one that answers is enough.
    :param name: the master's name in the Sentinels' configuration.
    :param pool_size: number of connections to the master, at least one.
    :param password, username: for the master. :param dbid: database to select there.
    :param sentinel_password, sentinel_username: for the Sentinels; they may differ from those of the master.
    :param timeout: seconds that a command waits for a master.
    :param connect_timeout: seconds for each attempt to connect, and again for the replies to its handshake.
    :param reply_timeout: seconds for the reply to a command, or ``None`` for no limit; when it expires, the connection
        is dropped.
    :param charset: of replies, or ``None`` for bytes. :param convert_numbers: convert replies that look like numbers,
        as ``txredisapi`` does by default.
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
        self._notified: MasterAddress | None = None
        self._waiting: deque[Deferred[Any]] = deque()

    def start(self) -> Deferred[MasterFollower]:
        """
        Start the follower.

        :returns: fires with this follower when there is a connection to a verified master. It has no timeout; one
            that you add ends only the waiting. Fails with :exc:`FollowerStopped` if it is stopped before.
        :raises RuntimeError: if it was started before; a follower cannot be restarted.
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
        Disconnect from the master and all Sentinels. Waiting commands fail with :exc:`FollowerStopped`.

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
        """The last error as text; empty if there was none."""
        return "" if self._search is None else self._search.last_error

    @property
    def address(self) -> MasterAddress | None:
        """The address of the present master, or ``None`` while there is no verified one."""
        return None if self._search is None else self._search.address

    @property
    def connection(self) -> Any:
        """
        The ``txredisapi`` handler of the present master, or ``None`` while there is no verified one.

        Do not store it: it is valid only for that master, and its commands then fail with
        ``txredisapi.ConnectionError``.
        """
        return None if self._search is None else self._search.handler

    def add_listener(self, listener: Callable[[MasterAddress], object]) -> None:
        """Call ``listener(address)`` at each change of the master, including the first one found."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Callable[[MasterAddress], object]) -> None:
        """
        Remove a listener.

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
        Wait for a verified master, at most ``timeout`` seconds.

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
        return waiting.addTimeout(self._timeout, self._reactor, self._timed_out)

    def role(self) -> Deferred[list[Any]]:
        """
        Ask the present master for its role once more, over a connection of the follower.

        If it is no master any more, the search begins again at once.

        :returns: fires with the reply to ``ROLE`` of a master; fails with :exc:`FollowError` if there is none, or if
            it does not answer.
        """
        return self.ready().addCallback(self._ask_role)

    def _ask_role(self, handler: Any) -> Deferred[list[Any]]:
        address = self.address

        def received(reply: Any) -> list[Any]:
            role = reply[0] if isinstance(reply, list) and reply else reply
            if role not in ("master", b"master"):
                if self._search is not None and address is not None:
                    self._search.demoted(address)
                raise NoMaster(f"{address} reports that it is a {role}")
            return list(reply)

        def failed(reason: Failure) -> Failure:
            raise NoMaster(f"{address} did not confirm that it is a master: {reason.getErrorMessage()}")

        asked: Deferred[Any] = handler.execute_command("ROLE")
        return asked.addCallbacks(received, failed)

    def _found(self, address: MasterAddress) -> None:
        if address != self._notified:
            self._notified = address
            for listener in list(self._listeners):
                try:
                    listener(address)
                except Exception:
                    log.failure("a listener to the master of {name} failed", name=self.name)
        while self._waiting and (connection := self.connection) is not None:
            self._waiting.popleft().callback(connection)
        if self.connection is not None and not self._started.called:
            self._started.callback(self)

    def _timed_out(self, result: object, timeout: float) -> Any:
        raise NoMaster(
            f"no master of {self.name} within {timeout} seconds; {self.last_error or 'no Sentinel has answered'}"
        )
