"""``python -m tests.interop.page_server NAME PORT``: the HTTP server over a fake Sentinel; prints its port."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import LoopingCall, react

from tests.extensions.fixture import FakeOperator, FakeView, healthy_master, isolated_master, switching_master
from txsentinel.extensions.http.service import HttpApplication
from txsentinel.extensions.http.settings import HttpSettings
from txsentinel.model.snapshots import MasterSnapshot

HOSTILE_NAME: Final = '<img src=x onerror="window.injected=1">'

PASSWORD: Final = "a password: with a colon é"


def masters(name: str) -> list[MasterSnapshot]:
    """Return the masters of a scenario: ``three``, ``many``, ``login``, ``lag`` or ``risk``."""
    if name == "lag":
        master = healthy_master()
        first, second = master.replicas
        return [replace(master, replicas=(first, replace(second, lag_bytes=10_000)))]
    if name == "risk":
        return [replace(healthy_master(), voters_reachable=1), healthy_master("other")]
    found = [healthy_master(), switching_master(), isolated_master(), healthy_master(HOSTILE_NAME)]
    if name == "many":
        found += [healthy_master(f"shard-{number:04}", f"10.1.{number // 250}.{number % 250}") for number in range(996)]
    return found


def grow_lag(view: FakeView) -> None:
    """Let the replicas of a master get further behind."""
    master = view.master("mymaster")
    first, second = master.replicas
    view.put(replace(master, replicas=(first, replace(second, lag_bytes=(second.lag_bytes or 0) + 50_000))))


def main(reactor: Any, name: str, port: str) -> Deferred[None]:
    """Serve until the process is killed."""
    operator = FakeOperator()
    if name == "login":
        operator.passwords["default"] = PASSWORD
    view = FakeView(*masters(name))
    if name == "lag":
        LoopingCall(grow_lag, view).start(1.0)
    application = HttpApplication(reactor, view, operator, HttpSettings())
    application.events.start()
    listening = serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1").listen(application.factory)

    listening.addCallback(lambda port: print(port.getHost().port, flush=True))
    return Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
