"""The build of the package: backend, list of compiled modules, man page. It is not installed."""
