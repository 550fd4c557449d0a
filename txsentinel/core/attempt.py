"""An attempt to fail over a master: how it was ordered, the epoch, the votes and the deadlines."""

from __future__ import annotations

from dataclasses import dataclass, field

from txsentinel.core.failover_state import FailoverState
from txsentinel.core.switchover_state import Operation
from txsentinel.model.operations import SwitchoverMethod
from txsentinel.model.timings import Millis


@dataclass(slots=True, eq=False)
class Attempt:
    """What is known of a failover without its servers."""

    epoch: int
    started_at: Millis
    """The start, plus up to a second at random so that the attempts of several candidates time out apart."""

    entered_at: Millis
    state: FailoverState = FailoverState.WAIT_START
    forced: bool = False
    """Ordered by ``SENTINEL FAILOVER``: it proceeds without a majority if it gets none in time."""

    coordinated: bool = False
    """Ordered by ``SENTINEL FAILOVER … COORDINATED``: the elected leader has the old master hand over its role."""

    handover_ordered: bool = False
    vote_generation: int | None = None
    """The generation of our vote for ourselves; ``None`` before that vote."""

    candidacies: int = 1
    """Number of epochs in which this failover campaigned."""

    campaign_again_at: Millis | None = None
    """When to campaign in a new epoch, as the current one is lost; ``None`` if it is not."""

    answers: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Peer → ``(leader, epoch)`` of its reply to our vote request in the current epoch."""

    republish: bool = False
    """Whether this is no failover but an election that gives the current address a new config epoch."""

    proceed_unelected_at: Millis | None = None
    """When a forced failover stops waiting for votes."""

    promotion_sent_at: Millis | None = None
    attempt_before: Millis | None = None
    """``Master.attempt_started_at`` before this attempt; it is restored if the attempt turns out to be void."""

    operation: Operation | None = None
    """The switchover that it executes; ``None`` for other failovers."""

    @property
    def planned(self) -> bool:
        """Whether it replaces a master that is up, without losing a write, and needs a majority for it."""
        return self.coordinated or self.operation is not None

    @property
    def ordered(self) -> bool:
        """Whether an operator ordered it."""
        return self.forced or self.planned

    @property
    def fences(self) -> bool:
        """Whether this Sentinel holds the writes of the old master itself."""
        plan = None if self.operation is None else self.operation.plan
        return plan is not None and plan.method is not SwitchoverMethod.HANDOVER

    @property
    def rejects(self) -> bool:
        """Whether it does so by rejecting them."""
        plan = None if self.operation is None else self.operation.plan
        return plan is not None and plan.method is SwitchoverMethod.REJECT

    @property
    def automatic(self) -> bool:
        """Whether this Sentinel began it by itself, because the master is down."""
        return not (self.forced or self.planned or self.republish)
