"""
``docs/metrics.rst`` lists all metrics.

``python -m tests.extensions.metrics.test_documentation`` rewrites its table.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.extensions.metrics.catalogue import CATALOGUE

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "metrics.rst"
TABLE: Final = re.compile(r"(?<=\.\. begin of the table\n\n).*(?=\.\. end of the table\n)", re.S)


def table() -> str:
    """Return the table of all metrics."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 40 10 20 50", ""]
    rows = [("Name", "Type", "Labels", "Meaning")]
    rows += [
        (f"``{each.sample}``", each.kind.value, ", ".join(f"``{label}``" for label in each.labels) or "–", each.help)
        for each in CATALOGUE
    ]
    for first, *others in rows:
        lines.append(f"   * - {first}")
        lines += [f"     - {cell}" for cell in others]
    return "\n".join([*lines, "", ""])


def main() -> None:
    """Rewrite the table."""
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")


class DocumentationTests(SynchronousTestCase):
    """The page."""

    def test_table(self) -> None:
        """It has the names, types, labels and meanings of all metrics."""
        found = TABLE.search(PAGE.read_text(encoding="utf-8"))
        assert found is not None
        self.assertEqual(found[0].splitlines(), table().splitlines())


if __name__ == "__main__":
    main()
