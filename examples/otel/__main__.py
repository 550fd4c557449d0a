"""Fail a master over while a collector of traces looks on: ``python -m examples.otel``."""

from examples.failover import main
from examples.otel import TraceCollector

if __name__ == "__main__":
    main(TraceCollector())
