"""
The interfaces of txsentinel: what the service requires of a host, and what plug-ins implement.

:class:`IHost` is the only access to the outside: reactor, clocks, random numbers, files and processes.
``runtime.host.RealHost`` implements it with a reactor and the operating system, ``sim.host.SimHost`` without either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.application.service import IService
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
    from twisted.python.failure import Failure

    from txsentinel.model.comparison import GroupComparison
    from txsentinel.model.doctor import GroupHealth
    from txsentinel.model.events import SentinelEvent
    from txsentinel.model.explanation import Explanation, JournalRecord
    from txsentinel.model.extension_settings import ExtensionSetting
    from txsentinel.model.file_end import FileEnd
    from txsentinel.model.history import FailoverRecord
    from txsentinel.model.measurements import MeasurementsState
    from txsentinel.model.publications import Publication
    from txsentinel.model.snapshots import (
        CommandRefusal,
        LoadState,
        MasterChange,
        MasterSnapshot,
        Principal,
        ProbeTimes,
        SentinelSnapshot,
        ViewChange,
    )
    from txsentinel.model.timings import Millis


class IFileStore(Interface):
    """Reads and durably replaces the configuration file, which holds the hard state, and appends to other files."""

    def read(path: str) -> bytes:
        """
        Read the whole file synchronously. Only for use during start-up.

        :raises OSError: if the file cannot be read.
        """

    def fetch(path: str) -> Deferred[bytes]:
        """
        Read the whole file without blocking the caller.

        :returns: fires with the contents; fails with an ``OSError`` if the file cannot be read.
        """

    def fetch_end(path: str, limit: int) -> Deferred[FileEnd]:
        """
        Read the end of a file without blocking the caller, at most ``limit`` bytes from the beginning of a line on.

        :returns: fails with an ``OSError`` if the file cannot be read.
        """

    def check_writable(path: str) -> None:
        """
        Check that the file could be written.

        :raises OSError: with the reason if it could not.
        """

    def probe(path: str, size: int) -> Deferred[str]:
        """
        Check whether ``size`` bytes could be saved as the file, without changing it.

        :returns: fires as :meth:`replace` would, or fails with an ``OSError``.
        """

    def replace(path: str, contents: bytes) -> Deferred[str]:
        """
        Replace the contents of the file atomically and durably, without blocking the caller.

        The steps are: write a temporary file in the same directory, fsync it, give it the mode and owner of the old
        file, rename it, fsync the directory. A symbolic link is followed, not replaced. A file that cannot be replaced
        is overwritten in place, as ``config.recovery`` describes; it must then be read with ``config.recovery``.

        :returns: fires once the new contents would survive a power failure, with an empty string if the file was
            replaced, else with the reason why it was overwritten in place. Fails with the ``OSError`` of the step that
            failed; either the old or the new contents are intact then.
        """

    def append(path: str, lines: bytes, limit: int, files: int) -> Deferred[None]:
        """
        Append whole lines to a file durably, without blocking the caller; the directory is created if it is missing.

        A file that would become longer than ``limit`` bytes is renamed to ``<path>.1`` before, and so on; ``files``
        files are kept in all.

        :returns: fires once the lines would survive a power failure; fails with an ``OSError``.
        """


class IHost(Interface):
    """Access to the outside: time, random numbers, network, files, child processes and process exit."""

    reactor = Attribute("""``IReactorTime``, ``IReactorTCP``, ``IReactorUNIX``: its ``seconds()`` must be monotonic.""")
    slack_clock = Attribute("""``IReactorTime`` for calls that may be late by a second; they wake up no process.""")
    random = Attribute("""``random.Random``: the only source of random numbers.""")
    files = Attribute(""":class:`IFileStore`.""")
    nested_poll_active = Attribute("""``bool``: whether the current call comes from :meth:`yield_to_clients`.""")
    pid = Attribute("""``int``: process ID, for INFO and the log.""")

    def now() -> int:
        """Return the reactor's monotonic clock in milliseconds; it is read once per turn and passed on as ``now``."""

    def yield_to_clients() -> bool:
        """
        Poll the client sockets if the poll interval has passed. Call this between the steps of a long-running call.

        Requests that do not involve the core are served at once; those that need a decision of the core wait until
        the caller has finished.

        :returns: whether the sockets were polled, so that time has passed.
        """

    def wall_clock() -> float:
        """Return the seconds since 1970-01-01 UTC; the clock may jump in both directions."""

    def scheduled() -> tuple[int, int] | None:
        """
        Return how long the reactor's thread has run and has waited for a CPU since it started, in milliseconds.

        :returns: ``None`` where the operating system does not report it.
        """

    def resolve(hostname: str) -> Deferred[str]:
        """
        Resolve a host name without blocking.

        :returns: fires with one literal IP address; fails with ``twisted.internet.error.DNSLookupError``.
        """

    def spawn(
        protocol: IProcessProtocol, path: str, arguments: Sequence[str], environment: Mapping[str, str] | None
    ) -> IProcessTransport:
        """
        Start a child process that inherits the standard streams and no other descriptor.

        :param arguments: the whole argv, including ``arguments[0]``.
        :param environment: the child's environment; ``None`` for a copy of this process's.
        :raises OSError: if the process could not be created.
        """

    def set_process_title(title: str) -> None:
        """Set the title that process listings show for this process; a no-op where that is not supported."""

    def exit(status: int) -> None:
        """End the process immediately, without saving or logging anything."""

    def fail_stop(failure: Failure, what: str) -> None:
        """
        Log ``failure`` as a bug of txsentinel and end the process with status 1.

        A Sentinel that answers but no longer monitors is worse for its quorum than one that is down.

        :param what: what failed, for the log line.
        """


class ISentinelListener(Interface):
    """A plug-in that receives every event; found through ``twisted.plugin``."""

    def event_published(event: SentinelEvent) -> None:
        """
        Receive one event. Called in order, once what the event reports is durable.

        Must return quickly. An exception is logged with the name of the plug-in and otherwise ignored.
        """


class ISentinelView(Interface):
    """
    A read-only view of a Sentinel for extensions. All that it returns is frozen; no object of the core is reachable.

    It must be used in the reactor's thread.
    """

    publishers = Attribute(""":class:`~txsentinel.model.publications.PublisherRegistry`: what publishers report.""")

    def identity() -> SentinelSnapshot:
        """Return the state of the Sentinel itself."""

    def names() -> tuple[str, ...]:
        """Return the names of all masters, in the order of ``SENTINEL MASTERS``."""

    def masters(*, offsets: bool = True) -> tuple[MasterSnapshot, ...]:
        """
        Return all masters. A snapshot is made anew only if its master changed, which takes time for all at once.

        :param offsets: whether replication offsets are those of the latest INFO; otherwise they may be older, and so
            may be which replica would be promoted. That is much cheaper, as the offsets of every master change.
        """

    def master(name: str) -> MasterSnapshot:
        """
        Return one master.

        :raises LookupError: if no master of that name is monitored.
        """

    def revision(*, offsets: bool = True) -> int:
        """Return a number that grows whenever any snapshot changes; for ``offsets`` see :meth:`masters`."""

    def probe_times(name: str) -> Mapping[str, ProbeTimes]:
        """
        Return when instances last answered: the master under its name, replicas and peers under theirs.

        :raises LookupError: if no master of that name is monitored.
        """

    def explain(name: str) -> Explanation:
        """
        Explain why the master is, or is not, failed over; with its latest journal records.

        :raises LookupError: if no master of that name is monitored.
        """

    def explain_group(name: str) -> Deferred[Explanation]:
        """
        Explain a master, with what the other Sentinels answer to the same question within a second.

        :returns: fires with the explanation; ``missing`` has the IDs of those that have not answered.
        :raises LookupError: if no master of that name is monitored.
        """

    def compare_group(name: str) -> Deferred[GroupComparison]:
        """
        Compare address, epoch and options of a master with what the other Sentinels have, within a second.

        :raises LookupError: if no master of that name is monitored.
        """

    def examine_group(name: str, *, active: bool = False) -> Deferred[GroupHealth]:
        """
        Check the group of a master for what breaks a failover now, or will surprise; this takes about two seconds.

        :param active: also test the rights of the users, which adds entries to ``ACL LOG``, and measure round trips.
        :returns: fails with a ``LookupError`` if the group cannot be read, and with ``Busy`` if too much waits.
        """

    def journal(name: str, after: int = 0) -> tuple[JournalRecord, ...]:
        """
        Return the records of rare events with a sequence number above ``after``, oldest first.

        :raises LookupError: if no master of that name is monitored.
        """

    def history(name: str | None = None, limit: int = 100) -> tuple[FailoverRecord, ...]:
        """Return the latest failovers of one master or of all, newest first."""

    def subscribe(callback: Callable[[ViewChange], None], *, changes: bool = True) -> Callable[[], None]:
        """
        Call ``callback`` with every event, once it is durable, and with every change of a snapshot.

        It must return quickly. An exception is logged and otherwise ignored.

        :param changes: whether changes of snapshots are wanted, which costs CPU time with every INFO of a server.

        :returns: a function that ends the subscription.
        """

    def load() -> LoadState:
        """Return how busy the Sentinel is."""

    def reply_ages() -> Sequence[Millis]:
        """Return how long ago each master last gave an acceptable reply, in the order of :meth:`names`."""

    def measurements() -> MeasurementsState:
        """Return counters and histograms since the start of the process."""


class IOperator(Interface):
    """Executes commands as a client would, with the rights of a user of the ACL."""

    def run(principal: Principal, words: Sequence[bytes]) -> Deferred[object]:
        """
        Execute one command.

        It passes the same dispatch, permissions, durability barrier and logs as the command of a client.

        :returns: fires with the reply as plain values (bytes, int, list, dict, ``None``), once it is durable; fails
            with ``CommandRefused`` if the reply is an error.
        """

    def allowed(principal: Principal, words: Sequence[bytes]) -> CommandRefusal | None:
        """Return why the user may not execute the command, ``None`` if it may. Nothing is logged."""

    def authenticate(user: str, password: str, origin: str) -> Principal | None:
        """
        Check the password of a user of the ACL, with an entry in ``ACL LOG`` if it is wrong.

        :returns: ``None`` if the user does not exist, is off, or the password is wrong.
        """

    def by_certificate(certificate: object, origin: str) -> Principal | None:
        """
        Return the user that a verified certificate of a client names, as ``tls-auth-clients-user`` demands.

        :param certificate: an ``OpenSSL.crypto.X509``.
        :returns: ``None`` if that is off, or there is no such user, which has an entry in ``ACL LOG``.
        """

    def anonymous(origin: str) -> Principal | None:
        """
        Return the user that a client is before it logs in: ``default``, if it is on and needs no password.

        :returns: ``None`` if clients must log in. Nothing is logged.
        """

    def has_passwords() -> bool:
        """Whether a user of the ACL is on and has a password."""


class CommandRefused(Exception):
    """A command was answered by an error; ``refusal`` has its code and text."""

    def __init__(self, refusal: CommandRefusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class Busy(Exception):
    """Too much work of this kind waits already; the text states what."""


class IStateDirectory(Interface):
    """The directory in which an extension may keep files. It need not exist, and may be unusable."""

    path = Attribute("""``str``: its absolute path.""")

    def prepare() -> str | None:
        """
        Create the directory, for the user of the process only, unless it exists.

        Call this after the start of the service, not in ``makeService``, as ``twistd`` may change the user.

        :returns: its path, or ``None`` if it cannot be written, which is logged once. An extension then works without
            its files.
        """


class ISentinelExtension(Interface):
    """A plug-in that adds a service of its own, enabled with ``--extension name:argument`` or ``--extensions FILE``."""

    name = Attribute("""``str``: the word before the colon on the command line, and at the beginning of lines.""")
    description = Attribute("""``str``: one line for ``--help``.""")

    def makeService(
        view: ISentinelView,
        operator: IOperator,
        argument: str,
        state_dir: IStateDirectory,
        settings: Sequence[ExtensionSetting] = (),
        reactor: object = None,
    ) -> IService:
        """
        Build the service that runs beside the Sentinel, started after and stopped before it.

        It is called once for each use on the command line, before ``twistd`` forks, so it opens nothing. Relative paths
        must be made absolute here, because the working directory changes later.

        :param argument: the text after the first colon; empty without a colon.
        :param settings: the lines of the file that begin with the name of the extension.
        :param reactor: the reactor that runs the Sentinel. Its ``seconds()`` is monotonic.
        :raises ValueError: if the argument or a setting is invalid (``SettingError`` for a setting); the error text is
            shown to the operator.
        :raises ImportError: if a package is missing that the extension needs.
        """


class IPublisher(Interface):
    """A part of an extension that makes the address of masters known elsewhere."""

    def publish(change: MasterChange) -> Deferred[Publication | None]:
        """
        Make a change known.

        :returns: fires with how it ended, ``None`` for ``PUBLISHED``. It fails if that must be tried again; the
            framework does so, with a delay.
        """

    def verify(name: str) -> Deferred[bool]:
        """Return whether what was published about a master is still there."""
