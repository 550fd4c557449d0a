"""Source trees of Redis and Valkey: unpacked ones, or those that ``apt-get source`` fetches."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIRROR: Final = "http://deb.debian.org/debian"

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class SourceMissing(Exception):
    """There is no usable source tree; the text has the reason and a remedy."""


@dataclass(frozen=True)
class Package:
    """One source package of Debian."""

    name: str
    suite: str


PACKAGES: Final = {"redis": Package("redis", "sid"), "valkey": Package("valkey", "sid")}
"""
The newest suites that Debian has.

That of Redis 7.0 counts the commands of that version, so it fails with every later one; the others search commands.
"""


def kind_of(tree: Path) -> str:
    """
    Return ``redis`` or ``valkey``, whichever the source tree is of.

    :raises SourceMissing: if it is neither, or has no Sentinel tests.
    """
    if not (tree / "tests" / "sentinel" / "run.tcl").is_file():
        raise SourceMissing(f"{tree} is not a source tree of Redis or Valkey: it has no tests/sentinel/run.tcl")
    return "valkey" if (tree / "tests" / "support" / "set_executable_path.tcl").is_file() else "redis"


def fetch(name: str, directory: Path) -> Path:
    """
    Fetch and unpack the source package of ``name`` below ``directory``, unless it is there already.

    The sources list, the package lists and the cache are in ``directory`` too, so the configuration of the
    system's package manager is not touched and no rights are needed.

    :raises SourceMissing: if ``apt-get``, ``dpkg-source`` or Debian's keys are missing, or a command fails.
    """
    directory = directory.resolve()
    trees = _trees(name, directory)
    if trees:
        return trees[-1]
    for program in ("apt-get", "dpkg-source"):
        if shutil.which(program) is None:
            raise SourceMissing(f"{program} is missing: name an unpacked source tree of {name} with --source")
    if not KEYRING.is_file():
        raise SourceMissing(f"{KEYRING} is missing: name an unpacked source tree of {name} with --source")
    package = PACKAGES[name]
    apt = directory / "apt"
    for each in ("lists/partial", "cache/archives/partial"):
        (apt / each).mkdir(parents=True, exist_ok=True)
    listed = apt / f"{name}.list"
    listed.write_text(f"deb-src [signed-by={KEYRING}] {MIRROR} {package.suite} main\n")
    options = [
        f"Dir::Etc::sourcelist={listed}",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={apt / 'lists'}",
        f"Dir::Cache={apt / 'cache'}",
        "APT::Sandbox::User=",
    ]
    apt_get = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    _run([*apt_get, "update"], directory)
    _run([*apt_get, "source", "--download-only", package.name], directory)
    described = sorted(directory.glob(f"{package.name}_*.dsc"))
    if not described:
        raise SourceMissing(f"apt-get fetched no description of the source package {package.name}")
    # The distribution's patches concern its packaging; the suite is used unmodified.
    _run(["dpkg-source", "--no-check", "--skip-patches", "-x", described[-1].name], directory)
    trees = _trees(name, directory)
    if not trees:
        raise SourceMissing(f"{described[-1].name} was unpacked but left no directory {name}-* in {directory}")
    return trees[-1]


def _trees(name: str, directory: Path) -> list[Path]:
    """Return the unpacked sources of ``name`` in ``directory``."""
    return [tree for tree in sorted(directory.glob(f"{name}-*")) if (tree / "tests").is_dir()]


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SourceMissing(f"{' '.join(command)} failed: {done.stdout.strip() or done.returncode}")
