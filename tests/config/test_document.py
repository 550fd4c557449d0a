"""The document keeps comments and other contents of the file."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.config.directives import TAIL, classify, master_line, owner_of
from txsentinel.config.document import MARKER, ConfigDocument, Line, Owner

M1, M2 = owner_of("one"), owner_of("two")


def monitor(name: str, port: int = 1) -> Line:
    """Return a monitor line."""
    return master_line("monitor", name, "10.0.0.1", str(port), "2")


def replica(name: str, port: int) -> Line:
    """Return a known-replica line."""
    return master_line("known-replica", name, "10.0.0.1", str(port), subject=f"10.0.0.1 {port}")


class DocumentTests(SynchronousTestCase):
    """New lines replace the old ones of their owner; no other line moves."""

    def document(self, *lines: str) -> ConfigDocument:
        """Return a document with these lines."""
        return ConfigDocument("".join(f"{line}\n" for line in lines).encode(), classify)

    def lines(self, document: ConfigDocument) -> list[str]:
        """Return the document as it is written."""
        return document.render().decode().split("\n")[:-1]

    def test_untouched(self) -> None:
        """Lines without an owner are kept byte for byte."""
        text = b"# hi\r\n\n\n  port 1\nsentinel  monitor one 1.1.1.1 1 1\nfoo \xff\n\nsentinel\n"
        self.assertEqual(ConfigDocument(text, classify).render(), text)

    def test_missing_line_end(self) -> None:
        """A last line without a line end gets one."""
        self.assertEqual(ConfigDocument(b"port 1", classify).render(), b"port 1\n")

    def test_in_place(self) -> None:
        """A changed line stays below its comment."""
        document = self.document("# first", "sentinel monitor one 1.1.1.1 1 1", "# second", "port 1")
        document.put(M1, [monitor("one")])
        self.assertEqual(self.lines(document), ["# first", "sentinel monitor one 10.0.0.1 1 2", "# second", "port 1"])

    def test_masters_keep_their_lines(self) -> None:
        """The lines of one master never take the place of another's, whichever is put first."""
        document = self.document("# one", "sentinel monitor one a 1 1", "# two", "sentinel monitor two a 1 1")
        document.put(M2, [monitor("two")])
        document.put(M1, [monitor("one")])
        self.assertEqual(
            self.lines(document),
            ["# one", "sentinel monitor one 10.0.0.1 1 2", "# two", "sentinel monitor two 10.0.0.1 1 2"],
        )

    def test_same_subject_same_place(self) -> None:
        """Replicas keep their lines when another one is added or removed."""
        document = self.document(
            "sentinel known-replica one 10.0.0.1 1",
            "# spare",
            "sentinel known-slave one 10.0.0.1 2",
        )
        document.put(M1, [replica("one", 3), replica("one", 2)])
        self.assertEqual(
            self.lines(document),
            ["sentinel known-replica one 10.0.0.1 3", "# spare", "sentinel known-replica one 10.0.0.1 2"],
        )

    def test_appended_below_the_marker(self) -> None:
        """New lines are appended below the marker, which is written once, after an empty line."""
        document = self.document("port 1")
        document.put(M1, [monitor("one")])
        document.put(TAIL, [Line("current-epoch", "", "sentinel current-epoch 0")])
        document.put(M1, [monitor("one"), replica("one", 1), replica("one", 2)])
        expected = [
            "port 1",
            "",
            MARKER,
            "sentinel monitor one 10.0.0.1 1 2",
            "sentinel known-replica one 10.0.0.1 1",
            "sentinel known-replica one 10.0.0.1 2",
            "sentinel current-epoch 0",
        ]
        self.assertEqual(self.lines(document), expected)
        again = self.document(*expected)
        again.put(M1, [monitor("one"), replica("one", 1), replica("one", 2), replica("one", 3)])
        self.assertEqual(self.lines(again), [*expected[:-1], "sentinel known-replica one 10.0.0.1 3", expected[-1]])

    def test_upper_part_is_left_alone(self) -> None:
        """New lines are never added above the marker."""
        document = self.document("sentinel monitor one a 1 1", "port 1")
        document.put(M1, [monitor("one"), replica("one", 1)])
        self.assertEqual(
            self.lines(document),
            [
                "sentinel monitor one 10.0.0.1 1 2",
                "port 1",
                "",
                MARKER,
                "sentinel known-replica one 10.0.0.1 1",
            ],
        )

    def test_lines_without_successor(self) -> None:
        """Lines without a successor are removed, and so is one of two empty lines around them."""
        document = self.document("port 1", "", "sentinel monitor one a 1 1", "", "# end")
        document.put(M1, [])
        self.assertEqual(self.lines(document), ["port 1", "", "# end"])
        document.put(M1, [monitor("one")])
        self.assertEqual(
            self.lines(document), ["port 1", "", "sentinel monitor one 10.0.0.1 1 2", "", "# end"], "the place is free"
        )
        document.drop(M1)
        self.assertEqual(self.lines(document), ["port 1", "", "# end"])
        self.assertEqual(document.owners("master"), [])

    def test_duplicates(self) -> None:
        """Of lines with the same subject one remains."""
        document = self.document("sentinel known-slave one 10.0.0.1 1", "sentinel known-replica one 10.0.0.1 1")
        document.put(M1, [replica("one", 1)])
        self.assertEqual(self.lines(document), ["sentinel known-replica one 10.0.0.1 1"])

    def test_unparsable(self) -> None:
        """A line that cannot be split is commented out, once."""
        document = self.document('foo "bar')
        self.assertEqual(self.lines(document), ['# ??? foo "bar'])
        self.assertEqual(self.lines(self.document('# ??? foo "bar')), ['# ??? foo "bar'])

    def test_generic(self) -> None:
        """Generic directives can have an owner, too, users by name."""
        document = self.document("loglevel debug", "# Al", "user al on", "# Bo", "user bo on", "include x")
        document.put(Owner("generic", "loglevel"), [Line("loglevel", "", "loglevel notice")])
        document.put(Owner("generic", "user"), [Line("user", "bo", "user bo off")])
        self.assertEqual(self.lines(document), ["loglevel notice", "# Al", "# Bo", "user bo off", "include x"])

    def test_only_the_owner_is_formatted(self) -> None:
        """Putting the lines of one master leaves the bytes of all others unchanged."""
        document = self.document(*[f"sentinel monitor m{number} a 1 1" for number in range(100)])
        document.render()
        # Whether bytes were formatted anew does not show in them.
        before = [run.contents for run in document._runs]
        document.put(owner_of("m7"), [monitor("m7")])
        document.render()
        # Whether bytes were formatted anew does not show in them.
        changed = [a is not b for a, b in zip(before, [run.contents for run in document._runs], strict=True)]
        self.assertEqual([number for number, yes in enumerate(changed) if yes], [7])
