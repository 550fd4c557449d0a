"""Imports of packages that use others only if they are installed, as if these were not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """
    Have imports of these modules fail with ``ImportError`` in the ``with`` block, unless they are loaded already.

    Packages that were imported in the block go on without them. The modules can be imported afterwards.
    """
    missing = [name for name in names if name not in sys.modules]
    for name in missing:
        sys.modules[name] = None  # type: ignore[assignment]  # The documented way to prevent an import.
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
