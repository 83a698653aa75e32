"""Which of two time zone data is asked: the machine's or the package's."""

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

#: Of the machine in this test Vancouver has UTC's clock, so the answer tells whose rules it is of.
MACHINES = {
    "older": ("# version 2025b\n", -28_800),
    "newer": ("# version 9999a\n", 0),
    "of a release that it does not say": (None, -28_800),
}
ASK = """
from workers.delivery.hours import offset_s
print(offset_s("America/Vancouver", 1736942400000))
"""


@pytest.mark.parametrize(("told", "offset_s"), MACHINES.values(), ids=MACHINES)
def test_the_newer_data_say_the_time(tmp_path: Path, told: str | None, offset_s: int) -> None:
    utc = resources.files("tzdata").joinpath("zoneinfo", "Etc", "UTC").read_bytes()
    (tmp_path / "America").mkdir()
    (tmp_path / "America" / "Vancouver").write_bytes(utc)
    if told is not None:
        (tmp_path / "tzdata.zi").write_text(told)
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONTZPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(asked.stdout) == offset_s
