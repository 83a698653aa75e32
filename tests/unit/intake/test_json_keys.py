"""The quick look agrees with the thorough one wherever it says yes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.intake.json_keys import certainly_unambiguous

KEYS = st.sampled_from(["a", "b", ":", 'a":', "k\\", "\u00e9", ""])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from([":", '":', "x", '{"a":1}', "\\"])
)


class Pairs(list[tuple[str, Any]]):
    """An object that may name a key twice."""


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3), st.lists(st.tuples(KEYS, inner), max_size=4).map(Pairs)
    )


def written(value: Any, gap: str) -> str:
    if isinstance(value, Pairs):
        inside = "{" + ",".join(f"{json.dumps(key)}{gap}:{written(one, gap)}" for key, one in value)
        return inside + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(one, gap) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def repeats(value: Any) -> bool:
    if isinstance(value, Pairs):
        return len({key for key, _ in value}) < len(value) or any(repeats(one) for _, one in value)
    return isinstance(value, list) and any(repeats(one) for one in value)


@given(st.recursive(LEAVES, objects, max_leaves=12), st.sampled_from(["", " ", "\n"]))
def test_it_never_passes_an_object_that_names_a_key_twice(value: Any, gap: str) -> None:
    assert not (certainly_unambiguous(written(value, gap).encode()) and repeats(value))


@given(st.dictionaries(st.text("abcxyz", max_size=4), st.text("abc 20,", max_size=6), max_size=5))
def test_a_usual_event_passes_without_a_closer_look(data: dict[str, str]) -> None:

    assert certainly_unambiguous(json.dumps({"v": 1, "data": data}).encode())


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"a":1,}', b'{"a":NaN}', b"\xff", b'"\xff"', b'{"a":1}}']
)
def test_what_is_not_json_is_left_to_the_closer_look(raw: bytes) -> None:
    assert not certainly_unambiguous(raw)
