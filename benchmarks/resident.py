"""
Where the resident memory of a Sentinel of one master and two replicas goes: by mapping, and by package.

``python -m benchmarks.resident --kinds redis console compiled-console txsentinel``

The packages are those of Python modules, with what was allocated while they were imported: code, classes, tables. A
process that traces its allocations reports them; it is larger than those of the first table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.installation import Installation
from txsentinel.demo import SentinelProcess, wait_for
from txsentinel.demo.programs import available

KINDS: Final = ("redis", "console", "compiled-console", "txsentinel", "compiled")
SECONDS: Final = 60.0

GROUPS: Final = (
    ("our compiled modules", re.compile(r"/txsentinel.*\.so$")),
    ("OpenSSL", re.compile(r"lib(crypto|ssl)|_rust\.abi3|_ssl\.|_hashlib\.|_cffi")),
    ("other modules in C", re.compile(r"\.cpython-.*\.so$|abi3\.so$")),
    ("the program, and libpython", re.compile(r"libpython|/bin/[^/]+$")),
    ("other libraries and files", re.compile(r"^/")),
)
"""Groups of mapped files; the first pattern that is found in the path decides."""

ALLOCATED: Final = "allocated"

TRACED: Final = """
import importlib._bootstrap_external as loaders, json, os, signal, sys, tracemalloc
tracemalloc.start(1)
nested, sizes = [], {}

def measured(execute):
    def exec_module(self, module):
        before = tracemalloc.get_traced_memory()[0]
        nested.append(0)
        try:
            return execute(self, module)
        finally:
            size = tracemalloc.get_traced_memory()[0] - before
            sizes[module.__name__] = size - nested.pop()
            if nested:
                nested[-1] += size
    return exec_module

for loader in (loaders._LoaderBasics, loaders.ExtensionFileLoader):
    loader.exec_module = measured(loader.exec_module)

def report(*_):
    with open("sizes.new", "w") as file:
        json.dump(sizes, file)
    os.rename("sizes.new", "sizes")

signal.signal(signal.SIGUSR1, report)
sys.argv[0] = "txsentinel"
from txsentinel.cli.main import main
main()
"""
"""A console script that measures what the import of each module allocates, and reports it when asked to."""

PACKAGES: Final = ("txsentinel", "twisted", "zope", "attr", "automat")


def mappings(pid: int) -> dict[str, float]:
    """The resident megabytes of a process by group of its mappings (Linux)."""
    found: dict[str, float] = defaultdict(float)
    group = ALLOCATED
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):
            path = words[5] if len(words) > 5 else ""
            group = next((name for name, pattern in GROUPS if pattern.search(path)), ALLOCATED)
        elif words[0] == "Rss:":
            found[group] += int(words[1]) * 1024 / 1e6
    return dict(found)


def reported(sentinel: SentinelProcess) -> dict[str, int]:
    """What a :data:`TRACED` Sentinel reports: the bytes that the import of each module allocated."""
    path = sentinel.directory / "sizes"
    os.kill(sentinel.pid, signal.SIGUSR1)
    wait_for(path.exists, SECONDS, "the sizes of the modules")
    sizes: dict[str, int] = json.loads(path.read_text())
    return sizes


def by_package(sizes: Mapping[str, int]) -> dict[str, tuple[int, float]]:
    """The number of modules of each package, and the megabytes that their import allocated."""
    found: dict[str, tuple[int, float]] = {}
    for name, size in sizes.items():
        package = name.partition(".")[0]
        package = package if package in PACKAGES else "the standard library and others"
        count, total = found.get(package, (0, 0.0))
        found[package] = count + 1, total + size / 1e6
    return found


def started(kind: str, traced: bool = False) -> Installation:
    """Start a Sentinel of one master and two replicas, and wait until it knows them."""
    group = Installation((kind,), 1, 2)
    if traced:
        sentinel = group.sentinels[0]
        sentinel.command = [sys.executable, "-c", TRACED, str(sentinel.config_path)]
    group.start()
    group.wait_stable(SECONDS)
    return group


def measure(kinds: Sequence[str]) -> dict[str, dict[str, float]]:
    """The mappings of a Sentinel of each kind."""
    found = {}
    for kind in kinds:
        with started(kind) as group:
            found[kind] = mappings(group.sentinels[0].pid)
    return found


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The mappings, ready to print."""
    width = max(len(kind) for kind in found) + 2
    lines = [f"{'resident memory, MB':30}" + "".join(f"{kind:>{width}}" for kind in found)]
    for name in (ALLOCATED, *(name for name, _ in GROUPS)):
        lines.append(f"{name:30}" + "".join(f"{values.get(name, 0):{width}.1f}" for values in found.values()))
    lines.append(f"{'sum':30}" + "".join(f"{sum(values.values()):{width}.1f}" for values in found.values()))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resident", description=__doc__.split("\n\n")[0])
    parser.add_argument("--kinds", nargs="+", default=[kind for kind in KINDS if available(kind)], metavar="KIND")
    options = parser.parse_args(argv)
    print(table(measure(options.kinds)))
    for kind in options.kinds:
        if kind.endswith("console"):
            with started(kind, traced=True) as group:
                print(f"\n{kind}: modules, and MB allocated while they were imported")
                groups = by_package(reported(group.sentinels[0]))
                for name, (count, size) in sorted(groups.items(), key=lambda each: -each[1][1]):
                    print(f"{name:34} {count:4} {size:6.1f}")


if __name__ == "__main__":
    main()
