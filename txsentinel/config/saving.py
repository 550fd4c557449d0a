"""
When the configuration file is written: the states of its store.

=============  ======================================================================================
State          Meaning
=============  ======================================================================================
``idle``       Everything that was committed is durable.
``scheduled``  A write begins in the next turn.
``writing``    Lines are being rendered, or their write is in progress.
``hanging``    The write in progress has taken longer than ``HANG_LIMIT``. It counts as failing.
``waiting``    The last write or probe has failed; another write is made after a delay.
``ending``     The store was stopped, and no write is in progress. It ends when no probe is, which has a file too.
``last``       The store was stopped while a write was in progress, or has begun a last one.
=============  ======================================================================================

The machine is built by Automat, like that of ``twisted.application.internet.ClientService``. This module is not
compiled: mypyc replaces the methods of the class of inputs by descriptors, in which Automat finds no inputs. One input
takes three to seven microseconds, as Automat searches all transitions, and a commit, which waits for an fsync, has
three. What takes time with many masters is in the store, which is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred

from txsentinel.config.write_attempts import Attempts, Saving

_builder = TypeMachineBuilder(Saving, Attempts)

idle = _builder.state("idle")
scheduled = _builder.state("scheduled")
writing = _builder.state("writing")
hanging = _builder.state("hanging")
waiting = _builder.state("waiting")
ending = _builder.state("ending")
last = _builder.state("last")


def _begin(saving: Saving, attempts: Attempts) -> None:
    attempts.begin(saving)


def _saved(saving: Saving, attempts: Attempts, generation: int, contents: bytes, reason: str) -> None:
    attempts.report_saved(generation, contents, reason)
    if attempts.source.unsaved:
        saving.changed()


def _failed(saving: Saving, attempts: Attempts, generation: int, reason: OSError) -> None:
    attempts.schedule(saving, attempts.note_failure())
    attempts.report_failure(generation, reason)


def _hung(saving: Saving, attempts: Attempts, generation: int) -> None:
    attempts.report_hanging(generation)


def _probe_failed(saving: Saving, attempts: Attempts, reason: OSError) -> None:
    attempts.schedule(saving, attempts.note_doubt())
    attempts.report_failure(attempts.source.wanted, reason)


def _probe(saving: Saving, attempts: Attempts) -> None:
    attempts.probe(saving)


def _probe_later(saving: Saving, attempts: Attempts) -> None:
    attempts.probe_later(saving)


def _prepare(saving: Saving, attempts: Attempts) -> None:
    attempts.prepare(saving)


def _finish(saving: Saving, attempts: Attempts) -> None:
    """Begin the last write if anything is unsaved, otherwise end."""
    if attempts.source.unsaved:
        saving.due()
    else:
        attempts.end_after_probes()


def _end(saving: Saving, attempts: Attempts) -> None:
    attempts.end_after_probes()


def _stop(saving: Saving, attempts: Attempts, stopped: Deferred[None]) -> None:
    attempts.prepare_to_stop(stopped)
    _finish(saving, attempts)


def _stop_after_write(saving: Saving, attempts: Attempts, stopped: Deferred[None]) -> None:
    attempts.prepare_to_stop(stopped)
    attempts.limit_stopping()


def _begin_last(saving: Saving, attempts: Attempts) -> None:
    attempts.begin(saving)
    attempts.limit_stopping()


def _last_saved(saving: Saving, attempts: Attempts, generation: int, contents: bytes, reason: str) -> None:
    attempts.report_saved(generation, contents, reason)
    _finish(saving, attempts)


def _last_failed(saving: Saving, attempts: Attempts, generation: int, reason: OSError) -> None:
    attempts.note_failure()
    attempts.report_failure(generation, reason)
    attempts.end_after_probes()


@idle.upon(Saving.changed).to(scheduled)
def _schedule(saving: Saving, attempts: Attempts) -> None:
    attempts.schedule(saving, 0.0)


@waiting.upon(Saving.changed).loop()
def _hasten(saving: Saving, attempts: Attempts) -> None:
    attempts.hasten(saving)


scheduled.upon(Saving.due).to(writing)(_begin)
waiting.upon(Saving.due).to(writing)(_begin)
ending.upon(Saving.due).to(last)(_begin_last)

writing.upon(Saving.hung).to(hanging)(_hung)
last.upon(Saving.hung).loop()(_hung)

last.upon(Saving.saved).to(ending)(_last_saved)
last.upon(Saving.failed).to(ending)(_last_failed)
last.upon(Saving.stop).loop()(_stop_after_write)
ending.upon(Saving.stop).loop()(_stop)

for _state in (writing, hanging):
    _state.upon(Saving.saved).to(idle)(_saved)
    _state.upon(Saving.failed).to(waiting)(_failed)
    _state.upon(Saving.stop).to(last)(_stop_after_write)

for _state in (idle, scheduled, waiting):
    _state.upon(Saving.stop).to(ending)(_stop)
    _state.upon(Saving.prepare).loop()(_prepare)

for _state in (idle, scheduled):
    _state.upon(Saving.probe).loop()(_probe)
    _state.upon(Saving.probe_failed).to(waiting)(_probe_failed)

for _state in (writing, hanging, waiting):
    _state.upon(Saving.probe).loop()(_probe_later)
    # The present or the last write decides.
    _state.upon(Saving.probe_failed).loop().returns(None)

for _state in (idle, scheduled, writing, hanging, waiting):
    _state.upon(Saving.probed).loop()(_probe_later)

for _state in (ending, last):
    _state.upon(Saving.probe).loop().returns(None)
    _state.upon(Saving.probe_failed).loop().returns(None)

ending.upon(Saving.probed).loop()(_end)
last.upon(Saving.probed).loop().returns(None)

for _state in (writing, hanging, ending, last):
    _state.upon(Saving.prepare).loop().returns(None)
    # The outcome of the write leads to the next one; after stop() no write begins on its own.
    _state.upon(Saving.changed).loop().returns(None)

scheduled.upon(Saving.changed).loop().returns(None)

saving_machine: Final[Callable[[Attempts], Saving]] = _builder.build()
"""Builds a machine, in the state ``idle``."""
