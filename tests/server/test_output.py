"""Tests of a connection's output."""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.server.output import Output


class EndTests(SynchronousTestCase):
    """How a connection ends."""

    def setUp(self) -> None:
        self.transport = StringTransport()
        self.aborts = 0
        self.transport.abortConnection = self.abort  # type: ignore[method-assign]
        self.output = Output(self.transport, lambda: None)
        self.output.start()

    def abort(self) -> None:
        """Count the abort."""
        self.aborts += 1

    def test_abort_while_closing(self) -> None:
        """A reader that accepts nothing more cannot keep a closing connection open."""
        self.output.write(b"+OK\r\n")
        self.output.close()
        self.assertEqual((self.transport.disconnecting, self.transport.producer, self.aborts), (True, None, 0))
        self.output.abort()
        self.output.abort()
        self.assertEqual(self.aborts, 1)

    def test_abort(self) -> None:
        """An open connection is aborted too; its pending output is dropped."""
        self.output.pauseProducing()
        self.output.write(b"x" * 100)
        self.output.abort()
        self.assertEqual((self.aborts, self.output.unsent, self.transport.producer), (1, 0, None))

    def test_lost_connection(self) -> None:
        """A connection that is already lost is not aborted."""
        self.output.discard()
        self.output.abort()
        self.output.close()
        self.assertEqual((self.aborts, self.transport.disconnecting), (0, False))
