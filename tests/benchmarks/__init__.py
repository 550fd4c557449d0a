"""Tests of what measures: that it counts right, not how fast anything is."""
