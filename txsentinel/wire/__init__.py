"""The words of the protocol as pure functions of bytes: no clock, no socket, no state of ours."""
