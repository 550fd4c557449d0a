"""What the configuration file is rendered from, as the states of saving see it."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """What is saved; the store provides it."""

    @property
    def unsaved(self) -> bool:
        """Whether there are changes that no write has begun to save."""

    @property
    def wanted(self) -> int:
        """The highest generation that is to be saved."""

    def mark_unsaved(self) -> None:
        """What was to be saved was not."""

    def render_ahead(self) -> bool:
        """Render lines for one time slice; return whether all are rendered."""

    def begin(self) -> int:
        """Plan what to render for a write; return the generation that it will have at least."""

    def contents(self) -> bytes | None:
        """Render for one time slice; return the contents of the file, ``None`` if rendering takes another turn."""

    def covered(self, generation: int) -> int:
        """
        Return the generation that rendered contents have, if rendering them began with ``generation``.

        What is in them is not unsaved any more.
        """
