"""Fail a master over while Sentinels render a file: ``python -m examples.templates``."""

from examples.failover import main
from examples.templates import RenderedFiles

if __name__ == "__main__":
    main(RenderedFiles())
