"""The files of `credential add apns`: a p8 key, or a p12 with one fitting certificate. Pure.

Source: apns.md §2.
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from workers.vendors.account_secrets import require, secret_file_text, secret_text
from workers.vendors.apns.account import EXACT
from workers.vendors.types import CredentialError

P12_BYTES_MAX: Final = 65_536  # a real one has 3 to 7 KiB
KDF_ITERATIONS_MAX: Final = 1_000_000  # Keychain writes 2,048; 2**31 would hold a core for an hour
_MARK_DEVELOPMENT: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
_MARK_PRODUCTION: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")
_TOPIC_LISTS: Final = (
    x509.ObjectIdentifier("1.2.840.113635.100.6.3.6"),
    x509.ObjectIdentifier("1.2.840.113635.100.6.3.4"),
)
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
_BUNDLE: Final = re.compile(r"[!-~]{1,155}")
_ID: Final = re.compile(r"[0-9A-Za-z]{10}")
#: Suffixes of Apple's topics after a bundle id (Apple, Sending notification requests to APNs, read
#: 2026-11-28).
_SUFFIX: Final = re.compile(
    r"\.(voip|voip-ptt|complication|pushkit\.fileprovider|location-query|push-type\.[a-z0-9-]+)$",
    re.IGNORECASE,
)
_VOIP_NAME: Final = "VoIP Services"

Identity = tuple[Any, x509.Certificate]  # a private key, the certificate of its public key


def read_credential(
    options: Mapping[str, str], files: Mapping[str, bytes], now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    """The checked options and secrets (PEM) of an account. files: p12 and password, or p8.

    Options: {topic, env, key_id, team_id | expires_ms, topics}. The password is used once and not
    kept. Raises CredentialError with fault and remedy.
    """
    require(options, "topic")
    topic, env = options["topic"], options.get("env") or "production"
    if "*" in topic:
        raise CredentialError("--topic must be one app's bundle id: APNs knows no wildcard (*)")
    if not _BUNDLE.fullmatch(topic):
        raise CredentialError("--topic must be a bundle id such as com.example.chat")
    if env not in ("production", "sandbox"):
        raise CredentialError("--env must be production or sandbox")
    if ("p12" in files) == ("p8" in files):
        raise CredentialError(
            "give either --p12 with --password-file, or --p8 with --key-id and --team-id"
        )
    read_one = _read_p12 if "p12" in files else _read_p8
    exact = {EXACT: "yes"} if options.get(EXACT) == "yes" else {}
    more, secrets = read_one({**options, "env": env}, files, now_ms)
    return {"topic": topic, "env": env, **exact, **more}, secrets


def _check_suffix(options: Mapping[str, str]) -> None:
    """Refuses a topic of calls or complications in place of the bundle id.

    Alerts would go there, and calls to `….voip.voip`.
    """
    topic = options["topic"]
    if (found := _SUFFIX.search(topic)) and options.get(EXACT) != "yes":
        raise CredentialError(
            f"--topic must be the bundle id, {topic[: found.start()]}: the fleet adds "
            f"{found.group()} itself where a push needs it "
            f"(a bundle id that really ends so: --option {EXACT}=yes)"
        )


# ---------------------------------------------------------------- p8


def _read_p8(
    options: Mapping[str, str], files: Mapping[str, bytes], _now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    require(options, "key_id", "team_id")
    for name in ("key_id", "team_id"):
        if not _ID.fullmatch(options[name]):
            raise CredentialError(
                f"--{name.replace('_', '-')} must have 10 letters and digits, as the "
                "developer account shows it"
            )
    _check_suffix(options)
    text = _p8_text(files["p8"])
    p8_key(text)
    return {"key_id": options["key_id"], "team_id": options["team_id"]}, {"p8": text}


def _p8_text(raw: bytes) -> str:
    """The PEM; a content that Apple or a tool wrote instead is named."""
    if raw[:1] == b"\x30":
        kind = (
            "a PKCS#12 file: give it as --p12 with --password-file"
            if _is_p12(raw)
            else "in DER: openssl pkey -inform DER -in F -out F.p8"
        )
        raise CredentialError(f"--p8 is {kind}")
    text = secret_file_text(raw, "--p8")
    if "BEGIN PKCS12" in text:
        raise CredentialError("--p8 is a PKCS#12 file: give it as --p12 with --password-file")
    if "BEGIN ENCRYPTED PRIVATE KEY" in text or "Proc-Type: 4,ENCRYPTED" in text:
        raise CredentialError(
            "--p8 is encrypted: openssl pkey -in F -out F.p8 writes it without a password"
        )
    if "BEGIN" in text and "PRIVATE KEY" not in text:
        raise CredentialError(
            "--p8 holds no private key: take the .p8 file that the developer account gave"
        )
    return text


def _asn1() -> Any:
    """asn1crypto. Loaded where an operator's file is read: no worker reads one."""
    import asn1crypto.core  # noqa: PLC0415
    import asn1crypto.keys  # noqa: PLC0415
    import asn1crypto.pem  # noqa: PLC0415
    import asn1crypto.pkcs12  # noqa: PLC0415

    return asn1crypto


def p8_key(text: str) -> ec.EllipticCurvePrivateKey:
    """The key of a PEM text; CredentialError where it is none that APNs takes."""
    try:
        key = serialization.load_pem_private_key(text.encode("utf-8", "replace"), password=None)
    except (*_PARSE_ERRORS, UnsupportedAlgorithm):
        key = _loose_key(text)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CredentialError("--p8 holds a key of another kind: APNs wants EC P-256")
    return key


def _loose_key(text: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key of GnuTLS: its number has a leading zero byte (RFC 5915 §3).

    The strict reader does not take it.
    """
    try:
        kind, _, der = _asn1().pem.unarmor(text[max(text.index("-----BEGIN"), 0) :].encode())
        inner = (
            _asn1().keys.PrivateKeyInfo.load(der)["private_key"].parsed
            if kind == "PRIVATE KEY"
            else _asn1().keys.ECPrivateKey.load(der)
        )
        return ec.derive_private_key(inner["private_key"].native, ec.SECP256R1())
    except _PARSE_ERRORS:
        raise CredentialError(
            "--p8 is not a private key in PEM (-----BEGIN PRIVATE KEY-----) as Apple's .p8 file is"
        ) from None


# ---------------------------------------------------------------- p12


def _read_p12(
    options: Mapping[str, str], files: Mapping[str, bytes], now_ms: int
) -> tuple[dict[str, str], dict[str, str]]:
    password = secret_text(files, "password")
    with warnings.catch_warnings():
        # old files are BER, serial numbers negative: nothing that a person can do about
        warnings.simplefilter("ignore")
        raw = _p12_bytes(files["p12"])
        _guard_p12(raw)
        key, certificate = _fitting(_identities(raw, password.encode()), options, now_ms)
        topics = _topics(certificate)
    encoding = serialization.Encoding.PEM
    secrets = {
        "certificate": certificate.public_bytes(encoding).decode(),
        "key": key.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }
    expires = str(_ms(certificate.not_valid_after_utc))
    return {"expires_ms": expires, "topics": ",".join(topics)}, secrets


def _p12_bytes(raw: bytes) -> bytes:
    """The file's DER, also out of its PEM armour; PEM of another kind is named."""
    if not raw.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"-----BEGIN "):
        return raw
    found = re.search(rb"-----BEGIN PKCS12-----(.*?)-----END PKCS12-----", raw, re.DOTALL)
    if found is None:
        raise CredentialError(
            "--p12 is not a PKCS#12 file but PEM: openssl pkcs12 -export -in F -out F.p12 "
            "makes one of certificate and key"
        )
    try:
        return base64.b64decode(b"".join(found[1].split()), validate=True)
    except binascii.Error:
        raise CredentialError(
            "--p12 is not a PKCS#12 file: its PEM armour holds no base64"
        ) from None


def _identities(raw: bytes, password: bytes) -> list[Identity]:
    """Every certificate of the file that has its private key in it, in any order."""
    try:
        key, certificate, others = load_key_and_certificates(raw, password)
    except (*_PARSE_ERRORS, UnsupportedAlgorithm):
        raise CredentialError(
            "--p12 does not open with this password: wrong password, or not a PKCS#12 file"
        ) from None
    certificates = [one for one in (certificate, *others) if one is not None]
    found = {_public(one): one for one in (key, *_keys(raw, password)) if one is not None}
    pairs = [(found[name], one) for one in certificates if (name := _public(one)) in found]
    if not pairs:
        raise CredentialError(
            "--p12 must hold a certificate and its private key; export both together"
        )
    return pairs


def _public(owner: Any) -> bytes:
    """The public key of a certificate or a private key; b"?" when unreadable."""
    try:
        return bytes(
            owner.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    except (*_PARSE_ERRORS, UnsupportedAlgorithm):
        return b"?"


def _keys(raw: bytes, password: bytes) -> Iterator[Any]:
    """Every private key with a bag of its own; the library's reader returns the first one only."""
    for bag in _bags(_asn1().pkcs12.Pfx.load(raw)):
        shrouded = bag["bag_id"].native == "pkcs8_shrouded_key_bag"
        if shrouded or bag["bag_id"].native == "key_bag":
            try:
                yield serialization.load_der_private_key(
                    bag["bag_value"].untag().dump(), password if shrouded else None
                )
            except (*_PARSE_ERRORS, UnsupportedAlgorithm):
                continue


def _fitting(pairs: Sequence[Identity], options: Mapping[str, str], now_ms: int) -> Identity:
    """The fitting pair that lives longest: dates, environment and topic match.

    Raises CredentialError for the nearest one that does not match.
    """
    fit: list[Identity] = []
    refused: list[tuple[bool, CredentialError]] = []
    for pair in pairs:
        try:
            _check(pair[1], options, now_ms)
            fit.append(pair)
        except CredentialError as error:
            refused.append((options["topic"] in _topics(pair[1]), error))
    if not fit:
        raise max(refused, key=lambda one: one[0])[1]
    return max(fit, key=lambda pair: pair[1].not_valid_after_utc)


def _check(certificate: x509.Certificate, options: Mapping[str, str], now_ms: int) -> None:
    _check_dates(certificate, now_ms)
    _check_environment(certificate, options["env"])
    _check_topic(certificate, options)


def _is_p12(raw: bytes) -> bool:
    try:
        return bool(_asn1().pkcs12.Pfx.load(raw)["version"].native == "v3")
    except _PARSE_ERRORS:
        return False


def _guard_p12(raw: bytes) -> None:
    """Checks iteration counts first: unauthenticated bytes can ask for an hour of work."""
    if len(raw) > P12_BYTES_MAX:
        raise CredentialError(
            f"--p12 has more than {P12_BYTES_MAX} bytes: not a certificate's export"
        )
    try:
        pfx = _asn1().pkcs12.Pfx.load(raw)
        counts = [*_iterations(pfx)]
        locked = pfx["mac_data"].native is not None or any(
            _is_locked(content) for content in pfx.authenticated_safe
        )
    except _PARSE_ERRORS:
        raise CredentialError("--p12 is not a PKCS#12 file") from None
    if max(counts, default=0) > KDF_ITERATIONS_MAX:
        raise CredentialError(
            f"--p12 asks for more than {KDF_ITERATIONS_MAX} rounds of key derivation: export "
            "it again"
        )
    if not locked:
        raise CredentialError(
            "--p12 has no password at all (neither checksum nor encryption): export it again,"
            " with one"
        )


def _is_locked(content: Any) -> bool:
    if content["content_type"].native != "data":
        return True
    bags = _asn1().pkcs12.SafeContents.load(content["content"].native)
    return any(bag["bag_id"].native == "pkcs8_shrouded_key_bag" for bag in bags)


def _bags(pfx: Any) -> Iterator[Any]:
    """The bags that can be seen without the password."""
    for content in pfx.authenticated_safe:
        if content["content_type"].native == "data":
            yield from _asn1().pkcs12.SafeContents.load(content["content"].native)


def _iterations(pfx: Any) -> Iterator[int]:
    """Every number in the cipher and checksum parameters that is readable without the password."""
    yield from _numbers(pfx["mac_data"].native)
    for content in pfx.authenticated_safe:
        if content["content_type"].native == "encrypted_data":
            algorithm = content["content"]["encrypted_content_info"]["content_encryption_algorithm"]
            yield from _numbers(algorithm["parameters"].native)
    for bag in _bags(pfx):
        if bag["bag_id"].native == "pkcs8_shrouded_key_bag":
            yield from _numbers(bag["bag_value"]["encryption_algorithm"]["parameters"].native)


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _numbers(item)


# ---------------------------------------------------------------- a certificate


def _check_dates(certificate: x509.Certificate, now_ms: int) -> None:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now_ms > _ms(last):
        raise CredentialError(
            f"the certificate expired on {last:%Y-%m-%d}: make a new one in the developer account"
        )
    if now_ms < _ms(first):
        raise CredentialError(
            f"the certificate is not valid before {first:%Y-%m-%d %H:%M} UTC: wait, or check "
            "this machine's clock"
        )


def _ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)


def _check_environment(certificate: x509.Certificate, env: str) -> None:
    """Refuses a certificate marked for the other environment only; no mark fits both."""
    oids = {extension.oid for extension in certificate.extensions}
    marks = oids & {_MARK_DEVELOPMENT, _MARK_PRODUCTION}
    if env == "production" and marks == {_MARK_DEVELOPMENT}:
        raise CredentialError(
            "the certificate is for development only: use --env sandbox, or a Sandbox & "
            "Production certificate"
        )
    if env == "sandbox" and marks == {_MARK_PRODUCTION}:
        raise CredentialError(
            "the certificate is for production only: use --env production, or a Sandbox & "
            "Production certificate"
        )


def _check_topic(certificate: x509.Certificate, options: Mapping[str, str]) -> None:
    """Checks that the bundle id is among the certificate's topics, if any, not for calls only."""
    topic, topics = options["topic"], _topics(certificate)
    if _is_voip_only(certificate, topics):
        raise CredentialError(
            "this is a VoIP Services certificate, for calls only: export the app's Apple "
            "Push Services certificate, it serves calls, too"
        )
    if topics and topic not in topics:
        raise CredentialError(
            f"the certificate is not for this topic, but for {', '.join(topics[:5])}"
        )
    # a bundle id that itself ends in .voip has its own topic for calls
    if f"{topic}.voip" not in topics:
        _check_suffix(options)


def _is_voip_only(certificate: x509.Certificate, topics: Sequence[str]) -> bool:
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names = [str(one.value) for one in attributes]
    only_voip = bool(topics) and all(
        one.endswith(".voip") and one.removesuffix(".voip") not in topics for one in topics
    )
    return any(name.startswith(_VOIP_NAME) for name in names) or (
        only_voip and not any(".voip.voip" in one for one in topics)
    )


def _topics(certificate: x509.Certificate) -> list[str]:
    """The topics that the certificate names, in its order; [] where it names none."""
    topics = [
        str(a.value) for a in certificate.subject.get_attributes_for_oid(x509.NameOID.USER_ID)
    ]
    for extension in certificate.extensions:
        if extension.oid in _TOPIC_LISTS and isinstance(
            extension.value, x509.UnrecognizedExtension
        ):
            topics += topic_list(extension.value.value)
    return list(dict.fromkeys(topics))


def topic_list(der: bytes) -> list[str]:
    """The texts of SEQUENCE {UTF8String topic, SEQUENCE {UTF8String kind}, …}, if readable."""
    try:
        return [child for child in _asn1().core.load(der).native.values() if isinstance(child, str)]
    except _PARSE_ERRORS:
        return []
