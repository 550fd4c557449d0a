"""The page in a real browser: over a group that fails over, and over fake Sentinels in every state."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote
from urllib.request import urlopen

from selenium.webdriver.common.keys import Keys
from twisted.trial.unittest import SynchronousTestCase

from tests.extensions.fixture import PEER_IDS
from tests.interop.browser import AXE, NO_BROWSER, SECONDS, Browser, PageServer
from tests.interop.page_server import HOSTILE_NAME, PASSWORD
from tests.servers import Fleet, Harness, missing, wait_for

NEVER_POLL: Final = """
const later = window.setTimeout;
window.setTimeout = (action, delay, ...more) => later(action, delay >= 5000 ? 1e9 : delay, ...more);
"""
"""Keeps the page from reading the state at intervals, so that only events make it show a change."""

SCROLL: Final = """
const done = arguments[0], scroller = document.getElementById("scroller"), create = document.createElement;
const end = scroller.scrollHeight - scroller.clientHeight;
let rows = 0, step = 0;
document.createElement = (...words) => {
  if (words[0] === "tr") ++rows;
  return create.apply(document, words);
};
const next = () => {
  scroller.scrollTop = (end * ++step) / 50;
  if (step < 50) requestAnimationFrame(next);
  else requestAnimationFrame(() => done([rows / step, document.querySelectorAll("#rows tr").length]));
};
requestAnimationFrame(next);
"""
"""Scrolls through the table; returns how many rows are made in a frame, on average, and the rows in the document."""


class BrowserCase(SynchronousTestCase):
    """Starts browsers and servers that end with the test."""

    if NO_BROWSER:
        skip = NO_BROWSER

    shared: ClassVar[Browser | None] = None
    """The browser of all tests of the class, which share it because it takes a second to start."""

    @classmethod
    def tearDownClass(cls) -> None:
        """End the browser."""
        if cls.shared is not None:
            cls.shared.__exit__()
            cls.shared = None

    def browser(self) -> Browser:
        """Return the browser of the class, as it is at the start."""
        if self.shared is None:
            type(self).shared = Browser()
        browser = self.shared
        assert browser is not None
        browser.reset()
        return browser

    def server(self, name: str) -> str:
        """Start a fake Sentinel, and return the address of its page."""
        server = PageServer(name)
        self.addCleanup(server.__exit__)
        return server.page


class FailoverTests(BrowserCase):
    """A group of real servers and Sentinels."""

    if missing("txsentinel", "valkey"):
        skip = missing("txsentinel", "valkey")

    def test_failover(self) -> None:
        """After the master was killed events make the page show the switch, the phases and the new replication."""
        with Harness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", down_after=1000, failover_timeout=5000, http=True)
            fleet.start(SECONDS)
            browser = self.browser()
            browser.before_each_page(NEVER_POLL)
            browser.open(fleet.pages[0])
            browser.wait_for_text("#headline", "The master is up and protected")
            browser.wait_for_text("#contact", "live")
            old = fleet.master()
            browser.wait_for_text("#rows", f"127.0.0.1:{old.port}")
            old.kill()
            wait_for(lambda: fleet.master_port() != old.port, SECONDS, "another master")
            new = fleet.master()
            browser.wait_for_text("#rows", f"127.0.0.1:{new.port}")
            browser.wait_for_text("#events", "+switch-master")
            browser.wait_for_text("#history", f"127.0.0.1:{old.port} → 127.0.0.1:{new.port}")
            browser.wait_for_text("#problems", "1 replica lost")
            browser.run("location.hash = '#/master/' + arguments[0]", fleet.name)
            browser.wait_for_text("#plot", f"127.0.0.1:{new.port}")
            self.assertIn(f"127.0.0.1:{old.port}", browser.text("#plot"))
            browser.wait_for_text("#master .explain", "If it died now")
            self.assertEqual(browser.errors(), [])

    def test_orders(self) -> None:
        """After a login a replica is dragged onto the master, checked, and switched to; then failovers are paused."""
        with Harness() as harness:
            fleet = Fleet(harness, ["txsentinel"] * 3, "valkey", http=True, sentinel_password="secret")
            fleet.start(SECONDS)
            fleet.set_info_period(500)
            browser, old = self.browser(), fleet.master()
            browser.open(f"{fleet.pages[0]}#/master/{fleet.name}")
            browser.wait_for_text("#login", "Log in to this Sentinel")
            # The keys go to what has the focus, which a slow browser moves after it has shown the dialog.
            wait_for(lambda: browser.focused() == "login-password", SECONDS, "the focus on the password")
            browser.press("secret", Keys.ENTER)
            browser.wait_for_text("#user", "default")
            browser.wait_for_text("#plot", "next to be promoted")
            new = next(port for port in fleet.servers if port != old.port)
            is_open = "return document.getElementById('order').open"

            def dragged() -> bool:
                # The drawing may be made anew in the middle.
                browser.drag(f"[data-node='127.0.0.1:{new}']", "[data-node=master]")
                return bool(browser.run(is_open))

            wait_for(dragged, SECONDS, "the dialog")
            browser.wait_for_text("#order-body", f"127.0.0.1:{old.port} → 127.0.0.1:{new}")
            self.assertIn("Writes are held", browser.text("#order-body"))
            browser.run("document.getElementById('order-name').focus()")
            browser.press("another", Keys.ENTER)
            self.assertNotIn("Switched over", browser.text("#order-body"))
            self.assertEqual(fleet.master_port(), old.port)
            browser.run("document.getElementById('order-name').value = ''")
            browser.press(fleet.name, Keys.ENTER)
            browser.wait_for_text("#order-body", "Switched over.")
            self.assertIn("proven", browser.text("#order-body"))
            wait_for(lambda: fleet.master_port() == new, SECONDS, "all Sentinels to agree")
            metrics = urlopen(f"{fleet.pages[0]}metrics").read().decode()
            self.assertIn('switchover_receipts_total{verdict="proven"} 1\n', metrics)
            self.assertRegex(metrics, r'switchover_write_hold_seconds_count\{method="\w+"\} 1\n')
            # The title has the right master, and Escape closes the dialog before it leaves the view.
            browser.press(Keys.ESCAPE)
            browser.wait_for_text("#master .health dl", f"127.0.0.1:{new}")
            self.assertFalse(browser.run(is_open))

            browser.run("document.querySelector('[data-act=pause]').click()")
            browser.wait_for_text("#order-title", f"Pause failovers: {fleet.name}")
            browser.run("document.getElementById('order-comment').value = 'new kernel'")
            browser.press(fleet.name, Keys.ENTER)
            browser.wait_for_text("#order-body", "Failovers are paused")
            browser.press(Keys.ESCAPE)
            browser.wait_for_text("#banners", "by default")
            self.assertIn("new kernel", browser.text("#banners"))
            browser.wait_for_text("#master .actions", "End the pause")
            browser.run("document.querySelector('[data-act=resume]').click()")
            browser.press(fleet.name, Keys.ENTER)
            browser.wait_for_text("#order-body", "The pause has ended.")
            browser.press(Keys.ESCAPE)
            browser.wait(lambda: "paused" not in browser.text("#banners"), "the banner to end")

            # What the Sentinel refuses is shown with its reasons.
            fleet.servers[old.port].kill()
            browser.wait_for_text("#plot", "replica, no answer")
            browser.run("document.querySelector('[data-act=switchover]').click()")
            browser.wait_for_text("#order-to", f"127.0.0.1:{old.port}")
            browser.run(
                "const to = document.getElementById('order-to'); to.value = arguments[0];"
                "to.dispatchEvent(new Event('change', { bubbles: true }))",
                f"127.0.0.1:{old.port}",
            )
            browser.wait_for_text("#order-body .problem", f"127.0.0.1:{old.port}")
            self.assertTrue(browser.run("return document.querySelector('#order-buttons .primary').disabled"))
            browser.press(Keys.ESCAPE)
            browser.run("document.querySelector('[data-act=logout]').click()")
            browser.wait_for_text("#login", "Log in to this Sentinel")
            refused = [each for each in browser.errors() if "401" not in each and "412" not in each]
            self.assertEqual(refused, [])

    def test_hostile_name(self) -> None:
        """A name that is markup stays text, wherever it is shown."""
        with Harness() as harness:
            fleet = Fleet(harness, ["txsentinel"], "valkey", replicas=1, quorum=1, http=True)
            fleet.start(SECONDS)
            sentinel = fleet.sentinels[0]
            name = '<img/src=x/onerror="window.injected=1">'
            sentinel.call("SENTINEL", "MONITOR", name, "127.0.0.1", fleet.master_port(), 1)
            sentinel.call("SENTINEL", "MONITOR", "caf\udce9\u202e", "127.0.0.1", fleet.master_port(), 1)
            browser = self.browser()
            browser.open(fleet.pages[0])
            browser.wait_for_text("#rows", name)
            browser.wait_for_text("#rows", "caf\\xe9\\u202e")
            sentinel.call("SENTINEL", "SET", name, "quorum", 2)
            browser.run(
                "location.hash = [...document.querySelectorAll('#rows a')].find((a) => a.text === arguments[0]).hash",
                name,
            )
            browser.wait_for_text("#master h1", name)
            browser.wait_for_text("#master .explain", "If it died now")
            browser.open(fleet.pages[0] + "#/master/caf%E9%E2%80%AE")
            browser.wait_for_text("#master h1", "caf\\xe9\\u202e")
            browser.wait_for_text("#master .explain", "If it died now")
            browser.open(fleet.pages[0] + "table")
            self.assertIn(name, browser.text("table"))
            browser.open(f"{fleet.pages[0]}v1/masters/{quote(name, safe='')}/topology.svg")
            self.assertIsNone(browser.run("return window.injected || null"))
            self.assertEqual(browser.errors(), [])


class PageTests(BrowserCase):
    """Fake Sentinels, whose masters are in every state."""

    def test_states(self) -> None:
        """The page states what is wrong, since when and what to do, and shows each master."""
        browser = self.browser()
        page = self.server("three")
        browser.open(page)
        browser.wait_for_text("#headline", "1 of 4 masters is down")
        browser.wait_for_text("#problems", "Start the Sentinel at 10.0.0.12:26379")
        self.assertEqual(browser.run("return document.title"), "DOWN: 1 of 4 masters is down – txsentinel")
        self.assertIn("failing over", browser.text("#rows"))
        self.assertIn("no answer", browser.text("#rows"))
        self.assertIn("42 B lost", browser.text("#history"))
        for name, words in (("sessions", "wait promotion"), ("queue", "Start the Sentinel"), ("mymaster", "would be")):
            browser.open(f"{page}#/master/{name}")
            browser.wait_for_text("#master", words)
        browser.open(f"{page}#/master/unknown")
        browser.wait_for_text("#master", "No master has this name")
        self.assertIsNone(browser.run("return window.injected || null"))
        self.assertEqual(browser.errors(), [])

    def test_group(self) -> None:
        """The view of a master has what other Sentinels answer, and runs the checks of its group."""
        browser = self.browser()
        browser.open(f"{self.server('three')}#/master/mymaster")
        browser.wait_for_text("#master .explain", "it has epoch 6")
        self.assertIn("has not answered", browser.text("#master .explain"))
        browser.run("document.querySelector('[data-check]').focus()")
        browser.press(Keys.ENTER)
        browser.wait_for_text("#master .checks", "3 of 3 Sentinels are needed for a failover")
        for words in ("20 checks, 2 of 3 Sentinels and 3 of 3 servers read", "D13", "CONFIG SET", "Check again"):
            self.assertIn(words, browser.text("#master .checks"))
        self.assertEqual(browser.errors(), [])

    def test_lag(self) -> None:
        """A lag that changes has a curve beside its number."""
        browser = self.browser()
        browser.open(self.server("lag"))
        browser.wait_for_text("#rows", "mymaster")
        browser.wait(lambda: browser.run("return document.querySelector('#rows .spark path')"), "a curve")
        self.assertIn("kB", browser.text("#rows .num:has(.spark)"))
        self.assertEqual(browser.errors(), [])

    def test_risk(self) -> None:
        """A master that is up without a majority of Sentinels is at risk, which comes first."""
        browser = self.browser()
        browser.open(self.server("risk"))
        browser.wait_for_text("#headline", "Both masters are up, but 1 could not be failed over")
        browser.wait_for_text("#problems", "mymaster")
        self.assertNotIn("other", browser.text("#problems"))
        row = browser.text("#rows tr")
        self.assertIn("up, at risk", row)
        self.assertIn("no majority of Sentinels can be reached", row)

    def test_lost_contact(self) -> None:
        """The page states that what it shows is old if the Sentinel does not answer, and goes on when it does."""
        browser = self.browser()
        with PageServer("three") as server:
            browser.open(server.page)
            browser.wait_for_text("#contact", "live")
            browser.wait_for_text("#rows", "mymaster")
        browser.wait_for_text("#contact", "no contact")
        browser.wait_for_text("#banners", "No answer from this Sentinel")
        self.assertIn("mymaster", browser.text("#rows"))
        with PageServer("three", server.port):
            browser.wait_for_text("#contact", "live")
            browser.wait(lambda: not browser.text("#banners"), "the banner to end")

    def test_layout(self) -> None:
        """Nothing is wider than the view, on a screen and on a telephone; pictures are kept with TXSENTINEL_KEEP."""
        directory = Path(tempfile.mkdtemp(prefix="txsentinel-page-"))
        if not os.environ.get("TXSENTINEL_KEEP"):
            self.addCleanup(shutil.rmtree, directory)
        page = self.server("three")
        browser = self.browser()
        for width in (1280, 390):
            browser.resize(width)
            for dark in (False, True):
                browser.set_dark(dark)
                browser.open(page + "table")
                self.assertLessEqual(browser.run("return document.documentElement.scrollWidth"), width, "table")
                for place in ("", "#/master/mymaster", "#/master/queue", f"#/master/{quote(HOSTILE_NAME, safe='')}"):
                    browser.open(page + place)
                    browser.wait_for_text("#plot" if place else "#rows", "10.0.0" if "queue" not in place else "2001")
                    browser.wait_for_text(".explain" if place else "#history", "promot" if place else "lost")
                    self.assertLessEqual(browser.run("return document.documentElement.scrollWidth"), width, place)
                    theme = "dark" if dark else "light"
                    browser.screenshot(directory / f"{width}-{theme}-{place.rpartition('/')[2][:8] or 'all'}.png")
        self.assertEqual(len(list(directory.iterdir())), 16)

    def test_many_masters(self) -> None:
        """A thousand masters scroll smoothly: only the rows in view are in the document, and made for it."""
        browser = self.browser()
        browser.open(self.server("many"))
        browser.wait_for_text("#shown", "1,000 masters")
        browser.wait_for_text("#rows", "shard-0000")
        made, rows = browser.driver.execute_async_script(SCROLL)
        self.assertLess(rows, 60)
        self.assertLess(made, 2 * rows)
        self.assertGreater(made, 0)
        browser.wait_for_text("#rows", "shard-0995")
        browser.press("/", "shard-05")
        browser.wait_for_text("#shown", "100 of 1,000 masters")
        browser.press(Keys.ARROW_DOWN)
        browser.wait(lambda: browser.focused() == "shard-0500" or None, "the focus in the first row")
        browser.press(Keys.END)
        browser.wait(lambda: browser.focused() == "shard-0599" or None, "the focus in the last row")
        browser.press(Keys.PAGE_UP, Keys.HOME, Keys.ARROW_UP)
        browser.wait(lambda: browser.focused() == "filter" or None, "the focus in the filter")
        self.assertEqual(browser.errors(), [])

    def test_keyboard(self) -> None:
        """All can be reached and used without a mouse, and the focus is visible."""
        browser = self.browser()
        browser.open(self.server("three"))
        browser.wait_for_text("#rows", "mymaster")
        browser.press(Keys.TAB, Keys.TAB)
        self.assertEqual(browser.focused(), "Skip to the masters")
        browser.press(Keys.ENTER)
        self.assertEqual(browser.focused(), "masters")
        browser.press("/")
        self.assertEqual(browser.focused(), "filter")
        browser.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        self.assertEqual(browser.focused(), "queue")
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        self.assertEqual(browser.run(outline), "solid")
        browser.press(Keys.ENTER)
        browser.wait_for_text("#plot", "2001:db8::5")
        self.assertEqual(browser.focused(), "main")
        node = "return document.activeElement.dataset.node || ''"
        for _ in range(30):
            browser.press(Keys.TAB)
            if browser.run(node) == PEER_IDS[0]:
                break
        browser.press(Keys.ENTER)
        browser.wait_for_text("#details", PEER_IDS[0])
        self.assertEqual(browser.run(node), PEER_IDS[0], "the focus stays")
        browser.press(Keys.SPACE)
        browser.wait_for_text("#details", "Select a node")
        browser.press(Keys.ESCAPE)
        browser.wait(lambda: browser.focused() == "queue" or None, "the focus in the row that was opened")
        sort = "document.querySelector('[data-sort=name]').focus()"
        browser.run(sort)
        browser.press(Keys.ENTER)
        first = "return document.querySelector('#rows a').textContent"
        browser.wait(lambda: browser.run(first) == HOSTILE_NAME or None, "the rows sorted by name")

    def test_accessibility(self) -> None:
        """axe-core finds nothing serious, in light and in dark."""
        page, browser = self.server("three"), self.browser()
        for dark in (False, True):
            browser.set_dark(dark)
            for place in ("", "#/master/mymaster", "#/master/queue", "#/master/sessions", "table"):
                browser.open(page + place)
                browser.wait_for_text("body", "10.0.")
                if place.startswith("#"):
                    browser.wait_for_text(".explain", "promot")
                self.assertEqual(browser.axe(), [], f"{place}, dark: {dark}")
        browser.open(self.server("login"))
        browser.wait_for_text("#login", "Log in")
        self.assertEqual(browser.axe(), [])

    if not AXE.exists():
        test_accessibility.skip = "axe-core is not installed: make clients"  # type: ignore[attr-defined]

    def test_login(self) -> None:
        """The page asks for a login only if the Sentinel does, and keeps nothing of it."""
        browser = self.browser()
        page = self.server("login")
        browser.open(page)
        browser.wait_for_text("#login", "Log in to this Sentinel")
        browser.wait(lambda: browser.focused() == "login-password" or None, "the focus in the password")
        browser.press("wrong", Keys.ENTER)
        browser.wait_for_text("#login-problem", "The user or the password is wrong.")
        browser.run("document.getElementById('login-password').value = ''")
        browser.press(PASSWORD, Keys.ENTER)
        browser.wait_for_text("#headline", "1 of 4 masters is down")
        browser.wait_for_text("#contact", "live")
        self.assertFalse(browser.run("return document.getElementById('login').open"))
        self.assertEqual(browser.run("return document.getElementById('login-password').value"), "")
        kept = browser.run("return document.cookie + localStorage.length + sessionStorage.length")
        self.assertEqual(kept, "00")
        self.assertEqual([each for each in browser.errors() if "401" not in each], [])

    def test_without_javascript(self) -> None:
        """Without scripts there is a table, and a drawing."""
        browser = self.browser()
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        page = self.server("three")
        browser.open(page)
        wait_for(lambda: browser.driver.current_url.endswith("/table") or None, SECONDS, "the table")
        rows = browser.driver.find_elements("css selector", "tbody tr")
        self.assertEqual(len(rows), 4)
        text = browser.driver.find_element("css selector", "body").text
        for words in ("1 of 4 masters down", HOSTILE_NAME, "failing over", "10.0.0.2:6379"):
            self.assertIn(words, text)
        if shutil.which("dot"):
            picture = browser.driver.find_element("css selector", "img")
            wait_for(lambda: int(picture.get_attribute("naturalWidth") or 0) > 100, SECONDS, "the drawing")
