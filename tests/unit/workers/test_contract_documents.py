"""The documents of what a core may publish are made of the types that intake decodes with."""

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from workers.cli.contract import as_text, asyncapi, egress, json_schema
from workers.cli.openapi import DOORS, openapi
from workers.console.api import Api
from workers.gateway.http import make_app as make_gateway
from workers.intake.decoding import Refused, read_entry
from workers.intake.event_types import TYPES

DOCS = Path(__file__).parents[3] / "docs"


def test_the_documents_are_those_of_the_code() -> None:
    assert (DOCS / "events.schema.json").read_text() == as_text(json_schema()), (
        "pushfleet contract json-schema > docs/events.schema.json"
    )
    found = (DOCS / "asyncapi.json").read_text()
    assert found == as_text(asyncapi()), "pushfleet contract asyncapi > docs/asyncapi.json"
    seen = (DOCS / "openapi.json").read_text()
    assert seen == as_text(openapi()), "pushfleet contract openapi > docs/openapi.json"
    shown = (DOCS.parent / "deploy/egress.json").read_text()
    assert shown == as_text(egress()), "pushfleet contract egress > deploy/egress.json"


@pytest.mark.parametrize(
    "document", [json_schema(), asyncapi(), openapi()], ids=["json-schema", "asyncapi", "openapi"]
)
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
        assert found


def test_every_type_has_its_schema() -> None:
    types = {
        one["properties"]["type"]["const"]
        for one in json_schema()["$defs"].values()
        if "const" in one.get("properties", {}).get("type", {})
    }
    assert types == set(TYPES)


def test_the_events_of_our_pages_are_events() -> None:
    pages = [DOCS / "first-hour.md", DOCS.parent / "README.md"]
    found = [
        one
        for page in pages
        for one in re.findall(
            r'^(\{"v":1.*?\}\}?\}?)$\nEND', page.read_text(), re.MULTILINE | re.DOTALL
        )
    ]
    assert len(found) >= 4
    schema = json_schema()["$defs"]
    for text in found:
        event = json.loads(text)
        fields = {b"e": text.encode()}
        (read,) = [read_entry("s", "1795413844000-0", fields, (event["app"],), 1795413844000)]
        assert not isinstance(read, Refused), read
        shape = schema[TYPES[event["type"]].shape.__name__]
        assert set(event["data"]) <= set(shape["properties"])
        assert set(shape["required"]) <= set(event["data"])


def test_the_openapi_document_is_one() -> None:
    OpenAPIV31SpecValidator(openapi()).validate()


def test_every_route_of_every_process_is_a_door_and_none_is_left_over() -> None:
    """Pages for people are none; a receipt's address is whatever stands before its
    last four parts.
    """
    console = Api(cast(Any, None), cast(Any, None)).routes()
    gateway = make_gateway(*(cast(Any, None),) * 4).routes
    routes: list[Any] = [*console, *gateway]
    found = {
        (path_of(route), method.lower())
        for route in routes
        for method in route.methods or ()
        if method != "HEAD"
    }
    told = {(door.path, door.method) for door in DOORS if door.process != "receipts"}
    assert found == told - {("/metrics/targets", "get")}


def path_of(route: Any) -> str:
    return re.sub(r":path}", "}", route.path)


@pytest.mark.parametrize("cloud", ["tencent", "zego", "nim"])
def test_the_document_names_each_status_of_a_callback(cloud: str) -> None:
    told = openapi()["paths"][f"/callbacks/{cloud}"]["post"]["responses"]
    assert set(told) == {"200", "400", "401", "403", "408", "413", "415", "503"}
