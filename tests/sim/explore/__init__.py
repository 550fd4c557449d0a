"""Tests of exhaustive checking."""
