"""Runs the Sentinel test suites of Redis and Valkey against this Sentinel; ``make upstream``."""
