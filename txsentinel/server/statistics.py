"""Counters of the ``Stats`` section of INFO."""

from __future__ import annotations

from dataclasses import dataclass, field

from txsentinel.model.timings import Millis


@dataclass(slots=True)
class Statistics:
    """Totals since the start, and rates between the two latest samples."""

    connections_received: int = 0
    connections_rejected: int = 0
    commands_processed: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    error_replies: int = 0
    reads: int = 0
    writes: int = 0
    output_limit_disconnections: int = 0
    query_limit_disconnections: int = 0
    evicted_clients: int = 0
    denied_logins: int = 0
    denied_commands: int = 0
    denied_channels: int = 0
    denied_certificates: int = 0

    commands_per_second: int = 0
    input_kilobytes_per_second: float = 0.0
    output_kilobytes_per_second: float = 0.0
    _sampled_at: Millis | None = None
    _sampled: tuple[int, int, int] = field(default=(0, 0, 0))

    def sample(self, now: Millis) -> None:
        """Compute the rates. Call this about once a second."""
        totals = (self.commands_processed, self.input_bytes, self.output_bytes)
        if self._sampled_at is not None and now > self._sampled_at:
            seconds = (now - self._sampled_at) / 1000
            commands, received, sent = (after - before for after, before in zip(totals, self._sampled, strict=True))
            self.commands_per_second = int(commands / seconds)
            self.input_kilobytes_per_second = received / 1024 / seconds
            self.output_kilobytes_per_second = sent / 1024 / seconds
        self._sampled_at, self._sampled = now, totals
