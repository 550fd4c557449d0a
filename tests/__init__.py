"""The tests mirror the package: ``tests/core/test_voting.py`` holds the promises of ``core/voting.py``."""
