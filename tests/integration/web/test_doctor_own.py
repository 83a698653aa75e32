"""Doctor on what is wrong outside the fleet: the core's keys, certificates, proxies, databases."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from common.clock import now_ms
from common.storage import ledger_reads
from simulators.simulator import ensure_ca, issue
from tests.conftest import own_database
from tests.integration.web.conftest import APP
from tests.integration.web.test_doctor import problems
from tests.integration.web.test_doctor_faults import living, only  # noqa: F401
from tests.records import accepted_row, event_record
from tests.tables import table
from workers.reports.findings import database_error, redis_error
from workers.reports.silent import silent_findings

REDIS = table("""
    certificate verify failed: certificate has expired (_ssl.c:1006) | expired | clock
    certificate verify failed: IP address mismatch, certificate is not valid for '127.0.0.1'
      | another name | host name that the certificate has
    [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required | client certificate
      | ssl_certfile=
    Error 8 while writing to socket. EOF occurred in violation of protocol (_ssl.c:2427).
      | client certificate | ssl_certfile=
""")
PG = {
    'server certificate for "db" does not match host name "10.0.0.9"': ("another name", "host"),
    "SSL error: certificate verify failed": ("not trusted, or has expired", "sslrootcert="),
    "SSL error: ssl/tls alert certificate expired": ("has expired", "sslcert="),
    "server does not support SSL, but SSL was required": ("no TLS", "ssl = on"),
    'root certificate file "/nowhere.pem" does not exist': ("not there", "sslrootcert="),
    "FATAL:  connection requires a valid client certificate": ("client certificate", "sslcert="),
    "FATAL:  could not write init file: No space left on device": ("disk is full", "disk"),
    'could not extend file "base/5/2608": No space left on device': ("disk is full", "disk"),
}


@pytest.mark.parametrize("said", REDIS)
def test_what_redis_tls_says_has_its_meaning(said):
    found = redis_error("redis", redis.ConnectionError(said))
    assert REDIS[said][0] in found.found
    assert REDIS[said][1] in found.cure


@pytest.mark.parametrize("said", PG)
def test_what_postgresql_says_of_tls_and_disks_has_its_meaning(said):
    found = database_error(psycopg.OperationalError(said))
    assert PG[said][0] in found.found
    assert PG[said][1] in found.cure


# ---------------------------------------------------------------- the core's keys

KEYS: dict[str, tuple[Callable, str, str]] = {
    "presence as strings": (
        lambda core, own: core.set(f"{own}presence:{{a:b}}", "online"),
        "is a string, and not a hash",
        "the core writes a hash there",
    ),
    "members as lists": (
        lambda core, own: core.rpush(f"{own}members:{{a:g}}", "bob"),
        "is a list, and not a set",
        "the core writes a set there",
    ),
    "presence until seconds": (
        lambda core, own: core.hset(f"{own}presence:{{a:b}}", "d", "foreground|ios|1796000000"),
        "counts as away",
        "milliseconds",
    ),
    "presence of one word": (
        lambda core, own: core.hset(f"{own}presence:{{a:b}}", "d", "online"),
        "counts as away",
        "foreground|ios|",
    ),
}


@pytest.mark.parametrize(("write", "found", "cure"), KEYS.values(), ids=KEYS)
def test_keys_that_the_core_writes_otherwise(cli, living, write, found, cure):  # noqa: F811
    own = living.settings.key_prefix
    write(living.core, own)
    try:
        only(cli("doctor", "--json"), "names", found, cure)
    finally:
        living.core.delete(f"{own}presence:{{a:b}}", f"{own}members:{{a:g}}")


def test_events_that_somebody_else_removes_are_counted(cli, living):  # noqa: F811
    (stream,) = living.settings.event_streams
    core = living.core
    core.delete(stream)
    core.xgroup_create(stream, "pushfleet", "0", mkstream=True)
    core.xadd(stream, {"e": "{}"})
    core.xreadgroup("pushfleet", "c", {stream: ">"}, noack=True)
    assert "redis" not in problems(cli("doctor", "--json"))
    for _ in range(10):
        core.xadd(stream, {"e": "{}"})
    core.xtrim(stream, maxlen=2, approximate=False)
    only(cli("doctor", "--json"), "redis", f"8 events of {stream} were removed", "MAXLEN")


def test_a_core_that_writes_into_another_database_of_the_server(cli, living, monkeypatch):  # noqa: F811
    (stream,) = living.settings.event_streams
    living.core.xadd(stream, {"e": "{}"})
    base = living.settings.redis_url.rpartition("/")[0]
    monkeypatch.setenv("PUSHFLEET_CORE_URL", f"{base}/3")
    told = problems(cli("doctor", "--json"))
    assert f"{stream} is written in the server's database 0" in told["names"][0]
    assert told["names"][1] == "PUSHFLEET_CORE_URL=redis://…/0"


# ---------------------------------------------------------------- the way to a vendor


@pytest.fixture
def tls_server(tmp_path) -> Iterator[tuple[int, str]]:
    """(port, CA file) of a server whose certificate is of another name."""
    ca_file = ensure_ca(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issue(tmp_path, "door"))
    listener = socket.create_server(("127.0.0.2", 0))

    def serve() -> None:
        try:
            while True:
                raw, _ = listener.accept()
                try:
                    context.wrap_socket(raw, server_side=True).close()
                except OSError:
                    raw.close()
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], str(ca_file)
    listener.close()


def test_a_vendors_server_of_another_name(cli, living, monkeypatch, tls_server, tmp_path):  # noqa: F811
    port, ca_file = tls_server
    both = tmp_path / "both.pem"
    both.write_text(living.settings.ca_file.read_text() + Path(ca_file).read_text())
    monkeypatch.setenv("PUSHFLEET_CA_FILE", str(both))
    monkeypatch.setenv("PUSHFLEET_ENDPOINT_VIVO", f"https://127.0.0.2:{port}")
    only(cli("doctor", "--json"), "vendors", "127.0.0.2", "leads to another server")


@pytest.fixture
def refusing_proxy() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"

    def serve() -> None:
        try:
            while True:
                raw, _ = listener.accept()
                raw.recv(65_536)
                raw.sendall(answer)
                raw.close()
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def test_a_proxy_that_wants_a_password_is_named(cli, living, monkeypatch, refusing_proxy):  # noqa: F811
    monkeypatch.setenv("PUSHFLEET_PROXY_VIVO", f"http://127.0.0.1:{refusing_proxy}")
    only(cli("doctor", "--json"), "vendors", "407", "PUSHFLEET_PROXY_VIVO: its address")


@pytest.fixture
def oppo(cli, living, tmp_path) -> Iterator[None]:  # noqa: F811
    """An account of OPPO's, and its process."""
    secret = tmp_path / "secret"
    secret.write_text("simulated-secret-1\n")
    account = f"--app {APP} --business-id oppo-1 --app-key k1 --app-secret-file {secret}"
    assert cli("credential", "add", "oppo", *account.split()).code == 0
    living.living.beat("oppo.1", "delivery:oppo", None)
    yield
    living.living.leave(["oppo.1"])


@pytest.mark.usefixtures("oppo")
@pytest.mark.parametrize(
    ("token", "is_looked_at"), [("OP_IN_" + "ab" * 16, True), ("OP_CN_" + "ab" * 16, False)]
)
def test_oppos_overseas_server_is_looked_at_where_devices_are_overseas(
    cli,
    living,  # noqa: F811
    monkeypatch,
    free_port,
    token,
    is_looked_at,
):
    sql = (
        'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id, token,'
        " registered_ms, state, state_ms)"
        " VALUES (%s, 'u1', %s, 'android', 'oppo', 'oppo-1', %s, 1, 'active', 1)"
    )
    with living.engine.begin() as connection:
        for device, one in (("home", "cd" * 16), ("other", token)):
            connection.exec_driver_sql(sql, (APP, device, one))
    port = free_port()
    monkeypatch.setenv("PUSHFLEET_ENDPOINT_OPPO", living.settings.endpoints["MEIZU"])
    monkeypatch.setenv("PUSHFLEET_ENDPOINT_OPPO_INTL", f"https://127.0.0.1:{port}")
    said = cli("doctor", "--json")
    if is_looked_at:
        only(said, "vendors", f"127.0.0.1:{port}", "PUSHFLEET_ENDPOINT_OPPO_INTL")
    else:
        assert problems(said) == {}


# ---------------------------------------------------------------- silent pushes


def notes(said) -> dict[str, tuple[str, str]]:
    """What doctor says of silent pushes, by its problem's name: (found, cure)."""
    about = [one for one in said.json["checks"] if one["check"] == "silent pushes"]
    assert all(one["ok"] for one in about)
    return {one["problem"]: (one["found"], one["cure"]) for one in about}


def test_a_silent_preset_is_told_with_what_each_vendor_makes_of_it(cli, living, tmp_path):  # noqa: F811
    presets = {"wake": '{"push_type": "silent"}', "loud": '{"fcm": {"type": "data"}}'}
    for name, preset in presets.items():
        (tmp_path / "preset.json").write_text(preset)
        assert cli("strategy", "add", APP, name, str(tmp_path / "preset.json")).code == 0
    try:
        said = cli("doctor", "--json")
        assert set(notes(said)) == {"silent_preset"}
        (found, _) = notes(said)["silent_preset"]
        assert f"preset wake of {APP} is silent" in found
        assert "refused for meizu, vivo" in found
        assert "a quiet banner at xiaomi where it has words" in found
        assert (said.code, problems(said)) == (0, {})
    finally:
        for name in presets:
            assert cli("strategy", "remove", APP, name).code == 0


def test_silent_pushes_that_did_not_leave_are_told(cli, living):  # noqa: F811
    now = now_ms()
    about = event_record(app=APP, ts_ms=now, received_ms=now)
    rows = [
        accepted_row(
            about,
            device=f"d{number}",
            vendor=vendor,
            business_id=f"{vendor}-1",
            decision="rejected",
            note=note,
        )
        for number, (vendor, note) in enumerate(
            [("vivo", "silent_not_supported")] * 2 + [("meizu", "payload_too_large")]
        )
    ]
    living.ledger.write([about, *rows])
    (found, cure) = notes(cli("doctor", "--json"))["silent_refused"]
    assert f"2 silent pushes of {APP} did not leave for vivo" in found
    assert "docs/vendors/vivo.md" in cure


# ---------------------------------------------------------------- databases


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_takes_no_chinese(cli, living, monkeypatch, database_url, encoding):  # noqa: F811
    options = f"ENCODING '{encoding}' TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
    with own_database(database_url, options) as url:
        monkeypatch.setenv("PUSHFLEET_DATABASE_URL", url)
        assert cli("migrate").code == 0
        told = problems(cli("doctor", "--json"))
        assert f"encoding is {encoding}" in told["postgresql"][0]
        assert "ENCODING 'UTF8'" in told["postgresql"][1]


def test_tables_in_a_schema_that_this_user_does_not_see(cli, living, monkeypatch, database_url):  # noqa: F811
    with own_database(database_url) as url:
        monkeypatch.setenv("PUSHFLEET_DATABASE_URL", url)
        assert cli("migrate").code == 0
        conninfo = url.replace("postgresql+psycopg://", "postgresql://", 1)
        with psycopg.connect(conninfo, autocommit=True) as session:
            session.execute("CREATE SCHEMA other")
            name = session.info.dbname
            session.execute(f"ALTER DATABASE {name} SET search_path = other")
        told = problems(cli("doctor", "--json"))
        assert "the tables are in the schema public" in told["tables"][0]
        assert told["tables"][1].endswith("SET search_path = public")


def test_too_many_pushes_to_count_are_no_fault_of_the_fleet(
    living,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(ledger_reads, "COUNT_MS_MAX", 100)
    living.strategies.add(APP, "wake", {"push_type": "silent"})
    try:
        with living.engine.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE")
            (found,) = silent_findings(living)
    finally:
        living.strategies.remove(APP, "wake")
    assert (found.problem, found.ok) == ("silent_preset", True)
