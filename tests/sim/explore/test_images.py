"""Tests of the images of Sentinels: what is restored is what was captured, and equal states have equal images."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.pause_rules import pause_of, withholds_vote
from txsentinel.core.pauses import PauseRequest
from txsentinel.sim.explore import local_states, steps
from txsentinel.sim.explore.group import Group, State
from txsentinel.sim.explore.images import START_TIME, ImageStore, NotImaged, attribute_names
from txsentinel.sim.explore.interning import Interner
from txsentinel.sim.explore.local_states import ATOMS, CONSTANTS, DISREGARDED, IGNORED, LocalStates
from txsentinel.sim.explore.process import SentinelModel
from txsentinel.sim.explore.scenarios import First, first_states, scenario, stable_state, undisturbed
from txsentinel.sim.explore.servers import INITIAL, Condition, info
from txsentinel.sim.explore.steps import step_code
from txsentinel.sim.explore.topology import SERVERS, TARGETS, GroupSettings
from txsentinel.sim.explore.views import View

SETTINGS = GroupSettings()


def view() -> View:
    """Return the view of a Sentinel that reaches everything."""
    return View((Condition.UP,) * TARGETS, tuple(info(INITIAL, each, SETTINGS) for each in range(SERVERS)))


class ImageTests(SynchronousTestCase):
    """Images of one process."""

    def setUp(self) -> None:
        """Make a process and its store."""
        self.process = SentinelModel(0, SETTINGS)
        self.process.begin()
        self.store = ImageStore(
            self.process, ATOMS, CONSTANTS, IGNORED, DISREGARDED, lambda: self.process.core.durable_generation
        )
        self.blank = self.store.capture(START_TIME)

    def test_restored_state_has_the_same_image(self) -> None:
        """Capturing what was restored gives the same image, for a process that has begun and one that has not."""
        self.process.start(view())
        self.process.take_outputs()
        started = self.store.capture(self.process.now)
        self.assertNotEqual(started, self.blank)
        for key in (self.blank, started, self.blank):
            self.store.restore(key)
            self.assertEqual(self.store.capture(START_TIME), key)

    def test_pause(self) -> None:
        """A pause of failovers is part of the image, with what is left of it, and restored with it."""
        self.process.start(view())
        self.process.take_outputs()
        before = self.store.capture(self.process.now)
        core, now = self.process.core, self.process.now
        core.pauses.order("mymaster", PauseRequest(10_000, by="alice"), now, now)
        core.pauses.admit("mymaster", "a" * 40, 7, 5_000, now)
        paused = self.store.capture(now)
        self.assertNotEqual(paused, before)
        self.store.restore(before)
        self.assertIsNone(pause_of(core.state, "mymaster", START_TIME))
        self.store.restore(paused)
        self.assertEqual(self.store.capture(START_TIME), paused)
        held = pause_of(core.state, "mymaster", START_TIME + 9_999)
        assert held is not None
        self.assertEqual(held.until, START_TIME + 10_000)
        self.assertIsNone(withholds_vote(core.state, "mymaster", "a" * 40, 7, START_TIME + 4_999))
        self.assertIsNotNone(withholds_vote(core.state, "mymaster", "a" * 40, 7, START_TIME + 5_000))

    def test_time_is_relative(self) -> None:
        """A state has the same image at any time, and continues at ``START_TIME``."""
        self.process.start(view())
        self.process.take_outputs()
        key = self.store.capture(self.process.now)
        self.store.restore(key)
        since = self.process.core.master("mymaster").created_at
        self.process.tick(view())
        self.process.take_outputs()
        later = self.store.capture(self.process.now)
        self.assertNotEqual(later, key)
        self.store.restore(later)
        self.assertEqual(self.process.now, START_TIME)
        self.assertEqual(self.process.core.master("mymaster").created_at, since - 1_000)

    def test_deadlines_are_restored(self) -> None:
        """The due queue of a restored state has the deadlines of its instances."""
        self.process.start(view())
        self.process.take_outputs()
        due = self.process.core.next_due
        self.store.restore(self.store.capture(self.process.now))
        self.assertEqual(self.process.core.next_due, due)

    def test_unknown_objects_are_refused(self) -> None:
        """An object that an image cannot contain raises instead of being shared by two states."""
        self.process.events.append(object())  # type: ignore[arg-type]
        with self.assertRaises(NotImaged):
            self.store.capture(START_TIME)

    def test_attributes_of_slots_and_dictionaries(self) -> None:
        """Attributes are found in slots and in dictionaries."""

        class Slotted:
            __slots__ = ("one",)

        class Both(Slotted):
            def __init__(self) -> None:
                self.one, self.two = 1, 2

        self.assertEqual(attribute_names(Both()), ("one", "two"))


class EquivalenceTests(SynchronousTestCase):
    """A step computed from an image is the step of the process itself."""

    def test_quiet_group_returns_to_its_state(self) -> None:
        """
        A group without faults repeats itself: nothing in an image counts for ever.

        It takes three rounds, as hellos to peers that acknowledge them are sent with each third tick.
        """
        group = Group(SETTINGS)
        first = stable_state(group)
        self.assertEqual(undisturbed(group, First(first, ()), 3)[-1].state, first)
        states = sum(len(each) for each in group.sentinels)
        undisturbed(group, First(first, ()), 9)
        self.assertEqual(sum(len(each) for each in group.sentinels), states)

    def test_uninterrupted_process_has_the_same_states(self) -> None:
        """A process that is never captured and restored ends in the state that the images lead to."""
        group = Group(SETTINGS)
        state: State = first_states(group, scenario("dead-master"))[0].state
        # The inputs of Sentinel b on its way through a whole failover, as the group computes them from images.
        executed: list[tuple[int, int, int, int]] = []
        for first in first_states(Group(SETTINGS), scenario("dead-master"))[-1:]:
            for code in first.way:
                group.events = []
                state = group.apply(state, code)
                executed += group.events
        sentinel = group.sentinels[1]
        mine = [each for each in executed if each[0] == 1]
        self.assertGreater(len(mine), 15)
        reached = sentinel.run_all(mine[0][1], [each[2:] for each in mine])
        self.assertEqual(reached, state[1])

    def test_views_and_inputs_are_shared(self) -> None:
        """A step is computed once, however often it is taken."""
        views: Interner[View] = Interner()
        sentinel = LocalStates(0, SETTINGS, views)
        number, start = views.number(view()), sentinel.input_number(local_states.START_INPUT)
        self.assertEqual(sentinel.step(sentinel.initial, start, number), sentinel.step(sentinel.initial, start, number))
        self.assertEqual(sentinel.steps, 1)
        self.assertEqual(step_code(steps.TICK, 0), 0)
