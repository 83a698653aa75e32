"""Push ids and collapse ids: the same push has the same ones everywhere, two never share one."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.model import Kind
from tests.examples import examples
from tests.unit.routing.builders import message
from workers.routing.identity import collapse_id, push_id

PARTS = ("demo", "stored:1", "bob", "phone", Kind.MESSAGE)
#: Worked out once: stored claims and ledgers hold such ids, so it must never change.
KNOWN = "95c67d08ece7251297893ddb2268c6f3"


def test_the_id_is_blake2b_over_the_parts_each_ended_by_a_nul():
    assert push_id(*PARTS) == KNOWN
    found = hashlib.blake2b(b"demo\0stored:1\0bob\0phone\0message\0", digest_size=16).hexdigest()
    assert found == KNOWN


@pytest.mark.parametrize(
    "other",
    [
        ("demo2", "stored:1", "bob", "phone", Kind.MESSAGE),
        ("demo", "stored:2", "bob", "phone", Kind.MESSAGE),
        ("demo", "stored:1", "eve", "phone", Kind.MESSAGE),
        ("demo", "stored:1", "bob", "pad", Kind.MESSAGE),
        ("demo", "stored:1", "bob", "phone", Kind.RECALL),
        ("demo", "stored:1bob", "", "phone", Kind.MESSAGE),
        ("demo", "stored:1", "bobphone", "", Kind.MESSAGE),
    ],
)
def test_whatever_differs_gives_another_id(other):
    assert push_id(*other) != push_id(*PARTS)


texts = st.text(st.characters(exclude_characters="\0"), max_size=20)


@settings(max_examples=examples(50))
@given(
    one=st.tuples(texts, texts, texts, texts, st.sampled_from(Kind)),
    two=st.tuples(texts, texts, texts, texts, st.sampled_from(Kind)),
)
def test_any_text_has_an_id_and_different_parts_never_share_one(one, two):
    assert (push_id(*one) == push_id(*two)) is (one == two)


def test_the_collapse_id_is_the_senders_key_else_the_message():
    assert collapse_id(message()) == "m-1"
    assert collapse_id(message(push={"collapse_key": "k"})) == "k"
