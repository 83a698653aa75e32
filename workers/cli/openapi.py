"""OpenAPI 3.1 of every HTTP door: the read-only API, the gateway's doors, the clouds' callbacks,
receipts, health. Made of their types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from common.model import Decision, Vendor
from workers.cli.contract import schemas_of
from workers.console import api
from workers.console.api_types import ApiError, Counts, MessageTrace, Person
from workers.gateway import clouds, door_types
from workers.gateway.door_types import DoorError, DoorHealth

REF: Final = "#/components/schemas/{name}"
#: Which process serves an operation, and its usual address.
SERVERS: Final = {
    "console": ("http://127.0.0.1:8080", "PUSHFLEET_CONSOLE_ADDR"),
    "gateway": ("http://127.0.0.1:8082", "PUSHFLEET_GATEWAY_ADDR"),
    "receipts": ("http://127.0.0.1:8081", "PUSHFLEET_RECEIPTS_ADDR"),
}


@dataclass(frozen=True)
class Door:
    """One operation. path: as in OpenAPI. body, answer: a msgspec type, or a JSON schema.

    errors: status -> text. refusal: what they hold.
    """

    process: str
    method: str
    path: str
    name: str
    summary: str
    answer: Any
    body: Any = None
    parameters: Sequence[Mapping[str, Any]] = ()
    errors: Mapping[int, str] = field(default_factory=dict)
    token: bool = False
    refusal: Any = DoorError


def _query(name: str, words: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "description": words,
        "schema": schema or {"type": "string", "maxLength": api.VALUE_CHARACTERS_MAX},
    }


def _path(name: str, words: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": words, "schema": schema}


_API_ERRORS: Final = {
    400: "A parameter is wrong.",
    401: "No valid token.",
    403: "Not with this token.",
    429: "Too many calls.",
    503: "Come again.",
}
_VENDOR: Final = {"type": "string", "enum": [vendor.value for vendor in Vendor]}
_WHOLE: Final = {"type": "integer", "minimum": 1}
_APP: Final = _query("app", "The tenant; a token of one tenant needs none.")
_KEY: Final = _path("key", "The tenant's gateway key: pushfleet app gateway-key.")
_HEALTH_ERRORS: Final = {503: "Not well."}
_DOOR_ERRORS: Final = {
    400: "The body can't be read.",
    401: "No tenant has this key.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body has a coding other than gzip.",
    503: "Come again: nothing was taken.",
}
_CALLBACK_ERRORS: Final = _DOOR_ERRORS | {
    401: "Not signed by its tenant, too old, or signed as another one was.",
    403: "Address and body name different tenants, or none and several have the secret.",
}
_ANY: Final = {"type": "object", "additionalProperties": True}

API_DOORS: Final = (
    Door(
        *(
            "console",
            "get",
            f"{api.ROOT}/messages/{{message_id}}",
            "messageTrace",
            "What became of a message or call, by recipient.",
        ),
        MessageTrace,
        parameters=(
            _path("message_id", "The core's id; a slash in it as %2F."),
            _APP,
            _query("user", "Of this person only."),
            _query(
                "decision",
                "Rows with this decision only; empty: those that wait.",
                {"type": "string", "enum": ["", *Decision]},
            ),
            _query(
                "limit",
                "Rows of a page.",
                {**_WHOLE, "maximum": api.ROWS_MAX, "default": api.ROWS_DEFAULT},
            ),
            _query("after", "`next` of the page before."),
        ),
        errors={**_API_ERRORS, 404: "Nothing is known of it."},
        token=True,
    ),
    Door(
        *(
            "console",
            "get",
            f"{api.ROOT}/people/{{app}}/{{user}}",
            "person",
            "A person's devices, presence, settings and last pushes.",
        ),
        Person,
        parameters=(
            _path("app", "The tenant."),
            _path("user", "The core's id of the person; a slash in it as %2F."),
        ),
        errors=_API_ERRORS,
        token=True,
    ),
    Door(
        *(
            "console",
            "get",
            f"{api.ROOT}/counts",
            "counts",
            "Events, decisions, receipts and latency, summed.",
        ),
        Counts,
        parameters=(
            _APP,
            _query("since_ms", "Begin, ms since 1970; a day before the end where absent.", _WHOLE),
            _query("until_ms", "End, ms since 1970; now where absent.", _WHOLE),
            _query(
                "by",
                "Columns that the sums keep apart, separated by commas: app, vendor, class. "
                "Absent: vendor.",
            ),
            _query("step", "One sum for each step.", {"type": "string", "enum": list(api.STEPS)}),
            _query("vendor", "Of this vendor only.", _VENDOR),
            _query("class", "Of this class only."),
        ),
        errors=_API_ERRORS,
        token=True,
    ),
)

GATEWAY_DOORS: Final = (
    Door(
        *(
            "gateway",
            "post",
            "/_matrix/push/v1/notify",
            "matrixNotify",
            "The Matrix push gateway API.",
        ),
        door_types.MatrixRejected,
        door_types.MatrixNotify,
        (_query("k", "The tenant's gateway key; absent: every tenant's aliases are looked at."),),
        _DOOR_ERRORS,
    ),
    Door(
        "gateway",
        "get",
        "/_matrix/push/v1/notify",
        "matrixDiscovery",
        "That a Matrix push gateway is here.",
        door_types.MatrixDiscovery,
    ),
    Door(
        *(
            "gateway",
            "post",
            "/t/{key}/api/v1/send_push",
            "mattermostPush",
            "Mattermost's push notification service.",
        ),
        *(door_types.MattermostStatus, door_types.MattermostPush, (_KEY,)),
    ),
    Door(
        *(
            "gateway",
            "post",
            "/t/{key}/api/v1/ack",
            "mattermostAck",
            "A phone has shown a push of Mattermost.",
        ),
        *(door_types.MattermostStatus, door_types.MattermostAck, (_KEY,)),
    ),
    Door(
        *("gateway", "post", "/t/{key}/api/push", "gorushPush", "gorush's push API."),
        *(door_types.GorushAnswer, door_types.GorushPush),
        (
            _KEY,
            _query(
                "sync",
                "1: the answer waits for the decisions, 5 s at most.",
                {"type": "string", "enum": ["0", "1", "true", "false"]},
            ),
        ),
        _DOOR_ERRORS,
        refusal=door_types.GorushError,
    ),
    *(
        Door("gateway", "get", path, name, "gorush's health.", DoorHealth, None, (_KEY,))
        for path, name in (
            ("/t/{key}/api/stat/app", "gorushStat"),
            ("/t/{key}/healthz", "gorushHealth"),
        )
    ),
    Door(
        "gateway",
        "get",
        "/t/{key}/version",
        "gorushVersion",
        "The version, as gorush tells its own.",
        door_types.DoorVersion,
        None,
        (_KEY,),
    ),
    Door(
        *("gateway", "get", "/version", "gatewayVersion", "The version of the gateway."),
        door_types.DoorVersion,
    ),
    Door("gateway", "get", "/healthz", "gatewayHealth", "Health of the gateway.", DoorHealth),
    Door("gateway", "get", "/health", "gatewayHealthShort", "Health of the gateway.", DoorHealth),
    *(
        Door(
            *(
                "gateway",
                "post",
                f"/callbacks/{name}",
                f"{name}Callback",
                f"Callbacks of {name}, signed as it signs them.",
            ),
            *(_ANY, _ANY, (), _CALLBACK_ERRORS),
        )
        for name in clouds.ACKS
    ),
)

RECEIPT_DOORS: Final = (
    Door(
        *(
            "receipts",
            "post",
            "/{vendor}/{app}/{business_id}/{secret}",
            "receipts",
            "What a vendor tells of pushes, in its own form.",
        ),
        _ANY,
        {},
        (
            {**_path("vendor", "The vendor."), "schema": _VENDOR},
            _path("app", "The tenant."),
            _path("business_id", "The account."),
            _path("secret", "Proves that the address is ours: pushfleet credential receipts-url."),
        ),
        {
            401: "The signature does not fit.",
            404: "No such address.",
            408: "The body came too slowly.",
            413: "Too large.",
            415: "The body has a coding other than gzip.",
            503: "Come again.",
        },
    ),
    Door(
        "receipts",
        "get",
        "/healthz",
        "receiptsHealth",
        "Health of the receipts service.",
        DoorHealth,
        errors=_HEALTH_ERRORS,
    ),
)

CONSOLE_DOORS: Final = (
    Door("console", "get", "/healthz", "consoleHealth", "Health of the console.", DoorHealth),
    Door(
        *(
            "console",
            "get",
            "/metrics/targets",
            "metricsTargets",
            "Prometheus' http_sd: every process that serves metrics.",
        ),
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["targets", "labels"],
                "properties": {
                    "targets": {"type": "array", "items": {"type": "string"}},
                    "labels": _ANY,
                },
            },
        },
        errors={503: "Redis is away."},
    ),
)
DOORS: Final = (*API_DOORS, *GATEWAY_DOORS, *RECEIPT_DOORS, *CONSOLE_DOORS)


def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 of all doors. A path of two processes (`/healthz`) is one operation."""
    types = [one for door in DOORS for one in (door.answer, door.body) if isinstance(one, type)]
    types += [door.refusal for door in DOORS]
    schemas = schemas_of(dict.fromkeys([*types, ApiError]), REF)
    paths: dict[str, dict[str, Any]] = {}
    for door in DOORS:
        if door.method in paths.get(door.path, {}):
            paths[door.path][door.method]["servers"] += _servers(door)
            paths[door.path][door.method]["tags"].append(door.process)
            continue
        paths.setdefault(door.path, {})[door.method] = _operation(door)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pushfleet: its HTTP doors",
            "version": "1",
            "description": "The read-only API for people who answer questions, and what clouds, vendors and "  # noqa: E501
            "other servers call.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url, "description": setting} for url, setting in SERVERS.values()],
        "tags": [
            {"name": name, "description": f"Served by the {name} process."} for name in SERVERS
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(door: Door) -> dict[str, Any]:
    error = ApiError if door.token else door.refusal
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": _json(door.answer)}}
    responses |= {
        str(status): {"description": words, "content": _json(error)}
        for status, words in door.errors.items()
    }
    found: dict[str, Any] = {
        "operationId": door.name,
        "summary": door.summary,
        "tags": [door.process],
        "servers": _servers(door),
    }
    if door.parameters:
        found["parameters"] = [dict(one) for one in door.parameters]
    if door.body is not None:
        found["requestBody"] = {"required": True, "content": _json(door.body)}
    return {**found, "responses": responses, "security": [{"token": []}] if door.token else []}


def _servers(door: Door) -> list[dict[str, Any]]:
    url, setting = SERVERS[door.process]
    return [{"url": url, "description": setting}]


def _json(shape: Any) -> dict[str, Any]:
    schema = {"$ref": REF.format(name=shape.__name__)} if isinstance(shape, type) else dict(shape)
    return {"application/json": {"schema": schema}}
