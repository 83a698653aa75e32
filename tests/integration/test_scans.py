"""Nothing is passed over where the server is restarted while its keys are scanned."""

import dataclasses

from common.storage import counting
from common.storage.keys import Keys
from tests.conftest import OwnValkey
from tests.restarting import RestartConnection, restarting
from workers.maintenance.backup import own_names
from workers.runtime import Runtime

MANY = 6_000


def test_a_person_is_forgotten_whole(restartable_valkey: OwnValkey, space: str) -> None:
    client, keys = restarting(restartable_valkey, "HSCAN", 1), Keys(f"push{space}")
    name = counting.hashes_of(keys, counting.bucket_of("A", "ann"))[0]
    fields = [counting.field_of("A", "ann", f"phone{number}") for number in range(MANY)]
    client.hset(name, mapping=dict.fromkeys([*fields, counting.field_of("A", "ben", "pad")], 1))
    assert counting.forget(client, keys, "A", "ann") == MANY
    assert not RestartConnection.restarts_left
    assert client.hkeys(name) == [counting.field_of("A", "ben", "pad").encode()]


def test_a_backup_has_every_key(restartable_valkey: OwnValkey, runtime: Runtime) -> None:
    client = restarting(restartable_valkey, "SCAN", 1)
    made = Runtime(dataclasses.replace(runtime.settings))
    made.__dict__["redis"] = client
    names = {f"{made.keys.prefix}:badge:{{a:u{number}}}".encode() for number in range(MANY)}
    client.mset(dict.fromkeys(names, 1))
    found = set(own_names(made))
    assert not RestartConnection.restarts_left
    assert found >= names
