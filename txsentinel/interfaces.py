"""
The doors of txsentinel: what it asks of its surroundings, and what it offers to plug-ins.

Everything impure reaches the service through one :class:`IHost`. ``host.RealHost`` supplies it
from a reactor, ``sim.host.SimHost`` from a simulated world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.application.service import IService
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
    from twisted.python.failure import Failure

    from txsentinel.model.events import SentinelEvent


class IFileStore(Interface):
    """The one file that a Sentinel remembers by, and how it becomes durable."""

    def read(path: str) -> bytes:
        """
        The whole file, read at once; for start-up only.

        :raises OSError: if it cannot be read.
        """

    def fetch(path: str) -> Deferred[bytes]:
        """
        The whole file, read without blocking the caller.

        :returns: fails with the ``OSError`` if it cannot be read.
        """

    def check_writable(path: str) -> None:
        """
        Complain if the file could not be written.

        :raises OSError: with the reason.
        """

    def probe(path: str, size: int) -> Deferred[str]:
        """
        Find out whether ``size`` bytes could be saved as the file, which is left as it is.

        :returns: fires as :meth:`replace` would, or fails with an ``OSError``.
        """

    def replace(path: str, contents: bytes) -> Deferred[str]:
        """
        Make ``contents`` the file, all or nothing, without blocking the caller.

        Temporary file in the same directory, write, fsync, mode and owner of the old file, rename,
        fsync of the directory. A symbolic link is followed, not replaced. Where the file cannot be replaced it is
        overwritten in place as ``config.recovery`` tells, which must then be asked what the file says.

        :returns: fires once a power cut could no longer undo it, with an empty string if the file was replaced, else
            with the reason for which it was overwritten; fails with the ``OSError`` of the step that failed, the
            old contents, or the new ones, then being intact.
        """


class IHost(Interface):
    """A machine to run on: time, dice, network, disk, child processes, and the way out."""

    reactor = Attribute("""``IReactorTime``, ``IReactorTCP``, ``IReactorUNIX``: its ``seconds()`` must be monotonic.""")
    random = Attribute("""``random.Random``: the only source of chance.""")
    files = Attribute(""":class:`IFileStore`.""")
    nested_poll_active = Attribute("""``bool``: are we being called from within :meth:`yield_to_clients`?""")
    pid = Attribute("""``int``: process id, for INFO and the log.""")

    def now() -> int:
        """Milliseconds of the reactor's monotonic clock; read once per turn and passed down."""

    def yield_to_clients() -> bool:
        """
        Let those in who cannot wait, if it is time; called between two steps of what may take long.

        They are answered in passing: what would give the core something to decide waits until our caller is done.

        :returns: whether that was done, and time has gone by.
        """

    def wall_clock() -> float:
        """Seconds since the epoch, UTC; may jump in both directions."""

    def scheduled() -> tuple[int, int] | None:
        """
        How long the reactor's thread has run, and has waited for a processor, since it began; milliseconds.

        :returns: ``None`` where the system does not tell.
        """

    def resolve(hostname: str) -> Deferred[str]:
        """
        Look a name up without blocking.

        :returns: fires with one literal IP address; fails with ``twisted.internet.error.DNSLookupError``.
        """

    def spawn(
        protocol: IProcessProtocol, path: str, arguments: Sequence[str], environment: Mapping[str, str] | None
    ) -> IProcessTransport:
        """
        Start a child with our standard streams and nothing else of ours open.

        :param arguments: the whole argv, ``arguments[0]`` being the name it sees itself by.
        :param environment: ``None`` for our own.
        :raises OSError: if no process could be made.
        """

    def set_process_title(title: str) -> None:
        """Have the system's lists of processes show ``title`` for this one; a host without such lists does nothing."""

    def exit(status: int) -> None:
        """End the process at once, without saving or saying anything more."""

    def fail_stop(failure: Failure, what: str) -> None:
        """Our own bug: log it and end the process with status 1. A blind Sentinel must not look alive."""


class ISentinelListener(Interface):
    """A plug-in that is told of every event; found through ``twisted.plugin``."""

    def event_published(event: SentinelEvent) -> None:
        """
        Called in order, once what the event reports is durable.

        Return at once. What you raise is logged under your name and goes no further.
        """


class ISentinelExtension(Interface):
    """A plug-in that adds a service of its own, chosen with ``--extension name:argument``."""

    name = Attribute("""``str``: the word before the colon on the command line.""")
    description = Attribute("""``str``: one line for ``--help``.""")

    def makeService(sentinel: object, argument: str) -> IService:
        """
        Build the service that runs beside the Sentinel, started after and stopped before it.

        :param sentinel: a read-only view of masters, replicas, peers and events.
        :param argument: the text after the colon, empty if there was none.
        :raises ValueError: if the argument makes no sense; its text is shown to the operator.
        """
