"""Directives on the command line become the lines that the C servers make of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.cli.overrides import NotAnOption, override_lines, reads_stdin


class OverrideTests(SynchronousTestCase):
    """Words into lines."""

    def test_options_and_values(self) -> None:
        """Each word with two dashes begins a line; what follows it are its values, quoted."""
        self.assertEqual(
            override_lines(["--port", "5000", "--bind", "10.0.0.1", "::1"]), ['port "5000"', 'bind "10.0.0.1" "::1"']
        )

    def test_no_words(self) -> None:
        """Without words there are no lines."""
        self.assertEqual(override_lines([]), [])

    def test_sentinel_directives(self) -> None:
        """``--sentinel`` may stand alone, and may be repeated for one directive after another."""
        self.assertEqual(
            override_lines(["--sentinel", "--sentinel", "monitor", "m", "::1", "6379", "2", "--sentinel"]),
            ["sentinel", 'sentinel "monitor" "m" "::1" "6379" "2"', "sentinel"],
        )

    def test_whole_line_in_one_word(self) -> None:
        """A word with spaces in it is a line already, and does not wait for a value."""
        self.assertEqual(
            override_lines(["--sentinel monitor m ::1 6379 2", "--port", "1"]),
            ["sentinel monitor m ::1 6379 2", 'port "1"'],
        )

    def test_value_that_looks_like_an_option(self) -> None:
        """An option that has no value yet takes the next word whatever it looks like, save for two words."""
        self.assertEqual(override_lines(["--port", "--bind", "x"]), ['port "--bind" "x"'])
        self.assertEqual(override_lines(["--port", "--sentinel"]), ["port", "sentinel"])

    def test_quoting(self) -> None:
        """Values arrive as they were given, whatever characters they are made of."""
        self.assertEqual(override_lines(["--requirepass", 'a "b" \\c\n']), ['requirepass "a \\"b\\" \\\\c\\n"'])

    def test_stdin(self) -> None:
        """A dash at either end asks for standard input, and is no value."""
        self.assertEqual(override_lines(["-", "--port", "1"]), ['port "1"'])
        self.assertEqual(override_lines(["--port", "1", "-"]), ['port "1"'])
        self.assertEqual(override_lines(["-"]), [])
        self.assertTrue(reads_stdin(["-", "--port", "1"]))
        self.assertTrue(reads_stdin(["--port", "1", "-"]))
        self.assertFalse(reads_stdin(["--dir", "-", "--port", "1"]))
        self.assertFalse(reads_stdin([]))

    def test_stray_word(self) -> None:
        """A word that belongs to no option is refused rather than ignored."""
        with self.assertRaises(NotAnOption) as refused:
            override_lines(["port", "5000"])
        self.assertEqual(str(refused.exception), "port")
