"""Tests of reading Sentinels from outside."""
