"""Attacks on running Sentinels: random commands, kill -9, churn, long requests; see ``docs/testing.rst``."""
