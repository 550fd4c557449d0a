"""Tests of ``txsentinel.wire``."""

from hypothesis import settings

# A busy machine must not fail a property.
settings.register_profile("low_priority", deadline=None)
settings.load_profile("low_priority")
