"""txredisapi with its own Sentinel client, ``Sentinel`` and ``SentinelConnectionFactory``."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater, react

from tests.clients.script import PAUSE, Plan, report_step, values

FAILURES = (txredisapi.ConnectionError, txredisapi.ResponseError, txredisapi.TimeoutError)
"""The exceptions that an application has to handle while the master changes."""

Steps = Generator[Deferred[Any], Any, Any]


@inlineCallbacks
def main(reactor: Any, plan: Plan) -> Steps:
    """Follow the master."""
    report_step("library", version=txredisapi.__version__)
    group = txredisapi.Sentinel(plan.sentinels, password=plan.sentinel_password, username=plan.sentinel_user)
    group.discovery_timeout = 1  # seconds to wait for a better answer, while all Sentinels consider the master down
    data = {"password": plan.password, "username": plan.user}
    master = group.master_for(plan.name, **data)
    replica = partial(group.slave_for, plan.name, **data)
    _, old = yield group.discover_master(plan.name)
    replicas = yield group.discover_slaves(plan.name)
    report_step("found", master=old, replicas=sorted(port for _, port in replicas))

    value = values()
    written = next(value)
    yield master.set(plan.key, written)
    report_step("read", port=(yield read(reactor, replica, plan.key, written, old)))

    received: Deferred[None] = Deferred()
    host, port = plan.sentinels[0]
    yield subscribe(reactor, host, port, plan, received)
    report_step("ready")

    while True:
        yield deferLater(reactor, PAUSE)
        try:
            written = next(value)
            yield master.set(plan.key, written)
            port = yield port_of(master)
        except FAILURES:
            continue
        if received.called and port != old:
            break
    report_step("wrote", port=port, value=written)
    report_step("read again", port=(yield read(reactor, replica, plan.key, written, port)))
    yield master.disconnect()
    yield group.disconnect()


@inlineCallbacks
def subscribe(reactor: Any, host: str, port: int, plan: Plan, received: Deferred[None]) -> Steps:
    """Subscribe to one Sentinel; ``received`` fires with the event."""

    class Listener(txredisapi.SubscriberProtocol):  # type: ignore[misc]
        def messageReceived(self, pattern: str | None, channel: str, message: str) -> None:
            report_step("event", payload=message)
            received.callback(None)

    factory = txredisapi.SubscriberFactory()
    factory.protocol = Listener
    factory.password, factory.username = plan.sentinel_password, plan.sentinel_user
    listener = yield TCP4ClientEndpoint(reactor, host, port).connect(factory)
    yield listener.subscribe("+switch-master")


@inlineCallbacks
def port_of(server: Any) -> Steps:
    """Return the port of the server that the client is connected to."""
    return int((yield server.info("server"))["tcp_port"])


@inlineCallbacks
def read(reactor: Any, connect: Callable[[], Any], key: str, wanted: str, master: int) -> Steps:
    """Wait until a replica returns the written value; return its port."""
    replica = connect()
    while True:
        try:
            if str((yield replica.get(key))) == wanted:
                port = yield port_of(replica)
                yield replica.disconnect()
                if port != master:
                    return port
                # It connected to the new master while that was a replica, and does not check the role again.
                replica = connect()
        except FAILURES:
            pass  # the connection is made again meanwhile
        yield deferLater(reactor, PAUSE)


if __name__ == "__main__":
    react(main, [Plan.from_arguments()])
