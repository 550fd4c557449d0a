"""A deterministic world that hosts the unmodified service: clock, network, disks, Redis servers, faults."""
