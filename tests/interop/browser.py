"""A browser without a window that runs the page."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

from tests.servers import wait_for
from tests.test_tidy import ROOT

CHROMIUM: Final = shutil.which("chromium") or ""
DRIVER: Final = shutil.which("chromedriver") or ""
NO_BROWSER: Final = "" if CHROMIUM and DRIVER else "chromium or chromedriver is not installed"

AXE: Final = Path(ROOT, "tests", "clients", "node", "node_modules", "axe-core", "axe.min.js")

ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

SECONDS: Final = 120.0
"""Timeout for all that a browser does in much less time."""

T = TypeVar("T")


class Browser:
    """One browser with a profile of its own; use it as a context manager."""

    def __init__(self, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self._profile = tempfile.mkdtemp(prefix="txsentinel-browser-")
        self._scripts: list[str] = []
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (*ARGUMENTS, f"--user-data-dir={self._profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, Service(DRIVER))
        self.resize(width, height)
        self.set_dark(dark)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *exception: object) -> None:
        self.driver.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    def resize(self, width: int, height: int = 900) -> None:
        """Change the size of the view."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def reset(self) -> None:
        """Leave the page, and undo what a test has changed."""
        self.driver.get("about:blank")
        while self._scripts:
            identifier = {"identifier": self._scripts.pop()}
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", identifier)
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        self.resize(1280)
        self.set_dark(False)
        self.errors()

    def set_dark(self, dark: bool) -> None:
        """Prefer a dark or a light page."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def before_each_page(self, script: str) -> None:
        """Run a script in each page before its own, until :meth:`reset`."""
        added = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        self._scripts.append(added["identifier"])

    def open(self, address: str) -> None:
        """Load a page anew, also if it differs only in what follows ``#``."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Return the text of the first element, empty if there is none."""
        return str(self.run("return (document.querySelector(arguments[0]) || {}).innerText || ''", selector))

    def wait(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait for something."""
        return wait_for(condition, SECONDS, f"{what}; the page shows {self.text('body')[:800]!r}")

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until an element contains a text."""
        wait_for(lambda: text in self.text(selector) or None, SECONDS, f"{text!r} in {selector}")

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def drag(self, selector: str, target: str) -> None:
        """Drag one element onto another."""
        first, last = (self.driver.find_element("css selector", each) for each in (selector, target))
        ActionChains(self.driver).drag_and_drop(first, last).perform()

    def focused(self) -> str:
        """Return the identifier, or else the text, of the element that has the focus."""
        script = "const e = document.activeElement; return e.id || e.textContent.trim()"
        return str(self.run(script))

    def errors(self) -> list[str]:
        """Return the errors in the console since the last call."""
        return [each["message"] for each in self.driver.get_log("browser") if each["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> None:
        """Save a picture of the whole page."""
        height = min(3000, int(self.run("return document.documentElement.scrollHeight")))
        width = int(self.run("return innerWidth"))
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(picture["data"]))

    def axe(self) -> list[str]:
        """Return the serious violations of accessibility that axe-core finds."""
        # Through the debugger, as the policy of the page forbids scripts of others.
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text(encoding="utf-8")})
        script = "axe.run().then((result) => arguments[0](result.violations))"
        found = self.driver.execute_async_script(script)
        return [
            f"{each['id']}: {each['help']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


class PageServer:
    """The HTTP server over a fake Sentinel in a process of its own; see ``tests.interop.page_server``."""

    def __init__(self, name: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "tests.interop.page_server", name, str(port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.page = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()
