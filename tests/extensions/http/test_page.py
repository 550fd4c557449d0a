"""Tests of ``txsentinel.extensions.http.page``."""

from __future__ import annotations

import gzip
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
from tests.test_tidy import cycles
from txsentinel.extensions.http import page
from txsentinel.extensions.http.page import MAX_TRANSFER, TYPES

STATIC: Final = Path(page.__file__).parent / "static"

EXPORT: Final = re.compile(r"^export (?:async )?(?:function|class|const|let) ([\w$]+)", re.MULTILINE)

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


def modules() -> dict[str, str]:
    """Return the modules of the script by their paths."""
    return {name: (STATIC / name).read_text(encoding="utf-8") for name in TYPES if name.endswith(".js")}


def scripts() -> str:
    """Return all of the script."""
    return "\n".join(modules().values())


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
        """The page is small: all that it loads has at most 60 KiB as it is transferred, compressed."""
        self.assertEqual({str(each.relative_to(STATIC)) for each in STATIC.rglob("*.*")}, set(TYPES))
        transferred = 0
        for name in TYPES:
            reply = self.server.get("/" if name == "index.html" else f"/{name}", Accept_Encoding="gzip, deflate, br")
            self.assertEqual((reply.headers["content-encoding"], reply.headers["vary"]), ("gzip", "Accept-Encoding"))
            self.assertEqual(gzip.decompress(reply.body), (STATIC / name).read_bytes())
            transferred += len(reply.body)
        self.assertLess(transferred, MAX_TRANSFER)

    def test_encodings_differ(self) -> None:
        """What is stored compressed is not taken for the plain file, and the reverse."""
        plain, packed = self.server.get("/page.js"), self.server.get("/page.js", Accept_Encoding="gzip")
        self.assertNotEqual(plain.headers["etag"], packed.headers["etag"])
        self.assertEqual(self.server.get("/page.js", If_None_Match=packed.headers["etag"]).status, 200)
        headers = {"If_None_Match": packed.headers["etag"], "Accept_Encoding": "gzip"}
        self.assertEqual(self.server.get("/page.js", **headers).status, 304)
        self.assertEqual(self.server.get("/page.js", Accept_Encoding="gzip;q=0").body, plain.body)

    def test_nothing_inline(self) -> None:
        """There are no inline scripts and styles, which the policy forbids, and no addresses elsewhere."""
        tags = Tags((STATIC / "index.html").read_text(encoding="utf-8"))
        names = {name for name, _ in tags.attributes}
        self.assertFalse({name for name in names if name.startswith("on")} | names & {"style"})
        self.assertNotIn("style", tags.tags)
        for name, value in tags.attributes:
            if name in ("src", "href"):
                self.assertNotRegex(value or "", r"^(\w+:|//)")
        script = scripts()
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"):
            self.assertNotIn(forbidden, script)
        self.assertNotRegex(script, 'setAttribute\\("(style|on)')

    def test_script(self) -> None:
        """The script is valid; its identifiers of elements are those of the page."""
        script = scripts()
        html = (STATIC / "index.html").read_text(encoding="utf-8")
        known = set(re.findall(r'id="([\w-]+)"', html)) | set(re.findall(r'id: "([\w-]+)"', script))
        used = set(re.findall(r'\$\("([\w-]+)"\)', script)) | set(re.findall(r'show\("([\w-]+)"', script))
        self.assertEqual(used - known, set())
        self.assertGreater(len(used), 15)
        if shutil.which("node") is None:
            raise SkipTest("Node.js is not installed")
        for name, source in modules().items():
            checked = subprocess.run(["node", "--check", "--input-type=module"], input=source.encode(), check=False)
            self.assertEqual(checked.returncode, 0, name)

    def test_modules(self) -> None:
        """Each module imports what others export, uses all of it, and no two import each other; all are preloaded."""
        sources = modules()
        exports = {name: set(re.findall(EXPORT, source)) for name, source in sources.items()}
        for name, source in sources.items():
            for line in re.findall(r"^export (?:const|let) (.*);$", source, re.MULTILINE):
                exports[name] |= set(re.findall(r"(?:^|, )([\w$]+) = ", line))
        imported: dict[str, set[str]] = {}
        for name, source in sources.items():
            body = re.sub(r"^import .*$", "", source, flags=re.MULTILINE)
            imported[name] = set()
            for words, target in re.findall(r'^import \{ (.*) \} from "\./(.*)";$', source, re.MULTILINE):
                path = target if name == "page.js" else f"page/{target}"
                imported[name].add(path)
                for word in words.split(", "):
                    self.assertIn(word, exports[path], f"{name} imports it of {path}")
                    self.assertRegex(body, rf"(?<![\w$]){re.escape(word)}(?![\w$])", f"{name} imports it")
        self.assertEqual(cycles(imported), [])
        html = (STATIC / "index.html").read_text(encoding="utf-8")
        self.assertEqual(set(re.findall('modulepreload" href="(.*)"', html)), set(sources) - {"page.js"})


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
