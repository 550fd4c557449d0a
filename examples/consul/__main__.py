"""Fail a master over while a client of a stand-in for Consul looks on: ``python -m examples.consul``."""

from examples.consul import ConsulStore
from examples.failover import main

if __name__ == "__main__":
    main(ConsulStore())
