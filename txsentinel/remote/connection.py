"""One blocking connection to a Sentinel or a server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.model.timings import Limits
from txsentinel.wire.replies import NeedMore, ReplyReader, ReplyViolation
from txsentinel.wire.resp import pack, text
from txsentinel.wire.values import ErrorLine, PushFrame, Reply

LIMITS: Final = Limits(reply_buffer=256 * 1024 * 1024)
"""``SENTINEL MASTERS`` of a Sentinel with 10,000 masters is accepted."""

READ_SIZE: Final = 64 * 1024


class ConnectionFailed(Exception):
    """There is no connection, or no answer in time; the text has the reason, without the address."""


class ErrorAnswer(Exception):
    """The answer is an error; the text is the whole line, such as ``NOAUTH Authentication required.``"""

    @property
    def code(self) -> str:
        """The first word of the line."""
        return str(self).partition(" ")[0]


@dataclass(frozen=True)
class TlsFiles:
    """
    Use TLS, with these PEM files.

    Without ``ca`` the authorities of the system are trusted. ``verify_hostname`` is off by default, as with
    ``redis-cli --sni``-less use: most certificates of Sentinels name no address.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    verify_hostname: bool = False
    insecure: bool = False
    """Accept any certificate."""

    ca_directory: str | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ConnectionSettings:
    """How to connect; ``timeout`` in seconds holds for connecting and for each answer."""

    user: str | None = None
    password: str | None = None
    tls: TlsFiles | None = None
    timeout: float = 3.0


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """
    Make a context.

    :raises ConnectionFailed: if a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca, capath=files.ca_directory)
        context.check_hostname = files.verify_hostname and not files.insecure
        if files.insecure:
            context.verify_mode = ssl.CERT_NONE
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key, files.key_password)
    except (OSError, ssl.SSLError) as error:
        raise ConnectionFailed(f"cannot use the TLS files: {error}") from None
    return context


def reason_of(error: OSError) -> str:
    """Return why a connection failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "the host name is unknown"
    return (error.strerror or str(error)).lower()


class RemoteConnection:
    """
    A connection in RESP2, or in RESP3 after :meth:`use_resp3`. Close it, or use it as a context manager.

    :raises ConnectionFailed: from every method, if the connection cannot be used any more.
    """

    def __init__(self, endpoint: Endpoint, settings: ConnectionSettings) -> None:
        """
        Connect, and authenticate if there is a password.

        :raises ErrorAnswer: if the login is refused.
        """
        self.endpoint = endpoint
        self._settings = settings
        self._reader = ReplyReader(LIMITS)
        self._socket = self._connect()
        if settings.password is not None:
            words = ("AUTH", settings.password) if settings.user is None else ("AUTH", settings.user, settings.password)
            try:
                self.call(*words)
            except (ConnectionFailed, ErrorAnswer):
                self.close()
                raise

    def _connect(self) -> socket.socket:
        settings = self._settings
        context = None if settings.tls is None else tls_context(settings.tls)
        try:
            plain = socket.create_connection((self.endpoint.host, self.endpoint.port), settings.timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is None:
                return plain
            try:
                return context.wrap_socket(plain, server_hostname=self.endpoint.host)
            except OSError:
                plain.close()
                raise
        except OSError as error:
            raise ConnectionFailed(reason_of(error)) from None
        except UnicodeError:
            raise ConnectionFailed("the host name is malformed") from None

    def __enter__(self) -> RemoteConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def fileno(self) -> int:
        """The descriptor, so that a selector can wait for it."""
        return self._socket.fileno()

    @property
    def certificate(self) -> bytes | None:
        """The certificate of the other side in DER; ``None`` without TLS."""
        return self._socket.getpeercert(True) if isinstance(self._socket, ssl.SSLSocket) else None

    def use_resp3(self) -> None:
        """
        Switch to RESP3.

        :raises ErrorAnswer: if the other side supports RESP2 only.
        """
        reader = self._reader
        self._reader = ReplyReader(LIMITS, resp3=True)
        try:
            self.call("HELLO", 3)
        except ErrorAnswer:
            self._reader = reader
            raise

    def call(self, *words: str | int | bytes) -> Reply:
        """
        Send a command and return its answer.

        :raises ErrorAnswer: if the answer is an error.
        """
        (reply,) = self.pipeline([words])
        if isinstance(reply, ErrorLine):
            raise ErrorAnswer(text(reply))
        return reply

    def pipeline(self, commands: Sequence[Sequence[str | int | bytes]]) -> list[Reply]:
        """Send commands at once and return their answers in order; error answers are `ErrorLine`."""
        self.send(*commands)
        return [self.read() for _ in commands]

    def send(self, *commands: Sequence[str | int | bytes]) -> None:
        """Send commands without waiting for their answers."""
        try:
            self._socket.sendall(b"".join(pack(*words) for words in commands))
        except OSError as error:
            raise ConnectionFailed(reason_of(error)) from None

    def read(self, timeout: float | None = None) -> Reply:
        """
        Return the next answer; out-of-band data is skipped.

        :param timeout: seconds; by default that of the settings.
        """
        limit = self._settings.timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        while True:
            reply = self.received()
            if isinstance(reply, NeedMore):
                self._receive(deadline - time.monotonic())
            elif not isinstance(reply, PushFrame):
                return reply

    def received(self) -> Reply | NeedMore:
        """Return the next answer or message that has arrived as a whole, or `NEED_MORE`."""
        try:
            return self._reader.next_reply()
        except ReplyViolation as violation:
            self.close()
            raise ConnectionFailed(f"the answer is not RESP: {violation}") from None

    def receive_available(self, timeout: float) -> None:
        """Wait for bytes for ``timeout`` seconds at most; returns without an error if none arrive."""
        with contextlib.suppress(TimeoutError):
            self._receive_once(timeout)

    def _receive(self, seconds: float) -> None:
        try:
            self._receive_once(seconds)
        except TimeoutError:
            raise ConnectionFailed("no answer in time") from None

    def _receive_once(self, seconds: float) -> None:
        if seconds <= 0:
            raise TimeoutError
        try:
            self._socket.settimeout(seconds)
            data = self._socket.recv(READ_SIZE)
        except TimeoutError:
            raise
        except OSError as error:
            raise ConnectionFailed(reason_of(error)) from None
        if not data:
            raise ConnectionFailed("the connection was closed")
        self._reader.feed(data)
