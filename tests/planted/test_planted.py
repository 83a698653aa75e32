"""The planted faults still fit the code; whether they are noticed is `make planted`."""

from pathlib import Path

import pytest

from tests.planted.faults import FAULTS, Fault

HERE = Path(__file__).parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_fits_the_code(fault: Fault) -> None:
    text = (HERE / fault.file).read_text()
    assert text.count(fault.old) == 1
    if fault.file.endswith(".py"):
        compile(text.replace(fault.old, fault.new), fault.file, "exec")
    assert all((HERE / name).exists() for name in fault.tests)
