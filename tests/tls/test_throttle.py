"""Tests of many simultaneous handshakes."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.installation import client_context
from tests.tls.memory import BufferedTransport, TlsPeer, exchange
from tests.tls.test_serving import ServingCase
from txsentinel.tls.throttle import HANDSHAKE_SECONDS_PER_TURN, RECOVERY, HandshakeThrottle


class HandshakeThrottleTests(SynchronousTestCase):
    """Tests with steps of a known duration."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.throttle = HandshakeThrottle(self.clock)
        self.taken: list[int] = []

    def request_step(self, number: int, seconds: float = HANDSHAKE_SECONDS_PER_TURN / 3.9) -> None:
        """Request a step of that duration."""

        def step() -> None:
            self.clock.rightNow += seconds
            self.taken.append(number)

        if self.throttle.try_acquire():
            self.throttle.execute(step)
        else:
            self.throttle.queue(step)

    def test_few(self) -> None:
        """No step waits within the limit."""
        for number in range(4):
            self.request_step(number)
        self.assertEqual((self.taken, self.clock.getDelayedCalls()), ([0, 1, 2, 3], []))

    def test_many(self) -> None:
        """The others execute their turns, in order, a limited time per turn, with other calls in between."""
        for number in range(13):
            self.request_step(number)
        turns = [len(self.taken)]
        while self.clock.calls:  # which the clock itself would do at once
            call = self.clock.calls.pop(0)
            call.func(*call.args)
            turns.append(len(self.taken))
        self.assertEqual((self.taken, turns), (list(range(13)), [4, 8, 12, 13]))

    def test_late(self) -> None:
        """A step that is requested while others wait is queued after them."""
        for number in range(6):
            self.request_step(number)
        self.clock.rightNow += 10 * RECOVERY
        self.request_step(6)
        self.assertEqual(self.taken, [0, 1, 2, 3])
        self.clock.advance(0)
        self.assertEqual(self.taken, [0, 1, 2, 3, 4, 5, 6])

    def test_later(self) -> None:
        """The spent time is reset soon."""
        for number in range(4):
            self.request_step(number)
        self.clock.advance(2 * RECOVERY)
        self.request_step(4)
        self.assertEqual(self.taken, [0, 1, 2, 3, 4])

    def test_exceptions(self) -> None:
        """An exception in a step does not affect the others."""

        def broken() -> None:
            raise ZeroDivisionError

        self.request_step(0, 2 * HANDSHAKE_SECONDS_PER_TURN)
        self.throttle.queue(broken)
        self.request_step(1)
        self.assertRaises(ZeroDivisionError, self.clock.advance, 0)
        self.clock.advance(0)
        self.assertEqual(self.taken, [0, 1])


class WaitingClientTests(ServingCase):
    """Tests with clients whose handshakes wait."""

    def waiting_client(self) -> tuple[BufferedTransport, TlsPeer]:
        """Connect a client, and send its first bytes, when the limit of this turn is reached."""
        self.harness.host.reactor.advance(2 * RECOVERY)
        early = self.accept()
        reactor = self.harness.host.reactor
        tls = early.protocol
        # The throttle is shared by all handshakes and known to them only.
        self.assertTrue(tls._throttle.try_acquire())
        tls._throttle.execute(lambda: setattr(reactor, "rightNow", reactor.rightNow + 2 * HANDSHAKE_SECONDS_PER_TURN))
        line, far = self.accept(), TlsPeer(client_context(self.authority, self.client))
        line.protocol.dataReceived(far.next_output())
        self.assertEqual((line.producerState, line.take_output()), ("paused", b""))
        return line, far

    def test_waiting(self) -> None:
        """It is read no further while it waits, and is served later."""
        line, far = self.waiting_client()
        self.harness.host.reactor.advance(0)
        self.assertEqual(line.producerState, "producing")
        exchange(line, far)
        self.assertEqual(self.ask(line, far, "PING"), b"+PONG\r\n")

    def test_leaving(self) -> None:
        """A client that disconnects while it waits is not processed."""
        line, _ = self.waiting_client()
        line.end()
        self.harness.host.reactor.advance(0)
        self.assertEqual(line.producerState, "paused")
        self.assertFalse(line.take_output().startswith(b"\x16"), "it was greeted")
