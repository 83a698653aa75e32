"""The texts of `--help`, and what the files around the code say of each vendor, made of `VENDORS`:
`make generated`, or `python -m workers.cli.vendor_files`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from workers.cli import help_texts
from workers.cli.commands import cli
from workers.cli.contract import as_text, asyncapi, egress, json_schema
from workers.cli.openapi import openapi
from workers.cli.settings import page
from workers.vendors import VENDORS

PROCESS = (
    "delivery-{}: PUSHFLEET_METRICS_PORT=${{PUSHFLEET_METRICS_PORT:-17300}} pushfleet worker "
    "delivery --vendors {}\n"
)
SERVICE = "  delivery-{}:\n    <<: *fleet\n    command: [worker, delivery, --vendors, {}]\n\n"
LANE = "  {}: {{enabled: false, replicas: 2, max: 8}}\n"


def made(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, the text it should have). Of a chart's lane only its presence is made; its numbers
    stay as they are.
    """
    yield root / "workers/cli/help_texts.json", help_texts.made(cli)
    procfile, compose, site = root / "Procfile", root / "docker-compose.yml", root / "mkdocs.yml"
    chart = root / "deploy/helm/pushfleet/values.yaml"
    processes = "".join(PROCESS.format(one, one) for one in VENDORS)
    yield (procfile, _replaced(procfile, r"(?:^delivery-[a-z]+:.*\n)+", processes))
    services = "".join(SERVICE.format(one, one) for one in VENDORS)
    yield compose, _replaced(compose, r"(?:^  delivery-[a-z]+:\n(?:    .*\n)+\n)+", services)
    lanes = {
        name: line for line, name in re.findall(r"^(  ([a-z]+): .*\n)", _lanes(chart), re.MULTILINE)
    }
    yield (
        chart,
        _replaced(
            chart,
            re.escape(_lanes(chart)),
            "lanes:\n" + "".join(lanes.get(one, LANE.format(one)) for one in VENDORS),
        ),
    )
    pages = sorted(path.name for path in (root / "docs/vendors").glob("*.md"))
    lines = "".join(f"      - vendors/{one}\n" for one in pages)
    yield (site, _replaced(site, r"(?:^      - vendors/.*\n)+", lines))
    yield root / "docs/settings.md", page()
    documents = {
        "docs/events.schema.json": json_schema,
        "docs/asyncapi.json": asyncapi,
        "docs/openapi.json": openapi,
    }
    for path, document in {**documents, "deploy/egress.json": egress}.items():
        yield root / path, as_text(document())


def _lanes(chart: Path) -> str:
    found = re.search(r"^lanes:\n(?:  .*\n)+", chart.read_text(), re.MULTILINE)
    return found[0] if found else ""


def _replaced(path: Path, pattern: str, text: str) -> str:
    return re.sub(pattern, lambda _found: text, path.read_text(), count=1, flags=re.MULTILINE)


def main(root: Path) -> int:
    for path, text in made(root):
        if path.read_text() != text:
            path.write_text(text)
            print(path.relative_to(root))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
