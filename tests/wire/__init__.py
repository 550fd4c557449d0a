"""Tests of ``txsentinel.wire``."""

from hypothesis import settings

# A busy machine is no reason for a property to fail.
settings.register_profile("low_priority", deadline=None)
settings.load_profile("low_priority")
