"""Installations of real processes with injected faults, while clients write."""
