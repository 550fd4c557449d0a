"""Tests of ``txsentinel.extensions.http.page``."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.extensions.fixture import FakeView, healthy_master
from tests.extensions.http.harness import HttpHarness
from txsentinel.extensions.http import page
from txsentinel.extensions.http.page import TYPES

STATIC: Final = Path(page.__file__).parent / "static"

HOSTILE: Final = ('<img src=x onerror="alert(1)">', "a&b", "\"'", "\x1b[31m", "\udcff", "</table><script>")


class Tags(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a tag."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Take text."""
        self.text += data


class StaticTests(SynchronousTestCase):
    """The files."""

    def setUp(self) -> None:
        self.server = HttpHarness()

    def test_files(self) -> None:
        """Each file is served with its type and a policy without inline scripts, without a login."""
        self.server.operator.passwords["default"] = "secret"
        for name, content_type in TYPES.items():
            target = "/" if name == "index.html" else f"/{name}"
            reply = self.server.get(target)
            self.assertEqual((reply.status, reply.headers["content-type"]), (200, content_type))
            self.assertEqual(reply.body, (STATIC / name).read_bytes())
            policy = reply.headers["content-security-policy"]
            self.assertEqual(policy, "default-src 'self'; frame-ancestors 'none'; base-uri 'none'")
            self.assertEqual(reply.headers["x-content-type-options"], "nosniff")
            self.assertEqual(reply.headers["referrer-policy"], "no-referrer")
            again = self.server.get(target, If_None_Match=reply.headers["etag"])
            self.assertEqual((again.status, again.headers["content-security-policy"]), (304, policy))

    def test_size(self) -> None:
        """The page is small: all files together have at most 60 KiB."""
        self.assertEqual({each.name for each in STATIC.iterdir()}, set(TYPES))
        self.assertLess(sum(each.stat().st_size for each in STATIC.iterdir()), 60 * 1024)

    def test_nothing_inline(self) -> None:
        """There are no inline scripts and styles, which the policy forbids, and no addresses elsewhere."""
        tags = Tags((STATIC / "index.html").read_text(encoding="utf-8"))
        names = {name for name, _ in tags.attributes}
        self.assertFalse({name for name in names if name.startswith("on")} | names & {"style"})
        self.assertNotIn("style", tags.tags)
        for name, value in tags.attributes:
            if name in ("src", "href"):
                self.assertNotRegex(value or "", r"^(\w+:|//)")
        script = (STATIC / "page.js").read_text(encoding="utf-8")
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"):
            self.assertNotIn(forbidden, script)
        self.assertNotRegex(script, 'setAttribute\\("(style|on)')

    def test_script(self) -> None:
        """The script is valid; its identifiers of elements are those of the page."""
        script = (STATIC / "page.js").read_text(encoding="utf-8")
        html = (STATIC / "index.html").read_text(encoding="utf-8")
        known = set(re.findall(r'id="([\w-]+)"', html)) | set(re.findall(r'id: "([\w-]+)"', script))
        used = set(re.findall(r'\$\("([\w-]+)"\)', script)) | set(re.findall(r'show\("([\w-]+)"', script))
        self.assertEqual(used - known, set())
        self.assertGreater(len(used), 15)
        if shutil.which("node") is None:
            raise SkipTest("Node.js is not installed")
        subprocess.run(["node", "--check", str(STATIC / "page.js")], check=True)


class TableTests(SynchronousTestCase):
    """The table for browsers without JavaScript."""

    def table(self, view: FakeView | None = None) -> Tags:
        """Return the table."""
        reply = HttpHarness(view).get("/table")
        self.assertEqual((reply.status, reply.headers["content-type"]), (200, "text/html; charset=utf-8"))
        return Tags(reply.body.decode())

    def test_masters(self) -> None:
        """Each master has a row with its state."""
        tags = self.table()
        self.assertEqual(tags.tags.count("tr"), 4)
        for text in (
            "1 of 3 masters down",
            "mymaster",
            "up",
            "failing over",
            "does not answer (S_DOWN)",
            "10.0.0.2:6379",
        ):
            self.assertIn(text, tags.text)
        self.assertIn(("src", "v1/topology.svg"), tags.attributes)

    def test_hostile_names(self) -> None:
        """Names are text, whatever is in them."""
        plain = self.table(FakeView(*(healthy_master(f"m{number}") for number in range(len(HOSTILE)))))
        tags = self.table(FakeView(*(healthy_master(name) for name in HOSTILE)))
        self.assertEqual(tags.tags, plain.tags)
        self.assertIn('<img src=x onerror="alert(1)">', tags.text)
        self.assertIn("\\x1b[31m", tags.text)
        self.assertIn("\\udcff", tags.text)
        self.assertIn(("href", "v1/masters/%FF/topology.svg"), tags.attributes)

    def test_many_masters(self) -> None:
        """Groups that are too large for one drawing have none."""
        tags = self.table(FakeView(*(healthy_master(f"m{number}") for number in range(1000))))
        self.assertEqual(tags.tags.count("tr"), 1001)
        self.assertNotIn("img", tags.tags)

    def test_problems(self) -> None:
        """TILT and a failing disk are stated above the table."""
        view = FakeView(healthy_master())
        view.sentinel = replace(
            view.sentinel,
            tilt=replace(view.sentinel.tilt, active=True, cause="the clock was set back"),
            storage=replace(view.sentinel.storage, state="failing", last_error="No space left on device"),
        )
        text = self.table(view).text
        self.assertIn("the clock was set back", text)
        self.assertIn("No space left on device", text)

    def test_login(self) -> None:
        """The table needs the rights that the list of masters needs."""
        server = HttpHarness()
        server.operator.passwords["default"] = "secret"
        self.assertEqual(server.get("/table").status, 401)
