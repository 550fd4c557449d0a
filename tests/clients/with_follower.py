"""``txsentinel.client.MasterFollower``, whose listeners take the place of a subscription."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.internet.task import deferLater, react

import txsentinel
from tests.clients.script import PAUSE, Plan, report_step, values
from txsentinel.client import MasterAddress, MasterFollower, NoMaster

Steps = Generator[Deferred[Any], Any, None]


@inlineCallbacks
def main(reactor: Any, plan: Plan) -> Steps:
    """Follow the master."""
    report_step("library", version=txsentinel.__version__)
    follower = MasterFollower(
        reactor,
        plan.sentinels,
        plan.name,
        username=plan.user,
        password=plan.password,
        sentinel_username=plan.sentinel_user,
        sentinel_password=plan.sentinel_password,
        timeout=1.0,
        **encryption(plan),
    )
    yield follower.start()
    import txredisapi

    assert follower.address is not None
    old = follower.address.port
    report_step("found", master=old)
    value = values()
    yield follower.execute("SET", plan.key, next(value))

    received: list[MasterAddress] = []

    def moved(address: MasterAddress) -> None:
        if address.port != old and not received:
            received.append(address)
            report_step("event", payload=f"{plan.name} 127.0.0.1 {old} {address.host} {address.port}")

    follower.add_listener(moved)
    report_step("ready")
    while True:
        yield deferLater(reactor, PAUSE)
        try:
            written = next(value)
            yield follower.execute("SET", plan.key, written)
            port = int((yield follower.commands.info("server"))["tcp_port"])
        except (txredisapi.ConnectionError, txredisapi.ResponseError, NoMaster):
            continue
        if received and port != old:
            break
    report_step("wrote", port=port, value=written)
    yield follower.stop()


def encryption(plan: Plan) -> dict[str, Any]:
    """Return keyword arguments for TLS."""
    if plan.authority is None or plan.certificate is None or plan.private_key is None:
        return {}
    files = []
    for path in (plan.authority, plan.certificate, plan.private_key):
        with open(path, "rb") as stream:
            files.append(stream.read())
    authority = Certificate.loadPEM(files[0])
    own: Any = PrivateCertificate.loadPEM(files[1] + files[2])

    def creator(host: str) -> Any:
        return optionsForClientTLS(host, trustRoot=authority, clientCertificate=own)

    return {"tls": creator, "sentinel_tls": creator}


if __name__ == "__main__":
    react(main, [Plan.from_arguments()])
