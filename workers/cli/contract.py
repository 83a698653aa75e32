"""`pushfleet contract`: what a core may publish, as JSON Schema and AsyncAPI, made of the very
types that intake decodes with.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from workers.intake.event_types import TYPES
from workers.intake.events import APP_MAX, EVENT_ID_MAX

SCHEMA_ID = "https://pushfleet.example/events.schema.json"
REF = "#/$defs/{name}"


@click.command()
@click.argument("form", type=click.Choice(["json-schema", "asyncapi", "openapi", "egress"]))
def contract(form: str) -> None:
    """Print what a core may publish (JSON Schema, AsyncAPI 3), the HTTP doors (OpenAPI 3.1), or
    where the fleet connects to.
    """
    from workers.cli.openapi import openapi

    documents = {
        "json-schema": json_schema,
        "asyncapi": asyncapi,
        "openapi": openapi,
        "egress": egress,
    }
    click.echo(as_text(documents[form]()), nl=False)


def as_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def schemas_of(types: Iterable[type], reference: str = REF) -> dict[str, Any]:
    """The JSON Schema of each type by its name. Up to Python 3.12 a docstring keeps the indentation
    of its source, from 3.13 not.
    """
    (_, components) = msgspec.json.schema_components(list(types), ref_template=reference)
    for schema in components.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return components


def json_schema() -> dict[str, Any]:
    """One schema for the whole stream: an event is one of its types."""
    components = schemas_of([kind.shape for kind in TYPES.values()])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "An event that an IM core publishes to Pushfleet",
        "oneOf": [{"$ref": REF.format(name=_name(kind))} for kind in sorted(TYPES)],
        "$defs": {**{_name(kind): _envelope(kind) for kind in sorted(TYPES)}, **components},
    }


def egress() -> dict[str, Any]:
    """Hosts and ports that the fleet connects to, by vendor: for firewalls and proxies. endpoint:
    of PUSHFLEET_ENDPOINT_<NAME>.
    """
    from workers.vendors import VENDORS

    found: dict[str, Any] = {}
    for vendor, spec in VENDORS.items():
        parts = {name: urlsplit(url) for name, url in sorted(spec.endpoints.items())}
        found[vendor.value] = [
            {"host": one.hostname, "port": one.port or 443, "endpoint": name}
            for name, one in parts.items()
        ]
    return {"vendors": found, "proxy": "PUSHFLEET_PROXY_<VENDOR>: an HTTP proxy that knows CONNECT"}


def _name(kind: str) -> str:
    """`message.stored` -> `MessageStoredEvent`."""
    return "".join(part.capitalize() for part in kind.replace("_", ".").split(".")) + "Event"


def _envelope(kind: str) -> dict[str, Any]:
    tenant = {"type": "string", "minLength": 1, "maxLength": APP_MAX, "description": "The tenant."}
    return {
        "type": "object",
        "required": ["id", "type", "app", "data"],
        "properties": {
            "v": {"const": 1, "default": 1},
            "id": {
                "type": "string",
                "minLength": 1,
                "maxLength": EVENT_ID_MAX,
                "description": "Unique per tenant; a repeat is ignored.",
            },
            "type": {"const": kind},
            "app": tenant,
            "ts": {
                "type": ["integer", "null"],
                "minimum": 0,
                "description": "Time of the event, ms; absent: now.",
            },
            "data": {"$ref": REF.format(name=TYPES[kind].shape.__name__)},
        },
    }


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3: the stream, its messages, and how to publish."""
    schema = json.loads(json.dumps(json_schema()).replace("#/$defs/", "#/components/schemas/"))
    names = {kind: _name(kind) for kind in sorted(TYPES)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Pushfleet: what an IM core publishes",
            "version": "1",
            "description": "One Redis command: XADD im:events * e <JSON>. A field `b` in place of `e` holds "  # noqa: E501
            "up to 200 events, one a line.",
        },
        "servers": {"redis": {"host": "redis:6379", "protocol": "redis"}},
        "channels": {
            "events": {
                "address": "im:events",
                "description": "A stream; PUSHFLEET_EVENT_STREAMS names others.",
                "messages": {
                    name: {"$ref": f"#/components/messages/{name}"} for name in names.values()
                },
            }
        },
        "operations": {
            "receiveEvents": {
                "action": "receive",
                "channel": {"$ref": "#/channels/events"},
                "summary": "Pushfleet reads the stream.",
            }
        },
        "components": {
            "messages": {
                name: {
                    "name": kind,
                    "contentType": "application/json",
                    "payload": {"$ref": f"#/components/schemas/{name}"},
                }
                for kind, name in names.items()
            },
            "schemas": schema["$defs"],
        },
    }
