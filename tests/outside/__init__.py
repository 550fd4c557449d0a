"""Whole installations of real processes, attacked from outside while clients write."""
