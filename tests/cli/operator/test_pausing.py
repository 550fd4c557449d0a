"""``txsentinel pause`` over Sentinels in memory."""

from __future__ import annotations

from functools import partial
from threading import Event
from typing import cast

from twisted.internet.task import Clock

from tests.cli.operator.runner import VerbCase
from tests.remote.samples import NAME, SENTINELS, fleet, sentinel, unreachable
from tests.remote.test_vote_lease import FakeVoter
from txsentinel.cli.operator import pausing
from txsentinel.model.snapshots import Endpoint
from txsentinel.remote.agreement import agreement_on
from txsentinel.remote.connection import ConnectionSettings, RemoteConnection
from txsentinel.remote.vote_lease import VoteLease


class FakeEvent:
    """An event that nobody sets; waiting for it advances ``clock`` and takes no time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def is_set(self) -> bool:
        """Return False."""
        return False

    def wait(self, seconds: float) -> bool:
        """Wait until the timeout."""
        self._clock.advance(seconds)
        return False


class PauseTests(VerbCase):
    """What is printed, and the statuses; the time passes only while the verb waits."""

    def setUp(self) -> None:
        super().setUp()
        self.fleet = fleet(*(sentinel(each, failover_timeout="20") for each in SENTINELS))
        self.voters = {Endpoint(host, 26379): FakeVoter() for host in SENTINELS}
        clock = Clock()
        self.patch(pausing, "VoteLease", partial(VoteLease, connect=self.connect, monotonic=clock.seconds))
        self.patch(pausing, "monotonic", clock.seconds)
        self.patch(pausing, "Event", lambda: FakeEvent(clock))

    def connect(self, endpoint: Endpoint, settings: ConnectionSettings) -> RemoteConnection:
        """Connect to a voter."""
        return cast(RemoteConnection, self.voters[endpoint])

    def test_guaranteed(self) -> None:
        """The votes are renewed until the end; names are escaped."""
        found = self.run_verb("pause", NAME, "--for", "50ms", "--reason", "x\x1b")
        lines = found.stdout.splitlines()
        self.assertIn(r": x\x1b", lines[0])
        self.assertIn("GUARANTEED: 3 C Sentinels held until", lines[1])
        self.assertIn("C Sentinels may start a failover from", lines[-1])
        # The failover-timeout is 20 ms: after 0, 20 and 40 ms.
        self.assertEqual(self.voters[Endpoint(SENTINELS[0], 26379)].requests, 3)
        self.assertEqual(found.status, 0)

    def test_not_guaranteed(self) -> None:
        """With two that do not answer nothing is done, unless best effort suffices; the status is 7 in both cases."""
        self.fleet = fleet(
            unreachable(SENTINELS[0]), *(sentinel(each, failover_timeout="20") for each in SENTINELS[1:])
        )
        words = ("pause", NAME, "--for", "10ms", "--reason", "x")
        found = self.run_verb(*words)
        self.assertEqual((found.status, found.stdout), (7, ""))
        self.assertIn("not held: 10.0.0.11:26379", found.stderr)
        found = self.run_verb(*words, "--best-effort")
        self.assertEqual(found.status, 7)
        self.assertIn("NOT GUARANTEED: 2 C Sentinels held", found.stdout)

    def test_running_failover(self) -> None:
        """A failover that runs cannot be stopped."""
        self.fleet = fleet(*(sentinel(each, flags="master,failover_in_progress") for each in SENTINELS))
        found = self.run_verb("pause", NAME, "--for", "1s", "--reason", "x")
        self.assertEqual(found.status, 7)
        self.assertIn("has a failover in progress", found.stderr)

    def test_limits(self) -> None:
        """It must end, and have a reason."""
        self.assertEqual(self.run_verb("pause", NAME, "--for", "25h", "--reason", "x").status, 64)
        self.assertEqual(self.run_verb("pause", NAME, "--for", "1h").status, 64)

    def test_ended_early(self) -> None:
        """An interrupt ends it at once."""
        ended = Event()
        ended.set()
        lease = VoteLease(agreement_on(self.fleet, NAME), ConnectionSettings())
        self.assertEqual(pausing.hold(lease, NAME, 3600, "x", ended), 0)
