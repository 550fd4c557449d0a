"""
How the harness controls its own processes: one RESP command, one line as the reply.

They are child processes like the servers (``tests.servers.ChildProcess``), and called in the same way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from twisted.internet.interfaces import IAddress, IReactorCore, IReactorTCP, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory

import tests
from tests.servers import ChildProcess
from txsentinel.model.timings import Limits
from txsentinel.wire.requests import RequestParser

CommandHandler: TypeAlias = Callable[[list[str]], str]
"""Takes the words of a command, returns the line of the reply; raises ``ValueError`` for an invalid command."""


class Reactor(IReactorCore, IReactorTCP, IReactorTime):
    """The interfaces of the reactor that these programs use."""


class Control(Protocol):
    """One connection of the harness."""

    def __init__(self, handle: CommandHandler) -> None:
        self._handle = handle
        self._parser = RequestParser(Limits())

    def dataReceived(self, data: bytes) -> None:
        if self.transport is None:
            return
        self._parser.feed(data)
        while (request := self._parser.next_request()) is not None:
            words = [word.decode() for word in request]
            try:
                line = "+PONG" if words == ["PING"] else "+" + self._handle(words)
            except ValueError as problem:
                line = f"-ERR {problem}"
            self.transport.write(line.encode() + b"\r\n")


class ControlFactory(ServerFactory):
    """Handles the commands of all connections with one function."""

    noisy = False

    def __init__(self, handle: CommandHandler) -> None:
        self._handle = handle

    def buildProtocol(self, address: IAddress | None) -> Control:
        return Control(self._handle)


def serve(reactor: Reactor, port: int, handle: CommandHandler) -> None:
    """Listen for commands until the process is ended."""
    reactor.listenTCP(port, ControlFactory(handle), interface="127.0.0.1")
    reactor.run()


class OwnProcess(ChildProcess):
    """A module of the tests run as a program; ``port`` is its control port."""

    def __init__(self, module: str, port: int, directory: Path, arguments: Sequence[str]) -> None:
        """
        :param module: its full name; it takes ``--port`` and these arguments.
        """
        super().__init__(port, directory)
        self._module = module
        self._arguments = list(arguments)

    @property
    def label(self) -> str:  # type: ignore[override]
        return self._module.rpartition(".")[2]

    def command_line(self) -> list[str]:
        return [sys.executable, "-m", self._module, "--port", str(self.port), *self._arguments]

    def environment(self) -> dict[str, str]:
        ours = str(Path(str(tests.__file__)).resolve().parent.parent)
        inherited = os.environ.get("PYTHONPATH")
        return {**os.environ, "PYTHONPATH": os.pathsep.join([ours, inherited] if inherited else [ours])}

    def prepare(self) -> None:
        """Do nothing: all parameters are on the command line."""
