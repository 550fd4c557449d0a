"""Simulated child processes: scripts that do nothing and end."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from signal import Signals
from typing import TYPE_CHECKING, TypeAlias

from twisted.internet.address import IPv4Address
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from txsentinel.sim.simulation import micros

if TYPE_CHECKING:
    from txsentinel.sim.reactor import SimReactor


@dataclass(frozen=True, slots=True)
class ScriptOutcome:
    """How a script ends if it is not killed. With ``status`` ``None`` it never ends."""

    status: int | None = 0
    seconds: float = 0.01


Script: TypeAlias = Callable[[Sequence[str]], ScriptOutcome]
"""Takes the argv of a child and returns how it ends; may raise ``OSError`` if it cannot start."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """A child that was started."""

    at: float
    """Seconds of simulated time."""

    path: str
    arguments: tuple[str, ...]
    environment: dict[str, str] | None
    process: SimProcess


@implementer(IProcessTransport)
class SimProcess:
    """A child process; every signal ends it."""

    def __init__(self, reactor: SimReactor, protocol: IProcessProtocol, pid: int, outcome: ScriptOutcome) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self.pid: int | None = pid
        self.written: list[bytes] = []
        self.signals: list[str] = []
        """Names of the signals sent to it."""
        if outcome.status is not None:
            reactor.schedule(micros(outcome.seconds), self._exit, outcome.status, None)

    def start(self) -> None:
        """Connect the process to its protocol."""
        self._protocol.makeConnection(self)

    def signalProcess(self, signalID: str | int) -> None:
        """
        Kill the process; it ends a millisecond later.

        :raises ProcessExitedAlready: if it has ended.
        """
        if self.pid is None:
            raise ProcessExitedAlready
        signal = Signals(signalID) if isinstance(signalID, int) else Signals[f"SIG{signalID.removeprefix('SIG')}"]
        self.signals.append(signal.name)
        self._reactor.schedule(1_000, self._exit, None, signal.value)

    def _exit(self, status: int | None, signal: int | None) -> None:
        if self.pid is None:
            return
        self.pid = None
        ended = (
            ProcessDone(0) if status == 0 else ProcessTerminated(status, signal, signal if status is None else status)
        )
        for step in (self._protocol.processExited, self._protocol.processEnded):
            self._reactor.guard(f"{step.__name__} raised", step, Failure(ended))

    def write(self, data: bytes) -> None:
        """Store the data in :attr:`written`."""
        self.written.append(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Store the data in :attr:`written`."""
        self.written.extend(data)

    def writeToChild(self, childFD: int, data: bytes) -> None:
        """Store the data in :attr:`written`."""
        self.written.append(data)

    def closeStdin(self) -> None:
        """Do nothing: the child reads no input."""
        self.closeChildFD(0)

    def closeStdout(self) -> None:
        """Do nothing: the child writes no output."""
        self.closeChildFD(1)

    def closeStderr(self) -> None:
        """Do nothing: the child writes no output."""
        self.closeChildFD(2)

    def closeChildFD(self, descriptor: int) -> None:
        """Report the closed stream to the protocol, in a later turn."""
        self._reactor.schedule(1, self._protocol.childConnectionLost, descriptor)

    def loseConnection(self) -> None:
        """Close all three streams."""
        for descriptor in range(3):
            self.closeChildFD(descriptor)

    def getPeer(self) -> IPv4Address:
        """Return None: a pipe has no address."""
        return IPv4Address("TCP", "0.0.0.0", 0)

    def getHost(self) -> IPv4Address:
        """Return None: a pipe has no address."""
        return IPv4Address("TCP", "0.0.0.0", 0)


def mapping_copy(environment: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return a copy of the environment, independent of later changes."""
    return None if environment is None else dict(environment)
