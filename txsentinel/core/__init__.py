"""All decisions of a Sentinel: method calls in, effects out, without I/O; the time is passed in."""
