"""The states of a maintained connection: what each input causes in each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.links.reconnecting import Inputs, link_machine

NOW = 1_000


class Recorder:
    """Records the actions of a machine, and gives inputs to it by name."""

    def __init__(self) -> None:
        self.actions: list[str] = []
        self.reaction: Callable[[], None] = lambda: None
        """Called during ``report_down``, as the core may decide about the link then."""

        self.machine: Inputs = link_machine(self)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return a function that records its call."""

        def record(*arguments: Any) -> None:
            self.actions.append(" ".join([name, *[str(each) for each in arguments if each != NOW]]))
            if name == "report_down":
                self.reaction()

        return record

    def give(self, name: str) -> None:
        """Give one input."""
        arguments: dict[str, tuple[Any, ...]] = {
            "established": ("it",),
            "failed": ("why", NOW),
            "failed_like_leader": ("why", NOW),
            "lost": ("why", NOW),
            "reconnect": ("because",),
        }
        getattr(self.machine, name)(*arguments.get(name, ()))

    def run(self, names: str) -> str:
        """Give the inputs in order; return the actions of the last one."""
        for name in names.split():
            self.actions.clear()
            self.give(name)
        return ", ".join(self.actions)


DOWN = "report_down why"
STATES = {
    "new": "",
    "connecting": "start",
    "connected": "start established",
    "renewing": "start established reconnect",
    "waiting": "start failed",
    "following": "start failed_like_leader",
    "closing": "start established retire",
    "retired": "retire",
}
"""The inputs that lead to each state."""

TABLE: tuple[tuple[str, str, str], ...] = (
    ("new", "start", "begin_first"),
    ("new", "leader_connected", ""),
    ("new", "reconnect", ""),
    ("new", "retire", "report_gone"),
    ("new", "retire lost", ""),
    ("connecting", "start", ""),
    ("connecting", "established", "adopt it"),
    ("connecting", "failed", f"schedule_after_failure, {DOWN}"),
    ("connecting", "failed_like_leader", DOWN),
    ("connecting", "leader_connected", ""),
    ("connecting", "reconnect", ""),
    ("connecting", "reconnect established", "adopt it"),
    ("connecting", "retire", "abort_attempt, report_gone"),
    ("connecting", "retire established lost", ""),
    ("connecting", "retire failed", ""),
    ("connected", "start", ""),
    ("connected", "leader_connected", ""),
    ("connected", "lost", f"schedule_after_loss, {DOWN}"),
    ("connected", "lost due", "begin_next"),
    ("connected", "reconnect", "renew because"),
    ("connected", "retire", "close"),
    ("connected", "retire lost", "report_gone"),
    ("renewing", "start", ""),
    ("renewing", "leader_connected", ""),
    ("renewing", "reconnect", ""),
    ("renewing", "lost", f"schedule_attempt 0, {DOWN}"),
    ("renewing", "lost due", "begin_next"),
    ("renewing", "lost due established lost", f"schedule_after_loss, {DOWN}"),
    ("renewing", "retire", ""),
    ("renewing", "retire lost", "report_gone"),
    ("waiting", "start", ""),
    ("waiting", "leader_connected", ""),
    ("waiting", "due", "begin_next"),
    ("waiting", "due failed", f"schedule_after_failure, {DOWN}"),
    ("waiting", "reconnect", "schedule_attempt 0"),
    ("waiting", "reconnect due", "begin_next"),
    ("waiting", "retire", "cancel_attempt, report_gone"),
    ("waiting", "retire lost", ""),
    ("following", "start", ""),
    ("following", "leader_connected", "schedule_attempt 0"),
    ("following", "leader_connected leader_connected", ""),
    ("following", "leader_connected due", "begin_next"),
    ("following", "reconnect", "schedule_attempt 0"),
    ("following", "reconnect due", "begin_next"),
    ("following", "retire", "report_gone"),
    ("following", "retire lost", ""),
    ("closing", "start", ""),
    ("closing", "leader_connected", ""),
    ("closing", "reconnect", ""),
    ("closing", "retire", ""),
    ("closing", "lost", "report_gone"),
    ("closing", "lost start", ""),
    ("closing", "lost lost", ""),
    ("retired", "start", ""),
    ("retired", "leader_connected", ""),
    ("retired", "reconnect", ""),
    ("retired", "retire", ""),
    ("retired", "established", ""),
    ("retired", "established lost", ""),
    ("retired", "failed", ""),
    ("retired", "failed_like_leader", ""),
)
"""State, inputs, and the actions that the last of them causes."""


class TableTests(SynchronousTestCase):
    """Each input in each state."""

    def test_table(self) -> None:
        """Each row of the table."""
        for state, inputs, actions in TABLE:
            recorder = Recorder()
            recorder.run(STATES[state])
            self.assertEqual(recorder.run(inputs), actions, f"{state}: {inputs}")

    def test_callers(self) -> None:
        """What the pool and the leader call is accepted in every state."""
        for name in ("start", "leader_connected", "reconnect", "retire"):
            rows = {state for state, inputs, _ in TABLE if inputs == name}
            self.assertEqual(rows, set(STATES), name)

    def test_ends(self) -> None:
        """From every state, retiring leads to one report that the link is gone, and to no further attempt."""
        for state, before in STATES.items():
            recorder = Recorder()
            recorder.run(before)
            if state != "retired":
                recorder.actions.clear()
            recorder.give("retire")
            if state in ("connected", "renewing", "closing"):
                recorder.give("lost")
            for name in ("start", "reconnect", "leader_connected", "retire"):
                recorder.give(name)
            self.assertEqual(recorder.actions[recorder.actions.index("report_gone") :], ["report_gone"], state)
            self.assertEqual([each for each in recorder.actions if each.startswith(("begin", "schedule"))], [], state)

    def test_decisions_during_a_report(self) -> None:
        """What the core decides when it learns of a loss takes effect after the next attempt was scheduled."""
        for decision, actions in (
            ("retire", ["cancel_attempt", "report_gone"]),
            ("reconnect", ["schedule_attempt 0"]),
            ("start", []),
        ):
            for state, name, first in (
                ("connecting", "failed", "schedule_after_failure"),
                ("connected", "lost", "schedule_after_loss"),
                ("renewing", "lost", "schedule_attempt 0"),
            ):
                recorder = Recorder()
                recorder.run(STATES[state])
                recorder.reaction = lambda decision=decision, recorder=recorder: recorder.give(decision)  # type: ignore[misc]
                recorder.run(name)
                self.assertEqual(recorder.actions, [first, DOWN, *actions], f"{state}: {name}, {decision}")
