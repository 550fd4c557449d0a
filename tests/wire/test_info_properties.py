"""Properties of ``txsentinel.wire.info`` for any text; ``tests.fuzz.properties`` describes them."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import properties
from tests.fuzz.corpora import INFO, piece_sequences
from tests.wire.steps import counting
from txsentinel.wire import info
from txsentinel.wire.info import parse_info

hosts = st.text(st.sampled_from("abcdef0123456789.:-"), min_size=1, max_size=20)
replicas = st.lists(st.tuples(hosts, st.integers(1, 65_535)), max_size=5)


def work(raw: bytes) -> int:
    """Return the lines executed to parse ``raw``; its bytes are read by one regular expression."""
    with counting(info) as steps:
        parse_info(raw)
    return steps.lines


class InfoProperties(SynchronousTestCase):
    """Any INFO of a server."""

    @given(piece_sequences(INFO))
    @example(b"slave0:ip=,port=1\r\nslave1:ip=a,port=0")
    def test_any_bytes(self, raw: bytes) -> None:
        """
        Any bytes are a report: nothing raises, ports can be connected to, numbers fit into 64 bits, and neither the
        kind of line ends nor a line that nobody knows makes a difference.
        """
        properties.info(raw, ())

    @given(replicas, hosts, st.integers(1, 65_535), st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 1 << 31))
    def test_round_trip(self, named: list[tuple[str, int]], host: str, port: int, offset: int, priority: int) -> None:
        """The fields of a replica's INFO are parsed as written."""
        lines = ["# Replication", "role:slave", f"master_host:{host}", f"master_port:{port}", "master_link_status:up"]
        lines += [f"slave_repl_offset:{offset}", f"slave_priority:{priority}", f"connected_slaves:{len(named)}"]
        lines += [f"slave{n}:ip={ip},port={number},state=online" for n, (ip, number) in enumerate(named)]
        report = parse_info("\r\n".join(lines).encode())
        self.assertEqual((report.master_host, report.master_port, report.master_link_up), (host, port, True))
        self.assertEqual((report.repl_offset, report.priority), (offset, priority))
        self.assertEqual(report.replicas, tuple(named))

    @given(piece_sequences(INFO), piece_sequences(INFO))
    def test_lines_are_read_one_by_one(self, before: bytes, after: bytes) -> None:
        """The replicas of two concatenated texts are those of the first and then those of the second."""
        together = parse_info(before + b"\n" + after).replicas
        self.assertEqual(together, parse_info(before).replicas + parse_info(after).replicas)

    @given(piece_sequences(INFO, 6))
    @settings(max_examples=60)
    @example(b"slave0\n")
    def test_linear(self, unit: bytes) -> None:
        """Twice the text takes at most twice the steps."""
        repeated = max(1, 2_000 // max(len(unit), 1))
        self.assertLessEqual(work(unit * 2 * repeated), 2.2 * work(unit * repeated) + 100)
