"""`pushfleet contract`: what a core may publish, as JSON Schema and AsyncAPI, made of the very types that intake decodes with."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from workers.intake import events
from workers.intake.events import EVENT_ID_MAX

SCHEMA_ID = "https://pushfleet.example/events.schema.json"
REF = "#/$defs/{name}"


@click.command()
@click.argument("form", type=click.Choice(["json-schema", "asyncapi", "openapi"]))
def contract(form: str) -> None:
    """Print the events that a core may publish, as JSON Schema or AsyncAPI 3; or the HTTP doors, as OpenAPI 3.1."""
    from workers.cli.openapi import openapi

    documents = {"json-schema": json_schema, "asyncapi": asyncapi, "openapi": openapi}
    click.echo(as_text(documents[form]()), nl=False)


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def json_schema() -> dict[str, Any]:
    """One schema for the whole stream: an event is one of its types."""
    (_, components) = msgspec.json.schema_components(list(events.TYPES.values()), ref_template=REF)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "An event that an IM core publishes to Pushfleet",
        "oneOf": [{"$ref": REF.format(name=_name(kind))} for kind in sorted(events.TYPES)],
        "$defs": {**{_name(kind): _envelope(kind) for kind in sorted(events.TYPES)}, **components},
    }


def _name(kind: str) -> str:
    """`message.stored` -> `MessageStoredEvent`."""
    return "".join(part.capitalize() for part in kind.replace("_", ".").split(".")) + "Event"


def _envelope(kind: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "type", "app", "data"],
        "properties": {
            "v": {"const": 1, "default": 1},
            "id": {"type": "string", "minLength": 1, "maxLength": EVENT_ID_MAX, "description": "Unique per tenant; a repeat is ignored."},
            "type": {"const": kind},
            "app": {"type": "string", "minLength": 1, "maxLength": events.APP_MAX, "description": "The tenant."},
            "ts": {"type": ["integer", "null"], "minimum": 0, "description": "Time of the event, ms; absent: now."},
            "data": {"$ref": REF.format(name=events.TYPES[kind].__name__)},
        },
    }


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3: the stream, its messages, and how to publish."""
    schema = json.loads(json.dumps(json_schema()).replace("#/$defs/", "#/components/schemas/"))
    names = {kind: _name(kind) for kind in sorted(events.TYPES)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Pushfleet: what an IM core publishes",
            "version": "1",
            "description": "One Redis command: XADD im:events * e <JSON>. A field `b` in place of `e` holds up to 200 events, one a line.",
        },
        "servers": {"redis": {"host": "redis:6379", "protocol": "redis"}},
        "channels": {
            "events": {
                "address": "im:events",
                "description": "A stream; PUSHFLEET_EVENT_STREAMS names others.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names.values()},
            }
        },
        "operations": {
            "receiveEvents": {"action": "receive", "channel": {"$ref": "#/channels/events"}, "summary": "Pushfleet reads the stream."}
        },
        "components": {
            "messages": {
                name: {"name": kind, "contentType": "application/json", "payload": {"$ref": f"#/components/schemas/{name}"}}
                for kind, name in names.items()
            },
            "schemas": schema["$defs"],
        },
    }
