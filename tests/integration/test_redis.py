"""The door to Redis: every kind of URL, for the stores and for Celery; cluster mode is refused."""

import contextlib
import subprocess
import time

import pytest
from kombu.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from common.config import SettingError
from common.storage.redis import SOCKET_TIMEOUT_S, connect, kombu_url
from tests.waiting import eventually
from workers.broker import RedisTransport, SentinelTransport
from workers.cli.up import free_ports
from workers.embedded import find_home, valkey_binary
from workers.processes import end, spawn

TRANSPORTS = {"RedisTransport": RedisTransport, "SentinelTransport": SentinelTransport}


@pytest.fixture
def valkey(data_dir, tmp_path):
    """Starts bare servers with the options given: a cluster node, a sentinel, one
    on a unix socket.
    """
    data_dir.mkdir(parents=True)
    binary = str(valkey_binary(find_home(data_dir)))
    started = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        started.append(spawn([binary, *options], cwd=tmp_path, output=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        end(process, (15, 5))


def until_answered(url: str):
    def client():
        with contextlib.suppress(RedisConnectionError, OSError):
            return connect(url)

    return eventually(client)


def round_trip(url: str) -> str:
    """One message through kombu, over the broker that `kombu_url` names."""
    broker = kombu_url(url)
    with Connection(
        broker.url, transport=TRANSPORTS[broker.transport], transport_options={**broker.options}
    ) as connection:
        queue = connection.SimpleQueue("q")
        queue.put("ding")
        message = queue.get(timeout=60)
        message.ack()
        queue.close()
        return message.payload


def test_tcp_with_a_password(restartable_valkey):
    client = connect(restartable_valkey.url)
    assert client.ping()
    assert client.get_connection_kwargs()["socket_timeout"] == SOCKET_TIMEOUT_S
    assert round_trip(restartable_valkey.url) == "ding"


def test_a_unix_socket(valkey, tmp_path):
    path = tmp_path / "v.sock"
    valkey("--port", "0", "--unixsocket", str(path), "--save", "", "--requirepass", "p@ss")
    url = f"unix://{path}?db=1&password=p%40ss"
    assert until_answered(url).ping()
    assert round_trip(url) == "ding"


def test_sentinels_lead_to_the_master(valkey, tmp_path):
    port, sentinel = free_ports(1), free_ports(1)
    valkey("--port", str(port), "--save", "", "--requirepass", "pw")
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {sentinel}\nsentinel monitor m 127.0.0.1 {port} 1\nsentinel auth-pass m pw\n"
    )
    valkey(str(config), "--sentinel")
    url = f"sentinel://:pw@127.0.0.1:{sentinel}/0?master=m"
    assert until_answered(url).set("k", "v")
    assert round_trip(url) == "ding"


def test_cluster_mode_is_refused_with_what_to_do(valkey):
    port = free_ports(1)
    valkey("--port", str(port), "--cluster-enabled", "yes", "--save", "")
    with pytest.raises(SettingError, match="redis\\+cluster://"):
        until_answered(f"redis://127.0.0.1:{port}")


def test_a_server_that_is_away_is_a_connection_error_soon():
    before = time.monotonic()
    with pytest.raises(RedisConnectionError):
        connect(f"redis://127.0.0.1:{free_ports(1)}")
    assert time.monotonic() - before < 20


def test_tls_is_verified_by_celery_too():
    assert kombu_url("rediss://h:1/0").url == "rediss://h:1/0?ssl_cert_reqs=required"


def test_a_restart_between_two_commands_is_not_noticed(restartable_valkey):
    client = connect(restartable_valkey.url)
    client.config_set("appendfsync", "always")
    client.set("k", "v")
    restartable_valkey.kill()
    restartable_valkey.restart()
    assert client.get("k") == b"v"
