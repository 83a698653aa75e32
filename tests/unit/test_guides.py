"""The guides for contributors are true: every file they name exists, and every place that knows a
vendor is named in the steps.
"""

import re
from pathlib import Path

import pytest

from common.model import Vendor
from simulators.registry import SIMULATORS
from tests.tables import spaced
from workers.vendors import VENDORS

ROOT = Path(__file__).parents[2]
GUIDES = ("docs/architecture.md", "docs/contributing.md")
#: What the steps leave to the tests of the whole way, or to texts where a vendor stands as an
#: example.
#: keys.py: only the frozen names of an older release.
ELSEWHERE = (
    *spaced("""
        tests/ workers/intake/dialects/ workers/delivery/ workers/runtime.py workers/cli/demo.py
        docs/
    """),
    "common/storage/keys.py",
)


def named(guide: str) -> list[str]:
    """Paths in back quotes; `acme` is the vendor that does not exist yet."""
    pattern = r"`([A-Za-z_./-]+/[A-Za-z_./-]*|[A-Za-z-]+\.(?:md|toml|yml)|Procfile)`"
    words = re.findall(pattern, (ROOT / guide).read_text(encoding="utf-8"))
    return [word for word in words if "acme" not in word]


@pytest.mark.parametrize("guide", GUIDES)
def test_every_file_that_a_guide_names_exists(guide: str) -> None:
    missing = [word for word in named(guide) if not (ROOT / word).exists()]
    assert len(named(guide)) > 10
    assert not missing


@pytest.mark.parametrize("vendor", list(Vendor))
def test_the_steps_lead_to_all_files_of_each_vendor_there_is(vendor: Vendor) -> None:
    text = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    for path in set(
        re.findall(r"`((?:docs|simulators|workers|tests)/[a-z_/]*meizu(?:\.py|\.md|/))`", text)
    ):
        if "simulators" in path and vendor == Vendor.HARMONY:
            continue  # Huawei's is HarmonyOS' too
        if "simulators" in path and not SIMULATORS[vendor].manners.http1_only:
            continue
        own = path.replace("meizu", vendor)
        assert (ROOT / own).exists(), own


def test_every_file_that_knows_meizu_is_named_in_the_steps() -> None:
    steps = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    folders = ("common", "workers", "simulators")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    files += [ROOT / "Procfile", ROOT / "docker-compose.yml", ROOT / "pyproject.toml"]
    knowing = [
        str(path.relative_to(ROOT))
        for path in files
        if "meizu" in path.read_text(encoding="utf-8").lower()
    ]
    assert "workers/vendors/__init__.py" in knowing
    assert not [
        path
        for path in knowing
        if not path.startswith((*ELSEWHERE, "workers/vendors/meizu/")) and f"`{path}`" not in steps
    ]


def test_each_vendor_has_its_row() -> None:
    assert set(VENDORS) == set(Vendor)


def test_every_fault_of_the_doctors_page_has_its_test() -> None:
    page = (ROOT / "docs/doctor.md").read_text()
    rows = re.findall(r"^\| (\d+) \| .* \| `(test_\w+\.py)` `(test_\w+)` \|$", page, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 50))
    paths = (ROOT / "tests").rglob("test_*.py")
    sources = {
        path.name: path.read_text() for path in paths if path.name in {name for _, name, _ in rows}
    }
    missing = [name for _, file, name in rows if f"def {name}(" not in sources[file]]
    assert not missing


def test_the_site_has_every_page() -> None:
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    listed = re.findall(r"^ +- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert set(listed) == pages
    assert len(listed) == len(pages)
