"""Signed JWTs as Apple and Google take them: compact form, read without trust, the signature
checked where a public key is known.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Jwt:
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def read(text: str) -> Jwt:
    """Raises ValueError unless the text is three parts of unpadded base64url.

    The first two must be JSON objects.
    """
    parts = text.split(".")
    if len(parts) != 3:
        raise ValueError("a JWT has three parts")
    header, claims = (json.loads(_bytes(part)) for part in parts[:2])
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise ValueError("a JWT's parts are JSON objects")  # noqa: TRY004 (one kind of error for all that can't be read)
    return Jwt(header, claims, f"{parts[0]}.{parts[1]}".encode(), _bytes(parts[2]))


def _bytes(part: str) -> bytes:
    if "=" in part:
        raise ValueError("base64url of a JWT has no padding")
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def public_key(pem: str) -> PublicKey:
    """Of a PEM public key or certificate. ValueError when it is neither, or of a kind no vendor
    takes.
    """
    data = pem.encode()
    key = (
        x509.load_pem_x509_certificate(data).public_key()
        if b"BEGIN CERTIFICATE" in data
        else load_pem_public_key(data)
    )
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
        raise ValueError("public_key_pem: neither EC nor RSA")  # noqa: TRY004
    return key


def signature_holds(jwt: Jwt, key: PublicKey) -> bool:
    """ES256: raw R||S, 64 bytes. RS256: PKCS #1 v1.5."""
    if isinstance(key, rsa.RSAPublicKey):
        return RSAAlgorithm(RSAAlgorithm.SHA256).verify(jwt.signed, key, jwt.signature)
    return ECAlgorithm(ECAlgorithm.SHA256).verify(jwt.signed, key, jwt.signature)
