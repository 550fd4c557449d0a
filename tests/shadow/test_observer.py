"""The observer sends nothing that changes another process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast, get_args

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core import effects
from txsentinel.core.effects import AskMasterDown
from txsentinel.model.snapshots import Endpoint
from txsentinel.shadow.observer import FIRST_ID, READS, FleetLogin, ObservedMaster, configuration_text, is_read

DROPPED = {
    "AbortHandOver",
    "AcceptWrites",
    "CheckRights",
    "Crash",
    "DemoteHeld",
    "FinishHandOver",
    "HandOver",
    "HoldWrites",
    "KillScript",
    "PauseClients",
    "PauseWrites",
    "PublishHello",
    "ReadWriteLimits",
    "Reconfigure",
    "RejectWrites",
    "ResumeWrites",
    "RunScript",
    "SendCommand",
}
"""Effects that change something outside."""


class ObserverTests(SynchronousTestCase):
    """What it may do, and its configuration."""

    def test_every_effect_is_classified(self) -> None:
        """Each effect is a read, an order, or the question that may be both."""
        every = {kind.__name__ for kind in get_args(effects.Effect)}
        self.assertEqual(every, DROPPED | {kind.__name__ for kind in READS} | {"AskMasterDown"})

    def test_no_votes(self) -> None:
        """The question whether a master is down is sent; the request for a vote is not."""
        question = AskMasterDown(cast(Any, None), cast(Any, None), "10.0.0.1", 6379, 7, "*")
        self.assertTrue(is_read(question))
        self.assertFalse(is_read(replace(question, candidate=FIRST_ID)))

    def test_configuration(self) -> None:
        """It has the settings of the fleet, no port, and no password."""
        master = ObservedMaster(
            "a b",
            Endpoint("10.0.0.1", 6379),
            2,
            {"down-after-milliseconds": "900"},
            {"crash-failover": "on"},
            [Endpoint("10.0.0.2", 6379)],
            [(Endpoint("10.0.1.1", 26379), "a" * 40)],
        )
        text = configuration_text(
            [master], FleetLogin("user", "hunter2", None, "hunter3"), "/tmp/x", ["tls-replication yes"]
        )
        self.assertNotIn("hunter", text)
        for line in (
            "port 0",
            'sentinel monitor "a b" 10.0.0.1 6379 2',
            'sentinel down-after-milliseconds "a b" 900',
            '#: txsentinel crash-failover "a b" on',
            'sentinel auth-user "a b" user',
            '#: txsentinel secret auth-pass "a b" env:SERVER_PASSWORD',
            "#: txsentinel secret sentinel-pass env:SENTINEL_PASSWORD",
            f'sentinel known-sentinel "a b" 10.0.1.1 26379 {"a" * 40}',
            'sentinel known-replica "a b" 10.0.0.2 6379',
            "tls-replication yes",
        ):
            self.assertIn(line, text.splitlines())
