"""Tests of ``txsentinel.wire.hello``."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsentinel.wire.hello import HELLO_CHANNEL, Hello, MalformedHello
from txsentinel.wire.resp import text

SENTINEL_ID = "0123456789abcdef0123456789abcdef01234567"
PAYLOAD = f"127.0.0.1,26380,{SENTINEL_ID},3,mymaster,127.0.0.2,6380,2".encode()

field_texts = st.binary(max_size=20).map(lambda raw: text(raw.replace(b",", b"")))
epochs = st.integers(0, (1 << 64) - 1)
hellos = st.builds(
    Hello,
    field_texts,
    st.integers(0, 65535),
    field_texts,
    epochs,
    field_texts,
    field_texts,
    st.integers(0, 65535),
    epochs,
)


class HelloTests(SynchronousTestCase):
    """Hellos are parsed leniently and written strictly."""

    def test_channel(self) -> None:
        """The channel is the one to which every Sentinel subscribes."""
        self.assertEqual(HELLO_CHANNEL, b"__sentinel__:hello")

    def test_parse(self) -> None:
        """A hello has eight fields in order."""
        self.assertEqual(
            Hello.parse(PAYLOAD), Hello("127.0.0.1", 26380, SENTINEL_ID, 3, "mymaster", "127.0.0.2", 6380, 2)
        )

    def test_encode(self) -> None:
        """A parsed hello is encoded to the same bytes."""
        self.assertEqual(Hello.parse(PAYLOAD).encode(), PAYLOAD)

    @given(hellos)
    def test_round_trip(self, hello: Hello) -> None:
        """Any names survive encoding and parsing."""
        self.assertEqual(Hello.parse(hello.encode()), hello)

    def test_number_of_fields(self) -> None:
        """Anything but eight fields is not a hello."""
        for payload in (b"", b",", PAYLOAD.rpartition(b",")[0], PAYLOAD + b",", PAYLOAD + b",9" * 100_000):
            with self.assertRaises(MalformedHello):
                Hello.parse(payload)

    def test_empty_fields_count(self) -> None:
        """Seven commas make eight fields, even if these are empty."""
        self.assertEqual(Hello.parse(b",,,,,,,"), Hello("", 0, "", 0, "", "", 0, 0))

    def test_lenient_numbers(self) -> None:
        """A number ends at its last digit, and no digits are zero."""
        hello = Hello.parse(b"h,42000abc,id,7x,m,h,zz, 8")
        self.assertEqual(
            (hello.sentinel_port, hello.current_epoch, hello.master_port, hello.master_config_epoch), (42000, 7, 0, 8)
        )

    def test_absurd_numbers(self) -> None:
        """Ports out of range are kept; epochs saturate or wrap within 64 bits."""
        hello = Hello.parse(b"h,-1,id,-1,m,h,99999999999999999999999,99999999999999999999999")
        self.assertEqual((hello.sentinel_port, hello.current_epoch), (-1, (1 << 64) - 1))
        self.assertEqual((hello.master_port > 65535, hello.master_config_epoch), (True, (1 << 64) - 1))

    def test_any_identity(self) -> None:
        """A Sentinel ID is any text, valid UTF-8 or not."""
        self.assertEqual(Hello.parse(b"h,1,\xff id,1,m,h,1,1").sentinel_id, "\udcff id")

    @given(st.binary() | st.binary().map(lambda raw: b",".join([raw] * 8)))
    def test_only_its_own_error(self, payload: bytes) -> None:
        """No payload raises anything but MalformedHello."""
        try:
            Hello.parse(payload)
        except MalformedHello:
            pass
