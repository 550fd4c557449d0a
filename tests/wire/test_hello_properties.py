"""Properties of ``txsentinel.wire.hello`` for any payload; ``tests.fuzz.properties`` describes them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import properties
from tests.fuzz.corpora import HELLOS, piece_sequences
from tests.wire.steps import counting
from txsentinel.wire import hello
from txsentinel.wire.hello import HELLO_CHANNEL, Hello, MalformedHello, whole_messages
from txsentinel.wire.resp import Push, encode


def work(raw: bytes) -> int:
    """Return the steps of parsing ``raw``."""
    with counting(hello) as steps:
        try:
            Hello.parse(raw)
        except MalformedHello:
            pass
        whole_messages(raw)
    return steps.all


class HelloProperties(SynchronousTestCase):
    """Any published payload."""

    @given(piece_sequences(HELLOS))
    def test_any_bytes(self, raw: bytes) -> None:
        """
        Any payload is a hello or a ``MalformedHello`` and nothing else; eight fields are a hello, a hello survives
        being written and read, and bytes that pass for whole messages are those to every other reader.
        """
        properties.hello(raw, ())

    @given(st.lists(piece_sequences(HELLOS), min_size=1, max_size=3))
    def test_whole_messages(self, payloads: list[bytes]) -> None:
        """Whole messages on the channel are recognised whatever they contain; a message that lacks a byte is not."""
        chunk = b"".join(encode(Push(("message", HELLO_CHANNEL, payload))) for payload in payloads)
        self.assertEqual(whole_messages(chunk), payloads)
        for other in (chunk[:-1], chunk[1:], chunk + b"+", b"+" + chunk):
            self.assertIsNone(whole_messages(other))

    @given(piece_sequences(HELLOS, 6), st.booleans())
    @settings(max_examples=60)
    def test_linear(self, unit: bytes, message: bool) -> None:
        """Twice the payload takes at most twice the steps."""
        repeated = max(1, 1_000 // max(len(unit), 1))
        once, twice = unit * repeated, unit * 2 * repeated
        if message:
            once, twice = (encode(Push(("message", HELLO_CHANNEL, payload))) for payload in (once, twice))
        self.assertLessEqual(work(twice), 2.2 * work(once) + 100)
