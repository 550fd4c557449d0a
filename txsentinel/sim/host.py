"""Simulated hosts: an :class:`~txsentinel.interfaces.IHost` that can be paused, killed, isolated and restarted."""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import DNSLookupError
from zope.interface import classImplements

from txsentinel.interfaces import IHost
from txsentinel.sim.files import SimFiles
from txsentinel.sim.processes import Script, ScriptOutcome, SimProcess, Spawned, mapping_copy
from txsentinel.sim.reactor import SimReactor
from txsentinel.sim.simulation import SECOND, Simulation

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
    from twisted.python.failure import Failure

    from txsentinel.sim.network import SimNetwork

__all__ = ["ScriptOutcome", "SimFiles", "SimHost", "SimProcess"]

EPOCH: Final = 1_700_000_000.0
"""The wall clock at the beginning of a simulation, in seconds since 1970."""

MAX_UPTIME: Final = 100_000
"""Largest uptime, in seconds, of a machine at the beginning of a simulation."""

KILLED: Final = -9
"""Exit status of a process that was killed."""


class SimHost:
    """
    A machine with one program, controlled by the test.

    ``program`` is called with the host in each new process, in a turn of its own, and builds what runs there. It must
    do everything through the host, so that the process can be killed.

    :param name: unique in its simulation; the random numbers of the host follow from it and from the seed.
    :param ip: address of the machine; hosts that share one are processes of the same machine.
    """

    def __init__(
        self,
        simulation: Simulation,
        network: SimNetwork,
        name: str,
        ip: str,
        program: Callable[[SimHost], object] | None = None,
    ) -> None:
        self.simulation = simulation
        self.network = network
        self.name = name
        self.ip = ip
        self.program = program
        self.files = SimFiles(simulation, name)
        self.names: dict[str, str] = {}
        """Host name to IP; other names cannot be resolved."""
        self.resolve_delay = 0.005
        """Seconds that a lookup takes, whether it fails or not."""
        self.resolver_silent = False
        """If set, lookups never end."""
        self.script: Script = lambda arguments: ScriptOutcome()
        """How the children of :meth:`spawn` end."""
        self.spawned: list[Spawned] = []
        self.exits: list[int] = []
        """Exit status of every process that has ended here, the oldest first; killed ones count as ``-9``."""
        self.starts = 0
        self.drift = 0.0
        """Rate by which the wall clock gains: 0.001 is one millisecond per second."""
        self.wall_offset = 0.0
        """The sum of all steps of the wall clock, in seconds."""
        self.starved_ms = 0
        """Milliseconds that processes have waited for a processor."""
        self._powered = True
        self._started = False
        self._children = 0
        self._boot = Random(f"{simulation.seed}/{name}/boot").randrange(1, MAX_UPTIME) * SECOND
        self.reactor: SimReactor
        self._new_process()

    def __repr__(self) -> str:
        return f"<SimHost {self.name} at {self.ip}{'' if self.running else ', not running'}>"

    # IHost

    def now(self) -> int:
        """Milliseconds of the monotonic clock, which neither drifts nor jumps."""
        return self.reactor.now()

    nested_poll_active = False

    @property
    def slack_clock(self) -> SimReactor:
        """The reactor: calls are never late here."""
        return self.reactor

    def yield_to_clients(self) -> bool:
        """Do nothing: no call takes any simulated time."""
        return False

    def wall_clock(self) -> float:
        """Seconds since 1970 by the clock of this host."""
        return EPOCH + self.simulation.time / SECOND * (1.0 + self.drift) + self.wall_offset

    def scheduled(self) -> tuple[int, int] | None:
        """Report no work, as calls take no time here: a process that is late was stopped, or waited for a processor."""
        return 0, self.starved_ms

    def resolve(self, hostname: str) -> Deferred[str]:
        """Look a name up in :attr:`names`, after the delay; literal addresses at once."""
        if self.network.is_literal(hostname):
            return succeed(hostname)
        answer: Deferred[str] = Deferred()
        if not self.resolver_silent:
            self.reactor.callLater(self.resolve_delay, self._resolved, answer, hostname)
        return answer

    def spawn(
        self, protocol: IProcessProtocol, path: str, arguments: Sequence[str], environment: Mapping[str, str] | None
    ) -> IProcessTransport:
        """
        Start a child that ends as set by :attr:`script`.

        :raises OSError: if the script raises one.
        """
        outcome = self.script(arguments)
        self._children += 1
        process = SimProcess(self.reactor, protocol, self.pid + self._children, outcome)
        kept = Spawned(self.simulation.seconds(), path, tuple(arguments), mapping_copy(environment), process)
        self.spawned.append(kept)
        process.start()
        return process

    def set_process_title(self, title: str) -> None:
        """Do nothing: simulated machines have no process list."""

    def exit(self, status: int) -> None:
        """End the process immediately. What it wrote in this turn is not sent."""
        self._end(status, silently=False)

    def fail_stop(self, failure: Failure, what: str) -> None:
        """Record the failure in the simulation and end the process with status 1."""
        self.simulation.record_failure(self.name, what, failure)
        self.exit(1)

    # Start and stop

    @property
    def running(self) -> bool:
        """Whether there is a process, stalled or not."""
        return self._started and not self.reactor.dead

    def start(self) -> None:
        """
        Start the program after the current turn.

        :raises RuntimeError: if it runs already, or the machine has no power.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is running")
        if not self._powered:
            raise RuntimeError(f"{self.name} has no power")
        if self._started:
            self._new_process()
        self._started = True
        self.starts += 1
        self.simulation.note("start", self.name)
        if self.program is not None:
            self.reactor.callLater(0, self.program, self)

    def pause(self) -> None:
        """Pause the process until :meth:`resume`, as SIGSTOP does. Its kernel continues."""
        self.simulation.note("pause", self.name)
        self.reactor.stall()

    def resume(self) -> None:
        """Resume, and handle everything that became due meanwhile."""
        self.simulation.note("resume", self.name)
        self.reactor.unstall()

    def pause_for(self, seconds: float) -> None:
        """Pause now and resume later, unless the process has ended by then."""
        reactor = self.reactor
        self.pause()
        self.simulation.call_later(seconds, lambda: None if reactor.dead else reactor.unstall())

    def starve_for(self, seconds: float) -> None:
        """Have the process wait for a processor now; its clocks continue, and so does the kernel."""
        reactor = self.reactor
        self.pause()

        def end() -> None:
            if not reactor.dead and reactor.stalled:
                self.starved_ms += round(1_000 * seconds)
                reactor.unstall()

        self.simulation.call_later(seconds, end)

    def terminate(self) -> None:
        """Ask the program to end, as SIGTERM does: the shutdown triggers run, then it exits with status 0."""
        self.reactor.callLater(0, self.reactor.stop)

    def kill(self) -> None:
        """End the process as SIGKILL does; its kernel closes its connections."""
        self._end(KILLED, silently=False)

    def crash(self, refuse: bool = False) -> None:
        """
        Cut the power of the machine until :meth:`restart`.

        Hosts that share its address are processes of the same machine and have to be crashed too.

        :param refuse: refuse connection attempts meanwhile, in place of leaving them unanswered.
        """
        self._powered = False
        self._end(KILLED, silently=True)
        self.network.take_down(self.ip, refuse)

    def restart(self) -> None:
        """Power on if necessary, end the running process, and start the program from the durable state."""
        if self.running:
            self.kill()
        if not self._powered:
            self._powered = True
            self.network.bring_up(self.ip)
        self.start()

    def step_wall_clock(self, seconds: float) -> None:
        """Step the wall clock forward or, if negative, back."""
        self.wall_offset += seconds

    # Internals

    def _new_process(self) -> None:
        self._started = False
        self.random = Random(f"{self.simulation.seed}/{self.name}/{self.starts}")
        self.pid = 1_000 + 100 * self.starts
        self.reactor = SimReactor(self.simulation, self.network, self.name, self.ip, self._boot)
        self.reactor.resolver = self.resolve
        self.reactor.addSystemEventTrigger("after", "shutdown", self.exit, 0)
        self.files.attach(self.reactor)

    def _end(self, status: int, silently: bool) -> None:
        if self.reactor.dead:
            return
        if self._started:
            self.exits.append(status)
            self.simulation.note("exit", self.name, status)
        self.reactor.die()
        self._started = True
        self.network.process_gone(self.reactor, silently)
        self.files.crash()

    def _resolved(self, answer: Deferred[str], hostname: str) -> None:
        ip = self.names.get(hostname)
        if ip is None:
            answer.errback(DNSLookupError(hostname))
        else:
            answer.callback(ip)


classImplements(SimHost, IHost)
