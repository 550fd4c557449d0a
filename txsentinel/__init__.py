"""A drop-in for ``redis-sentinel`` and ``valkey-sentinel``, written as a Twisted service."""

__version__ = "0.2.0"

__all__ = ["__version__"]
