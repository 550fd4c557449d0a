"""
Searches for bytes that violate a property of ``tests.fuzz.properties``, guided by code coverage.

Each property gets its share of the time in a process of its own. Inputs that reached new code are kept in
``build/fuzz/PROPERTY`` and extended by the next run; inputs that violated a property are kept there as ``crash-...``,
and repeated by ``python -m tests.fuzz --property PROPERTY FILE``. The exit status is the number of violated properties.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

NO_ATHERIS: Final = (
    "Nothing was fuzzed: atheris is not installed. It comes with `pip install --group fuzz`, for those systems and "
    "versions of Python that it has a wheel for."
)

INSTRUMENTED: Final = ["txsentinel.wire", "txsentinel.config"]

MAX_BYTES: Final = 4_096

READERS: Final = ("requests", "replies", "info", "hello", "configuration", "document")
"""The names of the properties, known without importing the modules to be instrumented."""


def split_input(data: bytes) -> tuple[bytes, list[int]]:
    """Split the fuzzer's bytes into the input and its cuts: a count, sizes, the rest."""
    count = data[0] % 4 if data else 0
    return data[1 + count :], [1 + size % 16 for size in data[1 : 1 + count]]


def seed(directory: Path, name: str) -> None:
    """Write the seeds: the pieces of the corpora, each alone and all together."""
    from tests.fuzz import corpora

    pieces = {
        "requests": corpora.REQUESTS,
        "replies": corpora.REPLIES,
        "info": corpora.INFO,
        "hello": corpora.HELLOS,
        "configuration": corpora.FILES,
        "document": corpora.FILES,
    }[name]
    directory.mkdir(parents=True, exist_ok=True)
    for piece in (*pieces, b"".join(pieces)):
        data = b"\2\0\4" + piece
        (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


def fuzz(name: str, arguments: Sequence[str]) -> None:
    """Fuzz one property in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.properties import PROPERTIES
    holds = PROPERTIES[name]
    atheris.Setup([sys.argv[0], *arguments], lambda data: holds(*split_input(data)))
    atheris.Fuzz()


def show(name: str, path: Path) -> None:
    """Repeat one input from a file."""
    from tests.fuzz.properties import PROPERTIES

    raw, cuts = split_input(path.read_bytes())
    sys.stdout.write(f"{name} of {raw!r}, cut by {cuts}\n")
    PROPERTIES[name](raw, cuts)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="altogether, shared by the properties")
    parser.add_argument("--runs", type=int, default=-1, help="inputs per property, if fewer than the time allows")
    parser.add_argument("--property", choices=READERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--directory", type=Path, default=Path("build/fuzz"), help="where inputs are kept")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("file", type=Path, nargs="?", help="show again what these bytes do")
    options = parser.parse_args(words)
    names = options.property or list(READERS)
    if options.file is not None:
        for name in names:
            show(name, options.file)
        return 0
    if importlib.util.find_spec("atheris") is None:
        sys.stdout.write(f"{NO_ATHERIS}\n")
        return 0
    seconds = max(1, round(options.minutes * 60 / len(names)))
    if options.alone:
        directory = options.directory / names[0]
        limits = [f"-max_total_time={seconds}", f"-runs={options.runs}", f"-max_len={MAX_BYTES}", "-timeout=10"]
        fuzz(names[0], [*limits, "-print_final_stats=1", f"-artifact_prefix={directory}/", str(directory)])
    broken = 0
    for name in names:
        seed(options.directory / name, name)
        again = ["--alone", "--property", name, "--minutes", str(seconds / 60), "--runs", str(options.runs)]
        command = [sys.executable, "-m", "tests.fuzz", *again, "--directory", str(options.directory)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        output = ended.stdout.decode("utf-8", "replace")
        runs = next((line.split()[-1] for line in output.splitlines() if "number_of_executed_units" in line), "?")
        sys.stdout.write(f"{name}: {runs} inputs, {'broken' if ended.returncode else 'holds'}\n")
        sys.stdout.flush()
        if ended.returncode:
            broken += 1
            sys.stdout.write(output[-4_000:])
    return broken


if __name__ == "__main__":
    sys.exit(main())
