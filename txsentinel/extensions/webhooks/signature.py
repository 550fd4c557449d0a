"""The signature of Standard Webhooks: HMAC-SHA256 over the ID, the time and the body of a message."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Final

from txsentinel.extensions.secret_file import secret_line

PREFIX: Final = "whsec_"
MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64


def parse_key(contents: bytes) -> str:
    """
    Return the secret in a file if it is one for signatures: ``whsec_``, and the key in Base64.

    :raises ValueError: if it is none; the text has no part of it.
    """
    secret = secret_line(contents)
    if not secret.startswith(PREFIX):
        raise ValueError(f"a secret for signatures begins with {PREFIX}")
    try:
        length = len(_key(secret))
    except binascii.Error:
        raise ValueError(f"what follows {PREFIX} is not Base64") from None
    if not MIN_KEY_BYTES <= length <= MAX_KEY_BYTES:
        raise ValueError(f"the key has {length} bytes, it must have {MIN_KEY_BYTES} to {MAX_KEY_BYTES}")
    return secret


def signatures(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: one signature for each secret, separated by spaces."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode() for secret in secrets
    )


def _key(secret: str) -> bytes:
    return b64decode(secret.removeprefix(PREFIX), validate=True)
