"""
Which modules the compiled build translates to machine code, read from the packages themselves.

A package names them in its ``__init__.py``: ``COMPILED = ("resp", "glob")``, or ``COMPILED = ("*",)`` for all of its
modules except those in ``INTERPRETED``. A package without ``COMPILED`` stays interpreted. The files are parsed and not
imported, because nothing that the package needs is installed when it is built.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from typing import Final

PACKAGE: Final = "txsentinel"
SIMULATOR: Final = "txsentinel.sim"

BUILDS: Final = ("sentinel", "simulator")
"""
Values of ``TXSENTINEL_COMPILED``.

``sentinel`` is what releases contain; ``simulator`` also compiles the simulator, which doubles the time of the build.
"""


class UnusableList(Exception):
    """``COMPILED`` or ``INTERPRETED`` of a package names no module of it, or is not a tuple of texts."""


def compiled_modules(root: str, build: str = "simulator") -> list[tuple[str, str]]:
    """
    Return the modules to compile, as sorted pairs of the dotted name and the path below ``root``.

    :param root: the directory that contains ``txsentinel``.
    :param build: one of :data:`BUILDS`.
    :raises UnusableList: if a package names a module that it does not have.
    """
    found = []
    for package, modules, _ in _packages(root):
        in_simulator = package == SIMULATOR or package.startswith(f"{SIMULATOR}.")
        if build == "simulator" or not in_simulator:
            for module in modules:
                found.append((f"{package}.{module}", os.path.join(*package.split("."), f"{module}.py")))
    return sorted(found)


def interpreted_modules(root: str) -> set[str]:
    """
    Return the dotted names of the modules in ``INTERPRETED`` of their packages, as a set.

    :raises UnusableList: as :func:`compiled_modules`.
    """
    return {f"{package}.{module}" for package, _, modules in _packages(root) for module in modules}


def _packages(root: str) -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield the dotted name of each package, and the names of its modules that are, and that must not be, compiled."""
    for directory, subdirectories, files in os.walk(os.path.join(root, PACKAGE)):
        subdirectories.sort()
        package = os.path.relpath(directory, root).replace(os.sep, ".")
        if "__init__.py" in files:
            modules = {file[: -len(".py")] for file in files if file.endswith(".py")} - {"__init__"}
            path = os.path.join(directory, "__init__.py")
            with open(path, encoding="utf-8") as file:
                tree = ast.parse(file.read(), path)
            compiled, interpreted = _names(tree, "COMPILED", package), _names(tree, "INTERPRETED", package)
            wanted = modules - interpreted if compiled == {"*"} else compiled
            for unknown in sorted((wanted | interpreted) - modules):
                raise UnusableList(f"{package} has no module {unknown}")
            yield package, wanted, interpreted


def _names(tree: ast.Module, variable: str, package: str) -> set[str]:
    """Return the texts in the tuple that is assigned to a variable of a module; none if it has no such variable."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if [ast.unparse(target) for target in targets] != [variable]:
                continue
            value = ast.literal_eval(node.value)
            if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
                raise UnusableList(f"{variable} of {package} is not a tuple of texts")
            return set(value)
    return set()
