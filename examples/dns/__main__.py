"""Fail a master over while a client asks a name server for it: ``python -m examples.dns``."""

from examples.dns import NameServer
from examples.failover import main

if __name__ == "__main__":
    main(NameServer())
