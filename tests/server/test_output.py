"""The way out of a connection, apart from what goes it."""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.server.output import Output


class EndTests(SynchronousTestCase):
    """How a connection ends, once and for all."""

    def setUp(self) -> None:
        self.transport = StringTransport()
        self.aborts = 0
        self.transport.abortConnection = self.abort  # type: ignore[method-assign]
        self.output = Output(self.transport, lambda: None)
        self.output.start()

    def abort(self) -> None:
        """Count it."""
        self.aborts += 1

    def test_abort_while_closing(self) -> None:
        """A reader that takes nothing more cannot keep a connection that is closing already."""
        self.output.write(b"+OK\r\n")
        self.output.close()
        self.assertEqual((self.transport.disconnecting, self.transport.producer, self.aborts), (True, None, 0))
        self.output.abort()
        self.output.abort()
        self.assertEqual(self.aborts, 1)

    def test_abort(self) -> None:
        """An open one is aborted too; what waited is dropped."""
        self.output.pauseProducing()
        self.output.write(b"x" * 100)
        self.output.abort()
        self.assertEqual((self.aborts, self.output.unsent, self.transport.producer), (1, 0, None))

    def test_too_late(self) -> None:
        """A connection that is gone is left alone."""
        self.output.forget()
        self.output.abort()
        self.output.close()
        self.assertEqual((self.aborts, self.transport.disconnecting), (0, False))
