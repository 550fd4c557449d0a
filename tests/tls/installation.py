"""Servers and Sentinels that use TLS only."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from tests.servers import ChildProcess, Connection, Harness, RedisProcess, SentinelProcess, free_port
from tests.tls.authority import Authority, Issued
from txsentinel.demo.blocking import Reply


class TlsConnection(Connection):
    """A connection that requires a certificate of the authority from the other end."""

    def __init__(self, port: int, context: ssl.SSLContext, timeout: float = 5.0) -> None:
        super().__init__(port, None, timeout)
        self._socket = context.wrap_socket(self._socket)


def client_context(authority: Authority, issued: Issued | None) -> ssl.SSLContext:
    """Return the TLS context of a client of ``authority``; ``None`` for no certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authority.certificate)
    if issued is not None:
        context.load_cert_chain(issued.certificate, issued.key)
    return context


def tls_lines(authority: Authority, issued: Issued) -> list[str]:
    """Return the directives for the authority, the certificate and the key."""
    return [
        f"tls-ca-cert-file {authority.certificate}",
        f"tls-cert-file {issued.certificate}",
        f"tls-key-file {issued.key}",
    ]


def only_tls(config: Path, port: int) -> None:
    """Turn the port in a configuration file into a TLS port."""
    config.write_text(config.read_text().replace(f"port {port}\n", f"port 0\ntls-port {port}\n", 1))


class TlsRedis(RedisProcess):
    """A data server with a TLS port only."""

    context: ssl.SSLContext

    def prepare(self) -> None:
        super().prepare()
        only_tls(self.directory / "redis.conf", self.port)

    def call(self, *words: str | int, timeout: float = 5.0) -> Reply:
        with TlsConnection(self.port, self.context, timeout) as connection:
            return connection.call(*words)


class TlsSentinel(SentinelProcess):
    """A Sentinel with a TLS port only."""

    context: ssl.SSLContext

    def prepare(self) -> None:
        super().prepare()
        only_tls(self.config_path, self.port)

    def call(self, *words: str | int, timeout: float = 5.0) -> Reply:
        with TlsConnection(self.port, self.context, timeout) as connection:
            return connection.call(*words)


class TlsHarness(Harness):
    """An installation in which all sides require and have certificates of one authority."""

    def __init__(self) -> None:
        super().__init__()
        self.authority = Authority(self.directory / "certificates")
        self.lines = [*tls_lines(self.authority, self.authority.issue("all")), "tls-replication yes"]
        self.context = client_context(self.authority, self.authority.issue("client"))

    def adopt(self, child: ChildProcess) -> None:
        """Register a process to be stopped at the end."""
        self._children.append(child)

    def redis(
        self,
        kind: str = "redis",
        port: int | None = None,
        replica_of: int | None = None,
        password: str | None = None,
        extra: Sequence[str] = (),
    ) -> RedisProcess:
        """Return a data server, not yet started."""
        port = free_port() if port is None else port
        server = TlsRedis(kind, port, self.directory / f"server-{port}", replica_of, password, [*self.lines, *extra])
        server.context = self.context
        self.adopt(server)
        return server

    def sentinel(
        self,
        kind: str,
        port: int | None = None,
        monitor: Sequence[tuple[str, str, int, int]] = (),
        down_after: int = 1000,
        failover_timeout: int = 60_000,
        parallel_syncs: int = 1,
        password: str | None = None,
        extra: Sequence[str] = (),
    ) -> SentinelProcess:
        """Return a Sentinel, not yet started."""
        port = free_port() if port is None else port
        directory = self.directory / f"{kind}-sentinel-{port}"
        lines = [*self.lines, *extra]
        sentinel = TlsSentinel(
            kind, port, directory, monitor, down_after, failover_timeout, parallel_syncs, password, lines
        )
        sentinel.context = self.context
        self.adopt(sentinel)
        return sentinel
