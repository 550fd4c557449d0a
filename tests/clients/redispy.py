"""redis-py and valkey-py, its fork, with blocking connections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from tests.clients.redispy_options import access, failures
from tests.clients.script import PAUSE, Plan, attempts, report_step, values


def main(plan: Plan) -> None:
    """Follow the master."""
    library = import_module(plan.library)
    errors = failures(library)
    data, sentinel_options = access(plan)
    report_step("library", version=library.__version__)
    group = import_module(f"{plan.library}.sentinel").Sentinel(plan.sentinels, sentinel_kwargs=sentinel_options, **data)
    master = group.master_for(plan.name)
    replica = partial(group.slave_for, plan.name)
    old = group.discover_master(plan.name)[1]
    report_step("found", master=old, replicas=sorted(port for _, port in group.discover_slaves(plan.name)))

    value = values()
    written = next(value)
    master.set(plan.key, written)
    report_step("read", port=read(replica, plan.key, written, old, errors))

    listener = group.sentinels[0].pubsub()
    listener.subscribe("+switch-master")
    while (listener.get_message(timeout=1) or {}).get("type") != "subscribe":
        pass
    report_step("ready")

    received = False
    while True:
        message = listener.get_message(ignore_subscribe_messages=True, timeout=PAUSE)
        if message:
            received = True
            report_step("event", payload=message["data"])
        try:
            written = next(value)
            master.set(plan.key, written)
            port = port_of(master)
        except errors:
            continue
        if received and port != old:
            break
    report_step("wrote", port=port, value=written)
    report_step("read again", port=read(replica, plan.key, written, port, errors))


def port_of(server: Any) -> int:
    """Return the port of the server that the client is connected to."""
    return int(server.info("server")["tcp_port"])


def read(connect: Callable[[], Any], key: str, wanted: str, master: int, errors: tuple[type[Exception], ...]) -> int:
    """Wait until a replica returns the written value; return its port."""
    replica = connect()
    for _ in attempts():
        try:
            if replica.get(key) == wanted:
                port = port_of(replica)
                if port != master:
                    return port
                # It connected to the new master while that was a replica, and does not check the role again.
                replica = connect()
        except errors:
            continue
    raise AssertionError("never reached")


if __name__ == "__main__":
    main(Plan.from_arguments())
