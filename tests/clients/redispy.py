"""redis-py, and valkey-py which was made from it, in their blocking form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from tests.clients.redispy_options import access, failures
from tests.clients.script import PAUSE, Plan, report_step, tries, values


def main(plan: Plan) -> None:
    """Follow the master."""
    library = import_module(plan.library)
    errors = failures(library)
    data, watching = access(plan)
    report_step("library", version=library.__version__)
    group = import_module(f"{plan.library}.sentinel").Sentinel(plan.sentinels, sentinel_kwargs=watching, **data)
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

    message_task = False
    while True:
        message = listener.get_message(ignore_subscribe_messages=True, timeout=PAUSE)
        if message:
            message_task = True
            report_step("event", payload=message["data"])
        try:
            written = next(value)
            master.set(plan.key, written)
            port = port_of(master)
        except errors:
            continue
        if message_task and port != old:
            break
    report_step("wrote", port=port, value=written)
    report_step("read again", port=read(replica, plan.key, written, port, errors))


def port_of(server: Any) -> int:
    """Where the connection of a client ends."""
    return int(server.info("server")["tcp_port"])


def read(connect: Callable[[], Any], key: str, wanted: str, master: int, errors: tuple[type[Exception], ...]) -> int:
    """Wait until a replica gives back what was written; its port."""
    replica = connect()
    for _ in tries():
        try:
            if replica.get(key) == wanted:
                port = port_of(replica)
                if port != master:
                    return port
                # It came to the new master while that was a replica, and does not ask for roles.
                replica = connect()
        except errors:
            continue
    raise AssertionError("never reached")


if __name__ == "__main__":
    main(Plan.from_arguments())
