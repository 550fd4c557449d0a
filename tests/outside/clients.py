"""The process of the clients: a thread for each, started and ended with the round."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from twisted.internet import reactor

from tests.outside.control import Reactor, serve
from tests.outside.outcomes import save
from tests.outside.writing import Client, Histories, Reader, Writer, connecting_from

PAUSE = 0.01
"""Seconds between two writes of one client."""

RETRY_DELAY = 0.1
"""Seconds before the next attempt after a failed one."""


class ClientGroup:
    """All clients of an installation."""

    def __init__(self, clients: Sequence[Client], histories: Histories) -> None:
        self._clients = list(clients)
        self._histories = histories
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def handle(self, words: list[str]) -> str:
        """
        Execute ``BEGIN key``, or ``END file``, which writes the histories to that file.

        :raises ValueError: for anything else, and for a command in the wrong state.
        """
        if len(words) == 2 and words[0] == "BEGIN" and not self._threads:
            self._begin(words[1])
        elif len(words) == 2 and words[0] == "END" and self._threads:
            self._end(Path(words[1]))
        else:
            raise ValueError(f"cannot {' '.join(words)} now")
        return "OK"

    def _begin(self, key: str) -> None:
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._run, args=(client, key), daemon=True) for client in self._clients
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, client: Client, key: str) -> None:
        while not self._stop.is_set():
            self._stop.wait(PAUSE if client.step(key) else RETRY_DELAY)

    def _end(self, path: Path) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        save(path, *self._histories.take())


def address(text: str) -> tuple[str, int]:
    """Parse ``host:port``."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.outside.clients", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="control port")
    parser.add_argument("--master", required=True, help="name that the Sentinels monitor")
    parser.add_argument("--sentinel", action="append", type=address, required=True, metavar="HOST:PORT")
    parser.add_argument("--writer", action="append", default=[], metavar="ADDRESS", help="where it comes from")
    parser.add_argument("--reader", action="append", default=[], metavar="ADDRESS")
    options = parser.parse_args(arguments)
    histories = Histories()
    clients: list[Client] = []
    for make, sources in ((Writer, options.writer), (Reader, options.reader)):
        for source in sources:
            name = f"{make.__name__.lower()}-{source}"
            clients.append(make(name, options.sentinel, options.master, connecting_from(source), histories))
    group = ClientGroup(clients, histories)
    serve(cast(Reactor, reactor), options.port, group.handle)


if __name__ == "__main__":
    main()
