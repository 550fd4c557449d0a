"""The verb proxy."""

# mypy: untyped-calls-exclude=twisted

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import click

from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.program import installed_reactor, run_program, start_logging
from txsentinel.cli.operator.statuses import OK, UNKNOWN, USAGE, VerbFailed
from txsentinel.cli.operator.text_options import milliseconds
from txsentinel.remote.connection import TlsFiles

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


_OPTIONS: Final = (
    click.option("--master", "name", required=True, metavar="NAME", help="The master's name at the Sentinels."),
    click.option("--listen", multiple=True, metavar="ENDPOINT", help="For reading and writing; may be repeated."),
    click.option("--read-only-listen", multiple=True, metavar="ENDPOINT", help="For reading from a replica."),
    click.option("--hold", type=milliseconds, default="5s", show_default=True, help="Time to wait for a server."),
    click.option(
        "--max-held",
        type=click.IntRange(0),
        default=1000,
        show_default=True,
        help="Connections that may wait at a time.",
    ),
    click.option(
        "--max-connections", type=click.IntRange(1), default=10_000, show_default=True, help="Connections at a time."
    ),
    click.option(
        "--on-switch",
        type=switch_choice,
        default="close",
        metavar="close|'drain 2s'",
        help="What happens to connections to the former master.",
    ),
    click.option("--accept-proxy", is_flag=True, help="Clients send a header of the PROXY protocol, 1 or 2."),
    click.option("--send-proxy", is_flag=True, help="Send a header of the PROXY protocol 2 to the servers."),
    click.option(
        "--metrics", metavar="ENDPOINT", help="Serve metrics at /metrics, such as tcp:9122:interface=127.0.0.1."
    ),
)


@dataclass(frozen=True)
class ProxyWords:
    """The command line of a proxy."""

    access: FleetAccess
    name: str
    listen: tuple[str, ...]
    read_only_listen: tuple[str, ...]
    hold: int
    max_held: int
    max_connections: int
    on_switch: float
    accept_proxy: bool
    send_proxy: bool
    metrics: str | None


def with_proxy_options(function: Callable[[ProxyWords], Any]) -> Callable[..., Any]:
    """Give a function the options of a proxy; its parameter is what they describe."""

    @wraps(function)
    def chosen(access: FleetAccess, **given: Any) -> Any:
        if not given["listen"] and not given["read_only_listen"]:
            raise VerbFailed(
                "give at least one --listen or --read-only-listen, such as tcp:6379:interface=127.0.0.1", USAGE
            )
        return function(ProxyWords(access, **given))

    found: Callable[..., Any] = chosen
    for option in reversed(_OPTIONS):
        found = option(found)
    return common(found)


@click.command("proxy")
@with_proxy_options
def proxy_verb(words: ProxyWords) -> int:
    """
    Pass TCP connections on to the present master, for clients that know no Sentinels.

    Runs until SIGINT or SIGTERM. ENDPOINT is a description of Twisted, such as tcp:6379:interface=127.0.0.1. The
    Sentinels are those of --sentinel; name all of them. Commands are not parsed, and never repeated.
    """
    files = ProxyFiles.of(words.access)
    reactor = installed_reactor()
    start_logging()
    program = ProxyProgram(reactor, words, files)
    problems = run_program(reactor, program.open, program.stop)
    if problems:
        raise VerbFailed("; ".join(problems), UNKNOWN)
    return OK


@dataclass(frozen=True)
class ProxyFiles:
    """What makes the options of TLS for the Sentinels and for the servers."""

    sentinel_tls: Callable[[str], Any] | None
    server_tls: Callable[[str], Any] | None

    @classmethod
    def of(cls, access: FleetAccess) -> ProxyFiles:
        """
        Read the files.

        :raises VerbFailed: if one cannot be used.
        """
        return cls(tls_creator(access.settings.tls), tls_creator(access.server_settings.tls))


class ProxyProgram:
    """The proxy with its ports, for a process of its own."""

    def __init__(self, reactor: Any, words: ProxyWords, files: ProxyFiles) -> None:
        from txsentinel.client import MasterFollower
        from txsentinel.client.links import Access
        from txsentinel.proxy.page import log
        from txsentinel.proxy.server import MasterProxy, ProxyOptions

        self._reactor = reactor
        self._words = words
        self._log = log
        access, hold = words.access, words.hold / 1000
        permitted = raise_descriptors(words.max_connections)
        if permitted < words.max_connections:
            log.warn(
                "only {permitted} connections at a time: the limit of descriptors is too low for {wanted}",
                permitted=permitted,
                wanted=words.max_connections,
            )
        timeout = access.settings.timeout
        follower = MasterFollower(
            reactor,
            [(each.host, each.port) for each in access.seeds],
            words.name,
            password=access.server_settings.password,
            username=access.server_settings.user,
            sentinel_password=access.settings.password,
            sentinel_username=access.settings.user,
            timeout=hold + 1.0,
            connect_timeout=timeout,
            reply_timeout=timeout,
            tls=files.server_tls,
            sentinel_tls=files.sentinel_tls,
        )
        self.proxy = MasterProxy(
            follower,
            Access(reactor, timeout, access.server_settings.password, access.server_settings.user, files.server_tls),
            ProxyOptions(hold, words.on_switch, words.max_held, permitted, words.send_proxy, words.accept_proxy),
        )

    def open(self, problems: list[str]) -> Any:
        """
        Open the ports, and begin to follow the master if all are open.

        :param problems: gets why a port cannot be opened.
        :returns: a Deferred that fires then.
        """
        from twisted.internet.defer import gatherResults, maybeDeferred

        from txsentinel.cli.operator.metrics_site import serve
        from txsentinel.proxy.page import page

        proxy = self.proxy

        def failed(failure: Any, description: str) -> None:
            problems.append(f"cannot listen on {description}: {failure.getErrorMessage()}")

        def opened(port: Any, label: str) -> None:
            self._log.info("{label} port: {port}", label=label, port=port.getHost())

        opening = []
        for descriptions, route in (
            (self._words.listen, proxy.master_route),
            (self._words.read_only_listen, proxy.replica_route),
        ):
            for each in descriptions:
                made = maybeDeferred(proxy.listen, each, route).addCallback(opened, route.label)
                opening.append(made.addErrback(failed, each))
        metrics = self._words.metrics
        if metrics is not None:
            made = maybeDeferred(serve, self._reactor, metrics, lambda text_format: page(proxy, text_format))
            opening.append(made.addErrback(failed, metrics))
        signal.signal(signal.SIGUSR1, lambda *_: self._reactor.callFromThread(self.report))
        return gatherResults(opening).addCallback(lambda _: None if problems else proxy.start())

    def report(self) -> None:
        """Log the counters."""
        from txsentinel.proxy.page import summary

        self._log.info("{summary}", summary=summary(self.proxy))

    def stop(self) -> Any:
        """Close everything; return a Deferred that fires then."""
        self.report()
        return self.proxy.stop()
