"""Fail a master over while a client of etcd looks on: ``python -m examples.etcd``."""

from examples.etcd import EtcdStore
from examples.failover import main

if __name__ == "__main__":
    main(EtcdStore(("layout confd",)))
