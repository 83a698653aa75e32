"""Accounts with the vendors from the command line to the vendor's door: what is refused, what is
accepted, what never shows.
"""

import datetime
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from tests.e2e import operator
from tests.e2e.conftest import Core, now_ms, wait_for
from tests.e2e.operator import cli, good, send, took_effect
from tests.e2e.tenant import device_token as token
from tests.e2e.watch import Watch
from tests.records import fields_of
from tests.simulator_keys import DEVELOPMENT, PRODUCTION, TOPICS, pem_of, topic_list

pytestmark = [pytest.mark.e2e]

PASSWORD = "geheim-" + uuid.uuid4().hex
TOPIC = "com.example.chat"
KEYCHAIN = Path(__file__).parents[1] / "unit" / "vendors" / "data" / "keychain-legacy.p12"
DAY = datetime.timedelta(1)


def certificate(
    key: ec.EllipticCurvePrivateKey, *, marks: Any = (DEVELOPMENT, PRODUCTION)
) -> x509.Certificate:
    """As Apple's: the bundle id in the subject, the list of topics, a mark for each environment."""
    now = datetime.datetime.now(datetime.UTC)
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, "Apple Push Services")
    name = x509.Name([common_name, x509.NameAttribute(NameOID.USER_ID, TOPIC)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
    for mark in marks:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(mark, asn1.Null().dump()), critical=False
        )
    builder = builder.add_extension(
        x509.UnrecognizedExtension(TOPICS, topic_list([TOPIC, f"{TOPIC}.voip"])), critical=False
    )
    return builder.sign(key, hashes.SHA256())


class Files:
    """Secret files of this module, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.serials: dict[str, str] = {}
        key = ec.generate_private_key(ec.SECP256R1())
        self.text("password", f"  {PASSWORD}\r\n\n")
        self.text("wrong", "another")
        self.text("keychain", "geheim")
        self.text("p8", f"\n\t{pem_of(ec.generate_private_key(ec.SECP256R1()))}\n \n")
        self.text("p8_next", pem_of(ec.generate_private_key(ec.SECP256R1())))
        self.text("junk", "-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n")
        self.p12("p12", key)
        self.p12("production", key, marks=[PRODUCTION])
        self.text("secret", f"  s-{uuid.uuid4().hex}\n")

    def text(self, name: str, words: str) -> None:
        (self.folder / name).write_text(words)

    def p12(self, name: str, key: ec.EllipticCurvePrivateKey, **more: Any) -> None:
        made = certificate(key, **more)
        secrecy = serialization.BestAvailableEncryption(PASSWORD.encode())
        raw = pkcs12.serialize_key_and_certificates(b"push", key, made, None, secrecy)
        (self.folder / name).write_bytes(raw)
        self.serials[name] = f"{made.serial_number:x}"

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("secrets"))


@pytest.fixture(scope="module")
def tenant(fleet: Core) -> str:
    return operator.new_app(fleet)


def options(files: Files, words: str) -> list[str]:
    """`--p12 @expired` names the file `expired` of this module."""
    return [files[word[1:]] if word.startswith("@") else word for word in words.split()]


P12 = "apns --business-id x --topic com.example.chat --env production"
P8 = f"{P12} --key-id KEY1234567 --team-id TEAM123456"
FIRST_KEY = "--p8 @p8 --key-id KEYFIRST01 --team-id TEAM123456"
XIAOMI = (
    "xiaomi --business-id x --app-secret-file @secret --package com.example.chat --right "
    "xiaomi.private"
)
HUAWEI = "huawei --app-id 100000001 --app-secret-file @secret"
REFUSED = {
    "a p12 with a wrong password": (f"{P12} --p12 @p12 --password-file @wrong", "wrong password"),
    "a p8 that does not parse": (f"{P8} --p8 @junk", "--p8 is not a private key"),
    "a service account that is no JSON": (
        "harmony --business-id x --service-account @junk",
        "not JSON",
    ),
    "no secret": ("huawei --business-id x --app-id 1", "--app-secret-file is missing"),
    "a business id with a bracket": (f"{HUAWEI} --business-id a(1)", "--business-id"),
    "a business id with a brace": (f"{HUAWEI} --business-id a{{1}}", "--business-id"),
    "a business id of 33 characters": (f"{HUAWEI} --business-id {'x' * 33}", "--business-id"),
    "a business id that is not ASCII": (f"{HUAWEI} --business-id 华为", "--business-id"),
    "an unknown right": (f"{HUAWEI} --business-id x --right huawei.everything", "huawei.im"),
    "another vendor's right": (
        f"{HUAWEI} --business-id x --right vivo.system",
        "--right vivo.system is unknown",
    ),
    "a right where there are none": (f"{P8} --p8 @p8 --right apns.all", "no rights"),
    "xiaomi.private without anything": (XIAOMI, "--channel chat=ID"),
    "xiaomi.private without a template": (
        f"{XIAOMI} --channel chat=1 --channel call=1 --template call=T",
        "--template chat=ID",
    ),
    "xiaomi.private without a channel": (
        f"{XIAOMI} --channel chat=1 --template chat=T --template call=T",
        "--channel call=ID",
    ),
    "a template with one variable": (f"{XIAOMI} --template chat=T:who", "--template"),
    "a channel of a class that is none": (f"{XIAOMI} --channel chats=1", "no message class"),
    "a channel without an id": (f"{XIAOMI} --channel chat", "NAME=VALUE"),
    "a quota of a bucket that is none": (
        f"{HUAWEI} --business-id x --quota secret=1",
        "private or public",
    ),
    "a quota that is no number": (f"{HUAWEI} --business-id x --quota public=many", "whole number"),
    "a rate that is none": (f"{HUAWEI} --business-id x --rate fast", "--rate"),
    "a rate without its second": (f"{HUAWEI} --business-id x --rate 5", "--rate takes N/s"),
    "a rate beyond all": (f"{HUAWEI} --business-id x --rate {'9' * 20}/s", "--rate takes N/s"),
    "a rate of none": (f"{HUAWEI} --business-id x --rate 0/s", "--rate takes N/s"),
    "shares over the whole": (
        f"{HUAWEI} --business-id x --reserve chat=60% --reserve call=60%",
        "100%",
    ),
    "a vendor that is none": ("nokia --business-id x", "nokia"),
}


@pytest.mark.parametrize(("words", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_account_is_refused_with_exit_code_2_and_its_reason(
    fleet: Core, tenant: str, files: Files, words: str, reason: str
) -> None:
    code, out, err = cli(fleet, "credential", "add", *options(files, words), "--app", tenant)
    assert (code, out) == (2, "")
    assert reason in operator.first_words(err)
    assert "Traceback" not in err
    assert PASSWORD not in err
    assert json.loads(good(fleet, "credential", "list", "--app", tenant, "--json")) == []


def test_a_business_id_with_a_space_is_wrong_and_an_unknown_tenant_not_there(
    fleet: Core, tenant: str, files: Files
) -> None:
    rest = options(files, HUAWEI)
    assert cli(fleet, "credential", "add", *rest, "--app", tenant, "--business-id", "a b")[0] == 2
    code, _, err = cli(fleet, "credential", "add", *rest, "--app", "nobody", "--business-id", "x")
    assert code == 1
    assert "pushfleet app add nobody" in err


def test_the_command_itself_ends_with_exit_code_2_and_one_line(
    fleet: Core, tenant: str, files: Files
) -> None:
    command = [sys.executable, "-m", "workers", "credential", "add", "--app", tenant]
    environ = {**os.environ, "PUSHFLEET_DATA_DIR": str(fleet.runtime.settings.data_dir)}
    argv = [*command, *options(files, f"{P12} --p12 @p12 --password-file @wrong")]
    ended = subprocess.run(
        argv, capture_output=True, text=True, env=environ, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1


def x509_of(path: Path) -> x509.Certificate:
    """The certificate of an old export, encrypted as Keychain does it: RC2 with 40 bits."""
    # pbeWithSHAAnd40BitRC2-CBC
    assert b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x06" in path.read_bytes()
    _, found, _ = pkcs12.load_key_and_certificates(path.read_bytes(), b"geheim")
    assert found
    return found


def apns(fleet: Core, app: str, files: Files, business_id: str, words: str) -> None:
    account = f"credential add apns --app {app} --business-id {business_id} --topic {TOPIC}"
    good(fleet, *account.split(), *options(files, words))


def push_by(fleet: Core, app: str, business_id: str, address: str) -> dict[str, Any]:
    """A push over this account lands; its line in the simulator's record."""
    user = "u-" + uuid.uuid4().hex[:8]
    operator.register(fleet, app, user, "apns", business_id, address)
    row = send(fleet, app, user)
    assert (row["decision"], row["business_id"]) == ("accepted", business_id)
    (line,) = fleet.pushes_to("apns", address)
    return line


def test_certificates_speak_for_themselves_in_both_environments(fleet: Core, files: Files) -> None:
    app = operator.new_app(fleet)
    apns(fleet, app, files, "prod", "--p12 @p12 --password-file @password --env production")
    apns(fleet, app, files, "dev", "--p12 @p12 --password-file @password --env sandbox")
    old = f"--p12 {KEYCHAIN} --password-file @keychain --env production"
    apns(fleet, app, files, "keychain", old)
    keychain = f"{x509_of(KEYCHAIN).serial_number:x}"
    starts = (("prod", "9c0d"), ("dev", "5a4d"), ("keychain", "a1b2"))
    lines = {name: push_by(fleet, app, name, start + token("apns")[4:]) for name, start in starts}
    assert {name: (line["account"], line["env"]) for name, line in lines.items()} == {
        "prod": (files.serials["p12"], "production"),
        "dev": (files.serials["p12"], "sandbox"),
        "keychain": (keychain, "production"),
    }
    again = f"credential add apns --app {app} --business-id prod --topic {TOPIC}".split()
    secret = options(files, "--p12 @p12 --password-file @password")
    code, _, err = cli(fleet, *again, *secret)
    assert code == 2
    assert "rotate" in err


def test_a_template_names_the_vendors_own_variables(fleet: Core, files: Files) -> None:
    app = operator.new_app(fleet)
    words = (
        f"{XIAOMI.replace(' x ', ' mi ')} --channel chat=101 --channel call=102 --template "
        "chat=T1:who,what --template call=T2"
    )
    good(fleet, "credential", "add", *options(files, words), "--app", app)
    address = operator.register(fleet, app, "u2", "xiaomi", "mi", token("xiaomi"))
    assert send(fleet, app, "u2")["decision"] == "accepted"
    (line,) = fleet.pushes_to("xiaomi", address)
    assert line["class"] == "private"
    body = line["body"]
    assert body["extra.template_id"] == "T1"
    assert json.loads(body["extra.template_param"]) == {"who": "Ann", "what": "hello 你好"}
    assert body["extra.channel_id"] == "101"


# ---------------------------------------------------------------- secrets


def everything_in_redis(fleet: Core) -> Iterator[bytes]:
    """Every value, as it lies there."""
    redis = fleet.redis
    reads: dict[Any, Any] = {
        b"string": lambda key: [redis.get(key)],
        b"hash": lambda key: [part for pair in redis.hgetall(key).items() for part in pair],
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"stream": lambda key: [
            part for fields in fields_of(redis, key) for pair in fields.items() for part in pair
        ],
    }
    reads[b"none"] = lambda _key: []  # its time ran out since it was listed
    for key in redis.scan_iter(count=1000):
        yield key
        yield from (value for value in reads[redis.type(key)](key) if value)


def test_secrets_show_nowhere(fleet: Core, files: Files) -> None:
    app = operator.new_app(fleet)
    secret, rotated = f"s3cr3t{uuid.uuid4().hex}", f"s3cr3t{uuid.uuid4().hex}"
    for name, words in (("seen_first", f"\t{secret}\r\n"), ("seen_next", rotated)):
        files.text(name, words)
    with Watch(fleet) as watch:
        given = f"huawei --app-id 1 --app-secret-file @seen_first --app {app} --business-id h"
        said = [good(fleet, "credential", "add", *options(files, given))]
        apns(fleet, app, files, "ios", "--p12 @p12 --password-file @password")
        address = operator.register(fleet, app, "u2", "huawei", "h", token("huawei"))
        assert send(fleet, app, "u2")["decision"] == "accepted"
        assert fleet.pushes_to("huawei", address)
        given = f"{app} huawei h --app-secret-file @seen_next"
        said.append(good(fleet, "credential", "rotate", *options(files, given)))
        took_effect()
        assert send(fleet, app, "u2")["decision"] == "accepted"
        said += [
            good(fleet, "credential", "list", *more)
            for more in ([], ["--json"], ["--app", app, "--json"])
        ]
    logs = fleet.runtime.settings.data_dir / "logs"
    places = {
        "the command line": "".join(said).encode(),
        "Redis' commands, Celery's messages among them": "\n".join(watch.commands).encode(),
        "Redis' values": b"\n".join(everything_in_redis(fleet)),
        "the logs": b"".join(path.read_bytes() for path in logs.glob("*")),
        "the database": _credentials_table(fleet),
    }
    assert all(places.values())
    private = files.folder.joinpath("p8").read_text().strip().splitlines()[1]
    for place, found in places.items():
        for hidden in (secret, rotated, PASSWORD, private):
            assert hidden.encode() not in found, place


def _credentials_table(fleet: Core) -> bytes:
    with fleet.runtime.engine.connect() as connection:
        query = text(
            "SELECT convert_from(secrets, 'UTF8') || row_to_json(credentials)::text FROM "
            "credentials"
        )
        rows = connection.execute(query)
        return "\n".join(row[0] for row in rows).encode()


# ---------------------------------------------------------------- living with accounts


def versions(fleet: Core, app: str) -> list[int]:
    with fleet.runtime.engine.connect() as connection:
        query = text("SELECT version FROM credentials WHERE app = :app ORDER BY 1")
        return [row[0] for row in connection.execute(query, {"app": app})]


def test_a_rotated_key_takes_over_while_the_old_one_lives_on(fleet: Core, files: Files) -> None:
    app = operator.new_app(fleet)
    apns(fleet, app, files, "ios", FIRST_KEY)
    assert push_by(fleet, app, "ios", token("apns"))["account"] == "KEYFIRST01"
    rotate = f"credential rotate {app} apns ios".split()
    good(fleet, *rotate, *options(files, "--p8 @p8_next --key-id KEYSECOND2"))
    assert versions(fleet, app) == [1, 2]
    took_effect()
    assert push_by(fleet, app, "ios", token("apns"))["account"] == "KEYSECOND2"
    good(fleet, *rotate, *options(files, "--p12 @p12 --password-file @password"))
    assert versions(fleet, app) == [2, 3]
    took_effect()
    assert push_by(fleet, app, "ios", token("apns"))["account"] == files.serials["p12"]


def test_a_rotation_that_names_an_option_only_changes_that_option(
    fleet: Core, files: Files
) -> None:
    app = operator.new_app(fleet)
    apns(fleet, app, files, "ios", f"{FIRST_KEY} --env production")
    good(fleet, "credential", "rotate", app, "apns", "ios", "--env", "sandbox")
    (row,) = json.loads(good(fleet, "credential", "list", "--app", app, "--json"))
    assert (row["version"], row["env"], row["options"]["key_id"]) == (2, "sandbox", "KEYFIRST01")
    code, _, err = cli(fleet, "credential", "rotate", app, "apns", "ios", "--topic", "com.*")
    assert code == 2
    assert "wildcard" in err
    took_effect()
    assert push_by(fleet, app, "ios", "5a4d" + token("apns")[4:])["env"] == "sandbox"


def test_an_option_that_the_secret_file_must_vouch_for_is_refused_without_it(
    fleet: Core, files: Files
) -> None:
    app = operator.new_app(fleet)
    apns(fleet, app, files, "ios", "--p12 @production --password-file @password --env production")
    code, _, err = cli(fleet, "credential", "rotate", app, "apns", "ios", "--env", "sandbox")
    assert code == 2
    assert "--p12" in err
    good(fleet, "credential", "rotate", app, "apns", "ios", "--rate", "100/s")
    (row,) = json.loads(good(fleet, "credential", "list", "--app", app, "--json"))
    assert (row["version"], row["env"], row["limits"]) == (2, "production", {"rate": 100.0})


def test_a_paused_lane_holds_its_pushes_and_lets_them_go_when_it_flows_again(
    fleet: Core, files: Files
) -> None:
    app = operator.new_app(fleet)
    apns(fleet, app, files, "ios", FIRST_KEY)
    good(fleet, "credential", "pause", app, "apns", "ios")
    took_effect()
    address = operator.register(fleet, app, "u2", "apns", "ios", token("apns"))
    held = [operator.message("u2") for _ in range(3)]
    for index, data in enumerate(held):
        fleet.publish("message.stored", data, app=app, ts=now_ms() + index)
    rows = [
        operator.row_of(fleet, app, data, lambda row: row["steps"][-1]["stage"] == "delivery")
        for data in held
    ]
    assert [row["decision"] for row in rows] == [None] * 3
    assert all("lane_paused" in row["steps"][-1]["note"] for row in rows)
    assert wait_for(lambda: operator.parked(fleet, app, "apns", "ios"), "parked pushes")
    wait_for(
        lambda: operator.metric(fleet, "pushfleet_lane_state", app=app, vendor="apns") == 2,
        "the lane's gauge",
    )
    assert lane_row(fleet, app)["state"] == "paused"
    assert lane_row(fleet, app)["parked"] >= 1

    def of_a_short_one() -> list[str]:
        """None where the machine stood still until it was too late for the lane."""
        short = operator.message("u2", push={"ttl_s": 2})
        fleet.publish("message.stored", short, app=app)
        rows = fleet.why(short["message_id"], app)["recipients"]
        return [row["decision"] for row in rows if row["decision"] != "expired"]

    assert wait_for(of_a_short_one, "a row") == ["lane_paused"]
    assert not fleet.pushes_to("apns", address)
    good(fleet, "credential", "resume", app, "apns", "ios")
    decided = [fleet.why(data["message_id"], app)["recipients"][0]["decision"] for data in held]
    assert decided[-1] == "accepted"
    # one push of a conversation's backlog, once it is old: tests/e2e/test_urgency.py
    assert set(decided) <= {"accepted", "folded"}
    assert len(fleet.pushes_to("apns", address)) == decided.count("accepted")
    assert operator.parked(fleet, app, "apns", "ios") == 0
    assert (lane_row(fleet, app)["state"], lane_row(fleet, app)["parked"]) == ("flowing", 0)


def lane_row(fleet: Core, app: str) -> dict[str, Any]:
    """The tenant's only lane, as `pushfleet lanes --json` shows it."""
    (row,) = [row for row in json.loads(good(fleet, "lanes", "--json")) if row["app"] == app]
    return row


def test_after_an_account_was_removed_its_devices_have_no_credential(
    fleet: Core, files: Files
) -> None:
    app = operator.new_app(fleet)
    apns(fleet, app, files, "ios", FIRST_KEY)
    operator.register(fleet, app, "u2", "apns", "ios", token("apns"))
    assert send(fleet, app, "u2")["decision"] == "accepted"
    good(fleet, "credential", "remove", app, "apns", "ios")
    took_effect()
    assert send(fleet, app, "u2")["decision"] == "no_credential"
    for command in ("remove", "pause", "resume", "check", "rotate"):
        assert cli(fleet, "credential", command, app, "apns", "ios")[0] == 1


@pytest.mark.parametrize(
    "vendor", ["apns", "fcm", "huawei", "xiaomi", "oppo", "vivo", "meizu", "honor", "harmony"]
)
def test_check_asks_the_vendor_and_says_what_it_said(
    fleet: Core, lanes: tuple[str, dict[str, list[str]]], vendor: str
) -> None:
    app, _ = lanes
    record = "huawei" if vendor == "harmony" else vendor
    before = len(fleet.record(record))
    assert good(fleet, "credential", "check", app, vendor, f"{vendor}-1").strip()
    # APNs and Meizu have no test call: there it is a push to a device token of zeros, which is
    # nobody's
    assert all(not line["token"].strip("0") for line in fleet.record(record)[before:])


def test_check_of_a_wrong_secret_is_a_no(fleet: Core, files: Files) -> None:
    app = operator.new_app(fleet)
    files.text("wrong_secret", "wrong-secret")
    given = f"huawei --app-id 1 --app-secret-file @wrong_secret --app {app} --business-id h"
    good(fleet, "credential", "add", *options(files, given))
    code, out, err = cli(fleet, "credential", "check", app, "huawei", "h")
    assert (code, out) == (1, "")
    assert "credential_refused" in err


lanes = operator.lanes
