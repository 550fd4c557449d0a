"""The extension ``http``: health checks, the state as JSON, and a stream of events, on ``twisted.web``."""
