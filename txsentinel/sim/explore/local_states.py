"""
The states of one Sentinel by number, and its steps, each of which is computed only once.

A step depends on nothing but the state of the Sentinel, the input and the :class:`~.process.View`. Most states of the
group differ in other Sentinels or in messages, so most steps have been computed before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from txsentinel.core.data_comparison import DataComparisons
from txsentinel.core.diagnosis_state import Diagnosis
from txsentinel.core.durable_records import DurableRecord, RecordKey
from txsentinel.core.journal import Journal
from txsentinel.core.operations import Operations
from txsentinel.core.options import MasterOptions, SentinelOptions
from txsentinel.model.address import Address
from txsentinel.model.timings import Limits, Timings
from txsentinel.sim.explore.images import ImageStore, Key
from txsentinel.sim.explore.interning import Interner
from txsentinel.sim.explore.messages import Answer, Output
from txsentinel.sim.explore.process import SentinelModel
from txsentinel.sim.explore.saved_state import Saved
from txsentinel.sim.explore.servers import Condition
from txsentinel.sim.explore.topology import STALL, GroupSettings
from txsentinel.sim.explore.views import View

ATOMS: Final = (Address, Answer, Saved, Condition, DurableRecord, RecordKey, View)
CONSTANTS: Final = (GroupSettings, Limits, MasterOptions, SentinelOptions, Timings)

IGNORED: Final = ("_added", "_counted", "saved_at", "taken")
"""The bytes of INFO texts, which are counted until they reach a limit of megabytes, and what no decision depends on."""

DISREGARDED: Final = (DataComparisons, Diagnosis, Journal, Operations)
"""What is kept for logs, explanations and the history only, and switchovers, which are never ordered here."""

Input = tuple[Any, ...]
"""The name of a step, and what arrives in it."""

Step = tuple[int, tuple[Output, ...]]
"""The state after a step, and its outputs."""

TICK_INPUT: Final[Input] = ("tick",)
STALL_INPUT: Final[Input] = ("stall",)
SAVE_INPUT: Final[Input] = ("save",)
SAVED_INPUT: Final[Input] = ("saved",)
FAIL_INPUT: Final[Input] = ("fail",)
CRASH_INPUT: Final[Input] = ("crash",)
START_INPUT: Final[Input] = ("start",)
ORDER_INPUT: Final[Input] = ("order",)

UP: Final = 1
MUST_SAVE: Final = 2
SAVING: Final = 4
FAILING: Final = 8


class LocalStates:
    """
    The states of one Sentinel.

    :param views: the views by number, which the group shares among its Sentinels.
    """

    def __init__(self, sentinel: int, settings: GroupSettings, views: Interner[View]) -> None:
        self._process = process = SentinelModel(sentinel, settings)
        process.begin()
        self._views = views
        self._inputs: Interner[Input] = Interner()
        self._keys: Interner[Key] = Interner()
        self._known: dict[int, Step] = {}
        self.flags: list[int] = []
        """Of each state: ``UP``, ``MUST_SAVE``, ``SAVING``, ``FAILING``."""

        self._store = ImageStore(
            process, ATOMS, CONSTANTS, IGNORED, DISREGARDED, lambda: process.core.durable_generation
        )
        self._blank = self._store.capture(process.now)
        self.initial = self._number()
        """The state of a Sentinel that has not been started."""

    def __len__(self) -> int:
        """Return the number of states."""
        return len(self._keys)

    @property
    def steps(self) -> int:
        """The number of different steps that were computed."""
        return len(self._known)

    def input_number(self, value: Input) -> int:
        """Return the number of an input."""
        return self._inputs.number(value)

    def step(self, state: int, number: int, view: int) -> Step:
        """Return what the input of that number leads to."""
        key = (state << 20 | number) << 20 | view
        found = self._known.get(key)
        if found is None:
            self._run(state, self._inputs.values[number], self._views.values[view])
            outputs = self._process.take_outputs()
            found = self._known[key] = self._number(), outputs
        return found

    def events(self, state: int, number: int, view: int) -> list[str]:
        """Return the events of a step, for traces."""
        self._run(state, self._inputs.values[number], self._views.values[view])
        events = list(self._process.events)
        self._process.take_outputs()
        return events

    def run_all(self, state: int, inputs: Iterable[tuple[int, int]]) -> int:
        """
        Return the state after several inputs, each with its view, between which no image is restored.

        This is how a Sentinel really runs, so the result must be the same as that of single steps.
        """
        self._store.restore(self._keys.values[state])
        for number, view in inputs:
            self._input(self._inputs.values[number], self._views.values[view])
            self._process.take_outputs()
        return self._number()

    def _number(self) -> int:
        process = self._process
        number = self._keys.number(self._store.capture(process.now))
        if number == len(self.flags):
            flags = UP if process.up else 0
            flags |= MUST_SAVE if process.must_save and process.saving is None else 0
            flags |= SAVING if process.saving is not None else 0
            flags |= FAILING if process.core.state.storage_failing else 0
            self.flags.append(flags)
        return number

    def _run(self, state: int, value: Input, view: View) -> None:
        self._store.restore(self._keys.values[state])
        self._input(value, view)

    def _input(self, value: Input, view: View) -> None:
        process, name = self._process, value[0]
        if name == "ask":
            process.ask(value[1], value[2], view)
        elif name == "answer":
            process.answer(value[1], value[2], view)
        elif name == "hello":
            process.hello(value[1], view)
        elif name == "report":
            process.report(value[1], value[2], view)
        elif name == "tick":
            process.tick(view)
        elif name == "save":
            process.save()
        elif name == "saved":
            process.report_saved(view)
        elif name == "lose":
            process.lose_client(value[1])
        elif name == "crash":
            self._crash()
        elif name == "start":
            process.start(view)
        elif name == "stall":
            process.tick(view, STALL)
        elif name == "fail":
            process.fail_to_save(view)
        elif name == "order":
            process.order_failover(view)
        else:
            raise ValueError(name)

    def _crash(self) -> None:
        """End the process: only the file and the records of the checker remain."""
        process = self._process
        process.checker.crashed(process.saved_state)
        file, records = process.saved_state, self._store.capture(process.now)
        at = self._store.position(process.checker)
        self._store.restore((*self._blank[:at], records[at], *self._blank[at + 1 :]))
        process.saved_state = file
