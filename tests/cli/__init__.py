"""Tests of txsentinel.cli."""
