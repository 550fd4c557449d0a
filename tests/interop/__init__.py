"""Tests with fleets of real processes: Sentinels of ours and C Sentinels."""
