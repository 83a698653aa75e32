"""The simulators' common part: call and reply, record, fault switches, throw-away CA.

A simulator is a vendor's side as its page describes it. It imports nothing of ours, so that a
misreading of ours cannot hide in both.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class VendorCall:
    """One request as the simulator received it. headers: lower-case names. certificate: the
    client's, DER, if it showed one.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    connection: int = 0
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class VendorReply:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> VendorReply:
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return VendorReply(
            status, body, {"content-type": "application/json;charset=UTF-8", **(headers or {})}
        )


@dataclass(slots=True)
class Faults:
    """Switches of `POST /_sim/faults` (JSON object with these names; absent = unchanged). All off:
    an honest vendor.

    delay_ms: before each answer. Shares are 0..1 of the requests, taken by a running count, so that
    0.25 is every fourth one. only_first: the fault ends after so many hits (0: no end).
    goaway_after: requests of a connection answered before a graceful GOAWAY (0: never), HTTP/2
    only.
    """

    delay_ms: int = 0
    no_answer: float = 0.0  # read, never answered
    reset: float = 0.0  # RST_STREAM or TCP reset, nothing done
    refuse_stream: float = 0.0  # HTTP/2 REFUSED_STREAM, nothing done
    status: int = 0  # answer with this status instead...
    status_share: float = 0.0  # ...for this share, nothing done
    status_body: str = ""
    retry_after_s: int = 0
    garbage: float = 0.0  # done, but the answer is not what the vendor's page says
    empty: float = 0.0  # done, but the answer has no body
    huge: float = 0.0  # done, the answer carries 1 MiB of padding
    slow_drip: float = 0.0  # answer one byte at a time
    goaway_after: int = 0
    max_streams: int = 0  # HTTP/2: SETTINGS_MAX_CONCURRENT_STREAMS sent when set (0: 1000)
    expire_access: bool = False  # every access token given until now is refused from now on
    down: bool = False  # connections are refused
    over_quota: bool = False  # every send is answered with the vendor's own over-quota code
    over_rate: bool = False  # ... with the vendor's own too-fast code
    only_first: int = 0

    def change(self, wanted: Mapping[str, Any]) -> None:
        """ValueError names what is not a switch."""
        known = {f.name: f for f in fields(self)}
        for name, value in wanted.items():
            if name not in known:
                raise ValueError(f"no such fault: {name}; there are {', '.join(known)}")
            setattr(self, name, value)


class Record:
    """The accepted messages: one JSON line each, append-only; the oracle of end-to-end tests.

    Each line has at least: at_ms, vendor, account, token, id (the push id as sent, or None), and
    `body`, the message as the vendor understood it. Memory holds only the count per outcome; the
    lines' file is the truth.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab", buffering=0)
        self.counts: dict[str, int] = {}

    def accepted(self, **line: Any) -> None:
        line.setdefault("at_ms", int(time.time() * 1000))
        self._file.write(
            json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        )
        self.count("accepted")

    def count(self, outcome: str, by: int = 1) -> None:
        self.counts[outcome] = self.counts.get(outcome, 0) + by

    def lines(self) -> list[dict[str, Any]]:
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")  # the last one may be half written
        return [json.loads(line) for line in whole.splitlines() if line]


class Simulator(Protocol):
    """One vendor. handle: a pure-ish function of the call and the simulator's own state; it records
    what it accepts.
    """

    vendor: str
    record: Record
    faults: Faults
    endpoints: tuple[str, ...]  # the PUSHFLEET_ENDPOINT_<NAME> it stands for

    def handle(self, call: VendorCall) -> VendorReply: ...
    def control(self, action: str, wanted: Mapping[str, Any]) -> Any: ...


def control(simulator: Simulator, call: VendorCall) -> VendorReply | None:
    """The operator's side door, `/_sim/…`; None when the call is for the vendor.

    GET stats: counts; GET record: the lines; POST faults: the switches; anything else: the
    simulator's own `control`.
    """
    if not call.path.startswith("/_sim/"):
        return None
    action = call.path.removeprefix("/_sim/")
    try:
        wanted = json.loads(call.body or b"{}")
        if action == "stats":
            faults = asdict(simulator.faults)
            return VendorReply.json(
                200,
                {"vendor": simulator.vendor, "counts": simulator.record.counts, "faults": faults},
            )
        if action == "record":
            return VendorReply(
                200, simulator.record.path.read_bytes(), {"content-type": "application/x-ndjson"}
            )
        if action == "faults":
            simulator.faults.change(wanted)
            return VendorReply.json(200, asdict(simulator.faults))
        return VendorReply.json(200, simulator.control(action, wanted))
    except (ValueError, KeyError, TypeError) as error:
        return VendorReply.json(400, {"error": str(error)})


# ---------------------------------------------------------------- the throw-away CA


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    ca: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if not ca:
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def ensure_ca(folder: Path) -> Path:
    """Makes `ca.pem` and `ca.key` in the folder unless they are there; safe for many starters.
    Returns the path of ca.pem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "ca.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ca.pem").exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name(
                [x509.NameAttribute(NameOID.COMMON_NAME, "Pushfleet simulators (throw-away)")]
            )
            certificate = _certificate("Pushfleet simulators (throw-away)", key, name, key, ca=True)
            _write(folder / "ca.key", _pem(key))
            _write(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "ca.pem"


def issue(folder: Path, name: str) -> tuple[Path, Path]:
    """A server certificate for localhost signed by the folder's CA: (certificate
    path, key path).
    """
    ensure_ca(folder)
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("the CA's key is not an EC key")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(name, key, ca.subject, signer, ca=False)
    _write(folder / f"{name}.key", _pem(key))
    _write(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return folder / f"{name}.pem", folder / f"{name}.key"


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
