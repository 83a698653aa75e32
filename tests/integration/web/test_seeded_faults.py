"""Doctor on seeded faults, one after the other on one fleet: each is named with what cures it, and
nothing else is blamed.
"""

from collections.abc import Iterator

import pytest

from tests import doctored


@pytest.fixture(scope="module")
def place() -> Iterator[doctored.Place]:
    with doctored.a_fleet() as place:
        assert doctored.asked(place, {}) == ({}, "")
        yield place
        assert doctored.asked(place, {}) == ({}, "")


@pytest.mark.parametrize("fault", doctored.faults(), ids=lambda fault: fault.words)
def test_a_seeded_fault_is_named_with_its_cure(
    place: doctored.Place, fault: doctored.Fault
) -> None:
    told = doctored.tried(place, fault)
    assert told["verdict"] == "right", told
