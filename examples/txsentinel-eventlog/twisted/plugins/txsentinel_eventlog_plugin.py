"""Makes txsentinel find the extension; there is no ``__init__.py`` beside this, as Twisted demands."""

from txsentinel_eventlog import EventLogExtension

eventlog = EventLogExtension()
