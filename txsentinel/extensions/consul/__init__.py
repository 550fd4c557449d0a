"""The extension that keeps the addresses of masters in Consul."""
