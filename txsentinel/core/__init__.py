"""Every decision a Sentinel takes, as methods in and effects out: pure, with time passed in."""
