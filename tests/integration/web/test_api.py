"""The read-only HTTP API over real HTTP: what it tells, to whom, and that its answers are what its
document says.
"""

import json
import time
import urllib.parse

import pytest
from openapi_schema_validator import OAS31Validator

from common.storage.tallies import MINUTE_MS, SETTLE_MS
from tests.integration.web.conftest import APP, call, live, message, registered
from tests.integration.web.test_console import publish, served
from tests.waiting import eventually
from workers.cli.openapi import openapi

DOCUMENT = openapi()


@pytest.fixture
def console(runtime, tenant):
    yield from served(runtime)


@pytest.fixture
def token(cli):
    def make(*more: str) -> str:
        said = cli("api-token", "add", "desk", *(more or ("--role", "support", "--app", APP)))
        assert said.code == 0, said.err
        return said.out.split()[-1]

    return make


@pytest.fixture
def ask(console):
    """GET a path; (status, what it says). The answer is checked against the document."""

    def get(path: str, key: str | None = None, **query: str):
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        answer = call(f"{console}/api/v1{path}?{urllib.parse.urlencode(query)}", headers=headers)
        told = json.loads(answer.body)
        kind = "/".join(path.split("/")[:2])
        (shape,) = [
            value for name, value in DOCUMENT["paths"].items() if name.startswith(f"/api/v1{kind}")
        ]
        schema = shape["get"]["responses"][str(answer.status)]["content"]["application/json"][
            "schema"
        ]
        OAS31Validator({**schema, "components": DOCUMENT["components"]}).validate(told)
        return answer.status, told

    return get


def users_of(answer) -> set[str]:
    return {row["user"] for row in answer[1].get("recipients", ())}


def test_what_became_of_a_message_of_a_person_and_of_all(runtime, fleet, ask, token, cli):
    publish(runtime, fleet, live("bob"), registered("e/ve", "tablet", "meizu", "deadeve"))
    publish(runtime, fleet, message("m/1", ["bob", "e/ve", "ann"], "group"))
    key = token()
    # the second look is due after 300 ms
    eventually(lambda: fleet.step() or "ann" in users_of(ask("/messages/m%2F1", key)))
    status, told = ask("/messages/m%2F1", key)
    assert status == 200
    found = {row["user"]: row["decision"] for row in told["recipients"]}
    assert found == {"bob": "accepted", "e/ve": "token_dead", "ann": "no_device"}
    assert told["counts"] == {"accepted": 1, "token_dead": 1, "no_device": 1}
    assert [
        row["user"] for row in ask("/messages/m%2F1", key, decision="accepted")[1]["recipients"]
    ] == ["bob"]
    first = ask("/messages/m%2F1", key, limit="2")[1]
    rest = ask("/messages/m%2F1", key, limit="2", after=first["next"])[1]
    users = [[row["user"] for row in page["recipients"]] for page in (first, rest)]
    assert (users, rest["next"]) == ([["ann", "bob"], ["e/ve"]], None)
    status, person = ask(f"/people/{APP}/e%2Fve", key)
    assert status == 200
    assert [(one["device_id"], one["state"]) for one in person["devices"]] == [
        ("tablet", "retired")
    ]
    assert [one["decision"] for one in person["pushes"]] == ["token_dead"]
    assert "deadeve" not in json.dumps([told, person])
    later = int(time.time() * 1000) + MINUTE_MS + SETTLE_MS
    while runtime.tallies.count(later, None):
        pass
    _, counts = ask("/counts", key, by="vendor,class", until_ms=str(later))
    assert {
        (one["vendor"], one["class"], one["name"], one["count"]) for one in counts["pushes"]
    } == {
        ("meizu", "chat", "accepted", 1),
        ("meizu", "chat", "token_dead", 1),
        ("", "chat", "no_device", 1),
    }
    assert [
        (one["name"], one["count"]) for one in counts["events"] if one["name"] == "message.stored"
    ] == [("message.stored", 1)]
    assert counts["latency"][0]["vendor"] == "meizu"
    assert 0 < counts["latency"][0]["p95_ms"] < 300_000
    steps = ask("/counts", key, step="hour", until_ms=str(later))[1]["pushes"]
    assert all(one["at_ms"] % 3_600_000 == 0 for one in steps)
    assert steps


def test_a_token_tells_what_it_may_of_whom(ask, token, cli, runtime):
    support = token()
    stats = token("--role", "stats", "--app", APP)
    everything = token("--role", "support", "--all-apps")
    assert ask("/counts")[0] == 401
    assert ask("/counts", "pfapi_wrong")[0] == 401
    assert ask("/counts", stats)[0] == 200
    assert ask("/messages/m1", stats)[0] == 403
    assert ask("/people/another/bob", support)[0] == 403
    assert ask("/counts", stats, app="another")[0] == 403
    assert ask("/people/another/bob", everything)[0] == 200
    assert ask("/messages/m1", support)[0] == 404
    odd = [{"by": "user"}, {"step": "second"}, {"since_ms": "x"}, {"since_ms": "0"}]
    for wrong in (*odd, {"since_ms": "9", "until_ms": "5"}, {"vendor": "nokia"}):
        assert ask("/counts", stats, **wrong)[0] == 400, wrong
    odd = [{"user": "a\0"}, {"user": "x" * 600}, {"after": "e30"}, {"after": "é"}]
    for wrong in (*odd, {"limit": "100000"}, {"decision": "perhaps"}):
        assert ask("/messages/m1", support, **wrong)[0] == 400, wrong
    assert ask("/messages/%00", support)[0] == 400
    row = next(one for one in cli("api-token", "list", "--json").json if one["role"] == "stats")
    assert stats not in json.dumps(row)
    assert cli("api-token", "revoke", row["id"]).code == 0
    assert ask("/counts", stats)[0] == 401
    for name, *of in (["x"], ["x", "--app", "nobody"], ["x" * 65, "--app", APP]):
        assert cli("api-token", "add", name, "--role", "stats", *of).code in (1, 2), (name, of)
    with runtime.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE api_tokens SET expires_ms = 1")
    assert ask("/counts", everything)[0] == 401


def test_one_token_has_a_bound_of_calls(ask, token, monkeypatch):
    monkeypatch.setattr("workers.console.api.CALLS_A_MINUTE", 3)
    key, other = token(), token()
    assert [ask("/counts", key)[0] for _ in range(4)] == [200, 200, 200, 429]
    assert ask("/counts", other)[0] == 200


@pytest.mark.parametrize(
    ("path", "form", "status"), [("/nothing", None, 404), ("/", None, 404), ("/counts", b"{}", 405)]
)
def test_who_goes_astray_below_the_api_is_told_in_its_own_form(console, path, form, status):
    answer = call(f"{console}/api/v1{path}", form)
    assert answer.status == status
    assert list(json.loads(answer.body)) == ["error"]
