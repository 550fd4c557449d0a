"""Outgoing connections: to the monitored servers and to the other Sentinels."""
