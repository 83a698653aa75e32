"""Accounts with Apple: p12 files of every order and maker, topics that are none, keys that other
tools wrote.
"""

import base64
import contextlib
import datetime
import hashlib
import hmac
import warnings
from itertools import permutations
from typing import Any, cast

import pytest
from asn1crypto import pkcs12 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.simulator_keys import ec_key
from tests.unit.vendors.cases import NOW_MS
from tests.unit.vendors.test_apns import DEVELOPMENT, P8, PRODUCTION, topic_list
from workers.vendors.apns.credential import p8_key, read_credential
from workers.vendors.types import CredentialError

PASSWORD = b"geheim"
CHAT = "com.example.chat"
DAY = datetime.timedelta(1)
NOW = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)


def certificate_of(
    key,
    topic=CHAT,
    topics=None,
    first=-1,
    last=365,
    marks=(DEVELOPMENT, PRODUCTION),
    name="Apple Push Services",
    serial=7,
):
    common_name = x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name}: {topic}")
    names = [common_name, x509.NameAttribute(x509.NameOID.USER_ID, topic)]
    builder = x509.CertificateBuilder(x509.Name(names), x509.Name(names), key.public_key(), serial)
    builder = builder.not_valid_before(NOW + first * DAY).not_valid_after(NOW + last * DAY)
    listed = topic_list(*(topics if topics is not None else (topic, f"{topic}.voip")))
    extensions = [*((mark, b"\x05\x00") for mark in marks), ("1.2.840.113635.100.6.3.6", listed)]
    for oid, raw in extensions:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), raw), critical=False
        )
    return builder.sign(key, hashes.SHA256())


def p12_of(key, certificate, others=None, secrecy=None):
    secrecy = secrecy or serialization.BestAvailableEncryption(PASSWORD)
    return pkcs12.serialize_key_and_certificates(b"x", key, certificate, others, secrecy)


def together(*files):
    """One p12 of several, its checksum made anew: what Java's keytool writes for a store with
    several entries.
    """
    loaded = [asn1.Pfx.load(raw) for raw in files]
    contents = [content for one in loaded for content in one.authenticated_safe]
    first = loaded[0]
    raw = asn1.AuthenticatedSafe(contents).dump(force=True)
    first["auth_safe"]["content"] = raw
    mac = first["mac_data"]
    name = mac["mac"]["digest_algorithm"]["algorithm"].native
    derived = _mac_key(name, mac["mac_salt"].native, mac["iterations"].native)
    mac["mac"]["digest"] = hmac.digest(derived, raw, name)
    return first.dump(force=True)


def _mac_key(name, salt, rounds):
    """RFC 7292 appendix B.2, purpose 3, for one block of output."""
    size, block = hashlib.new(name).digest_size, hashlib.new(name).block_size
    password = PASSWORD.decode().encode("utf-16-be") + b"\0\0"

    def filled(part):
        return (part * (-(-block // len(part))))[: -(-len(part) // block) * block]

    digest = hashlib.new(name, b"\x03" * block + filled(salt) + filled(password)).digest()
    for _ in range(rounds - 1):
        digest = hashlib.new(name, digest).digest()
    return digest[:size]


def given(raw, topic=CHAT, env="production", password=PASSWORD, **options):
    return read_credential(
        {"topic": topic, "env": env, **options}, {"p12": raw, "password": password}, NOW_MS
    )


def taken(raw, **changes):
    """The certificate that was chosen, after a look that its key is the right one."""
    _, secrets = given(raw, **changes)
    chosen = x509.load_pem_x509_certificate(secrets["certificate"].encode())
    found = serialization.load_pem_private_key(secrets["key"].encode(), None).public_key()
    assert found == chosen.public_key()
    return chosen


IDENTITIES = {
    "another app": {"topic": "com.example.other"},
    "expired": {"first": -400, "last": -30},
    "the other environment": {"marks": (DEVELOPMENT,)},
    "calls only": {"topic": f"{CHAT}.voip", "topics": (), "name": "VoIP Services"},
    "mine": {"last": 100, "serial": 42},
}


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize(
    "others", [("another app", "expired"), ("the other environment", "calls only")], ids=" ".join
)
def test_the_identity_that_fits_is_found_in_any_order(order, others):
    files = []
    for name in ("mine", *others):
        key = ec_key()
        files.append(p12_of(key, certificate_of(key, **cast(Any, IDENTITIES[name]))))
    assert taken(together(*(files[n] for n in order))).serial_number == 42


@pytest.mark.parametrize("last", [True, False])
def test_a_renewal_for_the_same_key_is_found_beside_the_expired_one(last):
    key = ec_key()
    old, new = certificate_of(key, first=-400, last=-30), certificate_of(key, serial=42)
    certificate, others = (old, [new]) if last else (new, [old])
    assert taken(p12_of(key, certificate, others)).serial_number == 42


def test_of_several_that_fit_the_one_that_lives_longest_is_taken():
    key = ec_key()
    short, long = certificate_of(key, last=10), certificate_of(key, last=300, serial=42)
    assert taken(p12_of(key, short, [long])).serial_number == 42


def test_chains_and_strangers_beside_it_change_nothing():
    key = ec_key()
    strangers = [certificate_of(ec_key(), serial=n) for n in (1, 2)]
    assert taken(p12_of(key, certificate_of(key, serial=42), strangers)).serial_number == 42


def test_where_none_fits_the_nearest_is_told():
    keys = ec_key(), ec_key()
    other = p12_of(keys[0], certificate_of(keys[0], topic="com.example.other"))
    raw = together(other, p12_of(keys[1], certificate_of(keys[1], first=-400, last=-30)))
    with pytest.raises(CredentialError, match="expired on"):
        given(raw)


SECRECY = {
    "3DES and SHA-1, as Keychain and old openssl write": (
        b"geheim",
        pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC,
    ),
    "AES of today": (b"geheim", pkcs12.PBES.PBESv2SHA256AndAES256CBC),
    "a password of letters outside ASCII": ("gehäim€".encode(), None),
    "of Cyrillic letters": ("пароль".encode(), None),
    "of an emoji, two units in UTF-16": ("geheim🔑".encode(), None),
    "of 200 letters": (b"x" * 200, None),
    "with blanks inside": (b"ge heim", None),
}


@pytest.mark.parametrize(("password", "kind"), SECRECY.values(), ids=SECRECY)
@pytest.mark.parametrize("name", [None, b"", "Ключ 🔑".encode()], ids=["no name", "empty", "odd"])
def test_a_p12_opens_whatever_its_cipher_password_and_name(password, kind, name):
    key = ec_key()
    builder = serialization.PrivateFormat.PKCS12.encryption_builder()
    secrecy = (
        serialization.BestAvailableEncryption(password)
        if kind is None
        else builder.key_cert_algorithm(kind).hmac_hash(hashes.SHA1()).build(password)
    )
    raw = pkcs12.serialize_key_and_certificates(
        name, key, certificate_of(key, serial=42), None, secrecy
    )
    assert taken(raw, password=password).serial_number == 42
    with pytest.raises(CredentialError, match="does not open with this password"):
        taken(raw, password=password + b"x")


def test_a_p12_without_checksum_and_encryption_is_refused():
    key = ec_key()
    bare = asn1.Pfx.load(p12_of(key, certificate_of(key), secrecy=serialization.NoEncryption()))
    del bare["mac_data"]
    with pytest.raises(CredentialError, match="no password at all"):
        given(bare.dump(force=True))


def test_a_p12_that_is_encrypted_needs_no_checksum():
    key = ec_key()
    bare = asn1.Pfx.load(p12_of(key, certificate_of(key, serial=42)))
    del bare["mac_data"]
    assert taken(bare.dump(force=True)).serial_number == 42


def test_a_key_that_nobody_can_read_is_nobodys():
    key, odd = ec_key(), ec_key()
    strange = p12_of(
        odd, certificate_of(odd, topic="com.example.other"), secrecy=serialization.NoEncryption()
    )
    of_no_kind = strange.replace(
        bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d027f")
    )
    assert of_no_kind != strange
    found = taken(together(p12_of(key, certificate_of(key, serial=42)), of_no_kind)).serial_number
    assert found == 42


def test_a_p12_in_pem_armour_is_read_and_other_pem_is_named():
    key = ec_key()
    raw = p12_of(key, certificate_of(key, serial=42))
    armour = b"-----BEGIN PKCS12-----\n" + base64.encodebytes(raw) + b"-----END PKCS12-----\n"
    assert taken(armour).serial_number == taken(b"\xef\xbb\xbf" + armour).serial_number == 42
    with pytest.raises(CredentialError, match="openssl pkcs12 -export"):
        given(P8.encode())


def test_pythons_own_warnings_are_nobodys_business():
    key = ec_key()
    raw = p12_of(key, certificate_of(key))
    ber = b"\x30\x80" + raw[4:] + b"\0\0"  # indefinite length, as NSS writes it
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for one in (raw, ber):
            with contextlib.suppress(CredentialError):
                given(one)
    assert seen == []


SUFFIXES = [
    *(".voip", ".VoIP", ".complication", ".pushkit.fileprovider", ".location-query", ".voip-ptt"),
    *(".push-type.liveactivity", ".push-type.widgets", ".push-type.controls"),
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_topic_of_calls_or_complications_is_no_bundle_id(suffix):
    key = ec_key()
    listed = (CHAT, f"{CHAT}{suffix}")
    with pytest.raises(CredentialError, match=f"bundle id, {CHAT}:"):
        given(p12_of(key, certificate_of(key, topics=listed)), topic=f"{CHAT}{suffix}")
    options = {"topic": f"{CHAT}{suffix}", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"}
    with pytest.raises(CredentialError, match=f"bundle id, {CHAT}:"):
        read_credential(options, {"p8": P8.encode()}, NOW_MS)


def test_a_bundle_id_that_really_ends_in_voip_is_taken():
    key, topic = ec_key(), f"{CHAT}.voip"
    # its list has ….voip.voip
    assert given(p12_of(key, certificate_of(key, topic=topic)), topic=topic)[0]["topic"] == topic
    options = {
        "topic": topic,
        "key_id": "ABC123DEFG",
        "team_id": "DEF123GHIJ",
        "bundle_id_exact": "yes",
    }
    kept, _ = read_credential(options, {"p8": P8.encode()}, NOW_MS)
    assert (kept["topic"], kept["bundle_id_exact"]) == (topic, "yes")


@pytest.mark.parametrize("topic", [CHAT, f"{CHAT}.voip"])
@pytest.mark.parametrize("changes", [{"name": "VoIP Services"}, {"topics": ()}])
def test_a_voip_services_certificate_is_refused_for_alerts(topic, changes):
    key = ec_key()
    raw = p12_of(key, certificate_of(key, topic=f"{CHAT}.voip", **{"topics": (), **changes}))
    with pytest.raises(CredentialError, match="VoIP Services certificate"):
        given(raw, topic=topic)


#: `certtool --generate-privkey --key-type=ecdsa --curve=secp256r1` of GnuTLS 3.7.9, a key made for
#: this test: its number has 33 bytes.
GNUTLS = """Public Key Info:
\tPublic Key Algorithm: EC/ECDSA

-----BEGIN EC PRIVATE KEY-----
MHgCAQEEIQCIRPwtLq2XLp8ZCxxFh2y5o77mOIYjoziGKfvqBno5/6AKBggqhkjO
PQMBB6FEA0IABPtbRIwe4K2wtiHFIKyVq8kxrVax9/fafIB1PzuUiYz1y35/nBeu
LIDsr6AumD0IxByg5YDdIqEJ+XtXZ5wtbTI=
-----END EC PRIVATE KEY-----
"""


def test_a_key_that_gnutls_wrote_is_taken():
    key = p8_key(GNUTLS)
    assert isinstance(key.curve, ec.SECP256R1)
    signature = key.sign(b"x", ec.ECDSA(hashes.SHA256()))
    key.public_key().verify(signature, b"x", ec.ECDSA(hashes.SHA256()))
    options = {"topic": CHAT, "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"}
    assert read_credential(options, {"p8": GNUTLS.encode()}, NOW_MS)[1]["p8"] == GNUTLS.strip()


def _p8(**how):
    usual = {"encoding": serialization.Encoding.PEM, "format": serialization.PrivateFormat.PKCS8}
    return ec_key().private_bytes(
        **{**usual, "encryption_algorithm": serialization.NoEncryption(), **how}
    )


WRONG_P8 = {
    "a p12": (lambda: p12_of(key := ec_key(), certificate_of(key)), "--p12 with --password-file"),
    "der": (lambda: _p8(encoding=serialization.Encoding.DER), "-inform DER"),
    "encrypted": (
        lambda: _p8(encryption_algorithm=serialization.BestAvailableEncryption(b"x")),
        "is encrypted",
    ),
    "a certificate": (
        lambda: certificate_of(ec_key()).public_bytes(serialization.Encoding.PEM),
        "no private key",
    ),
    "nothing": (lambda: b" \n", "--p8 is empty"),
    "no text": (lambda: b"\xff\x00\x01", "--p8 is not text"),
}


@pytest.mark.parametrize(("make", "words"), WRONG_P8.values(), ids=WRONG_P8)
def test_what_is_no_p8_is_named_by_an_option_that_exists(make, words):
    options = {"topic": CHAT, "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ"}
    with pytest.raises(CredentialError, match=words) as caught:
        read_credential(options, {"p8": make()}, NOW_MS)
    assert "--p8-file" not in str(caught.value)
