"""redis-py and valkey-py with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from tests.clients.redispy_options import access, failures
from tests.clients.script import PAUSE, Plan, report_step, values


async def main(plan: Plan) -> None:
    """Follow the master."""
    library = import_module(plan.library)
    errors = failures(library)
    data, sentinel_options = access(plan)
    report_step("library", version=library.__version__)
    sentinels = import_module(f"{plan.library}.asyncio.sentinel")
    group = sentinels.Sentinel(plan.sentinels, sentinel_kwargs=sentinel_options, **data)
    master = group.master_for(plan.name)
    replica = partial(group.slave_for, plan.name)
    old = (await group.discover_master(plan.name))[1]
    report_step("found", master=old, replicas=sorted(port for _, port in await group.discover_slaves(plan.name)))

    value = values()
    written = next(value)
    await master.set(plan.key, written)
    report_step("read", port=await read(replica, plan.key, written, old, errors))

    listener = group.sentinels[0].pubsub()
    await listener.subscribe("+switch-master")
    while (await listener.get_message(timeout=1) or {}).get("type") != "subscribe":
        pass
    message_task = asyncio.create_task(next_message(listener))
    report_step("ready")

    while True:
        await asyncio.sleep(PAUSE)
        try:
            written = next(value)
            await master.set(plan.key, written)
            port = await port_of(master)
        except errors:
            continue
        if message_task.done() and port != old:
            break
    await message_task
    report_step("wrote", port=port, value=written)
    report_step("read again", port=await read(replica, plan.key, written, port, errors))
    await listener.aclose()
    for each in (master, *group.sentinels):
        await each.aclose()


async def next_message(listener: Any) -> None:
    """Wait for the event and report it."""
    while (message := await listener.get_message(ignore_subscribe_messages=True, timeout=1)) is None:
        pass
    report_step("event", payload=message["data"])


async def port_of(server: Any) -> int:
    """Return the port of the server that the client is connected to."""
    return int((await server.info("server"))["tcp_port"])


async def read(
    connect: Callable[[], Any], key: str, wanted: str, master: int, errors: tuple[type[Exception], ...]
) -> int:
    """Wait until a replica returns the written value; return its port."""
    replica = connect()
    while True:
        try:
            if await replica.get(key) == wanted:
                port = await port_of(replica)
                await replica.aclose()
                if port != master:
                    return port
                # It connected to the new master while that was a replica, and does not check the role again.
                replica = connect()
        except errors:
            pass
        await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    asyncio.run(main(Plan.from_arguments()))
