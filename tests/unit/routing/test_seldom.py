"""What routing does seldom: a hiding mode of a later release, a badge that is set, people and bare
tokens in one look.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from common.model import BadgeMode
from tests.unit.routing.builders import Books, message, offline, who
from workers.routing.fan_out import _badge_mode, _settings
from workers.routing.render import redaction_of


def test_a_hiding_mode_that_nobody_knows_hides_nothing() -> None:
    assert redaction_of(message(), {}, {"hidden_mode": "of a later release"}, None, "en") is None


@pytest.mark.parametrize(
    ("badge", "mode"),
    [({"mode": "set", "value": 5}, BadgeMode.SET), ({"mode": "set"}, BadgeMode.KEEP)],
)
def test_a_badge_that_is_set_needs_its_number(badge: dict[str, Any], mode: BadgeMode) -> None:
    assert _badge_mode(message(push={"badge": badge}), {}) is mode


def test_a_bare_token_has_no_settings() -> None:
    class Asked(Books):
        def of_people(
            self, people: Collection[tuple[str, str]], conversations: Sequence[str]
        ) -> Mapping[tuple[str, str], Mapping[str, Any]]:
            return {who: {"of": list(conversations)} for who in people}

    direct = msgspec.structs.replace(message(), direct=True)
    asked: Any = Asked()
    found = list(_settings([offline(direct, who()), offline(message(), who(user="eve"))], asked))
    assert found == [("demo", "eve")]
    assert _settings([offline(direct, who())], asked) == {}
