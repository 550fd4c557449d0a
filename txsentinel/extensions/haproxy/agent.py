"""
Answers agent checks of HAProxy.

HAProxy sends the line of ``agent-send``, such as ``mymaster 10.0.0.1:6379``, and gets ``up ready`` if that server is
the master, else ``down`` with the reason. With ``replica`` as the third word the server must be a replica, and with a
fourth, such as ``lag=1MB``, not too far behind. The verdicts are those of the health checks over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from txsentinel.extensions.http.addresses import find_endpoint
from txsentinel.extensions.http.health import HealthRoutes, endpoints
from txsentinel.extensions.http.problem import Problem
from txsentinel.extensions.http.requests import ApiRequest
from txsentinel.interfaces import ISentinelView
from txsentinel.model.explanation import UnfitCode

MAX_LINE: Final = 1024
MAX_CONNECTIONS: Final = 1000
IDLE_SECONDS: Final = 5.0
"""Seconds after which a connection without a whole line is closed."""

USAGE: Final = "expected: MASTER ADDRESS [replica [lag=SIZE]]"


class AgentAnswers:
    """
    Makes answers.

    :param wall_clock: returns the seconds since 1970.
    """

    def __init__(self, view: ISentinelView, wall_clock: Callable[[], float]) -> None:
        self._view = view
        self._health = HealthRoutes(view, wall_clock)

    def answer(self, line: str) -> str:
        """Return the words for HAProxy; what follows ``#`` is shown on its page of statistics."""
        words = line.split(" ")
        query = dict(word.split("=", 1) for word in words[3:] if "=" in word)
        roles = words[2:3] or ["master"]
        if len(words) < 2 or roles[0] not in ("master", "replica") or len(words) > 4 or len(query) != len(words[3:]):
            return f"down #{USAGE}"
        parameters = {"master": words[0], "address": words[1]}
        request = ApiRequest("GET", "", parameters, query)
        try:
            if roles[0] == "master":
                self._health.is_master(request)
            else:
                self._health.is_replica(request)
                if self._is_parked(words[0], words[1]):
                    return "drain"
        except Problem as problem:
            return f"down #{problem.code}"
        return "up ready"

    def _is_parked(self, name: str, address: str) -> bool:
        """Whether a replica is to have no new clients, as its address is about to go away."""
        master = self._view.master(name)
        place = find_endpoint(address, endpoints(master))
        return bool(place) and master.replicas[(place or 0) - 1].unfit_code == UnfitCode.PARKED.value


class AgentProtocol(Protocol):
    """One check."""

    def __init__(self, factory: AgentFactory) -> None:
        self._connections = factory.connections
        self._answers = factory.answers
        self._reactor = factory.reactor
        self._received = b""
        self._timeout: Any = None

    def connectionMade(self) -> None:
        """Wait for the line."""
        self._connections.add(self)
        if len(self._connections) > MAX_CONNECTIONS:
            self.close()
        else:
            self._timeout = self._reactor.callLater(IDLE_SECONDS, self.close)

    def dataReceived(self, data: bytes) -> None:
        """Answer the first line, and close the connection."""
        if self._received.endswith(b"\n"):
            return
        line, newline, _ = (self._received + data).partition(b"\n")
        self._received = line + newline
        if newline:
            answer = self._answers.answer(line.decode("utf-8", "surrogateescape").strip())
            self._write(answer.encode() + b"\n")
        elif len(line) > MAX_LINE:
            self.close()

    def connectionLost(self, reason: Any = None) -> None:
        """End."""
        self._connections.discard(self)
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()

    def close(self) -> None:
        """Close the connection."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)
        self.transport.loseConnection()


class AgentFactory(Factory):
    """Makes the protocols of one listener."""

    noisy = False

    def __init__(self, reactor: Any, answers: AgentAnswers) -> None:
        self.reactor = reactor
        self.answers = answers
        self.connections: set[AgentProtocol] = set()

    def buildProtocol(self, addr: IAddress | None) -> AgentProtocol:
        """Make the protocol of one check."""
        return AgentProtocol(self)

    def close_connections(self) -> None:
        """Close all connections."""
        for each in list(self.connections):
            each.close()
