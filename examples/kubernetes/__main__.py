"""Fail a master over while a double of the API of Kubernetes looks on: ``python -m examples.kubernetes``."""

from examples.failover import main
from examples.kubernetes import KubernetesObjects

if __name__ == "__main__":
    main(KubernetesObjects())
