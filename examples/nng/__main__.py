"""Fail a master over while a subscriber of nanomsg and a surveyor look on: ``python -m examples.nng``."""

from examples.failover import main
from examples.nng import NngSubscriber

if __name__ == "__main__":
    main(NngSubscriber())
