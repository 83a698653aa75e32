"""Texts that go to PostgreSQL as one parameter arrive as they were, whatever they hold."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from common.model import Vendor
from common.storage.devices import Devices
from common.storage.preferences import Preferences
from common.storage.text_arrays import text_array
from tests.examples import examples

ODD = [
    'a"b',
    "back\\slash",
    '\\"',
    "{}",
    "a,b",
    "NULL",
    "",
    " ",
    "会议",
    "line\nbreak",
    "$1",
    "'",
    "é",
]

texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from('"\\,{} '), max_size=12
)


@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(values=st.lists(texts, max_size=6))
def test_the_array_has_these_texts(engine: Engine, values: list[str]) -> None:
    with engine.connect() as connection:
        query = text("SELECT CAST(:values AS text[])")
        assert connection.execute(query, {"values": text_array(values)}).scalar() == values


def test_people_with_odd_names_are_found(engine: Engine) -> None:
    with engine.begin() as connection:
        for name in ODD:
            connection.execute(
                text(
                    'INSERT INTO devices (app, "user", device_id, platform, vendor, business_id,'
                    " token, registered_ms, state, reason, state_ms) VALUES (:app, :user, 'd',"
                    " 'ios', 'apns', 'ios', :token, 1, 'active', '', 1)"
                ),
                {"app": f"of {name}", "user": name, "token": name},
            )
            connection.execute(
                text(
                    'INSERT INTO settings (app, "user", field, value, ts_ms)'
                    " VALUES (:app, :user, 'lang', '\"en\"', 1)"
                ),
                {"app": f"of {name}", "user": name},
            )
    people = [(f"of {name}", name) for name in ODD]
    found = Devices(engine).of_people(people)
    assert {who: [one.token for one in own] for who, own in found.items()} == {
        who: [who[1]] for who in people
    }
    assert {one.vendor for own in found.values() for one in own} == {Vendor.APNS}
    for app, name in people:
        assert list(Devices(engine).of_users(app, [name, *ODD])) == [name]
    assert Preferences(engine).whole(people) == {who: {"lang": "en"} for who in people}
