"""Every URL of a store either reaches its driver whole, or is refused with the setting's name and
the cure, and never with the secret in it.
"""

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

from common.config import SettingError, Settings
from common.storage import sql
from common.url_options import DATABASE_OPTIONS
from tests.tables import spaced

SECRET = "s3cr3t"

REFUSED_BY_BOTH = spaced("""
    {0}://u:s3cr3t#w@h/1 {0}://u:s3cr3t/w@h/1 {0}://u:s3cr3t?w@h/1 {0}://u:s3cr3t[w@h/1
    {0}://u:s3cr3t@h:x/1 {0}://u:s3cr3t@h:0/1 {0}://u:s3cr3t@h:70000/1 {0}://u:s3cr3t@[::1/1
    {0}://u:s3cr3t@h\0/1 {0}://u:s3cr3t@h/1?foo=s3cr3t {0}://u:s3cr3t@h/1?foo
    {0}://u:s3cr3t@h/1#s3cr3t {0}:u:s3cr3t@h/1 {1}://u:s3cr3t@h/1
""")
DATABASE_REFUSED = [
    *(one.format("postgresql", "POSTGRESQL") for one in REFUSED_BY_BOTH),
    "postgresql://u:s3cr3t@w@h/db",
    "postgresql://u:s3cr3t@h:/db",
    "postgresql://u:s3cr3t@h/db?port=abc",
    "postgresql://u:s3cr3t@h/db?port=1&port=2",
    "postgresql://u:s3cr3t@h/db?host=a,b&port=1,2,3",
    "postgresql://u:s3cr3t@h/db?port=99999",
    "postgresql://u:s3cr3t@h/db?sslmode=require&sslmode=disable",
    "postgresql://u:s3cr3t@h/db?sslmode=yes",
    "postgresql://u:s3cr3t@h/db?connect_timeout=soon",
    "postgresql://u:s3cr3t@h/db?replication=true",
    "postgresql://u:s3cr3t@h/db?prepare_threshold=0",
]
REDIS_REFUSED = [
    *(one.format("redis", "REDIS") for one in REFUSED_BY_BOTH),
    "redis://u:s3cr3t@h/1?socket_timeout=abc",
    "redis://u:s3cr3t@h/1?socket_timeout=0",
    "redis://u:s3cr3t@h/1?socket_connect_timeout=-1",
    "redis://u:s3cr3t@h/1?db=x",
    "redis://u:s3cr3t@h/1?db=1&db=2",
    "redis://u:s3cr3t@h/1?ssl_ca_certs=/ca.pem",
    "redis://u:s3cr3t@h/1?decode_responses=true",
    "redis://u:s3cr3t@h/1?protocol=9",
    "redis://u:s3cr3t@h/1?max_connections=0",
    "rediss://u:s3cr3t@h/1?ssl_cert_reqs=s3cr3t",
    "unix://tmp/socket?password=s3cr3t",
    "unix:///tmp/socket?socket_connect_timeout=1&password=s3cr3t",
    "sentinel://u:s3cr3t@h/0?master=m&foo=b",
    "redis+cluster://u:s3cr3t@h?foo=b",
    "redis+cluster://u:s3cr3t@h?ssl_cert_reqs=none",
]
DATABASE_TAKEN = spaced("""
    postgresql://h/db postgresql+psycopg://u:s3%23cr3t%40@h:5432/db?sslmode=require
    postgresql://[::1]:5432/db postgresql://u:sécret@h,h2/db?target_session_attrs=read-write
    postgresql:///db?host=/run/postgresql postgresql:///db?host=a,b&port=1,2
    postgresql:///db?host=a:1&host=b:2 postgresql://h/?dbname=db&user=u&password=p
    postgresql://h/db?options=-c%20search_path%3Dx&application_name=fleet
""")
REDIS_TAKEN = [
    "redis://h",
    "redis://:p%40w@h:6379/3?client_name=fleet&socket_timeout=2.5&health_check_interval=0",
    "rediss://u:p@h/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
    "unix:///run/redis.sock?db=2&password=p",
    "unix://u:p@/run/redis.sock",
]


def _refusal(**urls: str) -> str:
    with pytest.raises(SettingError) as refused:
        Settings.load({f"PUSHFLEET_{name}": url for name, url in urls.items()})
    return str(refused.value)


@pytest.mark.parametrize("url", DATABASE_REFUSED)
@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_REPORTS_URL"])
def test_an_odd_url_of_the_database_is_refused_with_the_cure(name: str, url: str) -> None:
    words = _refusal(**{name: url})
    assert words.startswith(f"PUSHFLEET_{name} takes ")
    assert "postgresql://user:password@host:port/name" in words
    assert "%23" in words
    assert SECRET not in words


@pytest.mark.parametrize("url", REDIS_REFUSED)
def test_an_odd_url_of_redis_is_refused_with_the_cure(url: str) -> None:
    words = _refusal(REDIS_URL=url, BROKER_URL="redis://b")
    assert words.startswith("PUSHFLEET_REDIS_URL takes ")
    assert "%23" in words
    assert SECRET not in words


@pytest.mark.parametrize("url", DATABASE_TAKEN)
def test_a_url_of_the_database_that_is_taken_is_one_for_its_driver(url: str) -> None:
    taken = Settings.load({"PUSHFLEET_DATABASE_URL": url}).database_url
    engine = sql.engine(taken)
    _, given = engine.dialect.create_connect_args(make_url(taken))
    psycopg.conninfo.make_conninfo(**{k: v for k, v in given.items() if k != "context"})


@pytest.mark.parametrize("url", REDIS_TAKEN)
def test_a_url_of_redis_that_is_taken_is_one_for_its_driver(url: str) -> None:
    taken = Settings.load({"PUSHFLEET_REDIS_URL": url}).redis_url
    pool = redis.ConnectionPool.from_url(taken)
    pool.connection_class(**pool.connection_kwargs)


def test_the_options_are_those_of_the_driver_that_is_installed() -> None:
    known = {one.keyword.decode() for one in psycopg.pq.Conninfo.get_defaults()}
    assert set(DATABASE_OPTIONS) == known - {"replication"}
