"""Properties of ``txsentinel.wire.hello``, for any payload: see ``tests.fuzz.properties`` for what they say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import properties
from tests.fuzz.soups import HELLOS, soup
from tests.wire.steps import counting
from txsentinel.wire import hello
from txsentinel.wire.hello import HELLO_CHANNEL, Hello, MalformedHello, sole_message
from txsentinel.wire.resp import Push, encode


def work(raw: bytes) -> int:
    """Steps that it takes to read ``raw``."""
    with counting(hello) as steps:
        try:
            Hello.parse(raw)
        except MalformedHello:
            pass
        sole_message(raw)
    return steps.all


class HelloProperties(SynchronousTestCase):
    """Whatever somebody publishes."""

    @given(soup(HELLOS))
    def test_any_bytes(self, raw: bytes) -> None:
        """
        Any payload is a hello or a ``MalformedHello`` and nothing else; eight fields are a hello, a hello survives
        being written and read, and bytes that pass for a sole message are one to every other reader.
        """
        properties.hello(raw, ())

    @given(soup(HELLOS))
    def test_sole_messages(self, payload: bytes) -> None:
        """A message on the channel is told from its bytes alone, whatever it holds; a byte less and it is not."""
        chunk = encode(Push(("message", HELLO_CHANNEL, payload)))
        self.assertEqual(sole_message(chunk), payload)
        for other in (chunk[:-1], chunk[1:], chunk + b"+", chunk + chunk):
            self.assertIsNone(sole_message(other))

    @given(soup(HELLOS, 6), st.booleans())
    @settings(max_examples=60)
    def test_linear(self, unit: bytes, message: bool) -> None:
        """Twice the payload costs no more than twice the steps."""
        repeated = max(1, 1_000 // max(len(unit), 1))
        once, twice = unit * repeated, unit * 2 * repeated
        if message:
            once, twice = (encode(Push(("message", HELLO_CHANNEL, payload))) for payload in (once, twice))
        self.assertLessEqual(work(twice), 2.2 * work(once) + 100)
