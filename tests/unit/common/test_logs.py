"""Logs carry ids and reasons, and never a token, a person or a text."""

import io
import json
import logging

import pytest

from common import logs
from common.config import Settings


@pytest.fixture
def written():
    """Calls setup and gives back what was written; the root logger is put back after."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()

    def start(**environ):
        settings = Settings.load({f"PUSHFLEET_{name}": value for name, value in environ.items()})
        logs.setup(settings, "routing", stream)
        return stream.getvalue

    yield start
    root.handlers[:] = before
    root.setLevel(level)


SECRETS = {
    "APNs token": "token 740f4707bebcf74f9b7c25d48e3358945f6aa01da5ddb387462c7eaf61bb78ad is dead",
    "FCM token": "sent to bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1-abc now",
    "JWT": "jwt eyJhbGciOiJFUzI1NiIsImtpZCI6IkFCQyJ9.eyJpc3MiOiJURUFNIn0.MEUCIQDx1y2z3",
    "password in a URL": "redis://user:hunter2@host:6379/0 is away",
    "bearer": "authorization: bearer abcdefgh12345678",
    "key and value": "user=u_alice body='see you at nine' title: Lunch",
    "SQL parameters": "(psycopg.Error) oops [SQL: INSERT] [parameters: {'user': 'u_alice', 'x': 'see you at "  # noqa: E501
    "nine'}]",
    "PostgreSQL detail": "duplicate key\nDETAIL:  Key (who)=(u_alice) already exists.",
    "Chinese text": "could not render 您好，周六见 for them",
}
LEAKS = ("740f47", "CI2k_", "eyJ", "hunter2", "abcdefgh", "u_alice", "nine", "Lunch", "您", "周六")


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_secrets_and_people_are_scrubbed(text):
    assert not [leak for leak in LEAKS if leak in logs.scrub(text)]


KEPT = [
    "workers.vendors.apns answered 410 after 3 attempts",
    "delivery-apns: 12 pushes in 0.5 s",
    "stage=routing count=500",
]


@pytest.mark.parametrize("text", KEPT)
def test_plain_words_stay_as_they_are(text):
    assert logs.scrub(text) == text


def test_a_json_line_has_time_level_stage_and_the_ids_in_force(written):
    lines = written()
    with logs.bind(event_id="e-1", message_id="m-1", app=None):
        logging.getLogger("workers.x").warning(
            "no device", extra={"count": 2, "token": "abc", "user": "u_alice"}
        )
    line = json.loads(lines())
    found = (line["level"], line["stage"], line["event_id"], line["message_id"], line["count"])
    assert found == ("warning", "routing", "e-1", "m-1", 2)
    assert line["at"].endswith("Z")
    assert "u_alice" not in lines()
    assert "abc" not in lines()


def test_ids_end_with_their_block(written):
    lines = written()
    with logs.bind(event_id="e-1"):
        pass
    logging.getLogger("workers.x").warning("after")
    assert "event_id" not in json.loads(lines())


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exception_says_where_and_not_what(written, form):
    lines = written(LOG_FORMAT=form)
    try:
        int("您好")
    except ValueError:
        logging.getLogger("workers.x").exception("broke")
    assert "ValueError" in lines()
    assert "test_logs.py:" in lines()
    assert "您" not in lines()


def test_libraries_are_quiet_and_bad_arguments_do_not_crash(written):
    lines = written(LOG_LEVEL="debug")
    logging.getLogger("httpx").info("HTTP Request: POST …")
    logging.getLogger("workers.x").info("%d pushes", "many")
    assert "HTTP Request" not in lines()
    assert "pushes" in lines()
