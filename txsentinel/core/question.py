"""What a peer was asked."""

from __future__ import annotations

from dataclasses import dataclass

from txsentinel.model.address import Address


@dataclass(frozen=True, slots=True)
class Question:
    """
    A question that was sent to a peer: about the master at ``address``, for a vote in ``vote_epoch`` unless ``None``.

    ``candidacy`` is the epoch of a vote request in the peer's name, if the question is to verify that request.
    """

    address: Address
    vote_epoch: int | None
    candidacy: int | None = None
