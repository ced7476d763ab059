"""What stands for a rater in records and datasets: a name that tells nobody who it is without the store's own key."""

import hmac
import secrets

HEX_DIGITS = 16


def new_pseudonym_key() -> bytes:
    """A key for one annotation store; whoever has it can tell whether a name stands for an identity that they know."""
    return secrets.token_bytes(32)


def pseudonym_of(identity: str, key: bytes) -> str:
    """`person:` and 16 hex digits: HMAC-SHA256 of the identity, the same for the same identity under one key alone."""
    return f"person:{hmac.digest(key, identity.encode(), 'sha256').hex()[:HEX_DIGITS]}"
