"""
Secrets of extensions, each in a file of its own, which is read again while the Sentinel runs.

Their values are part of no text: neither of a log line, nor of an error, nor of a ``repr``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorThreads, IReactorTime

    class IThreadingReactor(IReactorTime, IReactorThreads):
        """What reading files needs of a reactor."""


T = TypeVar("T")

MAX_BYTES: Final = 1 << 20

READ_INTERVAL: Final = 10.0
"""Seconds between two readings of all files."""


def secret_line(contents: bytes) -> str:
    """
    Return the secret in a file of one line.

    :raises ValueError: if it is empty, has several lines, or characters that cannot be part of a secret.
    """
    try:
        text = contents.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError("it has characters that are not ASCII") from None
    if not text:
        raise ValueError("it is empty")
    if not text.isprintable():
        raise ValueError("it has several lines, or control characters")
    return text


class SecretFile(Generic[T]):
    """
    A value that is parsed from a file; :attr:`value` is that of the latest reading that succeeded.

    :param path: made absolute here, because the working directory changes later.
    :param parse: raises ``ValueError`` if the contents are wrong, with a text that has no part of them.
    """

    def __init__(self, path: str, parse: Callable[[bytes], T]) -> None:
        self.path = os.path.abspath(path)
        self._parse = parse
        self.value = self.read()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    def read(self) -> T:
        """
        Read the file; this blocks. :attr:`value` stays as it is.

        :raises ValueError: if it cannot be read, or its contents are wrong; the text has the path.
        """
        try:
            with open(self.path, "rb") as stream:
                contents = stream.read(MAX_BYTES + 1)
            if len(contents) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            return self._parse(contents)
        except OSError as error:
            raise ValueError(f"the file {self.path!a} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"the file {self.path!a} is not usable: {error}") from None

    def replace(self, value: T) -> None:
        """Use another value from now on."""
        self.value = value


class SecretReader(Service):
    """Reads files again every ``READ_INTERVAL`` in a thread; one that is not usable keeps its former value."""

    _log = Logger(namespace=__name__)

    def __init__(self, reactor: IThreadingReactor, files: Sequence[SecretFile[object]]) -> None:
        self._reactor = reactor
        self._files = files
        self._failed: set[str] = set()
        """Paths of files whose failure was logged."""

        self._call: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin to read."""
        super().startService()  # type: ignore[no-untyped-call]
        self._schedule()

    def stopService(self) -> None:
        """Stop reading."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _schedule(self) -> None:
        if self.running and self._files:
            self._call = self._reactor.callLater(READ_INTERVAL, self._read)

    def _read(self) -> None:
        self._call = None
        pool = self._reactor.getThreadPool()
        reading: Deferred[list[object]] = deferToThreadPool(self._reactor, pool, read_all, self._files)
        reading.addCallback(self._take)
        reading.addErrback(self._unexpected)
        reading.addBoth(lambda _: self._schedule())

    def _take(self, values: list[object]) -> None:
        for file, value in zip(self._files, values, strict=True):
            if not isinstance(value, ValueError):
                file.replace(value)
                self._failed.discard(file.path)
            elif file.path not in self._failed:
                self._failed.add(file.path)
                self._log.warn("{error}; its former value stays valid", error=str(value))

    def _unexpected(self, failure: Failure) -> None:
        self._log.failure("Cannot read files of secrets", failure)


def read_all(files: Sequence[SecretFile[object]]) -> list[object]:
    """Return the values of all files; in place of a value that cannot be read, the ``ValueError``."""
    values: list[object] = []
    for file in files:
        try:
            values.append(file.read())
        except ValueError as error:
            values.append(error)
    return values
