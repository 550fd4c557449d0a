"""``txsentinel switchover`` in groups of txsentinels: ordered from one of them, over connections in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tests.cli.operator.runner import VerbCase
from tests.remote.samples import NAME, fleet
from txsentinel.cli.operator import switching
from txsentinel.model.operations import (
    OperationSnapshot,
    OperationState,
    OperationStep,
    Precondition,
    SwitchoverMethod,
    SwitchoverPlan,
)
from txsentinel.model.plain import plain, unix_instant
from txsentinel.model.receipt import Fence, NewMaster, OldMaster, Receipt, ReceiptVerdict
from txsentinel.model.snapshots import Endpoint, Instant
from txsentinel.remote.connection import ConnectionFailed, ErrorAnswer
from txsentinel.remote.inside_switchover import InsideSwitchover

OLD, NEW = Endpoint("10.0.0.2", 6379), Endpoint("10.0.0.1", 6379)
PLAN = SwitchoverPlan(SwitchoverMethod.FENCE, "it was named", OLD, NEW, 0, 400, 10_000, 2, 3)
BEGUN = OperationSnapshot(
    operation_id="01JE",
    kind="switchover",
    master=NAME,
    by="alice",
    requested_at=Instant(0),
    state=OperationState.RUNNING,
    dry_run=False,
    scheduled_at=None,
    comment=None,
    idempotency_key=None,
    plan=PLAN,
    reasons=(),
    steps=(),
    problem=None,
    receipt=None,
)
STEPS = (OperationStep(Instant(5), 5, "promoted", "10.0.0.1:6379 is master"),)
RECEIPT = Receipt(
    "01JE",
    "fence",
    NAME,
    OldMaster(OLD, "f" * 40, 10, 10),
    NewMaster(NEW, "f" * 40, 10),
    Fence("client-pause-write", Instant(1), 9, Instant(400)),
    Instant(9),
    ReceiptVerdict.PROVEN,
    "all that the old master had",
    None,
    None,
    3,
    (),
)
DONE = replace(BEGUN, state=OperationState.DONE, steps=STEPS, receipt=RECEIPT)


class FakeConnection:
    """A connection whose commands a function answers."""

    def __init__(self, answer: Callable[[tuple[str | int, ...]], Any]) -> None:
        self._answer = answer

    def __enter__(self) -> FakeConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is to be closed."""

    def use_resp3(self) -> None:
        """Maps are dictionaries in any case."""

    def call(self, *words: str | int) -> Any:
        """Answer a command."""
        found = self._answer(words)
        if isinstance(found, Exception):
            raise found
        return plain(found, unix_instant)


class InsideTests(VerbCase):
    """A group of three txsentinels."""

    def setUp(self) -> None:
        super().setUp()
        found = fleet()
        ours = tuple(
            each if each.identity is None else replace(each, identity=replace(each.identity, kind="txsentinel"))
            for each in found.sentinels
        )
        self.fleet = replace(found, sentinels=ours)
        self.asked: list[tuple[str | int, ...]] = []
        self.answers: dict[str, list[Any]] = {"SWITCHOVER": [BEGUN], "OPERATION": [DONE], "CANCEL": [BEGUN]}
        self.dry = replace(BEGUN, state=OperationState.DONE, dry_run=True)
        made = partial(InsideSwitchover, connect=self.connect, sleep=lambda seconds: None)
        self.patch(switching, "InsideSwitchover", made)

    def connect(self, endpoint: Endpoint, settings: object) -> Any:
        """Connect to a Sentinel."""

        def answer(words: tuple[str | int, ...]) -> Any:
            self.asked.append(words)
            if words[-1] == "DRYRUN":
                return self.dry
            waiting = self.answers[str(words[1])]
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]

        return FakeConnection(answer)

    def test_proven(self) -> None:
        """The plan, the steps and the receipt are shown; no server is connected to."""
        words = ("--method", "fence", "--to", str(NEW), "--comment", "disk", "--max-pause", "1s")
        found = self.run_verb("switchover", NAME, "--yes", *words)
        self.assertEqual(found.status, 0, found.stderr)
        self.assertIn("10.0.0.2:6379 -> 10.0.0.1:6379   method fence (it was named)", found.stdout)
        self.assertIn("     5 ms  10.0.0.1:6379 is master\n", found.stdout)
        self.assertIn("PROVEN, no acknowledged write lost; writes held 9 ms", found.stdout)
        order = ("TXSENTINEL", "SWITCHOVER", NAME, "METHOD", "fence", "MAXPAUSE", 1000, "MAXLAG", 1 << 20)
        wanted = ("TO", "10.0.0.1", 6379, "COMMENT", "disk")
        self.assertEqual(self.asked[:2], [(*order, *wanted, "DRYRUN"), (*order, *wanted)])

    def test_conditions(self) -> None:
        """All conditions that are not met are listed, and nothing is ordered."""
        reasons = (Precondition("no_majority", "1 of 3"), Precondition("lag", "it is behind", "10.0.0.1:6379"))
        self.dry = replace(self.dry, reasons=reasons)
        found = self.run_verb("switchover", NAME, "--yes")
        self.assertEqual(found.status, 5)
        self.assertIn("now\n  no_majority: 1 of 3\n  lag: 10.0.0.1:6379: it is behind\n", found.stderr)
        self.assertEqual(len(self.asked), 1)

    def test_outcomes(self) -> None:
        """Failed is 5, unproven and unknown 4, lost 6; a dry run and no confirmation order nothing."""
        problem = Precondition("max_pause", "writes were held for 401 ms")
        failed = replace(BEGUN, state=OperationState.FAILED, problem=problem)
        lost = replace(DONE, receipt=replace(RECEIPT, verdict=ReceiptVerdict.LOST, lost_bytes=183))
        for answers, status, text in (
            ([failed], 5, "aborted: writes were held for 401 ms"),
            ([lost], 6, "LOST, 183 bytes"),
            ([ConnectionFailed("refused"), DONE], 0, "PROVEN"),
            ([ErrorAnswer("NOSUCHOPERATION no operation")], 4, "the outcome is not known"),
        ):
            self.answers["OPERATION"] = list(answers)
            found = self.run_verb("switchover", NAME, "--yes")
            self.assertEqual(found.status, status, found.stderr)
            self.assertIn(text, found.stdout + found.stderr)
        self.asked.clear()
        self.assertEqual(self.run_verb("switchover", NAME, "--dry-run").status, 0)
        self.assertEqual(self.run_verb("switchover", NAME).status, 64)
        self.assertEqual([words[-1] for words in self.asked], ["DRYRUN", "DRYRUN"])

    def test_planned(self) -> None:
        """The Sentinels keep the order, and the program ends; it can be cancelled by its ID."""
        planned = replace(BEGUN, state=OperationState.SCHEDULED, scheduled_at=Instant(1_800_000_000_000), plan=None)
        self.answers["SWITCHOVER"] = [planned]
        found = self.run_verb("switchover", NAME, "--yes", "--at", "2027-01-15T08:00:00Z")
        self.assertEqual(found.status, 0, found.stderr)
        self.assertEqual([words[-2:] for words in self.asked[1:]], [("AT", 1_800_000_000_000)])
        self.assertIn(f"scheduled for 2027-01-15T08:00:00.000Z as {BEGUN.operation_id}", found.stdout)
        self.assertIn(f"switchover {NAME} --cancel {BEGUN.operation_id}", found.stdout)
        self.answers["CANCEL"] = [replace(planned, state=OperationState.CANCELLED)]
        found = self.run_verb("switchover", NAME, "--cancel", BEGUN.operation_id)
        self.assertEqual((found.status, self.asked[-1]), (0, ("TXSENTINEL", "CANCEL", BEGUN.operation_id)))
        self.assertIn("is cancelled", found.stdout)
        self.answers["CANCEL"] = [ErrorAnswer("TOOLATE the operation has ended: done")]
        self.assertEqual(self.run_verb("switchover", NAME, "--cancel", "x").status, 5)
        self.fleet = fleet()
        self.assertEqual(self.run_verb("switchover", NAME, "--cancel", "x").status, 64)

    def test_refused(self) -> None:
        """An error of the Sentinel is shown."""
        self.answers["SWITCHOVER"] = [ErrorAnswer("INPROG operation 01 of this master has not ended")]
        found = self.run_verb("switchover", NAME, "--yes")
        self.assertEqual(found.status, 5)
        self.assertIn("INPROG operation 01", found.stderr)

    def test_too_few(self) -> None:
        """With C Sentinels as a majority, a method of txsentinels is refused."""
        self.fleet = fleet()
        found = self.run_verb("switchover", NAME, "--yes", "--method", "fence")
        self.assertEqual((found.status, self.asked), (64, []))
        self.assertIn("too few txsentinels for --method fence", found.stderr)
