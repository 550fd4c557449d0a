"""Disk faults, and disk faults combined with the end of a Sentinel process."""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import TypeAlias

from txsentinel.sim.c_sentinel import CSentinel
from txsentinel.sim.fleet import Fleet, SimSentinel
from txsentinel.sim.redis.server import SimRedis

Done: TypeAlias = "tuple[str, Callable[[], None]]"
"""A description of what happened, and the function that ends it."""


def restart(victim: SimRedis | SimSentinel | CSentinel) -> None:
    """Restart a machine if it does not run."""
    if not victim.host.running:
        victim.host.restart()


def failing_disk(fleet: Fleet, random: Random) -> Done:
    """Writes fail, some of them visibly; then the power fails, so a rename without its fsync may be undone."""
    sentinel = random.choice(fleet.sentinels)
    files = sentinel.host.files
    files.fail_with = OSError(errno.EIO, "Input/output error")
    files.visible_failure = True

    def end() -> None:
        sentinel.host.crash()
        files.fail_with, files.visible_failure = None, False
        restart(sentinel)

    return f"let the disk of {sentinel.name} fail, and then its power", end


def torn_write(fleet: Fleet, random: Random) -> Done:
    """The power fails while the temporary file is half written; it stays beside the old file or the new one."""
    sentinel = random.choice(fleet.sentinels)
    files = sentinel.host.files

    def crash() -> None:
        if sentinel.host.running:
            sentinel.host.crash()

    def end() -> None:
        files.interrupt = None
        restart(sentinel)

    files.interrupt = crash
    if random.random() < 0.5:
        # Without an order the Sentinel may have nothing to write for a long time.
        next(client for client in fleet.clients if client.target is sentinel.host).order("SENTINEL", "FLUSHCONFIG")
    return f"cut the power of {sentinel.name} in the middle of its next write", end


def bind_mount(fleet: Fleet, random: Random) -> Done:
    """
    The file cannot be replaced, only overwritten in place; the power fails during the write, once or several times.
    """
    sentinel = random.choice(fleet.sentinels)
    files = sentinel.host.files
    files.in_place = True
    again = random.choice((0.0, 0.5, 0.9))

    def crash() -> None:
        if sentinel.host.running:
            sentinel.host.crash()
            fleet.simulation.call_later(random.choice((0.05, 0.5)), restart, sentinel)
        if random.random() < again and files.in_place:
            files.interrupt = crash

    def end() -> None:
        files.in_place = False
        files.interrupt = None
        restart(sentinel)

    files.interrupt = crash
    return f"mount the file of {sentinel.name} so that it cannot be replaced", end


def unreadable_disk(fleet: Fleet, random: Random) -> Done:
    """A Sentinel dies and cannot read its file: each new process exits at once."""
    sentinel = random.choice(fleet.sentinels)
    files = sentinel.host.files
    files.unreadable = OSError(errno.EIO, "Input/output error")
    sentinel.host.kill()
    for attempt in range(1, 4):
        fleet.simulation.call_later(0.3 * attempt, restart, sentinel)

    def end() -> None:
        files.unreadable = None
        restart(sentinel)

    return f"kill {sentinel.name}, whose disk cannot be read", end
