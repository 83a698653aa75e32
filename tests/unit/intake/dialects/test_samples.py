"""The clouds' sample callbacks and what must come of each: 43 pairs, compared after filling the
canonical defaults on both sides.
"""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from common.contracts import PushFields
from workers.intake.dialects import DIALECTS, tenant_named
from workers.intake.dialects.signatures import nim_signed, tencent_signed, zego_signed

HERE = Path(__file__).parents[3] / "data" / "callbacks"
SAMPLES: list[dict[str, Any]] = json.loads((HERE / "manifest.json").read_text("utf-8"))["samples"]
ENTRY_MS = 1763787799999
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=[sample["file"] for sample in SAMPLES])


def body_of(sample: dict[str, Any]) -> dict[str, Any]:
    return json.loads((HERE / sample["file"]).read_text("utf-8"))


def translated(sample: dict[str, Any]):
    return DIALECTS[sample["d"]](
        body_of(sample), app=sample["app"], query=sample.get("query"), entry_ms=ENTRY_MS
    )


def with_defaults(events: Any) -> list[Any]:
    """Events whose push holds every canonical field."""
    filled = json.loads(json.dumps(list(events)))
    for event in filled:
        if "push" in event["data"]:
            event["data"]["push"] = msgspec.convert(event["data"]["push"], PushFields, strict=True)
    return filled


def without_ids(events: list[Any]) -> list[Any]:
    """How an id is spelled is ours, as long as it is stable and unique."""
    return [event | {"id": ""} for event in events]


@each_sample
def test_each_sample_becomes_the_events_that_it_is_documented_to_become(sample):
    expected = json.loads(
        (HERE / sample["file"].replace(".json", ".expected.json")).read_text("utf-8")
    )
    found = translated(sample)
    assert without_ids(with_defaults(found.events)) == without_ids(with_defaults(expected))
    assert len(found.events) == sample["events"]
    assert found.ignored == sample.get("ignored")


@each_sample
def test_no_field_of_a_documented_sample_is_unknown(sample):
    assert translated(sample).unknown_fields == 0


@each_sample
def test_a_sample_names_its_tenant_where_its_cloud_does(sample):
    named = tenant_named(sample["d"], body_of(sample), sample.get("query"))
    assert named == ([] if sample["d"] == "nim" else [sample["app"]])


@each_sample
def test_a_sample_carries_a_valid_signature(sample):
    raw, body = (HERE / sample["file"]).read_bytes(), body_of(sample)
    if sample["d"] == "tencent":
        query = {name: values[0] for name, values in parse_qs(sample["query"]).items()}
        assert tencent_signed(
            "demo-token", query["RequestTime"], query["Sign"], int(query["RequestTime"]) + 1
        )
    elif sample["d"] == "zego":
        assert zego_signed(
            "demo-callback-secret", str(body["timestamp"]), body["nonce"], body["signature"]
        )
    else:
        headers = sample["headers"]
        assert nim_signed(
            "demo-app-secret", raw, headers["MD5"], headers["CurTime"], headers["CheckSum"]
        )


def test_every_sample_of_the_three_clouds_is_there():
    samples = HERE.glob("*/*.json")
    files = {
        str(path.relative_to(HERE)) for path in samples if not path.name.endswith(".expected.json")
    }
    assert files == {sample["file"] for sample in SAMPLES}
    found = {d: sum(sample["d"] == d for sample in SAMPLES) for d in DIALECTS}
    assert found == {"tencent": 15, "zego": 14, "nim": 14}
    assert all((HERE / file.replace(".json", ".expected.json")).exists() for file in files)


def test_ids_of_all_sample_events_are_unique_within_their_tenant():
    ids = [(event["app"], event["id"]) for sample in SAMPLES for event in translated(sample).events]
    assert len(ids) == len(set(ids))


def test_a_sample_translates_to_the_same_bytes_whenever_it_is_read():
    def digest() -> str:
        return hashlib.sha256(repr([translated(sample) for sample in SAMPLES]).encode()).hexdigest()

    assert digest() == digest()
