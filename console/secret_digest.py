"""What the database keeps of a secret that a machine made: its SHA-256.

They are random and long, so a fast hash is enough; passwords get a slow one.
"""

from __future__ import annotations

import hashlib


def digest(secret: str) -> str:
    """Return the SHA-256 of ``secret``, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()
