"""The states of a failover with the permitted transitions, and the progress of each replica in it."""

from __future__ import annotations

from enum import Enum
from typing import Final


class FailoverState(Enum):
    """The state of a failover; the value is the word in ``failover-state``."""

    NONE = "none"
    WAIT_START = "wait_start"
    SELECT_REPLICA = "select_slave"
    SEND_SLAVEOF_NOONE = "send_slaveof_noone"
    WAIT_PROMOTION = "wait_promotion"
    RECONF_REPLICAS = "reconf_slaves"
    UPDATE_CONFIG = "update_config"


class SyncStep(Enum):
    """The progress of a replica in following the new master; the value is the word in ``flags``."""

    NOT_ASKED = ""
    SENT = "reconf_sent"
    IN_PROGRESS = "reconf_inprog"
    DONE = "reconf_done"


FOLLOWS: Final = {
    FailoverState.WAIT_START: {FailoverState.SELECT_REPLICA},
    FailoverState.SELECT_REPLICA: {FailoverState.SEND_SLAVEOF_NOONE},
    FailoverState.SEND_SLAVEOF_NOONE: {FailoverState.WAIT_PROMOTION, FailoverState.SELECT_REPLICA},
    FailoverState.WAIT_PROMOTION: {FailoverState.RECONF_REPLICAS, FailoverState.SELECT_REPLICA},
    FailoverState.RECONF_REPLICAS: {FailoverState.UPDATE_CONFIG},
    FailoverState.UPDATE_CONFIG: set(),
}
"""
State → the states that may follow. A failover can be aborted until the promotion was seen.

Selection is repeated if the selected replica turns out to be unfit, or refuses to be promoted.
"""

PROMOTION_NOT_ORDERED: Final = frozenset(
    {FailoverState.WAIT_START, FailoverState.SELECT_REPLICA, FailoverState.SEND_SLAVEOF_NOONE}
)
"""The states in which no order has been sent to a server yet."""

PROMOTION_SEEN: Final = frozenset({FailoverState.RECONF_REPLICAS, FailoverState.UPDATE_CONFIG})
"""The states of a failover in which the promoted replica has reported to be a master."""
