"""``docs/txsentinel.service``: its verification by systemd, and its use with Debian's configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

UNIT = Path(__file__).resolve().parents[1] / "docs" / "txsentinel.service"

DEBIAN_FILES = (
    "/etc/redis/sentinel.conf",
    "/run/sentinel/redis-sentinel.pid",
    "/var/lib/redis",
    "/var/log/redis/redis-sentinel.log",
)
"""The file of Debian 12's redis-sentinel, and the values of ``pidfile``, ``dir`` and ``logfile`` in it."""

MAX_EXPOSURE = 2.0
"""Of 10.0; 8.5 without hardening except for ProtectSystem= and the like. Debian's own unit has 1.2."""


def values(name: str) -> list[str]:
    """Return all words of a setting."""
    return [word for line in re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text()) for word in line.split()]


class SettingsTests(SynchronousTestCase):
    """Settings of the file."""

    def test_paths_of_debian(self) -> None:
        """All paths of Debian's sentinel.conf are in writable directories; missing ones are no error."""
        self.assertEqual(values("ProtectSystem"), ["strict"])
        self.assertTrue(all(each.startswith("-/") for each in values("ReadWritePaths")))
        writable = [each.removeprefix("-") for each in values("ReadWritePaths")]
        writable += [f"/run/{each}" for each in values("RuntimeDirectory")]
        for path in DEBIAN_FILES:
            self.assertTrue(any(Path(path).is_relative_to(each) for each in writable), path)

    def test_conflicting_units(self) -> None:
        """The C Sentinels of the machine are stopped first."""
        for each in ("redis-sentinel.service", "valkey-sentinel.service"):
            self.assertIn(each, values("Conflicts"))
            self.assertIn(each, values("After"))


class SystemdTests(SynchronousTestCase):
    """The result of systemd's checks."""

    if shutil.which("systemd-analyze") is None:
        skip = "there is no systemd-analyze on this machine"

    def analyze(self, *words: str) -> str:
        """Return the output about the unit, without errors; the program has another path here."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        unit = directory / UNIT.name
        unit.write_text(UNIT.read_text().replace("/opt/txsentinel/bin/txsentinel", sys.executable))
        done = subprocess.run(["systemd-analyze", *words, str(unit)], capture_output=True, text=True, timeout=60)
        if "unrecognized option" in done.stderr:
            self.skipTest("this systemd-analyze is too old to look at a file")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_verified(self) -> None:
        """There is nothing that systemd does not know or ignores."""
        self.assertEqual(self.analyze("verify"), "")

    def test_exposure(self) -> None:
        """The service is confined."""
        printed = self.analyze("security", "--offline=true")
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", printed)
        assert found is not None, printed
        self.assertLessEqual(float(found[1]), MAX_EXPOSURE)
