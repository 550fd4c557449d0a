"""Tests of the conversion of directives on the command line to configuration lines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.cli.overrides import NotAnOption, override_lines, reads_stdin


class OverrideTests(SynchronousTestCase):
    """Tests of ``override_lines``."""

    def test_options_and_values(self) -> None:
        """Each word with two dashes begins a line; the words after it are its values, quoted."""
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
        """A word with spaces is a whole line, and takes no value."""
        self.assertEqual(
            override_lines(["--sentinel monitor m ::1 6379 2", "--port", "1"]),
            ["sentinel monitor m ::1 6379 2", 'port "1"'],
        )

    def test_value_that_looks_like_an_option(self) -> None:
        """An option without a value takes the next word, even with dashes, except for two words."""
        self.assertEqual(override_lines(["--port", "--bind", "x"]), ['port "--bind" "x"'])
        self.assertEqual(override_lines(["--port", "--sentinel"]), ["port", "sentinel"])

    def test_quoting(self) -> None:
        """Values are kept unchanged, whatever characters they contain."""
        self.assertEqual(override_lines(["--requirepass", 'a "b" \\c\n']), ['requirepass "a \\"b\\" \\\\c\\n"'])

    def test_stdin(self) -> None:
        """A dash at either end requests standard input, and is no value."""
        self.assertEqual(override_lines(["-", "--port", "1"]), ['port "1"'])
        self.assertEqual(override_lines(["--port", "1", "-"]), ['port "1"'])
        self.assertEqual(override_lines(["-"]), [])
        self.assertTrue(reads_stdin(["-", "--port", "1"]))
        self.assertTrue(reads_stdin(["--port", "1", "-"]))
        self.assertFalse(reads_stdin(["--dir", "-", "--port", "1"]))
        self.assertFalse(reads_stdin([]))

    def test_stray_word(self) -> None:
        """A word without an option is refused."""
        with self.assertRaises(NotAnOption) as refused:
            override_lines(["port", "5000"])
        self.assertEqual(str(refused.exception), "port")
