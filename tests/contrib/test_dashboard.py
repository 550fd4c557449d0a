"""The dashboard is one that Grafana's own types describe, and its parts fit together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from tests.test_tidy import ROOT

PATH: Final = Path(ROOT, "contrib", "grafana-dashboard.json")

OF_PLUGINS: Final = {
    # What the data source of Prometheus adds to a variable and to an annotation.
    "/templating/list/definition",
    "/annotations/list/titleFormat",
    "/annotations/list/textFormat",
}
"""Members that the types do not have, as they belong to a plug-in of Grafana."""

COLUMNS: Final = 24
"""The width of the grid."""


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the members of a document that are missing, or have another value, in another one."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            if name in after:
                yield from lost(value, after[name], f"{path}/{name}")
            else:
                yield f"{path}/{name}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for left, right in zip(before, after, strict=True):
            yield from lost(left, right, path)
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


class DashboardTests(SynchronousTestCase):
    """The file for Grafana."""

    def setUp(self) -> None:
        """Read it."""
        self.document: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))

    def test_types(self) -> None:
        """What Grafana's types make of it is the same again: no member is misspelled or has a wrong type."""
        try:
            from grafana_foundation_sdk.cog import plugins
            from grafana_foundation_sdk.cog.encoder import JSONEncoder
            from grafana_foundation_sdk.models.dashboard import Dashboard
        except ModuleNotFoundError:
            self.skipTest("grafana-foundation-sdk is not installed")
        plugins.register_default_plugins()
        again = json.loads(JSONEncoder().encode(Dashboard.from_json(self.document)))
        self.assertEqual(set(lost(self.document, again)), OF_PLUGINS)
        self.document["panels"][0]["titel"] = "misspelled"
        again = json.loads(JSONEncoder().encode(Dashboard.from_json(self.document)))
        self.assertIn("/panels/titel", set(lost(self.document, again)))

    def test_layout(self) -> None:
        """Panels have IDs of their own, lie within the grid, and do not overlap."""
        panels = self.document["panels"]
        self.assertEqual(len({each["id"] for each in panels}), len(panels))
        taken: dict[tuple[int, int], str] = {}
        for panel in panels:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], COLUMNS, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} and {taken.get((x, y))}")
                    taken[x, y] = panel["title"]

    def test_variables(self) -> None:
        """Every variable in a query is one of the dashboard, or of Grafana."""
        known = {each["name"] for each in self.document["templating"]["list"]} | {"__all", "__rate_interval"}
        text = json.dumps(self.document)
        words = text.replace("${", "$").split("$")[1:]
        used = {"".join(c if c.isalnum() or c == "_" else " " for c in word).split(" ")[0] for word in words}
        self.assertLessEqual(used - {""}, known)
