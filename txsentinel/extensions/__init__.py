"""Optional services that look on from outside; each imports ``isentinel`` and third parties only."""
