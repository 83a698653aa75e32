"""What people look at is read from a read replica where there is one, and from the primary while
that is away.
"""

import dataclasses
import socket
from collections.abc import Iterator

import pytest

from common.clock import now_ms
from common.config import Settings
from common.ledger_records import Record
from common.model import Decision
from common.storage.ledger import Ledger
from common.storage.migrations import migrate
from tests.conftest import own_database
from tests.records import event_record, row_record
from workers.reports.trace import message_trace, trace_page
from workers.runtime import Runtime


@pytest.fixture(scope="module")
def replica(database_url: str) -> Iterator[str]:
    """Another database, with tables of ours: what is read there was not written by this fleet."""
    with own_database(database_url) as url:
        yield url


def records(message_id: str, user: str) -> list[Record]:
    now = now_ms()
    event = event_record(app="a", message_id=message_id, ts_ms=now, received_ms=now)
    row = row_record(app="a", user=user, ts_ms=now, decided_ms=now, decision=Decision.NO_DEVICE)
    return [event, row]


def test_why_and_counts_are_asked_of_the_replica(settings: Settings, replica: str) -> None:
    runtime = Runtime(dataclasses.replace(settings, database_reports_url=replica))
    migrate(runtime.engine)
    migrate(runtime.reports_engine)
    Ledger(runtime.reports_engine).write(records("there", "bob"))
    told = message_trace(runtime, "there", None, None, None)
    assert told is not None
    assert [one["user"] for one in told["recipients"]] == ["bob"]
    assert trace_page(runtime, "there", None, None, None, None, 10) is not None
    assert runtime.ledger.find("there", None, None) is None, "the fleet itself asks the primary"
    runtime.close()


def test_while_the_replica_is_away_the_primary_is_asked(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = f"postgresql+psycopg://u:p@127.0.0.1:{probe.getsockname()[1]}/none"
    runtime = Runtime(dataclasses.replace(settings, database_reports_url=nobody))
    migrate(runtime.engine)
    runtime.ledger.write(records("here", "eve"))
    told = message_trace(runtime, "here", None, None, None)
    assert told is not None
    assert [one["user"] for one in told["recipients"]] == ["eve"]
    runtime.close()
