"""coredis, which supports RESP3 only."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import coredis
from coredis.connection import TCPLocation
from coredis.exceptions import ConnectionError, ReadOnlyError, ReplicaNotFoundError, StalePrimaryError

from tests.clients.script import PAUSE, Plan, report_step, values

FAILURES = (ConnectionError, ReadOnlyError, ReplicaNotFoundError, StalePrimaryError, TimeoutError)
"""The exceptions that an application has to handle while the master changes."""


async def main(plan: Plan) -> None:
    """Follow the master."""
    report_step("library", version=coredis.__version__)
    common: dict[str, Any] = {"stream_timeout": 2}
    if plan.authority is not None:
        context = ssl.create_default_context(cafile=plan.authority)
        context.load_cert_chain(plan.certificate or "", plan.private_key)
        common["ssl_context"] = context
    group = coredis.Sentinel(
        [TCPLocation(*each) for each in plan.sentinels],
        sentinel_kwargs={
            **common,
            "username": plan.sentinel_user,
            "password": plan.sentinel_password,
            "client_name": plan.key,
        },
        decode_responses=True,
        username=plan.user,
        password=plan.password,
        **common,
    )
    async with group, group.primary_for(plan.name) as master:
        old = (await group.discover_primary(plan.name))[1]
        report_step("found", master=old, replicas=sorted(port for _, port in await group.discover_replicas(plan.name)))

        value = values()
        written = next(value)
        await master.set(plan.key, written)
        report_step("read", port=await read(group, plan, written, old))

        async with group.sentinels[0].pubsub(channels=["+switch-master"], ignore_subscribe_messages=True) as listener:
            message_task = asyncio.create_task(next_message(listener))
            report_step("ready")
            while True:
                await asyncio.sleep(PAUSE)
                try:
                    written = next(value)
                    await master.set(plan.key, written)
                    port = await port_of(master)
                except FAILURES:
                    continue
                if message_task.done() and port != old:
                    break
            await message_task
        report_step("wrote", port=port, value=written)
        report_step("read again", port=await read(group, plan, written, port))


async def next_message(listener: Any) -> None:
    """Wait for the event and report it."""
    async for message in listener:
        report_step("event", payload=message["data"])
        return


async def port_of(server: Any) -> int:
    """Return the port of the server that the client is connected to."""
    return int((await server.info("server"))["tcp_port"])


async def read(group: coredis.Sentinel[str], plan: Plan, wanted: str, master: int) -> int:
    """
    Wait until a replica returns the written value; return its port.

    Each attempt uses a new client: one may connect to the new master while that is a replica, and not check it again.
    """
    while True:
        async with group.replica_for(plan.name) as replica:
            try:
                if await replica.get(plan.key) == wanted and (port := await port_of(replica)) != master:
                    return port
            except FAILURES:
                pass
        await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    asyncio.run(main(Plan.from_arguments()))
