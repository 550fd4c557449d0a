"""Fail a master over while a client writes that knows no Sentinel: ``python -m examples.proxy``."""

from __future__ import annotations

from examples.failover import main
from examples.proxy import ProxiedClient

if __name__ == "__main__":
    main(ProxiedClient())
