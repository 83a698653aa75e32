"""The lock files: all that set-up with an old pip and nothing else needs."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def pinned(lock: str) -> dict[str, set[str]]:
    """Extras that stand in the lock, by package."""
    found: dict[str, set[str]] = {}
    for line in re.findall(r"^[A-Za-z][^\\\n]*", (ROOT / lock).read_text(), re.MULTILINE):
        requirement = Requirement(line.strip())
        found.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_asked_for_with_extras_is_pinned_with_them(lock: str) -> None:
    """Pip 23.2 takes `coverage[toml]` for another package than a pinned `coverage`, and refuses it
    as soon as a newer one is out.
    """
    pins = pinned(lock)
    missing = set()
    for name, extras in pins.items():
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of another system
            continue
        for requirement in map(Requirement, asked):
            held = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (*extras, "")
            )
            if held and requirement.extras - pins.get(canonicalize_name(requirement.name), set()):
                missing.add(f"{name}: {requirement}")
    assert not missing


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    blocks = [block for block in re.split(r"\n(?=[A-Za-z])", text) if block[:1].isalpha()]
    assert blocks
    assert not [
        block.split("\n")[0]
        for block in blocks
        if "--hash=sha256:" not in block or "==" not in block.split("\n")[0]
    ]
    assert not re.search(r"https?://", text)
