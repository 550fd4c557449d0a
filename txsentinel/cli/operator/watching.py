"""The verbs that follow events: watch and run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Final, TextIO
from urllib.parse import quote

import click

from txsentinel.cli.operator.agreed import agreed_address, known_master
from txsentinel.cli.operator.options import FleetAccess, common
from txsentinel.cli.operator.statuses import OK, USAGE, VerbFailed
from txsentinel.cli.operator.text_options import milliseconds
from txsentinel.cli.operator.visible import visible
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.connection import ConnectionSettings
from txsentinel.remote.events import CONNECTED, LOST, EventMerger, EventStream, MergedEvent, ReceivedEvent, master_of

POLL_SECONDS: Final = 0.1
"""How often merged events are looked for while none arrives."""

CHECK_SECONDS: Final = 10.0
"""How often ``run`` reads the address without an event, in case one was lost."""


def clock_time(at: float) -> str:
    """Return a time of the wall clock in UTC as text."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%H:%M:%S.%f")[:-3]


def event_line(event: MergedEvent, total: int) -> str:
    """Return an event as a line; the Sentinels are named unless all of them published it."""
    if event.channel in (LOST, CONNECTED):
        why = f": {event.payload}" if event.payload else ""
        return f"{clock_time(event.at)}  ({event.channel}: {', '.join(map(str, event.sentinels))}{why})"
    count = f"{len(event.sentinels)} of {total}"
    names = "" if len(event.sentinels) == total else f" {', '.join(map(str, event.sentinels))}"
    again = f", {event.repeated} repeated" if event.repeated else ""
    return f"{clock_time(event.at)}  {event.channel:<26} {event.payload}   [{count}{names}{again}]"


def event_record(event: MergedEvent) -> dict[str, Any]:
    """Return an event for JSON."""
    return {
        "at": datetime.fromtimestamp(event.at, timezone.utc).isoformat(timespec="milliseconds"),
        "event": event.channel,
        "payload": event.payload,
        "master": master_of(event.channel, event.payload),
        "sentinels": [str(each) for each in event.sentinels],
        "repeated": event.repeated,
    }


def merged(stream: EventStream, merger: EventMerger, master: str | None, end: float | None) -> Iterator[MergedEvent]:
    """
    Return the events of one master, or of all, and those that are about none, until a time of the monotonic clock.

    :param end: ``None`` to go on for ever.
    """
    while end is None or time.monotonic() < end:
        event = stream.next_event(POLL_SECONDS)
        if event is not None and (master is None or event.master in (None, master)):
            merger.add(event)
        yield from merger.due(time.time())
    yield from merger.due(time.time() + 3600)


@click.command("watch")
@click.argument("master", required=False)
@click.option(
    "--window", type=milliseconds, default="500ms", show_default=True, help="Merge equal events within this time."
)
@click.option("--for", "seconds", type=milliseconds, help="Stop after this time.")
@click.option("--record", type=click.File("a", lazy=False), metavar="FILE", help="Also append JSON lines to FILE.")
@common
def watch_verb(access: FleetAccess, master: str | None, window: int, seconds: int | None, record: TextIO | None) -> int:
    """Show the events of all Sentinels as they arrive, each with how many Sentinels published it."""
    fleet = access.read(None if master is None else [master], details=False)
    if master is not None:
        known_master(fleet, master)
    sentinels = [each.endpoint for each in (fleet.sentinels if master is None else fleet.of_master(master))]
    end = None if seconds is None else time.monotonic() + seconds / 1000
    stream = EventStream(sentinels, access.settings)
    try:
        for event in merged(stream, EventMerger(window / 1000), master, end):
            text = json.dumps(event_record(event))
            if record is not None:
                record.write(f"{text}\n")
                record.flush()
            shown = text if access.form == "json" else visible(event_line(event, len(sentinels)))
            sys.stdout.write(f"{shown}\n")
            sys.stdout.flush()
    finally:
        stream.close()
    return OK


def environment_for(master: Endpoint, settings: ConnectionSettings) -> dict[str, str]:
    """Return the environment of a program that uses the master."""
    login = ""
    if settings.password is not None:
        login = f"{quote(settings.user or '', safe='')}:{quote(settings.password, safe='')}@"
    scheme = "redis" if settings.tls is None else "rediss"
    return {
        "REDIS_URL": f"{scheme}://{login}{master}",
        "REDIS_HOST": master.host,
        "REDIS_PORT": str(master.port),
    }


class ProgramRunner:
    """
    A program that uses a master.

    :param on_switch: ``restart``, ``signal`` or ``none``.
    :param number: the signal to send with ``signal``.
    :param grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self, words: tuple[str, ...], settings: ConnectionSettings, on_switch: str, number: int, grace: float
    ) -> None:
        self._words = words
        self._settings = settings
        self._on_switch = on_switch
        self._number = number
        self._grace = grace
        self._master: Endpoint | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def status(self) -> int | None:
        """The exit status, as a shell has it; ``None`` while it runs."""
        if self._process is None:
            return None
        status = self._process.poll()
        return status if status is None or status >= 0 else 128 - status

    def use(self, master: Endpoint) -> None:
        """
        Start it with a master; if it has another one, do what is to be done on a switch.

        :raises VerbFailed: if it cannot be started.
        """
        if master == self._master:
            return
        before, self._master = self._master, master
        if before is None:
            self._start(master)
            return
        sys.stderr.write(f"txsentinel run: the master is {visible(str(master))}, was {visible(str(before))}\n")
        if self._on_switch == "signal":
            self.send(self._number)
        elif self._on_switch == "restart":
            self.stop()
            self._start(master)

    def _start(self, master: Endpoint) -> None:
        environment = {**os.environ, **environment_for(master, self._settings)}
        try:
            self._process = subprocess.Popen(self._words, env=environment)
        except OSError as error:
            raise VerbFailed(f"cannot run {self._words[0]}: {error.strerror}", 127) from None

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def stop(self) -> None:
        """End it: by SIGTERM, and after the grace period by SIGKILL."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@click.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("master")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--on-switch", type=click.Choice(["restart", "signal", "none"]), default="restart", show_default=True)
@click.option("--signal", "signal_name", default="HUP", show_default=True, help="Signal for --on-switch signal.")
@click.option("--grace", type=milliseconds, default="10s", show_default=True, help="Time between SIGTERM and SIGKILL.")
@common
def run_verb(
    access: FleetAccess, master: str, program: tuple[str, ...], on_switch: str, signal_name: str, grace: int
) -> int:
    """
    Run a program with REDIS_URL, REDIS_HOST and REDIS_PORT of MASTER, and restart it when the master moves.

    Write it as: txsentinel run MASTER -- PROGRAM ARGUMENTS. The status is that of the program.
    """
    try:
        number = signal.Signals[f"SIG{signal_name.upper().removeprefix('SIG')}"]
    except KeyError:
        raise VerbFailed(f"{signal_name!r} is no signal", USAGE) from None
    agreement = known_master(access.read([master], details=False), master)
    runner = ProgramRunner(program, access.server_settings, on_switch, number, grace / 1000)
    runner.use(agreed_address(agreement))
    stream = EventStream([each.endpoint for each in agreement.members], access.settings, "+switch-master")
    former = {
        each: signal.signal(each, lambda number, frame: runner.send(number)) for each in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        return _follow(access, master, runner, stream)
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)
        stream.close()
        runner.stop()


def _follow(access: FleetAccess, master: str, runner: ProgramRunner, stream: EventStream) -> int:
    """Keep the program at the agreed address until it ends; return its status."""
    checked = time.monotonic()
    moving = False
    while True:
        event: ReceivedEvent | None = stream.next_event(POLL_SECONDS)
        status = runner.status
        if status is not None:
            return status
        moving = moving or (event is not None and event.master == master and event.channel not in (LOST, CONNECTED))
        if not moving and time.monotonic() - checked < CHECK_SECONDS:
            continue
        checked = time.monotonic()
        # While the Sentinels move there may be no majority for either address.
        with contextlib.suppress(VerbFailed):
            runner.use(agreed_address(known_master(access.read([master], details=False), master)))
            moving = False
