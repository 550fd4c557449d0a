"""Tests of the durability barrier: what waits, in which order it is released, and what a failed save does to it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.effects import Announce, Effect, Note, RunScript
from txsentinel.model.events import Level, SentinelEvent
from txsentinel.runtime.durability import DurabilityBarrier, is_binding, master_of


def effect(name: str) -> Effect:
    """Return an effect that is not binding."""
    return RunScript(name, ())


def vote(name: str, master: str = "m") -> Effect:
    """Return a binding announcement about a master."""
    return Announce(SentinelEvent(name, "", master), binding=True)


class BarrierCase(SynchronousTestCase):
    """The base of the tests: a barrier whose output is recorded in order."""

    def setUp(self) -> None:
        self.log: list[str] = []
        self.reaction: Callable[[str], None] = lambda name: None
        self.barrier = DurabilityBarrier(self.perform, lambda: self.log.append("yield"))

    def perform(self, performed: Effect) -> None:
        """Record an effect by its name."""
        assert isinstance(performed, RunScript | Announce)
        name = performed.path if isinstance(performed, RunScript) else performed.event.channel
        self.log.append(name)
        self.reaction(name)

    def submit(self, *effects: tuple[int, Effect]) -> None:
        """Submit effects."""
        for generation, each in effects:
            self.barrier.submit(generation, each)

    def reply(self, generation: int, name: str, undo: Callable[[], str | None] | None = None, since: int = 0) -> None:
        """Defer a reply whose outcome is recorded."""
        self.barrier.defer_reply(
            generation, lambda: self.log.append(f"{name} ok"), lambda: self.log.append(f"{name} failed"), undo, since
        )

    def take(self) -> list[str]:
        """Return what happened since the last call, without the yields."""
        taken, self.log = [entry for entry in self.log if entry != "yield"], []
        return taken

    def committed(self, generation: int) -> list[str]:
        """Have a generation become durable; return what that released."""
        self.barrier.committed(generation)
        return self.take()

    def failed(self, *, stuck: bool = False) -> list[str]:
        """Have a save fail; return what that caused."""
        self.barrier.commit_failed(stuck=stuck)
        return self.take()


class WaitingTests(BarrierCase):
    """What depends on state waits until the state is durable."""

    def test_independent_effects_never_wait(self) -> None:
        """Effects of generation 0 are executed at once, before others that wait."""
        self.submit((1, effect("a")), (0, effect("b")))
        self.assertEqual(self.take(), ["b"])
        self.assertEqual(self.barrier.waiting, 1)

    def test_each_waits_for_its_own_generation(self) -> None:
        """A commit releases what it makes durable, and nothing later."""
        self.submit((1, effect("a")), (1, vote("b")), (2, effect("c")))
        self.reply(1, "x")
        self.reply(2, "y")
        self.assertEqual((self.take(), self.barrier.waiting), ([], 5))
        self.assertEqual(self.committed(1), ["a", "b", "x ok"])
        self.assertEqual((self.barrier.waiting, self.barrier.durable), (2, 1))
        self.assertEqual(self.committed(2), ["c", "y ok"])
        self.assertEqual(self.barrier.waiting, 0)

    def test_durable_ones_do_not_wait(self) -> None:
        """What depends on a durable generation is released at once."""
        self.committed(3)
        self.submit((3, effect("a")))
        self.reply(3, "x")
        self.reply(2, "y")
        self.assertEqual(self.take(), ["a", "x ok", "y ok"])

    def test_no_effect_overtakes_another(self) -> None:
        """An effect whose generation is durable waits for those that were decided before it."""
        self.committed(1)
        self.submit((2, effect("a")), (1, effect("b")))
        self.assertEqual(self.take(), [])
        self.assertEqual(self.committed(2), ["a", "b"])

    def test_effects_before_replies(self) -> None:
        """A client that has its reply has been sent the events of its command."""
        self.reply(1, "x")
        self.submit((1, effect("a")), (2, effect("b")))
        self.reply(2, "y")
        self.assertEqual(self.committed(2), ["a", "b", "x ok", "y ok"])

    def test_replies_in_order(self) -> None:
        """Replies are released by generation, those of one generation in the order in which they were deferred."""
        for generation, name in ((2, "c"), (1, "a"), (2, "d"), (1, "b"), (3, "e")):
            self.reply(generation, name)
        self.assertEqual(self.committed(2), ["a ok", "b ok", "c ok", "d ok"])
        self.assertEqual(self.committed(3), ["e ok"])

    def test_clients_are_polled_in_between(self) -> None:
        """After each effect and reply that is released, and kept for nothing else."""
        self.submit((1, effect("a")), (1, effect("b")))
        self.reply(1, "x")
        self.barrier.committed(1)
        self.assertEqual(self.log, ["a", "yield", "b", "yield", "x ok", "yield"])

    def test_effects_that_are_submitted_meanwhile(self) -> None:
        """An effect that a released one causes comes behind those that are being released."""
        self.reaction = lambda name: self.submit((1, effect("later"))) if name == "a" else None
        self.submit((1, effect("a")), (1, effect("b")))
        self.reply(1, "x")
        self.assertEqual(self.committed(1), ["a", "b", "later", "x ok"])

    def test_replies_that_are_deferred_meanwhile(self) -> None:
        """A reply for a later generation that is deferred during a release keeps waiting."""
        self.reaction = lambda name: self.reply(2, "y")
        self.submit((1, effect("a")))
        self.reply(1, "x")
        self.assertEqual(self.committed(1), ["a", "x ok"])
        self.assertEqual(self.committed(2), ["y ok"])


class FailureTests(BarrierCase):
    """A failed save fails deferred replies, and releases everything else."""

    def test_failure(self) -> None:
        """Replies fail, effects are executed, and binding announcements keep waiting."""
        self.submit((1, effect("a")), (1, vote("v")), (2, effect("b")))
        self.reply(1, "x")
        self.reply(2, "y")
        self.assertEqual(self.failed(), ["x failed", "y failed", "a", "b"])
        self.assertEqual((self.barrier.failing, self.barrier.waiting), (True, 1))
        self.assertEqual(self.committed(2), ["v"])

    def test_replies_fail_in_order(self) -> None:
        """Whatever their generations, in the order in which they were deferred: so each connection gets them."""
        for generation, name in ((3, "a"), (1, "b"), (2, "c"), (1, "d")):
            self.reply(generation, name)
        self.assertEqual(self.failed(), ["a failed", "b failed", "c failed", "d failed"])
        self.assertEqual(self.committed(3), [])

    def test_while_failing(self) -> None:
        """Effects no longer wait, unless they are binding; replies wait for the next attempt."""
        self.failed()
        self.submit((1, effect("a")), (1, vote("v")), (2, effect("b")))
        self.reply(2, "x")
        self.assertEqual(self.take(), ["a", "b"])
        self.assertEqual(self.failed(), ["x failed"])
        self.reply(2, "y")
        self.assertEqual(self.committed(2), ["v", "y ok"])

    def test_success_after_failure(self) -> None:
        """After a successful save everything waits again."""
        self.failed(stuck=True)
        self.assertEqual((self.barrier.failing, self.barrier.stuck), (True, True))
        self.committed(1)
        self.assertEqual((self.barrier.failing, self.barrier.stuck), (False, False))
        self.submit((2, effect("a")))
        self.reply(2, "x")
        self.assertEqual(self.take(), [])
        self.assertEqual(self.committed(2), ["a", "x ok"])

    def test_stuck(self) -> None:
        """While a write does not end, replies fail at once, because no other attempt will determine their outcome."""
        self.failed(stuck=True)
        undone: list[str] = []
        self.reply(1, "x", undo=lambda: undone.append("x"))
        self.assertEqual((self.take(), undone), (["x failed"], ["x"]))
        self.failed()
        self.reply(1, "y")
        self.assertEqual(self.take(), [])

    def test_clients_are_polled_after_each_effect(self) -> None:
        """A failure can release as many effects as a commit."""
        self.submit((1, effect("a")), (1, effect("b")))
        self.barrier.commit_failed()
        self.assertEqual(self.log, ["a", "yield", "b", "yield"])


class UndoTests(BarrierCase):
    """A command that failed has changed nothing, and nobody is informed that it did."""

    def undo(self, name: str, forgotten: str | None = None) -> Callable[[], str | None]:
        """Return a function that records that the changes of ``name`` are undone."""

        def undone() -> str | None:
            self.log.append(f"undo {name}")
            return forgotten

        return undone

    def test_newest_first(self) -> None:
        """All changes are undone in reverse order before the first client is informed."""
        self.reply(1, "a", self.undo("a"), since=1)
        self.reply(2, "b")
        self.reply(3, "c", self.undo("c"), since=3)
        self.assertEqual(self.failed(), ["undo c", "undo a", "a failed", "b failed", "c failed"])

    def test_announcements_of_undone_changes(self) -> None:
        """Binding announcements of the generations of the command are dropped, others keep waiting."""
        self.submit((1, vote("before")), (2, vote("first")), (3, vote("last")), (4, vote("after")))
        self.reply(3, "x", self.undo("x"), since=2)
        self.assertEqual(self.failed(), ["undo x", "x failed"])
        self.assertEqual(self.committed(4), ["before", "after"])

    def test_announcements_about_a_forgotten_master(self) -> None:
        """If the record of a master is gone, later announcements about it are dropped as well."""
        self.submit((1, vote("older", "m")), (2, vote("own", "m")), (3, vote("later", "m")), (3, vote("other", "n")))
        self.reply(2, "x", self.undo("x", forgotten="m"), since=2)
        self.failed()
        self.assertEqual(self.committed(3), ["older", "other"])

    def test_effects_that_are_not_binding(self) -> None:
        """They report what has happened, and are executed even if the change behind them is undone."""
        self.submit((1, effect("a")))
        self.reply(1, "x", self.undo("x", forgotten="m"), since=1)
        self.assertEqual(self.failed(), ["undo x", "x failed", "a"])

    def test_kinds(self) -> None:
        """Only announcements can be binding or about a master."""
        self.assertEqual((is_binding(vote("v", "m")), master_of(vote("v", "m"))), (True, "m"))
        note = Note(Level.NOTICE, "text")
        self.assertEqual((is_binding(note), master_of(note)), (False, None))
