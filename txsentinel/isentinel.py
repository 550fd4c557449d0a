"""The former place of :mod:`txsentinel.interfaces`, for plug-ins that import it from here."""

from txsentinel.interfaces import IFileStore, IHost, ISentinelExtension, ISentinelListener

__all__ = ["IFileStore", "IHost", "ISentinelExtension", "ISentinelListener"]
