"""Fleets of real processes, ours and C Sentinels mixed."""
