"""The tests mirror the package: ``tests/core/test_voting.py`` tests ``core/voting.py``."""
