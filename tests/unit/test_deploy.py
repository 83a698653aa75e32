"""What stands around the code says the same as the code: alerts, runbook, containers, Procfile."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from common import metrics
from workers.supervisor import read_procfile

ROOT = Path(__file__).parents[2]
ALERTS = (ROOT / "deploy/alerts.yml").read_text()
LINES = [line.name for line in read_procfile(ROOT / "Procfile", {})]


def known_series() -> set[str]:
    """Every name that Prometheus will see of our metrics."""
    found = set()
    for one in vars(metrics).values():
        if hasattr(one, "_labelnames"):
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(one._type, [""])
            found |= {one._name + end for end in ends}
    return found


def test_alerts_ask_for_metrics_that_there_are():
    asked = set(re.findall(r"pushfleet_\w+", ALERTS))
    assert len(asked) > 10
    assert asked <= known_series()


def test_the_autoscaler_asks_for_metrics_that_there_are():
    asked = set(re.findall(r"pushfleet_\w+", (ROOT / "deploy/k8s/autoscaling.yaml").read_text()))
    assert asked
    assert asked <= known_series()


def test_the_dashboard_shows_every_metric_and_no_other():
    panels = json.loads((ROOT / "deploy/grafana/pushfleet.json").read_text())["panels"]
    asked = set(re.findall(r"pushfleet_\w+", " ".join(target["expr"] for panel in panels for target in panel["targets"])))
    assert asked <= known_series()
    assert {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in known_series() - asked} <= {
        name.removesuffix("_bucket") for name in asked
    }
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_has_its_entry_in_the_runbook_and_no_entry_is_left_over():
    alerts = re.findall(r"alert: (\w+)", ALERTS)
    entries = re.findall(r"^### (Pushfleet\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert alerts == entries
    assert len(set(alerts)) == len(alerts)


def test_every_line_of_the_procfile_is_a_service():
    services = re.findall(r"^  ([a-z-]+):$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert set(LINES) <= set(services)


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/Dockerfile", "deploy/k8s/pushfleet.yaml"])
def test_nothing_in_a_container_runs_as_root(name):
    text = (ROOT / name).read_text()
    assert re.search(r"10001", text)
    assert not re.search(r"(?i)user:\s*\"?(0|root)\b|runAsUser: 0|privileged: true", text)


def test_the_licence_is_all_there():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt install prometheus, then make alerts")
@pytest.mark.parametrize("command", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")], ids=" ".join)
def test_prometheus_own_tool_is_content(command):
    done = subprocess.run(["promtool", *command], cwd=ROOT / "deploy", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_has_its_unit_test():
    tested = set(re.findall(r"alertname: (\w+)", (ROOT / "deploy/alerts_test.yml").read_text()))
    rules = ALERTS.split("- alert: ")[1:]
    pages = {rule.split()[0] for rule in rules if "{severity: page}" in rule}
    assert len(pages) > 8
    assert pages - tested == {"PushfleetLedgerWaits", "PushfleetTokenGuard"}
