"""Ways to a state as readable text, and back."""

from __future__ import annotations

from collections.abc import Iterable

from txsentinel.sim.explore import steps
from txsentinel.sim.explore.group import Group, State
from txsentinel.sim.explore.messages import Broken
from txsentinel.sim.explore.scenarios import UNLIMITED, stable_state
from txsentinel.sim.explore.steps import parse_step, step_name
from txsentinel.sim.explore.topology import SENTINEL_NAMES, GroupSettings, target_name


class Trace:
    """The way from the stable group to a violation: a line for each step, and below it the events that it caused."""

    def __init__(self, settings: GroupSettings, codes: Iterable[int]) -> None:
        self.lines: list[str] = []
        self.broken: list[Broken] = []
        self._group = group = Group(settings)
        state = group.with_faults(stable_state(group), UNLIMITED)
        for code in codes:
            if code not in group.enabled(state):
                self.lines.append(f"{step_name(code)} is impossible here")
                break
            group.events = []
            text = self._describe(state, code)
            try:
                new = group.apply(state, code)
                broken = list(group.broken)
            except Exception as error:
                new, broken = state, [Broken("raised", f"{type(error).__name__}: {error}")]
            self.lines.append(f"{step_name(code):14}  {text}".rstrip())
            self._add_events(broken)
            self.lines += [f"WRONG           {each}" for each in broken]
            self.broken += broken
            state = new

    def _describe(self, state: State, code: int) -> str:
        kind, first, second = code >> 6, code >> 3 & 7, code & 7
        if kind not in (steps.DELIVER, steps.RETURN):
            return ""
        connection = self._group.connection(state, first, second)
        if kind == steps.DELIVER:
            return f"{SENTINEL_NAMES[first]} → {target_name(second)}: {connection.requests[0]}"
        return f"{target_name(second)} → {SENTINEL_NAMES[first]}: {connection.replies[0]}"

    def _add_events(self, broken: list[Broken]) -> None:
        executed, self._group.events = self._group.events or [], None
        if any(each.invariant == "raised" for each in broken):
            return
        for sentinel, *arguments in executed:
            for event in self._group.sentinels[sentinel].events(*arguments):
                self.lines.append(f"                  {SENTINEL_NAMES[sentinel]}: {_short(event)}")

    def __str__(self) -> str:
        """Return all lines."""
        return "\n".join(self.lines)


def _short(text: str) -> str:
    """Shorten the IDs in an event to the names of the Sentinels."""
    for name in SENTINEL_NAMES:
        text = text.replace(name * 40, name)
    return text


def format_way(codes: Iterable[int]) -> str:
    """Return the names of steps, separated by blanks, as ``--replay`` accepts them."""
    return " ".join(step_name(code) for code in codes)


def parse_way(text: str) -> list[int]:
    """
    Return the numbers of steps.

    :raises ValueError: if one is unknown.
    """
    return [parse_step(word) for word in text.split()]
