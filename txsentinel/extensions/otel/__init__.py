"""Sends finished failovers as traces of OpenTelemetry."""
