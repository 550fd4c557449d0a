"""Sends events and finished failovers to HTTP addresses, signed by the rules of Standard Webhooks."""
