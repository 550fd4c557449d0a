"""Metrics for Prometheus and OpenMetrics."""
