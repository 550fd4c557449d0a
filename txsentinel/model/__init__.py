"""Values that every layer shares: addresses, events, periods and limits, and the throttle of log lines."""
