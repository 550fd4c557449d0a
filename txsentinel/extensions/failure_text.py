"""Failures of connections and requests as texts for operators."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, TimeoutError


def failure_text(error: BaseException) -> str:
    """Return why something failed, without a full stop; of several reasons the last one."""
    inner = getattr(error, "reasons", None)  # of twisted.web
    if inner:
        return failure_text(inner[-1].value)
    if isinstance(error, TimeoutError) and error.args and isinstance(error.args[0], (int, float)):
        return f"no answer for {error.args[0]:g} s"
    if isinstance(error, CancelledError):
        return "no answer in time"
    return str(error).strip().rstrip(".") or type(error).__name__
