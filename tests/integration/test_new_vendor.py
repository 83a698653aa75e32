"""A vendor that does not exist yet takes five places: its folder, simulator and page, a member of
`Vendor`, a row of `VENDORS`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.config import VENDOR_ENDPOINTS
from common.model import Vendor
from tests.conftest import open_folder
from tests.tables import spaced
from workers.cli import vendor_files
from workers.vendors import VENDORS

ROOT = Path(__file__).parents[2]
TREE = spaced("""
    common workers simulators deploy docs Procfile docker-compose.yml mkdocs.yml pyproject.toml
""")
#: The fleet of the new vendor alone, and the first push that `init` sends through it.
DRIVER = """
import sys
from pathlib import Path
from common.config import Settings
from workers.cli import run
from workers.cli.fleet import migrate_settings
from workers.cli.up import in_background

with in_background(Settings.load(), {}, True, migrate=migrate_settings, procfile_path=Path("few")):
    sys.exit(run(["init", "--vendor", "acme"]))
"""


def as_acme(text: str) -> str:
    return text.replace("meizu", "acme").replace("Meizu", "Acme").replace("MEIZU", "ACME")


def with_acme(tree: Path) -> None:
    """The five places, after Meizu's."""
    folder = tree / "workers/vendors/acme"
    shutil.copytree(
        tree / "workers/vendors/meizu", folder, ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in folder.glob("*.py"):
        path.write_text(as_acme(path.read_text()))
    for place in ("simulators/meizu.py", "docs/vendors/meizu.md"):
        (tree / as_acme(place)).write_text(as_acme((tree / place).read_text()))
    for place, line in (
        ("common/model.py", r"^    MEIZU = .*\n"),
        ("workers/vendors/__init__.py", r"^from workers.vendors.meizu import MEIZU\n"),
        ("workers/vendors/__init__.py", r" MEIZU\b(?!\n)"),
    ):
        path = tree / place
        source = path.read_text()
        path.write_text(
            re.sub(line, lambda found: _and_acme(found[0]), source, count=1, flags=re.MULTILINE)
        )


def _and_acme(line: str) -> str:
    return line + ("" if line.endswith("\n") else ",") + as_acme(line)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name)  # what is compiled already too
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


@pytest.mark.timeout(450)  # two processes that load all, one of them a fleet
def test_a_tenth_vendor_in_five_places_is_sent_to(tree: Path) -> None:
    with_acme(tree)
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("PUSHFLEET_")
    } | {"PYTHONPATH": str(tree)}

    def told(*argv: str) -> str:
        command = [sys.executable, *argv]
        done = subprocess.run(
            command, cwd=tree, env=environ, capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    changed = told("-m", "workers.cli.vendor_files").split()
    assert {
        "Procfile",
        "docker-compose.yml",
        "mkdocs.yml",
        "deploy/helm/pushfleet/values.yaml",
        "deploy/egress.json",
    } <= set(changed)
    lines = (tree / "Procfile").read_text().splitlines(keepends=True)
    few = [
        line
        for line in lines
        if line.startswith(("intake:", "presence:", "routing:", "delivery-acme:", "upkeep:"))
    ]
    assert len(few) == 5
    (tree / "few").write_text("".join(few))
    with open_folder() as folder:
        environ |= {
            f"PUSHFLEET_ENDPOINT_{name}": "http://127.0.0.1:9"
            for names in VENDOR_ENDPOINTS.values()
            for name in names
        }
        environ["PUSHFLEET_DATA_DIR"] = str(folder / "var")
        assert "acme took the push" in told("-c", DRIVER)
        [record] = (folder / "var/simulators/acme.jsonl").read_text().splitlines()
    assert "See you at eight" in record


def test_what_the_files_around_the_code_say_of_each_vendor_is_made_of_the_table() -> None:
    made = vendor_files.made(ROOT)
    stale = [str(path.relative_to(ROOT)) for path, text in made if path.read_text() != text]
    assert not stale, "make generated"


@pytest.mark.parametrize("vendor", list(Vendor))
def test_a_vendors_member_names_the_endpoints_of_its_row(vendor: Vendor) -> None:
    assert set(VENDORS[vendor].endpoints) == set(vendor.endpoints)
