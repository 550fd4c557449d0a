"""Fail a master over while a receiver of webhooks looks on: ``python -m examples.webhooks``."""

from examples.failover import main
from examples.webhooks import WebhookReceiver

if __name__ == "__main__":
    main(WebhookReceiver())
