"""How long a group's page takes with a million rows: python -m tests.benchmarks.console_pages
[ROWS]. p50 and p95 of each kind, ms.
"""

import statistics
import sys
import time
from pathlib import Path

from sqlalchemy import text

from common.clock import now_ms
from common.storage.migrations import migrate
from tests.conftest import data_settings, embedded
from tests.records import event_record
from workers.console.pages import COUNTS_S
from workers.reports.trace import trace_page
from workers.runtime import Runtime

_ROWS = text(
    'INSERT INTO ledger (day, app, event_id, "user", device, vendor, business_id, decision, '
    "rank, class, push_id, attempts, presence_ms,"
    " routed_ms, decided_ms, note) SELECT CAST(to_timestamp(:now / 1000) AT TIME ZONE 'UTC' "
    "AS date), 'big', 'e1',"
    " 'user' || lpad(n::text, 7, '0'), 'phone', 'apns', 'ios', CASE WHEN n % 100 = 0 THEN "
    "'token_dead' ELSE 'accepted' END, 9, 'chat',"
    ' md5(n::text), \'[[1,"200","","",null]]\', :now, :now, :now + n % 9000, \'200\' FROM '
    "generate_series(1, :rows) AS n"
)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with embedded(valkey=True, postgres=True) as running:
        settings = data_settings(
            Path("var"), REDIS_URL=running.redis_url or "", DATABASE_URL=running.database_url or ""
        )
        runtime = Runtime(settings)
        migrate(runtime.engine)
        now = now_ms()
        runtime.ledger.write(
            [event_record(app="big", event_id="e1", message_id="m1", ts_ms=now, received_ms=now)]
        )
        with runtime.engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(_ROWS, {"now": now, "rows": rows})
        with runtime.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql(
                "VACUUM ANALYZE ledger"
            )
        middle = (f"user{rows // 2:07}", "phone")
        kinds = {
            "first page": (None, None, None),
            "by decision": (None, "token_dead", None),
            "in the middle": (None, None, middle),
            "of a person": (f"user{rows - 7:07}", None, None),
        }
        for name, (user, decision, after) in kinds.items():
            took = []
            for _ in range(20):
                began = time.perf_counter()
                told = trace_page(runtime, "m1", "big", user, decision, after, 100, COUNTS_S)
                took.append((time.perf_counter() - began) * 1000)
                assert told is not None
                assert told["recipients"]
            cuts = statistics.quantiles(took, n=20)
            print(
                f"{name:<14} first {took[0]:7.1f}  p50 {statistics.median(took):7.1f}  p95 "
                f"{cuts[18]:7.1f} ms  counts {told and told['counts']}"
            )
        runtime.close()


if __name__ == "__main__":
    main()
