"""The verb proxy."""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.program import run_program, start_logging
from txsentinel.cli.operator.statuses import OK, UNKNOWN, USAGE, VerbFailed
from txsentinel.cli.operator.text_options import milliseconds
from txsentinel.remote.connection import TlsFiles

if TYPE_CHECKING:
    from txsentinel.proxy.server import MasterProxy

RESERVED: Final = 64
"""Descriptors for other purposes than the clients and their servers."""


def switch_choice(words: str) -> float:
    """
    Parse ``close`` or ``drain DURATION``.

    :returns: seconds, zero for ``close``.
    :raises click.BadParameter: if it is neither.
    """
    method, _, duration = words.partition(" ")
    if words == "close":
        return 0.0
    if method != "drain" or not duration:
        raise click.BadParameter(f"{words!r} is neither 'close' nor 'drain' with a duration, such as 'drain 2s'")
    return milliseconds(duration.strip()) / 1000


def tls_creator(files: TlsFiles | None) -> Callable[[str], Any] | None:
    """
    Return what makes the options of TLS for a host.

    :raises VerbFailed: if a file cannot be used.
    """
    if files is None:
        return None
    from pathlib import Path

    from OpenSSL import SSL, crypto
    from twisted.internet.ssl import (
        Certificate,
        CertificateOptions,
        PrivateCertificate,
        optionsForClientTLS,
        platformTrust,
        trustRootFromCertificates,
    )

    try:
        trust: Any = platformTrust()
        if files.ca is not None:
            texts = Path(files.ca).read_text(encoding="ascii").split("-----END CERTIFICATE-----")[:-1]
            trust = trustRootFromCertificates(
                [Certificate.loadPEM(f"{text}-----END CERTIFICATE-----\n".encode()) for text in texts]
            )
        own = None
        if files.certificate is not None:
            paths = dict.fromkeys([files.certificate, files.key or files.certificate])
            own = PrivateCertificate.loadPEM(b"\n".join(Path(path).read_bytes() for path in paths))
    except (OSError, ValueError, SSL.Error, crypto.Error) as error:
        raise VerbFailed(f"cannot use the TLS files: {error}", USAGE) from None
    if files.verify_hostname and not files.insecure:
        return lambda host: optionsForClientTLS(host, trust, own)
    settings: dict[str, Any] = (
        {} if own is None else {"privateKey": own.privateKey.original, "certificate": own.original}
    )
    options = CertificateOptions(trustRoot=None if files.insecure else trust, **settings)
    return lambda host: options


def raise_descriptors(connections: int) -> int:
    """
    Raise the limit of descriptors.

    :returns: how many connections of clients it permits, at most those that are wanted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * connections + RESERVED
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, max(1, (soft - RESERVED) // 2))


@click.command("proxy")
@click.option("--master", "name", required=True, metavar="NAME", help="The master's name at the Sentinels.")
@click.option("--listen", multiple=True, metavar="ENDPOINT", help="For reading and writing; may be repeated.")
@click.option("--read-only-listen", multiple=True, metavar="ENDPOINT", help="For reading from a replica.")
@click.option("--hold", type=milliseconds, default="5s", show_default=True, help="Time to wait for a server.")
@click.option(
    "--max-held",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Connections that may wait at a time.",
)
@click.option(
    "--max-connections", type=click.IntRange(1), default=10_000, show_default=True, help="Connections at a time."
)
@click.option(
    "--on-switch",
    type=switch_choice,
    default="close",
    metavar="close|'drain 2s'",
    help="What happens to connections to the former master.",
)
@click.option("--accept-proxy", is_flag=True, help="Clients send a header of the PROXY protocol, 1 or 2.")
@click.option("--send-proxy", is_flag=True, help="Send a header of the PROXY protocol 2 to the servers.")
@click.option("--metrics", metavar="ENDPOINT", help="Serve metrics at /metrics, such as tcp:9122:interface=127.0.0.1.")
@common
def proxy_verb(
    access: FleetAccess,
    name: str,
    listen: tuple[str, ...],
    read_only_listen: tuple[str, ...],
    hold: int,
    max_held: int,
    max_connections: int,
    on_switch: float,
    accept_proxy: bool,
    send_proxy: bool,
    metrics: str | None,
) -> int:
    """
    Pass TCP connections on to the present master, for clients that know no Sentinels.

    Runs until SIGINT or SIGTERM. ENDPOINT is a description of Twisted, such as tcp:6379:interface=127.0.0.1. The
    Sentinels are those of --sentinel; name all of them. Commands are not parsed, and never repeated.
    """
    if not listen and not read_only_listen:
        raise VerbFailed(
            "give at least one --listen or --read-only-listen, such as tcp:6379:interface=127.0.0.1", USAGE
        )
    sentinel_tls = tls_creator(access.settings.tls)
    server_tls = tls_creator(access.server_settings.tls)
    permitted = raise_descriptors(max_connections)

    from twisted.internet import reactor

    start_logging()

    from txsentinel.client import MasterFollower
    from txsentinel.client.links import Access
    from txsentinel.proxy.page import log
    from txsentinel.proxy.server import MasterProxy, ProxyOptions

    if permitted < max_connections:
        log.warn(
            "only {permitted} connections at a time: the limit of descriptors is too low for {wanted}",
            permitted=permitted,
            wanted=max_connections,
        )
    follower = MasterFollower(
        reactor,
        [(each.host, each.port) for each in access.seeds],
        name,
        password=access.server_settings.password,
        username=access.server_settings.user,
        sentinel_password=access.settings.password,
        sentinel_username=access.settings.user,
        timeout=hold / 1000 + 1.0,
        connect_timeout=access.settings.timeout,
        reply_timeout=access.settings.timeout,
        tls=server_tls,
        sentinel_tls=sentinel_tls,
    )
    proxy = MasterProxy(
        follower,
        Access(
            reactor,
            access.settings.timeout,
            access.server_settings.password,
            access.server_settings.user,
            server_tls,
        ),
        ProxyOptions(hold / 1000, on_switch, max_held, permitted, send_proxy, accept_proxy),
    )
    return run_proxy(reactor, proxy, listen, read_only_listen, metrics)


def run_proxy(
    reactor: Any, proxy: MasterProxy, listen: tuple[str, ...], read_only_listen: tuple[str, ...], metrics: str | None
) -> int:
    """
    Listen, and run the reactor until it is stopped.

    :raises VerbFailed: if a port cannot be opened.
    """
    from twisted.internet.defer import gatherResults, maybeDeferred

    from txsentinel.cli.operator.metrics_site import serve
    from txsentinel.proxy.page import log, page, summary

    def start(problems: list[str]) -> Any:
        def failed(failure: Any, description: str) -> None:
            problems.append(f"cannot listen on {description}: {failure.getErrorMessage()}")

        def opened(port: Any, label: str) -> None:
            log.info("{label} port: {port}", label=label, port=port.getHost())

        opening = []
        for descriptions, route in ((listen, proxy.master_route), (read_only_listen, proxy.replica_route)):
            for each in descriptions:
                made = maybeDeferred(proxy.listen, each, route).addCallback(opened, route.label)
                opening.append(made.addErrback(failed, each))
        if metrics is not None:
            made = maybeDeferred(serve, reactor, metrics, lambda text_format: page(proxy, text_format))
            opening.append(made.addErrback(failed, metrics))
        return gatherResults(opening).addCallback(lambda _: None if problems else proxy.start())

    def report() -> None:
        log.info("{summary}", summary=summary(proxy))

    def stop() -> Any:
        report()
        return proxy.stop()

    reactor.callWhenRunning(signal.signal, signal.SIGUSR1, lambda *_: reactor.callFromThread(report))
    problems = run_program(reactor, start, stop)
    if problems:
        raise VerbFailed("; ".join(problems), UNKNOWN)
    return OK
