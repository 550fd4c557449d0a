"""Users, their rights, and the log of refused commands."""
