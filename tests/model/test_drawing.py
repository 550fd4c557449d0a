"""Drawings of replication and of state machines."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.model.records import MASTER, REPLICA, down_master, replica
from tests.test_tidy import ROOT
from txsentinel.core.failover_state import FOLLOWS, PROMOTION_SEEN, FailoverState
from txsentinel.model.drawing import (
    DrawnGroup,
    DrawnSentinel,
    DrawnServer,
    byte_count,
    depths,
    dot,
    drawn_group,
    node_count,
    quoted,
    state_machine,
)
from txsentinel.model.snapshots import Endpoint

DRAWINGS: Final = Path(__file__).parent / "drawings"

HOSTILE: Final = (
    '<img src=x onerror="alert(1)">',
    '"]; evil [label="',
    "\\",
    '\\"',
    "\\N \\G \\E \\n",
    "&lt;script&gt; &amp; &#60; &",
    "line\nend\r\t\0\x1b[31m",
    "\udcff\udc80",
    "<b>not HTML</b>",
    "</svg><script>alert(1)</script>",
    "--> <!--",
    "x" * 3000,
    "名前 é",
    "",
)


def graphviz(source: str, output: str) -> str:
    """Run ``dot``; its messages are an error."""
    if shutil.which("dot") is None:
        raise SkipTest("Graphviz is not installed")
    result = subprocess.run(["dot", f"-T{output}"], input=source.encode(), capture_output=True, timeout=60, check=True)
    if result.stderr:
        raise AssertionError(result.stderr.decode())
    return result.stdout.decode()


def positions(plain: str) -> dict[str, float]:
    """Return the vertical position of each node in the output of ``dot -Tplain``, upwards."""
    words = (line.split() for line in plain.splitlines())
    return {each[1]: float(each[3]) for each in words if each and each[0] == "node"}


class DrawingTests(SynchronousTestCase):
    """DOT made of snapshots."""

    def check_golden(self, name: str, source: str) -> None:
        """Compare with the drawing in the repository."""
        self.assertEqual(source, (DRAWINGS / name).read_text(encoding="utf-8"), f"tests/model/drawings/{name}")

    def test_healthy(self) -> None:
        """A master with its replica and the two Sentinels."""
        self.check_golden("healthy.dot", dot([drawn_group(MASTER, "f" * 40)]))

    def test_down(self) -> None:
        """A master that is down: the replica to promote, a chain, a replica that is gone, votes."""
        self.check_golden("down.dot", dot([drawn_group(down_master(), "f" * 40), drawn_group(MASTER)]))

    def test_without_links(self) -> None:
        """The command line draws without links to the HTTP API."""
        self.assertNotIn("href", dot([drawn_group(MASTER, href=False)]))
        self.assertIn('href="/v1/masters/mymaster"', dot([drawn_group(MASTER)]))

    def test_rows(self) -> None:
        """The master is on top, a replica of a replica below it, the Sentinels at the bottom."""
        heights = positions(graphviz(dot([drawn_group(down_master(), "f" * 40)]), "plain"))
        self.assertEqual(len(heights), 8)
        self.assertGreater(heights["g0s0"], heights["g0s1"])
        self.assertEqual(heights["g0s1"], heights["g0s2"])
        self.assertGreater(heights["g0s1"], heights["g0s3"])
        self.assertGreater(heights["g0s3"], heights["g0v0"])

    def test_hostile_names(self) -> None:
        """Any text is shown as it is, by its codes where it cannot be, and nothing in it is interpreted."""
        for text in HOSTILE:
            server = DrawnServer(text, None, (text,), tooltip=text, href=f"/{text}")
            below = DrawnServer(f"{text}.", text, (text,), link_label=text, tooltip=text)
            group = DrawnGroup(text, (server, below), (DrawnSentinel(text, (text,), text, tooltip=text),), text)
            source = dot([group])
            self.assertEqual(len(positions(graphviz(source, "plain"))), 3, source)
            root = ElementTree.fromstring(graphviz(source, "svg"))
            tags = {each.tag.rpartition("}")[2] for each in root.iter()}
            self.assertLessEqual(tags, {"svg", "g", "title", "a", "polygon", "polyline", "path", "text", "ellipse"})
            attributes = {name for each in root.iter() for name in each.attrib}
            self.assertFalse([name for name in attributes if name.startswith("on")])
            shown = [each.text or "" for each in root.iter() if each.tag.endswith("text")]
            if text.isascii() and text.isprintable() and 0 < len(text) < 200:
                self.assertEqual(shown.count(text), 8, shown)

    def test_control_characters(self) -> None:
        """They are shown by their codes, so that no line of the source ends in a name."""
        self.assertEqual(quoted("a\nb\x1b\udcff"), r'"a\\nb\\x1b\\udcff"')

    def test_unknown_master(self) -> None:
        """A replica of a server that is not monitored keeps its link to it."""
        other = replica(9, master_address=Endpoint("192.0.2.1", 6379))
        source = dot([drawn_group(replace(MASTER, replicas=(REPLICA, other)))])
        self.assertIn('label="192.0.2.1:6379\\nnot monitored"', source)
        self.assertEqual(len(positions(graphviz(source, "plain"))), 5)

    def test_circles(self) -> None:
        """Replicas that follow each other are drawn below the others."""
        master = DrawnServer("m", None)
        chain = [DrawnServer("a", "m"), DrawnServer("b", "a")]
        circle = [DrawnServer("x", "y"), DrawnServer("y", "x"), DrawnServer("z", "elsewhere")]
        servers = (*circle, *chain, master)
        self.assertEqual(depths(servers), {"m": 0, "a": 1, "b": 2, "x": 3, "y": 3, "z": 3})
        source = dot([DrawnGroup("circle", servers)])
        self.assertEqual(len(positions(graphviz(source, "plain"))), 7)

    def test_empty(self) -> None:
        """No masters, and a master that has nothing, can be drawn."""
        self.assertEqual(positions(graphviz(dot([]), "plain")), {})
        alone = replace(MASTER, replicas=(), peers=())
        self.assertEqual(len(positions(graphviz(dot([drawn_group(alone)]), "plain"))), 1)

    def test_node_count(self) -> None:
        """As many nodes are counted as are drawn."""
        masters = [MASTER, down_master(), replace(MASTER, replicas=(), peers=())]
        drawn = positions(graphviz(dot(drawn_group(each, "f" * 40) for each in masters), "plain"))
        self.assertEqual(len(drawn), node_count(masters))

    def test_byte_counts(self) -> None:
        """Numbers of bytes have three or four digits and a unit."""
        found = [byte_count(each) for each in (0, 17, 999, 1000, 1_234_567, 999_960, 5 * 10**12, 10**18)]
        self.assertEqual(found, ["0 B", "17 B", "999 B", "1.0 kB", "1.2 MB", "1.0 MB", "5.0 TB", "1000.0 PB"])


class StateMachineTests(SynchronousTestCase):
    """The drawing in the documentation is that of the code."""

    def test_states_of_a_failover(self) -> None:
        """``docs/failover-states.dot`` is made of the table of the core, and the picture of it is up to date."""
        follows = {state.value: {each.value for each in following} for state, following in FOLLOWS.items()}
        follows[FailoverState.NONE.value] = {FailoverState.WAIT_START.value}
        follows[FailoverState.UPDATE_CONFIG.value] = {FailoverState.NONE.value}
        aborts = {state.value for state in FOLLOWS.keys() - PROMOTION_SEEN}
        source = state_machine(follows, aborts, FailoverState.NONE.value)
        self.assertEqual(source, Path(ROOT, "docs", "failover-states.dot").read_text(encoding="utf-8"))
        positions(graphviz(source, "plain"))
        picture = ElementTree.parse(Path(ROOT, "docs", "failover-states.svg"))
        titles = [each.text for each in picture.iter() if each.tag.endswith("title")]
        drawn = sorted(title for title in titles if title and "->" in title)
        expected = [f"{state}->{each}" for state, following in follows.items() for each in following]
        self.assertEqual(drawn, sorted(expected + [f"{state}->none" for state in aborts]))
