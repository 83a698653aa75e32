"""Keys, tokens and certificates as Apple's and Google's customers have them, made anew for the
tests of the simulators.
"""

import base64
import datetime
import functools
import json
import time
from pathlib import Path

from asn1crypto import core as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

DEVELOPMENT, PRODUCTION, VOIP_TOPICS, TOPICS = (
    x509.ObjectIdentifier(f"1.2.840.113635.100.6.3.{last}") for last in (1, 2, 4, 6)
)


def part(value) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def rsa_key(name: str = "") -> rsa.RSAPrivateKey:
    """Of a process, one of each name: to make one costs a tenth of a second."""
    return rsa.generate_private_key(65537, 2048)


def pem_of(key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def p8_options(p8: Path, key_id: str = "TESTKEY001", team_id: str = "TESTTEAM01") -> list[str]:
    """Options of `credential add apns`, with a key of one's own in this file."""
    if not p8.exists():
        p8.write_text(pem_of(ec_key()))
    account = f"--key-id {key_id} --team-id {team_id} --topic com.example.chat --env production"
    return ["--p8", str(p8), *account.split()]


def public_pem(key) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def provider_token(key, kid="KEY1234567", team="TEAM123456", iat=None, alg="ES256") -> str:
    signed = f"{part({'alg': alg, 'kid': kid})}.{part({'iss': team, 'iat': int(time.time()) if iat is None else iat})}"  # noqa: E501
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def assertion(key: rsa.RSAPrivateKey, header=None, **claims) -> str:
    now = int(time.time())
    whole = {
        "iss": "worker@demo.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": now,
        "exp": now + 3600,
        **claims,
    }
    signed = f"{part(header or {'alg': 'RS256', 'typ': 'JWT', 'kid': '0'})}.{part(whole)}"
    return f"{signed}.{part(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def push_certificate(
    uid="com.example.chat", topics=(), marks=(), voip_topics=(), days=1
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Self-signed, with Apple's fields: Subject UID, the lists of topics, the environments'
    markers. days: from now to its end.
    """
    key = ec_key()
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, "Apple Push Services")
    name = x509.Name([common_name, x509.NameAttribute(NameOID.USER_ID, uid)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    )
    begun = builder.serial_number(0xA11CE).not_valid_before(now - datetime.timedelta(9))
    builder = begun.not_valid_after(now + datetime.timedelta(days))
    for mark in marks:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(mark, asn1.Null().dump()), critical=False
        )
    if topics:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(TOPICS, topic_list(topics)), critical=False
        )
    if voip_topics:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(VOIP_TOPICS, topic_list(voip_topics)), critical=False
        )
    return builder.sign(key, hashes.SHA256()), key


def topic_list(topics) -> bytes:
    """SEQUENCE { UTF8String topic, SEQUENCE { UTF8String kind }, … }, as in pushy's
    apns-extensions.cnf.
    """
    body = b"".join(_tlv(0x0C, topic.encode()) + _tlv(0x30, _tlv(0x0C, b"app")) for topic in topics)
    return _tlv(0x30, body)


def _tlv(tag: int, body: bytes) -> bytes:
    length = (
        bytes([len(body)])
        if len(body) < 128
        else bytes([0x81, len(body)])
        if len(body) < 256
        else b"\x82" + len(body).to_bytes(2, "big")
    )
    return bytes([tag]) + length + body
