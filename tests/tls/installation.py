"""Servers and Sentinels that use TLS only."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from tests.servers import Connection, Harness, RedisProcess, SentinelProcess
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

    def new_redis(self, *arguments: Any) -> RedisProcess:
        """Build a data server with TLS."""
        *others, extra = arguments
        server = TlsRedis(*[*others, [*self.lines, *extra]])
        server.context = self.context
        return server

    def new_sentinel(self, *arguments: Any) -> SentinelProcess:
        """Build a Sentinel with TLS."""
        *others, extra = arguments
        sentinel = TlsSentinel(*[*others, [*self.lines, *extra]])
        sentinel.context = self.context
        return sentinel
