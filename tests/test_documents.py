"""Every page can be rendered; ``make docs`` also checks the references of the pages."""

from __future__ import annotations

import io
import re
from dataclasses import fields
from pathlib import Path
from typing import Final

from docutils.core import publish_doctree
from twisted.trial.unittest import SynchronousTestCase

from tests.test_tidy import ROOT
from txsentinel.config.guards import FENCE_AFTER, GUARD_SETTINGS
from txsentinel.core.options import NEUTRAL_GUARDS
from txsentinel.model.explanation import Explanation, Phase, UnfitCode, VerdictCode

OF_SPHINX: Final = {"docs/api.rst", "docs/index.rst"}
"""Pages that consist of directives of Sphinx."""


def problems(text: str, path: Path | None = None) -> str:
    """Render a page, and return the warnings of docutils about it; ``path`` is its file, for what it includes."""
    warnings = io.StringIO()
    settings = {
        "report_level": 2,
        "halt_level": 5,
        "warning_stream": warnings,
        "_disable_config": True,
        "syntax_highlight": "none",
    }
    publish_doctree(text, source_path=None if path is None else str(path), settings_overrides=settings)
    return warnings.getvalue()


class ExplanationTests(SynchronousTestCase):
    """The page about explanations."""

    def rows(self, title: str) -> list[str]:
        """Return the first column of the table in a section."""
        page = Path(ROOT, "docs", "explain.rst").read_text(encoding="utf-8")
        section = page.split(f"\n{title}\n", 1)[1].split("\n====================== ", 1)[0]
        table = re.split(r"\n=+ =+\n", section)[1]
        return re.findall(r"^``([a-z_]+)``", table, re.MULTILINE)

    def test_codes(self) -> None:
        """The tables have every code, and nothing else."""
        self.assertEqual(sorted(self.rows("Verdicts")), sorted(each.value for each in VerdictCode))
        self.assertEqual(sorted(self.rows("Unfit replicas")), sorted(each.value for each in UnfitCode))

    def test_fields(self) -> None:
        """Every field in the table exists, and every phase is named."""
        self.assertLessEqual(set(self.rows("The fields")), {each.name for each in fields(Explanation)})
        page = Path(ROOT, "docs", "explain.rst").read_text(encoding="utf-8")
        self.assertEqual([each.value for each in Phase if f"``{each.value}``" not in page], [])


class PageTests(SynchronousTestCase):
    """The pages in ``docs`` and beside it."""

    def test_pages(self) -> None:
        """docutils has no warning about any page."""
        paths = [
            *Path(ROOT).glob("*.rst"),
            *Path(ROOT, "docs").glob("*.rst"),
            *Path(ROOT, "newsfragments").glob("*.rst"),
        ]
        names = {path.relative_to(ROOT).as_posix(): path for path in paths}
        self.assertLess(OF_SPHINX | {"README.rst", "CHANGELOG.rst"}, set(names))
        found = {
            name: problems(path.read_text(encoding="utf-8"), path)
            for name, path in names.items()
            if name not in OF_SPHINX
        }
        self.assertEqual({name: text for name, text in found.items() if text}, {})

    def test_defaults_of_the_settings(self) -> None:
        """The README has every setting that C Sentinels do not have, with the default that the code has."""
        readme = Path(ROOT, "README.rst").read_text(encoding="utf-8")
        found = dict(re.findall(r"^``([a-z-]+)`` +(?:``)?(\w+)(?:``| ms| of) ", readme, re.MULTILINE))
        defaults = {each.word: each.text(each.value(NEUTRAL_GUARDS)) for each in GUARD_SETTINGS}
        defaults[FENCE_AFTER] = "half"
        self.assertEqual({word: found.get(word) for word in defaults}, defaults)

    def test_malformed_table(self) -> None:
        """A cell that is wider than its column is reported."""
        self.assertIn("Malformed table", problems("=== ===\na   b\n=== ===\nwide one\n=== ===\n"))
