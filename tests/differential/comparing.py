"""Differences between two results of a case, without the accepted ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from tests.differential.conversation import Outcomes
from tests.differential.deliberate import DELIBERATE, AcceptedDifference


@dataclass
class Comparison:
    """The result of the comparison with one server."""

    server: str
    cases: int = 0
    unexplained: list[str] = field(default_factory=list)
    used: Counter[AcceptedDifference] = field(default_factory=Counter)

    def compare_all(self, theirs: Outcomes, ours: Outcomes) -> Comparison:
        """Compare all cases; both sides have the same ones."""
        for case, lines in theirs.items():
            self.compare(case, lines, ours[case])
        return self

    def report(self) -> str:
        """Return the differences without a reason."""
        text = "\n".join(self.unexplained)
        return f"{len(self.unexplained)} differences without a reason\n" + text.encode(errors="replace").decode()

    def compare(self, case: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
        """Compare one case."""
        self.cases += 1
        for left, right in hunks(theirs, ours):
            if not self._explained(case, left, right):
                self.unexplained.append(self._shown(case, left, right))

    def _explained(self, case: str, theirs: Sequence[str], ours: Sequence[str]) -> bool:
        """Whether one reason explains the whole, or one each line of it, alone or with one of the other side."""
        whole = self._reason(case, theirs, ours)
        if whole is not None:
            self.used[whole] += 1
            return True
        reasons: list[AcceptedDifference | None] = []
        left = list(ours)
        for line in theirs:
            reason = None
            for partner in ((), *((each,) for each in left)):
                reason = self._reason(case, (line,), partner)
                if reason is not None:
                    left = [each for each in left if each not in partner]
                    break
            reasons.append(reason)
        reasons += [self._reason(case, (), (line,)) for line in left]
        if None in reasons:
            return False
        self.used.update(reason for reason in reasons if reason is not None)
        return True

    def _reason(self, case: str, theirs: Sequence[str], ours: Sequence[str]) -> AcceptedDifference | None:
        left, right = "\n".join(theirs), "\n".join(ours)
        return next((each for each in DELIBERATE if each.explains(self.server, case, left, right)), None)

    def _shown(self, case: str, theirs: Sequence[str], ours: Sequence[str]) -> str:
        lines = [f"{case}"]
        lines += [f"    {self.server:>6}: {line}" for line in theirs]
        lines += [f"      ours: {line}" for line in ours]
        return "\n".join(lines)


def hunks(theirs: Sequence[str], ours: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Return the parts in which two lists of lines differ."""
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    for tag, left, left_end, right, right_end in matcher.get_opcodes():
        if tag != "equal":
            yield list(theirs[left:left_end]), list(ours[right:right_end])
