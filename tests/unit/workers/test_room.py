"""How the room on the wire is shared among lanes."""

import pytest

from workers.handlers.running_rounds import shared_out


@pytest.mark.parametrize(
    ("room", "wanted", "shares"),
    [
        (10, [], []),
        (0, [3, 3], [0, 0]),
        (-4, [3], [0]),
        (12, [6, 6], [6, 6]),
        (10, [6, 6], [5, 5]),
        (11, [1, 100, 4], [1, 6, 4]),
        (500, [1_000, 1, 1_000], [249, 1, 250]),
        (9, [1, 1], [4, 4]),  # more may have come meanwhile
    ],
)
def test_each_gets_what_it_wants_or_as_much_as_who_wants_more(
    room: int, wanted: list[int], shares: list[int]
) -> None:
    assert shared_out(room, wanted) == shares
