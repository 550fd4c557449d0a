"""
Where a search begins: each scenario is an undisturbed run, and the search begins at every state of it.

An undisturbed run delivers messages at once and advances the clocks in turn. The search then takes every other way from
each of its states, up to a depth. An election, its promotion and the switch after it take sixty steps, too many to take
them all in every order; but each of these steps is within a few of a first state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from txsentinel.sim.explore import steps
from txsentinel.sim.explore.group import Faults, Group, State
from txsentinel.sim.explore.steps import parse_step, step_code
from txsentinel.sim.explore.topology import SENTINELS, GroupSettings

UNLIMITED: Final = Faults(*[99] * len(Faults()))
"""For ways that are given: every fault may occur."""

STABLE_ROUNDS: Final = 20
"""Rounds after which a group without faults only repeats itself."""

_MESSAGES: Final = frozenset((steps.DELIVER, steps.RETURN, steps.SAVE, steps.SAVED))


@dataclass(frozen=True)
class Scenario:
    """
    One scenario.

    ``script`` consists of steps and of numbers, each of which means so many rounds of the undisturbed run. A step that
    is impossible, because a defect changed the run, is left out. The search begins at every state after the first
    ``skipped`` words.
    """

    name: str
    about: str
    script: tuple[str | int, ...]
    faults: Faults = field(default_factory=Faults)
    """What may happen besides messages and ticks, once the search begins."""

    together: bool = False
    """
    Whether the clocks advance together, and messages, too: after the ticks of all, each connection delivers one
    message, then each another one, and so on. Otherwise all messages are delivered between two ticks.
    """

    settings: GroupSettings = field(default_factory=GroupSettings)
    skipped: int = 0


@dataclass(frozen=True)
class First:
    """A first state, and the steps to it from the stable group."""

    state: State
    way: tuple[int, ...]


SCENARIOS: Final = (
    Scenario(
        "dead-master",
        "The master dies; one Sentinel may crash, one connection may break.",
        ("kill:m", 6),
        Faults(crashes=1, resets=1),
    ),
    Scenario(
        "simultaneous",
        "The master dies, and all notice it at once; one Sentinel may crash, one connection may break.",
        ("kill:m", 6),
        Faults(crashes=1, resets=1),
        together=True,
    ),
    Scenario(
        "rivals",
        "The master dies, and two Sentinels campaign in one epoch; one may crash, one connection may break.",
        ("kill:m", 2, "tick:a", "deliver:a>b", "return:a<b", "tick:c", 2),
        Faults(crashes=1, resets=1),
        skipped=5,
    ),
    Scenario(
        "returning-master",
        "The master dies and comes back at any time; one Sentinel may crash.",
        ("kill:m", 4, "revive:m", 6),
        Faults(crashes=1, revivals=1),
    ),
    Scenario(
        "hung-master",
        "The master hangs and continues at any time; it, or a replica, may hang again.",
        ("hang:m", 6),
        Faults(hangs=1, crashes=1),
    ),
    Scenario(
        "second-failure",
        "The promoted replica dies, too.",
        ("kill:m", 4, "kill:r1", 4),
        Faults(crashes=1, kills=1),
        skipped=1,
    ),
    Scenario(
        "rival-orders",
        "Two operators order a failover of a healthy master, each at any Sentinel.",
        (1,),
        Faults(orders=2, crashes=1),
    ),
    Scenario(
        "failing-disk",
        "The master dies while attempts to save fail; one Sentinel may crash.",
        ("kill:m", 6),
        Faults(save_failures=2, crashes=1),
    ),
    Scenario(
        "isolation",
        "The master dies; a Sentinel can reach nobody for a while.",
        ("kill:m", 6),
        Faults(isolations=2),
    ),
    Scenario(
        "stall",
        "The master dies while Sentinels stand still and enter TILT.",
        ("kill:m", 6),
        Faults(stalls=2),
    ),
    Scenario(
        "quorum-of-three",
        "All three Sentinels must agree.",
        ("kill:m", 6),
        Faults(crashes=1, resets=1),
        settings=GroupSettings(quorum=3),
    ),
    Scenario(
        "quorum-of-one",
        "One Sentinel may begin alone.",
        ("kill:m", 6),
        Faults(crashes=1, resets=1),
        settings=GroupSettings(quorum=1),
    ),
    Scenario(
        "crash-failover",
        "Evidence of a crash counts, and the master comes back at any time; one connection may break.",
        ("kill:m", 6, "revive:m", 2),
        Faults(revivals=1, resets=1, crashes=1),
        settings=GroupSettings(down_after=4_900, crash_failover=True),
    ),
    Scenario(
        "priority",
        "One replica must not be promoted, and the other one may die.",
        ("kill:m", 6),
        Faults(crashes=1, kills=1),
        settings=GroupSettings(priorities=(100, 0, 100)),
    ),
)


def scenario(name: str) -> Scenario:
    """
    Return the scenario of that name.

    :raises KeyError: if there is none.
    """
    return {each.name: each for each in SCENARIOS}[name]


def stable_state(group: Group) -> State:
    """Return the state of a group whose Sentinels have been running for long without a fault."""
    state = group.initial()
    for sentinel in range(SENTINELS):
        state = group.apply(state, step_code(steps.START, sentinel))
    return undisturbed(group, First(state, ()), STABLE_ROUNDS)[-1].state


def undisturbed(group: Group, begin: First, rounds: int) -> list[First]:
    """Return all states of so many rounds, the first one included."""
    found = [begin]
    _extend(group, found, rounds, together=False)
    return found


def _extend(group: Group, found: list[First], rounds: int, *, together: bool) -> None:
    """Add the states of so many rounds after the last of ``found``."""
    for _ in range(rounds):
        for sentinel in range(SENTINELS):
            tick = step_code(steps.TICK, sentinel)
            if tick in group.enabled(found[-1].state):
                found.append(_after(group, found[-1], tick))
            if not together:
                _deliver_all(group, found, 1)
        _deliver_all(group, found, 1 << 10)


def _deliver_all(group: Group, found: list[First], at_once: int) -> None:
    """
    Deliver and save until nothing is left to do; add all states to ``found``.

    :param at_once: how many of the possible steps are taken before it is determined which ones are possible then.
    """
    while True:
        messages = [code for code in group.enabled(found[-1].state) if code >> 6 in _MESSAGES]
        if not messages:
            return
        for code in messages[:at_once]:
            if code in group.enabled(found[-1].state):
                found.append(_after(group, found[-1], code))


def first_states(group: Group, chosen: Scenario) -> list[First]:
    """
    Return the states at which the search of a scenario begins.

    If a step raises, the run ends before it; the search takes the same step and reports it.
    """
    found = [First(stable_state(group), ())]
    skipped = 0
    try:
        for position, word in enumerate(chosen.script):
            if position == chosen.skipped:
                skipped = len(found) - 1
            if isinstance(word, int):
                _extend(group, found, word, together=chosen.together)
            else:
                _extend_if_possible(group, found, parse_step(word))
    except Exception:
        skipped = min(skipped, len(found) - 1)
    return [First(group.with_faults(each.state, chosen.faults), each.way) for each in _distinct(found[skipped:])]


def _extend_if_possible(group: Group, found: list[First], code: int) -> None:
    if code in group.enabled(group.with_faults(found[-1].state, UNLIMITED)):
        found.append(_after(group, found[-1], code))


def _after(group: Group, before: First, code: int) -> First:
    return First(group.apply(before.state, code), (*before.way, code))


def _distinct(firsts: Iterable[First]) -> list[First]:
    found: dict[State, First] = {}
    for each in firsts:
        found.setdefault(each.state, each)
    return list(found.values())
