"""The chart of deploy/helm, rendered by Helm's own engine and held against Kubernetes' schemas:
`make helm`.

Needs helm-python-sdk (Helm v4 as a library) and kubernetes-validate; with --render it prints what
it made.
"""

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy/helm/pushfleet"
#: Kubernetes versions that are looked at.
VERSIONS = ("1.30", "1.34")
ALL = {"enabled": True}
#: What is rendered: name -> values.
WISHES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "everything on, keda": {
        "lanes": dict.fromkeys(
            ("apns", "fcm", "huawei", "harmony", "honor", "xiaomi", "oppo", "vivo", "meizu"), ALL
        ),
        "processes": dict.fromkeys(("gateway", "gateway-xmpp"), ALL),
        "autoscaling": {"kind": "keda"},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {"ingressFrom": [{"namespaceSelector": {}}], "proxyPorts": [3128]},
        "secret": {"coreUrl": True},
        "settings": {"PUSHFLEET_EVENT_STREAMS": "im:events"},
        "tolerations": [{"operator": "Exists"}],
    },
    "hpa, a proxy for fcm": {
        "lanes": {"fcm": {"enabled": True, "endpointProxy": "http://proxy:3128"}},
        "autoscaling": {"kind": "hpa"},
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False},
    },
}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object that Helm makes of the chart."""
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        files = chart.render(values, name="push", namespace="im", is_install=True)
    found = []
    for name, text in sorted(files.items()):
        if name.endswith((".yaml", ".yml")):
            found += [one for one in yaml.safe_load_all(text) if one]
    return found


def wrong(values: dict[str, Any]) -> list[str]:
    """What stands against these objects."""
    import kubernetes_validate

    objects, found = rendered(values), []
    for one in objects:
        name = f"{one['kind']} {one['metadata']['name']}"
        if one["apiVersion"].partition("/")[0] in ("keda.sh", "monitoring.coreos.com"):
            continue  # definitions of operators, whose schemas no registry brings
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{name} ({version}): {error.message}")
    return found + unlike(objects)


def unlike(objects: list[dict[str, Any]]) -> list[str]:
    """Promises of the chart that no schema knows."""
    found = []
    deployments = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Deployment"}
    for name, one in deployments.items():
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        texts = str(container.get("env"))
        non_root = pod["securityContext"]["runAsNonRoot"]
        if not non_root or not container["securityContext"]["readOnlyRootFilesystem"]:
            found.append(f"{name} may write or be root")
        if (
            "redis://" in texts
            or "PUSHFLEET_REDIS_URL_FILE" not in texts
            or re.search(r"secretKeyRef", texts)
        ):
            found.append(f"{name} has a secret in its environment")
        if container["args"][:1] != ["worker"]:
            found.append(f"{name} runs {container['args']}")
        selected = one["spec"]["selector"]["matchLabels"].items()
        if selected - one["spec"]["template"]["metadata"]["labels"].items():
            found.append(f"{name} does not select its own pods")
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]
        for one in objects
        if one["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")
    }
    found += [f"{name} is scaled and there is none" for name in scaled - deployments.keys()]
    found += [
        f"{name} has replicas, which the scaler would fight"
        for name in scaled & deployments.keys()
        if "replicas" in deployments[name]["spec"]
    ]
    hooks = [one for one in objects if one["kind"] == "Job"]
    if [one["metadata"]["annotations"].get("helm.sh/hook") for one in hooks] != [
        "pre-install,pre-upgrade"
    ]:
        found.append("the tables are not migrated before the processes start")
    return found


def main() -> int:
    if "--render" in sys.argv:
        print(yaml.safe_dump_all(rendered(WISHES["everything on, keda"])))
        return 0
    bad = 0
    for name, values in WISHES.items():
        found = wrong(values)
        bad += len(found)
        print(f"{name}: {len(rendered(values))} objects, {len(found)} wrong")
        for line in found:
            print(f"  {line}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
