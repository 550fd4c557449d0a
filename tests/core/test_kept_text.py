"""Texts of INFO in less memory."""

from __future__ import annotations

from random import Random
from string import ascii_lowercase

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.core.kept_text import MAX_DICTIONARY, MAX_UNLIKE, MIN_LENGTH, KeptText, TextKeeper


def names(seed: int) -> list[str]:
    """Return names of fields, which resemble each other as little as those of INFO."""
    rng = Random(seed)
    return ["".join(rng.choices(ascii_lowercase, k=20)) for _ in range(150)]


def report(rng: Random, seed: int = 0) -> bytes:
    """Return a text with many fields, of which every fifth differs from that of other servers."""
    lines = (f"{name}:{n if n % 5 else rng.getrandbits(40)}\r\n" for n, name in enumerate(names(seed)))
    return "".join(lines).encode()


class KeptTextTests(SynchronousTestCase):
    """Compression with a text of another server as the dictionary."""

    def setUp(self) -> None:
        """Set up a keeper and a source of texts."""
        self.keeper = TextKeeper()
        self.rng = Random(1)

    def test_similar(self) -> None:
        """Texts of one kind take less than a fifth of their length, and are restored exactly."""
        texts = [report(self.rng) for _ in range(50)]
        kept = [self.keeper.keep(text) for text in texts]
        self.assertEqual([each.text() for each in kept], texts)
        self.assertLess(sum(map(len, kept)), sum(map(len, texts)) / 5)

    def test_short(self) -> None:
        """A short text is kept as it is, and is no dictionary."""
        text = b"x" * (MIN_LENGTH - 1)
        self.assertEqual(len(self.keeper.keep(text)), len(text))
        self.assertEqual(self.keeper.keep(text).text(), text)

    def test_empty(self) -> None:
        """An empty text is one."""
        self.assertEqual(self.keeper.keep(b"").text(), b"")
        self.assertEqual(KeptText(b"").text(), b"")

    def test_random(self) -> None:
        """What cannot be compressed is kept as it is."""
        for length in (MIN_LENGTH, MAX_DICTIONARY, 10 * MAX_DICTIONARY):
            text = self.rng.randbytes(length)
            kept = self.keeper.keep(text)
            self.assertEqual(kept.text(), text)
            self.assertLessEqual(len(kept), length)

    def test_long(self) -> None:
        """Texts longer than the dictionary are restored exactly."""
        texts = [b"".join(report(self.rng) for _ in range(20)) for _ in range(3)]
        self.assertEqual([self.keeper.keep(text).text() for text in texts], texts)

    def test_another_kind(self) -> None:
        """After some texts that are unlike the dictionary, one of them replaces it; what was kept before stays."""
        first = report(self.rng)
        kept = self.keeper.keep(first)
        others = [report(self.rng, 1) for _ in range(2 * MAX_UNLIKE)]
        lengths = [len(self.keeper.keep(text)) for text in others]
        self.assertLess(lengths[-1], lengths[0] / 2)
        self.assertEqual(kept.text(), first)
        self.assertEqual(self.keeper.keep(others[0]).text(), others[0])
