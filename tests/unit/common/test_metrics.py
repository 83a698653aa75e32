"""Metrics are named as the contract names them, and their server says what the checks say."""

import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest

from common import metrics, runfile
from common.config import Settings
from tests.builders import present
from workers.cli.up import free_ports

CONTRACT = [
    "events_total{type,result}",
    "ignored_total{reason}",
    "decisions_total{vendor,decision,class}",
    "stage_seconds{stage}",
    "stored_to_accepted_seconds{vendor,class}",
    "vendor_request_seconds{vendor}",
    "vendor_requests_total{vendor,status}",
    "backlog{queue}",
    "queue_bytes{app,vendor,business_id}",
    "oldest_seconds{queue}",
    "quota_used{app,vendor,business_id,bucket}",
    "quota_limit{app,vendor,business_id,bucket}",
    "lane_state{app,vendor,business_id}",
    "retries_total{vendor,reason}",
    "tokens_retired_total{vendor}",
    "token_guard{app,vendor,business_id}",
    "unknown_codes_total{vendor}",
    "unknown_fields_total{dialect}",
    "dead_letters{stage}",
    "credential_expires_seconds{app,vendor,business_id}",
    "receipts_total{vendor,status}",
    "door_requests_total{door,status}",
    "lane_changes_total{vendor,state,cause}",
    "queue_bytes{app,vendor,business_id}",
    "processes_missing{worker}",
    "build_info{version}",
    # beyond the contract
    "lane_paused{app,vendor,business_id}",
    "lane_stopped_since{app,vendor,business_id,why}",
    "redis_memory_ratio{server}",
    "shard_away{shard}",
    "queue_wait_seconds{stage,vendor}",
    "lane_stopped_since{app,vendor,business_id,why}",
]


def _found() -> set[str]:
    made = [one for one in vars(metrics).values() if hasattr(one, "_labelnames")]
    names = {id(one): one._name + ("_total" if one._type == "counter" else "") for one in made}
    return {
        f"{names[id(one)].removeprefix('pushfleet_')}{{{','.join(one._labelnames)}}}"
        for one in made
    }


def test_names_and_labels_are_the_contracts():
    assert _found() == set(CONTRACT)


def test_every_metric_is_registered_and_counters_show_one_series():
    metrics.EVENTS.labels("message.stored", "accepted").inc()
    text = generate_latest(REGISTRY).decode()
    assert 'pushfleet_events_total{result="accepted",type="message.stored"}' in text
    assert "_created" not in text
    for name in CONTRACT:
        assert f"# TYPE pushfleet_{name.partition('{')[0]} " in text


CLOSED = [
    (metrics.dialect, "zego", "zego"),
    (metrics.dialect, "x" * 99, "other"),
    (metrics.request_status, 200, "200"),
    (metrics.request_status, "timeout", "timeout"),
    (metrics.request_status, "99", "other"),
    (metrics.request_status, "20000", "other"),
    (metrics.request_status, "", "other"),
]


@pytest.mark.parametrize(("label", "said", "shown"), CLOSED)
def test_what_comes_from_outside_can_make_no_label(label, said, shown):
    assert label(said) == shown


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _settings(folder, port):
    return Settings.load({"PUSHFLEET_DATA_DIR": str(folder), "PUSHFLEET_METRICS_PORT": str(port)})


def test_the_server_takes_the_next_port_and_says_what_the_checks_say(tmp_path):
    def broken() -> bool:
        raise ConnectionError

    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]
        port = present(
            metrics.serve_metrics(_settings(tmp_path, first), "intake", lambda: True, broken)
        )
        assert port is not None
        assert first < port < first + 100
        assert _get(port, "/healthz") == (200, '{"name": "intake", "ok": true}')
        assert _get(port, "/readyz")[0] == 503
        assert _get(port, "/other")[0] == 404
        assert "pushfleet_events_total" in _get(port, "/metrics")[1]
        assert runfile.read(tmp_path)["metrics"] == [f"http://127.0.0.1:{port}/metrics"]


def test_a_check_that_hangs_is_a_no_in_time_and_is_not_begun_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "CHECK_S_MAX", 0.1)
    hang, calls = threading.Event(), []

    def ready() -> bool:
        calls.append(1)
        return hang.wait(60)

    port = present(
        metrics.serve_metrics(_settings(tmp_path, 21_000), "intake", lambda: True, ready)
    )
    assert [_get(port, "/readyz")[0] for _ in range(3)] == [503] * 3
    assert len(calls) == 1
    hang.set()
    until = time.monotonic() + 60
    while _get(port, "/readyz")[0] != 200:
        assert time.monotonic() < until, "the server is there again"


def test_what_a_killed_process_left_in_run_json_goes_when_the_next_one_starts(tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as lives,
        socket.create_server(("127.0.0.1", 0)) as dies,
    ):
        living, dead = (f"http://127.0.0.1:{one.getsockname()[1]}/metrics" for one in (lives, dies))
        dies.close()
        runfile.change(
            tmp_path,
            lambda run: run.update(metrics=[living, dead, "http://no.such.host.invalid:1/metrics"]),
        )
        port = metrics.serve_metrics(
            _settings(tmp_path, 20_000), "intake", lambda: True, lambda: True
        )
        told = runfile.read(tmp_path)["metrics"]
        assert dead not in told
        ours = f"http://127.0.0.1:{port}/metrics"
        assert {living, "http://no.such.host.invalid:1/metrics", ours} == set(told)


def _shown(gauge) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in gauge.collect()
        for sample in family.samples
    }


def test_what_is_there_no_more_is_shown_no_more():
    metrics.show(metrics.LANE_STATE, {("a", "vivo", "1"): 0, ("a", "vivo", "2"): 2})
    metrics.show(metrics.LANE_STATE, {("a", "vivo", "2"): 1})
    assert _shown(metrics.LANE_STATE) == {("a", "vivo", "2"): 1}
    metrics.show(metrics.DEAD_LETTERS, {("intake",): 3})
    metrics.hide()
    assert [_shown(gauge) for gauge in metrics.FLEET_GAUGES] == [{}] * len(metrics.FLEET_GAUGES)


def test_counters_that_ring_at_an_increase_begin_at_zero():
    metrics.begin(vendors=["nobody-yet"], dialects=["no-one-yet"])
    text = generate_latest(REGISTRY).decode()
    for series in (
        'unknown_codes_total{vendor="nobody-yet"}',
        'tokens_retired_total{vendor="nobody-yet"}',
        'unknown_fields_total{dialect="no-one-yet"}',
    ):
        assert f"pushfleet_{series} 0.0" in text


def test_port_zero_is_off(tmp_path):
    found = metrics.serve_metrics(_settings(tmp_path, 0), "intake", lambda: True, lambda: True)
    assert found is None
    assert runfile.read(tmp_path) == {}


def test_openmetrics_where_it_is_asked_for_and_head_without_a_body(tmp_path):
    port = free_ports(1)
    settings = Settings.load(
        {"PUSHFLEET_DATA_DIR": str(tmp_path), "PUSHFLEET_METRICS_PORT": str(port)}
    )
    assert metrics.serve_metrics(settings, "one", lambda: True, lambda: True) == port
    url = f"http://127.0.0.1:{port}/metrics"
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.read().endswith(b"# EOF\n")
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, b"x", method=method))
        assert (refused.value.code, refused.value.headers["Allow"]) == (405, "GET, HEAD")
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 1000
        assert answer.read() == b""


def test_metrics_listen_and_are_named_apart_from_the_console():
    def names(**more):
        return metrics.target(
            Settings.load({f"PUSHFLEET_{name}": value for name, value in more.items()}), 7
        )

    assert names(METRICS_ADDR="10.1.2.3") == "10.1.2.3:7"
    assert names(METRICS_ADDR="0.0.0.0", METRICS_ADVERTISE="10.9.9.9") == "10.9.9.9:7"
    assert names(METRICS_ADDR="::", METRICS_ADVERTISE="fd00::1") == "[fd00::1]:7"
    assert names(METRICS_ADDR="0.0.0.0") == f"{socket.gethostname()}:7"
    assert names(CONSOLE_ADDR="10.0.0.7:80") == "10.0.0.7:7"
    assert metrics._bound(Settings.load({"PUSHFLEET_METRICS_ADDR": "0.0.0.0"})) == "0.0.0.0"


@pytest.mark.parametrize(
    "amounts", [[], [0.001], [0.0011, 0.02, 0.02, 61, 1e9], [0.0, -1.0, 5, 5.0001]]
)
def test_many_observations_at_once_are_those_one_by_one(amounts: list[float]) -> None:
    registry = CollectorRegistry()
    singly, together = (
        Histogram(name, "x", buckets=metrics.FAST, registry=registry)
        for name in ("singly", "together")
    )
    for amount in amounts:
        singly.observe(amount)
    metrics.observe_all(together, amounts)
    found = [
        [
            (sample.name.removeprefix(name), sample.labels, sample.value)
            for sample in next(iter(one.collect())).samples
        ]
        for name, one in (("singly", singly), ("together", together))
    ]
    assert found[0] == found[1]
