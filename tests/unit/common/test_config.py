"""Settings: what is taken, what is refused with which line, and what a running `up` adds."""

import base64
import contextlib
import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import runfile
from common.config import SettingError, Settings, environ_of
from common.redis_urls import cluster_of, sentinel_of
from common.running_fleet import NothingRunning, resolve
from common.secret_keys import secret_keys
from common.setting_checks import host_port
from common.settings_table import SETTINGS, URL_NAMES
from tests.tables import spaced
from workers.cli.settings import shown

KEY = base64.urlsafe_b64encode(bytes(32)).decode()


def test_nothing_set_gives_the_contracts_defaults():
    settings = Settings.load({})
    assert (settings.redis_url, settings.core_url, settings.database_url) == ("embedded",) * 3
    assert settings.data_dir == Path("var").absolute()
    found = (settings.event_streams, settings.key_prefix, settings.prefix)
    assert found == (("im:events",), "im:", "push")
    assert (
        settings.apns_client,
        settings.send_timeout_s,
        settings.retry_first_s,
        settings.ledger_days,
    ) == ("curl", 10, None, 7)
    seen = (settings.metrics_port, settings.console_addr, settings.receipts_addr)
    assert seen == (0, "127.0.0.1:8080", "127.0.0.1:8081")
    assert (
        settings.receipts_url,
        settings.log_level,
        settings.log_format,
        dict(settings.endpoints),
    ) == (None, "info", "json", {})


REFUSED = {
    "REDIS_URL": spaced("""
        http://h redis:// redis://h:0 redis://h:x redis://h/one unix:// sentinel://h:1/0 valkey://h
        x
    """),
    "CORE_URL": ["mysql://h", "ftp://x"],
    "DATABASE_URL": ["postgresql://h", "mysql://h/db", "postgresql+psycopg://h", "sqlite:///x"],
    "DATABASE_REPORTS_URL": ["embedded", "postgresql://h", "mysql://h/db"],
    "DATA_DIR": ["/dev/null", "/dev/null/var", "~nobody-of-this-name/x"],
    "EVENT_STREAMS": [",", "a,a", "a b"],
    "KEY_PREFIX": ["im {x}", "a b", "消息"],
    "PREFIX": ["{p}", "p q"],
    "SECRET_KEYS_FILE": ["/nowhere/keys", "/tmp", __file__],
    "SECRET_KEYS": ["short", "!" * 44],
    "CA_FILE": ["/nowhere/ca.pem", "/tmp", __file__],
    "APNS_CLIENT": ["httpx"],
    "SEND_TIMEOUT_S": ["0", "-1", "ten", "nan", "inf", "61", "1_0", "３", "1e1", "+5"],
    "RETRY_FIRST_S": ["-1", "soon"],
    "LEDGER_BYTES_MAX": ["0", "63MiB", "1025TiB", "many"],
    "LEDGER_DAYS": ["0", "1.5", "-7", "９"],
    "METRICS_PORT": ["65536", "-1", "http"],
    "CONSOLE_ADDR": ["8080", "host", "host:port", "host:70000", "http://h:1", "u@h:1", "a b:1"],
    "RECEIPTS_ADDR": [":8081x"],
    "RECEIPTS_URL": ["push.example.com", "ftp://h", "https://h/?q=1"],
    "LOG_LEVEL": ["loud"],
    "LOG_FORMAT": ["xml"],
    "ENDPOINT_FCM": spaced("""
        fcm.example.com http://fcm.example.com:80 https://h:1/path https://u:p@h:1 https://
    """),
    "ENDPOINT_NOBODY": ["https://h:1"],
    "PROXY_FCM": spaced("""
        h:1 https://h:1 http://h http://h:0 http://h:1/path http://:p@h:1 socks5://h:1 http://h:1?q
        http://u:%0a@h:1
    """),
    "PROXY_NOBODY": ["http://h:1"],
    "BROKER_URL": ["amqp://h", "embedded-not"],
    "SHARDS": ["0", "-1", "one", "1025"],
    "METRICS_ADDR": ["127.0.0.1:80", "a b", "http://h"],
    "METRICS_ADVERTISE": ["h:1", "-x"],
    "CONSOLE_URL": ["push.example.com", "ftp://h"],
    "OIDC_ISSUER": ["login.example.com", "http://login.example.com", "https://h/?q=1"],
    "OIDC_CLIENT_ID": ["a b", "é"],
    "OIDC_SECRET_FILE": ["/nowhere/secret", "/tmp", __file__],
    "OIDC_ROLES": ["admin", "root=ops", "admin=", ","],
    "TRUSTED_PROXIES": ["10.0.0.0/33", "proxy.example.com", "*"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in REFUSED.items() for v in values]
)
def test_a_wrong_value_is_one_line_that_names_the_setting_and_not_the_value(name, value):
    with pytest.raises(SettingError) as refused:
        Settings.load({f"PUSHFLEET_{name}": value})
    line = str(refused.value)
    assert line.startswith(f"PUSHFLEET_{name} ")
    assert "\n" not in line


def test_a_provider_wants_all_that_signing_in_needs():
    match = "PUSHFLEET_OIDC_ISSUER needs PUSHFLEET_OIDC_ROLES, PUSHFLEET_CONSOLE_URL, too"
    issuer = "https://login.example.com/"
    with pytest.raises(SettingError, match=match):
        Settings.load({"PUSHFLEET_OIDC_ISSUER": issuer, "PUSHFLEET_OIDC_CLIENT_ID": "push"})


def test_a_secret_in_a_wrong_url_is_not_repeated():
    with pytest.raises(SettingError) as refused:
        Settings.load({"PUSHFLEET_DATABASE_URL": "postgresql://u:hunter2@h"})
    assert "hunter2" not in str(refused.value)


TAKEN = {
    "REDIS_URL": spaced("""
        redis://h redis://:p@h:6379/3 rediss://u:p@h/0 unix:///run/r.sock?db=2
        sentinel://a:26379,b/1?master=m
    """),
    "DATABASE_URL": ["postgresql+psycopg://u:p@h:5432/db", "postgresql+psycopg:///db?host=/run"],
    "ENDPOINT_APNS_SANDBOX": spaced("""
        https://h:8443 http://127.0.0.1:1 http://localhost:1 http://[::1]:2
    """),
    "CONSOLE_ADDR": ["0.0.0.0:80", "[::1]:8080", "localhost:0", "my_host:80"],
    "LOG_LEVEL": ["DEBUG", "warning"],
    "RECEIPTS_URL": ["https://push.example.com/receipts"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in TAKEN.items() for v in values])
def test_a_good_value_is_taken(name, value):
    settings = Settings.load({f"PUSHFLEET_{name}": value})
    endpoint = name.startswith("ENDPOINT")
    found = settings.endpoints["APNS_SANDBOX"] if endpoint else getattr(settings, name.lower())
    assert found == (value.lower() if name == "LOG_LEVEL" else value)


@given(st.text(max_size=60))
def test_any_text_is_taken_or_refused_but_never_crashes(value):
    for name in REFUSED:
        with contextlib.suppress(SettingError):
            Settings.load({f"PUSHFLEET_{name}": value})


def test_the_core_is_on_the_fleets_redis_unless_it_is_told():
    assert Settings.load({"PUSHFLEET_REDIS_URL": "redis://h"}).core_url == "redis://h"
    with pytest.raises(SettingError, match="PUSHFLEET_CORE_URL"):
        Settings.load({"PUSHFLEET_REDIS_URL": "redis://h", "PUSHFLEET_CORE_URL": "embedded"})


WRONG_NAMES = {
    "PUSHFLEET_REDISURL": "PUSHFLEET_REDIS_URL",
    "PUSHFLEET_REDIS": "PUSHFLEET_REDIS_URL",
    "PUSHFLEET_DATABSE_URL": "PUSHFLEET_DATABASE_URL",
    "PUSHFLEET_redis_url": "PUSHFLEET_REDIS_URL",
    "Pushfleet_Redis_Url": "PUSHFLEET_REDIS_URL",
    "PUSHFLEET_LOGLEVEL": "PUSHFLEET_LOG_LEVEL",
    "PUSHFLEET_ENDPOINTS_FCM": "PUSHFLEET_ENDPOINT_FCM",
    "PUSHFLEET_METRIC_PORT": "PUSHFLEET_METRICS_PORT",
    "PUSHFLEET_LEDGER_DAY": "PUSHFLEET_LEDGER_DAYS",
    "PUSHFLEET_RECEIPT_ADDR": "PUSHFLEET_RECEIPTS_ADDR",
    "PUSHFLEET_SECRET_KEY_FILE": "PUSHFLEET_SECRET_KEYS_FILE",
    "PUSHFLEET_DATABASE_URL_FILES": "PUSHFLEET_DATABASE_URL_FILE",
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_misspelt_name_is_refused_with_the_right_one(name):
    with pytest.raises(SettingError) as refused:
        Settings.load({name: ""})
    assert str(refused.value) == f"{name} is no setting: did you mean {WRONG_NAMES[name]}?"


def test_a_name_that_is_near_nothing_is_refused_too():
    with pytest.raises(
        SettingError, match=r"PUSHFLEET_FLAVOUR is no setting: `pushfleet settings` lists them all"
    ):
        Settings.load({"PUSHFLEET_FLAVOUR": "x"})


OF_OTHERS = {
    "PUSHFLEET_TEST_REDIS_URL": "redis://h",
    "PUSHFLEET_SERVICE_HOST": "10.0.0.1",
    "PUSHFLEET_SERVICE_PORT": "80",
    "PUSHFLEET_PORT": "tcp://10.0.0.1:80",
    "PUSHFLEET_CONSOLE_SERVICE_HOST": "10.0.0.1",
    "PUSHFLEET_CONSOLE_SERVICE_PORT_HTTP": "8080",
    "PUSHFLEET_CONSOLE_PORT": "tcp://10.0.0.1:8080",
    "PUSHFLEET_CONSOLE_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "PUSHFLEET_CONSOLE_PORT_8080_TCP_ADDR": "10.0.0.1",
    "PUSHFLEET_METRICS_PORT": "tcp://10.0.0.1:9100",
    "PUSHFLEET_PROCESS": "intake.1",
    "REDISURL": "x",
}


@pytest.mark.parametrize("name", OF_OTHERS)
def test_what_kubernetes_tests_and_supervisors_set_is_no_mistake(name):
    assert Settings.load({name: OF_OTHERS[name]}).metrics_port == 0


@pytest.mark.parametrize("name", URL_NAMES)
def test_every_url_may_stand_in_a_file(name, tmp_path):
    url = {
        "DATABASE_URL": "postgresql://u:p@h/d",
        "DATABASE_REPORTS_URL": "postgresql://u:p@h/d",
        "RECEIPTS_URL": "https://h",
        "CONSOLE_URL": "https://h",
    }.get(name, "redis://:p@h/1")
    path = tmp_path / "url"
    path.write_text(f"\ufeff{url}\n")
    settings = Settings.load({f"PUSHFLEET_{name}_FILE": str(path)})
    assert getattr(settings, name.lower()) == url.replace("postgresql:", "postgresql+psycopg:")
    with pytest.raises(
        SettingError, match=f"PUSHFLEET_{name}_FILE and PUSHFLEET_{name} are both set"
    ):
        Settings.load({f"PUSHFLEET_{name}_FILE": str(path), f"PUSHFLEET_{name}": url})
    # as a child of ours
    assert Settings.load({f"PUSHFLEET_{name}_FILE": str(path), **environ_of(settings)}) == settings


@pytest.mark.parametrize("inside", ["", "redis://a\nredis://b", "redis://a redis://b", None])
def test_a_file_without_one_url_is_refused(inside, tmp_path):
    path = tmp_path / "url"
    if inside is not None:
        path.write_text(inside)
    with pytest.raises(SettingError, match="PUSHFLEET_REDIS_URL_FILE takes the path"):
        Settings.load({"PUSHFLEET_REDIS_URL_FILE": str(path)})


def test_a_wrong_url_in_a_file_is_refused_and_not_repeated(tmp_path):
    path = tmp_path / "url"
    path.write_text("redis//:hunter2@h")
    with pytest.raises(SettingError, match="PUSHFLEET_REDIS_URL") as refused:
        Settings.load({"PUSHFLEET_REDIS_URL_FILE": str(path)})
    assert "hunter2" not in str(refused.value)


def test_every_setting_stands_in_the_table():
    fields = {one.name.upper() for one in dataclasses.fields(Settings)}
    fields -= {"ENDPOINTS", "PROXIES", "SHARDS_NAMED"}
    assert fields == {one.name for one in SETTINGS}


def test_an_empty_variable_counts_as_unset():
    assert Settings.load({"PUSHFLEET_LEDGER_DAYS": " "}).ledger_days == 7


def test_a_proxy_is_one_vendors_and_its_password_is_told_to_nobody(capsys):
    proxy = "http://u:hunter2@[::1]:3128/"
    settings = Settings.load(
        {"PUSHFLEET_PROXY_FCM": proxy, "PUSHFLEET_PROXY_HARMONY": "http://h:8080"}
    )
    assert settings.proxies == {"fcm": "http://u:hunter2@[::1]:3128", "harmony": "http://h:8080"}
    assert "hunter2" not in repr(settings)
    assert Settings.load(environ_of(settings)).proxies == settings.proxies
    environ = {"PUSHFLEET_PROXY_FCM": "http://u:hunter2@h:3128"}
    rows = {row["name"]: row["value"] for row in shown(environ, set())}
    assert rows["PUSHFLEET_PROXY_FCM"] == "http://h:3128"
    with pytest.raises(SettingError, match="PUSHFLEET_PROXY_FCM takes") as refused:
        Settings.load({"PUSHFLEET_PROXY_FCM": "http://u:hunter2@h"})
    assert "hunter2" not in str(refused.value)


def test_aioapns_goes_through_no_proxy():
    with pytest.raises(SettingError, match="PUSHFLEET_PROXY_APNS needs PUSHFLEET_APNS_CLIENT=curl"):
        Settings.load({"PUSHFLEET_PROXY_APNS": "http://h:1", "PUSHFLEET_APNS_CLIENT": "aioapns"})
    assert Settings.load(
        {"PUSHFLEET_PROXY_FCM": "http://h:1", "PUSHFLEET_APNS_CLIENT": "aioapns"}
    ).proxies == {"fcm": "http://h:1"}


def test_secrets_are_not_in_the_repr():
    settings = Settings.load(
        {"PUSHFLEET_REDIS_URL": "redis://:hunter2@h", "PUSHFLEET_SECRET_KEYS": KEY}
    )
    assert "hunter2" not in repr(settings)
    assert KEY not in repr(settings)


def test_dotenv_is_read_and_the_environment_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        "# comment\nexport PUSHFLEET_PREFIX='a'\nPUSHFLEET_LEDGER_DAYS=3\n\nnonsense\n"
    )
    monkeypatch.setenv("PUSHFLEET_LEDGER_DAYS", "5")
    settings = Settings.load()
    assert (settings.prefix, settings.ledger_days) == ("a", 5)


@pytest.mark.parametrize("line", ["PUSHFLEET_LEDGER_DAYS 3", "export PUSHFLEET_LEDGER_DAYS: s3"])
def test_a_setting_without_an_equals_sign_is_not_left_out(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"PUSHFLEET_PREFIX=a\n{line}\n")
    with pytest.raises(SettingError, match=r"^PUSHFLEET_LEDGER_DAYS in \.env takes NAME=value$"):
        Settings.load()


SECRET_LINES = {
    "a colon before a padded key": f"PUSHFLEET_SECRET_KEYS: {KEY}",
    "a blank before it": f"PUSHFLEET_SECRET_KEYS {KEY}",
    "exported by two blanks": f"export  PUSHFLEET_SECRET_KEYS: {KEY}",
    "exported by a tab": f"export\tPUSHFLEET_SECRET_KEYS: {KEY}",
    "a URL with a query": "PUSHFLEET_DATABASE_URL: postgresql://u:MDEy@h/d?sslmode=require",
    "small letters": f"pushfleet_secret_keys: {KEY}",
}


@pytest.mark.parametrize("line", SECRET_LINES.values(), ids=SECRET_LINES)
def test_a_mistyped_line_never_shows_its_secret(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(line)
    with pytest.raises(SettingError) as refused:
        Settings.load()
    name = re.search(r"\w+_(SECRET_KEYS|DATABASE_URL)", line, re.IGNORECASE)
    assert name is not None
    assert re.fullmatch(rf"{name[0]}( in \.env)? takes NAME=value", str(refused.value))


def test_a_mistyped_variable_never_shows_what_stands_behind_its_name():
    with pytest.raises(SettingError, match=r"^PUSHFLEET_SECRET_KEYS takes NAME=value$"):
        Settings.load({f"PUSHFLEET_SECRET_KEYS: {KEY}": ""})


@pytest.mark.parametrize("blanks", ["  ", "\t"])
def test_an_exported_setting_is_read_whatever_the_blanks(tmp_path, monkeypatch, blanks):
    """A bare export of a name is the shell's, which sets nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(
        f"export{blanks}PUSHFLEET_LEDGER_DAYS=3\nexport{blanks}PUSHFLEET_LEDGER_DAYS\n"
    )
    assert Settings.load().ledger_days == 3


#: A line of .env -> the prefix that it sets; None: it is refused.
LINES = {
    "a comment behind": ("PUSHFLEET_PREFIX=a # ours", "a"),
    "a comment behind quotes": ("PUSHFLEET_PREFIX='a' # ours", "a"),
    "a sign that begins no comment": ("PUSHFLEET_PREFIX=a#b", "a#b"),
    "a sign in quotes": ('PUSHFLEET_PREFIX="a#b"', "a#b"),
    "the other quote inside": ('PUSHFLEET_PREFIX="a\'b"', "a'b"),
    "an end of line of Windows": ("PUSHFLEET_PREFIX=a\r", "a"),
    "one quote": ("PUSHFLEET_PREFIX='a", None),
    "quotes that are no pair": ("PUSHFLEET_PREFIX='a\"", None),
    "as cmd.exe sets it": ("set PUSHFLEET_PREFIX=a", None),
    "as bash declares it": ("declare -x PUSHFLEET_PREFIX=a", None),
    "a comment": ("# PUSHFLEET_PREFIX=a", "push"),
    "a line of Unicode's own inside": ("PUSHFLEET_PREFIX=a\u2028b", None),
}


@pytest.mark.parametrize(("line", "prefix"), LINES.values(), ids=LINES)
def test_a_line_of_dotenv_means_what_shells_and_docker_read(tmp_path, monkeypatch, line, prefix):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(f"{line}\n".encode())
    if prefix is None:
        with pytest.raises(SettingError, match=r"^PUSHFLEET_PREFIX (in \.env )?takes "):
            Settings.load()
    else:
        assert Settings.load().prefix == prefix


def test_who_names_one_server_is_told_of_the_other(tmp_path):
    here = {"PUSHFLEET_DATA_DIR": str(tmp_path)}
    with pytest.raises(NothingRunning, match=r"set PUSHFLEET_REDIS_URL$"):
        resolve(Settings.load(here))
    with pytest.raises(NothingRunning, match=r"set PUSHFLEET_DATABASE_URL$"):
        resolve(Settings.load({**here, "PUSHFLEET_REDIS_URL": "redis://h"}))


def test_a_byte_order_mark_hides_no_setting(tmp_path, monkeypatch):
    """As some text editors write it: else the first line would be ignored without a word."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PUSHFLEET_LEDGER_DAYS=3\n", encoding="utf-8-sig")
    assert Settings.load().ledger_days == 3


@pytest.mark.parametrize("closed", ["folder", "file"])
def test_a_folder_of_another_user_has_no_settings_for_us(tmp_path, closed):
    """As the service's user in root's home; a file that is there and closed is no such thing."""
    tmp_path.chmod(0o755)
    (tmp_path / ".env").write_text("PUSHFLEET_LEDGER_DAYS=3\n")
    script = (
        "import os, sys\nfrom common.config import read_dotenv\nfrom pathlib import Path\n"
        "os.chdir(sys.argv[1])\nos.chmod(sys.argv[2], 0)\nos.getuid() or os.setuid(65534)\n"
        "print(read_dotenv(Path('.env')))"
    )
    name = tmp_path if closed == "folder" else tmp_path / ".env"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path, name], capture_output=True, text=True, check=False
    )
    tmp_path.chmod(0o700)
    assert (done.stdout == "{}\n") is (closed == "folder"), done.stderr
    assert ("SettingError: .env can't be read" in done.stderr) is (closed == "file")


def test_a_sentinel_url_is_read_whole():
    found = sentinel_of("sentinel://u:p%40@a:1,b/2?master=m&sentinel_password=s")
    seen = (found.hosts, found.master, found.db, found.username, found.sentinel_password)
    assert seen == ((("a", 1), ("b", 26379)), "m", 2, "u", "s")
    assert found.password == "p@"


EVERYTHING = {
    "PUSHFLEET_REDIS_URL": "redis://:p@h/1",
    "PUSHFLEET_EVENT_STREAMS": "a,b",
    "PUSHFLEET_SECRET_KEYS": KEY,
    "PUSHFLEET_ENDPOINT_FCM": "https://h:1",
    "PUSHFLEET_RETRY_FIRST_S": "0.25",
    "PUSHFLEET_RECEIPTS_URL": "https://h/r",
}


@pytest.mark.parametrize("environ", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_settings_go_to_children_as_they_are(environ):
    settings = Settings.load(environ)
    assert Settings.load(environ_of(settings)) == settings


def test_addresses_are_split():
    assert host_port("[::1]:80") == ("::1", 80)
    with pytest.raises(ValueError, match="host:port"):
        host_port("::1")


def _run(folder, **more):
    runfile.change(
        folder,
        lambda run: run.update(
            {"redis_url": "redis://x", "database_url": "postgresql+psycopg://h/d", **more}
        ),
    )


def test_embedded_without_a_running_fleet_is_nothing_running(tmp_path):
    settings = Settings.load({"PUSHFLEET_DATA_DIR": str(tmp_path)})
    with pytest.raises(
        NothingRunning, match="nothing is running: `pushfleet up`, or set PUSHFLEET_REDIS_URL"
    ):
        resolve(settings)
    _run(tmp_path, pid=2**22 + 1)  # above every pid: left by a killed process
    with pytest.raises(NothingRunning):
        resolve(settings)


def test_a_running_fleet_gives_servers_simulators_and_ca(tmp_path):
    (tmp_path / "simulators").mkdir()
    (tmp_path / "simulators" / "fcm.json").write_text(
        json.dumps({"endpoints": {"FCM": "https://127.0.0.1:1"}})
    )
    (tmp_path / "simulators" / "vivo.json").write_text(
        json.dumps({"endpoints": {"VIVO": "http://127.0.0.1:2"}})
    )
    simulators = {"fcm": "https://127.0.0.1:1", "vivo": "http://127.0.0.1:2"}
    _run(tmp_path, pid=os.getpid(), simulators=simulators, ca_file="ca.pem")
    environ = {"PUSHFLEET_DATA_DIR": str(tmp_path), "PUSHFLEET_ENDPOINT_VIVO": "https://real:443"}
    settings = resolve(Settings.load(environ))
    assert (settings.redis_url, settings.core_url) == ("redis://x", "redis://x")
    assert settings.endpoints == {"FCM": "https://127.0.0.1:1", "VIVO": "https://real:443"}
    assert settings.ca_file == Path("ca.pem")
    database = "postgresql+psycopg://h/d"
    other = {"PUSHFLEET_REDIS_URL": "redis://other", "PUSHFLEET_DATABASE_URL": database}
    assert not resolve(Settings.load({"PUSHFLEET_DATA_DIR": str(tmp_path), **other})).endpoints


def _with_metric(number: int, run: dict[str, Any]) -> None:
    run.setdefault("metrics", []).append(number)


def test_run_json_is_private_and_survives_many_writers(tmp_path):
    for n in range(5):
        runfile.change(tmp_path, functools.partial(_with_metric, n))
    assert runfile.read(tmp_path)["metrics"] == [0, 1, 2, 3, 4]
    assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600
    runfile.remove(tmp_path)
    assert runfile.read(tmp_path) == {}


def test_secret_keys_are_generated_for_embedded_use_only(tmp_path):
    settings = Settings.load({"PUSHFLEET_DATA_DIR": str(tmp_path / "a")})
    keys = secret_keys(settings)
    assert keys == secret_keys(settings)
    assert (tmp_path / "a" / "secret.keys").stat().st_mode & 0o777 == 0o600
    data_dir = str(tmp_path / "b")
    own = {"PUSHFLEET_DATA_DIR": data_dir, "PUSHFLEET_DATABASE_URL": "postgresql+psycopg://h/d"}
    with pytest.raises(SettingError, match="PUSHFLEET_SECRET_KEYS_FILE"):
        secret_keys(Settings.load(own))
    assert secret_keys(Settings.load({**own, "PUSHFLEET_SECRET_KEYS": KEY})) == (KEY,)


def test_a_file_of_keys_may_be_written_on_windows(tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(f"\ufeff{KEY}\r\n".encode())
    assert secret_keys(Settings.load({"PUSHFLEET_SECRET_KEYS_FILE": str(path)})) == (KEY,)


def test_a_file_of_junk_is_no_secret_key(tmp_path):
    path = tmp_path / "keys"
    path.write_text("junk\n")
    with pytest.raises(SettingError, match="PUSHFLEET_SECRET_KEYS_FILE"):
        secret_keys(Settings.load({"PUSHFLEET_SECRET_KEYS_FILE": str(path)}))


# ---------------------------------------------------------------- clusters

CLUSTER = "redis+cluster://user:p%40ss@h1:7000,h2,[::1]:7002"


def test_a_cluster_url_is_read() -> None:
    found = cluster_of(CLUSTER + "/0?ssl_ca_certs=/ca.pem")
    assert found.hosts == (("h1", 7000), ("h2", 6379), ("::1", 7002))
    assert (found.tls, found.login) == (False, "user:p%40ss")
    assert found.node_url("::1", 7002) == "redis://user:p%40ss@[::1]:7002?ssl_ca_certs=/ca.pem"
    assert cluster_of("rediss+cluster://h1").node_url("h1", 6379) == "rediss://h1:6379"
    assert "p%40ss" not in repr(found)


@pytest.mark.parametrize(
    "value",
    spaced("""
        redis+cluster:// redis+cluster://h1,,h2 redis+cluster://h1/1 redis+cluster://h1:0
        redis+cluster://h1:port
    """),
)
def test_what_is_no_cluster_url_is_refused(value: str) -> None:
    with pytest.raises(SettingError, match=r"PUSHFLEET_REDIS_URL takes .*redis\+cluster://"):
        Settings.load({"PUSHFLEET_REDIS_URL": value})


def test_the_wake_ups_never_go_to_a_cluster() -> None:
    with pytest.raises(SettingError, match="PUSHFLEET_BROKER_URL takes"):
        Settings.load({"PUSHFLEET_REDIS_URL": CLUSTER, "PUSHFLEET_BROKER_URL": CLUSTER})
    found = Settings.load({"PUSHFLEET_REDIS_URL": CLUSTER, "PUSHFLEET_BROKER_URL": "redis://h:1/0"})
    assert (found.broker_url, found.key_root) == ("redis://h:1/0", "push:{s0}")
    assert Settings.load({}).key_root == "push"


def test_beside_a_cluster_a_broker_must_be_named_or_started(tmp_path: Path) -> None:
    environ = {
        "PUSHFLEET_REDIS_URL": CLUSTER,
        "PUSHFLEET_DATABASE_URL": "postgresql://h/d",
        "PUSHFLEET_DATA_DIR": str(tmp_path),
    }
    wanted = Settings.load(environ)
    assert wanted.embedded_broker
    with pytest.raises(SettingError, match="PUSHFLEET_BROKER_URL must be set with a cluster"):
        resolve(wanted)
    runfile.change(
        tmp_path,
        lambda run: run.update(
            {"redis_url": CLUSTER, "broker_url": "redis://b:1/0", "pid": os.getpid()}
        ),
    )
    assert resolve(wanted).broker_url == "redis://b:1/0"
