"""Measurements over real processes, ours beside the C Sentinels in one and the same run."""
