"""Signature: who made a bundle. Ed25519 over the bytes of `bundle.json`, which hash all the rest.

In: keys as base64 text, bytes to sign or check. Out: signatures, yes or no.
Never: keeps a private key; the only file that knows the `cryptography` library.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32
SIGNATURE_BYTES = 64


def new_key() -> tuple[str, str]:
    """A private key and the public key that belongs to it, as base64."""
    private = Ed25519PrivateKey.generate()
    return _text(private.private_bytes_raw()), _text(private.public_key().public_bytes_raw())


def sign(private_key: str, message: bytes) -> bytes:
    """64 bytes. Raises `ValueError` for text that is no key."""
    return Ed25519PrivateKey.from_private_bytes(_key(private_key)).sign(message)


def is_signed_by(public_keys: tuple[str, ...], message: bytes, signature: bytes) -> bool:
    """Whether one of the keys made the signature. Raises `ValueError` for text that is no key."""
    for key in public_keys:
        try:
            Ed25519PublicKey.from_public_bytes(_key(key)).verify(signature, message)
        except InvalidSignature:
            continue
        return True
    return False


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"not an Ed25519 key: expected {KEY_BYTES} bytes as base64")
    return key


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
