"""A process loads what it uses: each library that it does without is memory in every process of a
fleet.
"""

import json
import subprocess
import sys

import pytest

from tests.tables import spaced

COMMAND = (
    "import sys, json, importlib; [importlib.import_module(one) for one in sys.argv[1:]]; "
    "print(json.dumps(sorted(sys.modules)))"
)
#: Files of operators are read by the command line, texts are cut where they are too long, HTTP/1.1
#: is sent when there is a push.
NOBODY = {"asn1crypto", "regex", "pycurl", "prompt_toolkit", "aioapns", "uvloop"}
WEB = {"starlette", "uvicorn", "jinja2"}
#: What PostgreSQL is asked with: each process starts from the accounts' copy in Redis.
SQL = {"sqlalchemy", "psycopg"}
#: Secrets are opened and tokens signed where there is an account. redis-py looks whether the
#: library is there, and loads none of its modules.
CIPHERS = {"cryptography.fernet", "cryptography.x509", "cryptography.hazmat"}
CELERY = {"celery", "kombu", "billiard", "amqp"}
STAGES = ["workers.cli.worker", "workers.pipeline"]


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        (["workers.cli.worker", "workers.upkeep"], NOBODY | WEB | CELERY | CIPHERS | {"hpack"}),
        (
            spaced("""
                workers.cli.worker workers.receipts.http workers.gateway.http workers.gateway.xmpp
            """),
            (NOBODY | CELERY | SQL | CIPHERS | {"hpack"}),
        ),
        (
            spaced("""
                workers.cli.worker workers.receipts.http workers.gateway.http workers.console.app
            """),
            (NOBODY | CELERY | {"hpack"}),
        ),
        ([*STAGES, "celery.apps.worker", "workers.transport.engine"], NOBODY | WEB | SQL | CIPHERS),
        (
            ["workers.cli.worker", "workers.handlers.intake", "workers.handlers.spread_intake"],
            NOBODY | WEB | CELERY | SQL | CIPHERS,
        ),
    ],
    ids=["upkeep", "outer doors", "doors", "stages", "intake"],
)
def test_what_a_process_does_without(modules: list[str], without: set[str]) -> None:
    told = subprocess.run(
        [sys.executable, "-c", COMMAND, *modules], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(told.stdout))
    assert not without & (loaded | {name.partition(".")[0] for name in loaded})
