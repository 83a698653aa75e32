"""A credential that no key opens: its lane waits, the others flow, and the log names it and the
cure.
"""

import logging

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine

from common.storage.credentials import Credentials, StoredCredential
from common.storage.opened import opened_or_paused
from common.storage.vault import Vault, VaultError
from tests.builders import stored_credential


def stored(business_id: str) -> StoredCredential:
    return stored_credential("a", "meizu", business_id, secrets={"app_secret": "s3"})


def readable(engine: Engine, vault: Vault) -> dict[str, StoredCredential]:
    sealed = Credentials(engine, vault).sealed()
    return {one.business_id: opened_or_paused(one, vault) for one in sealed}


def test_what_no_key_opens_waits_and_the_rest_is_read(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    lost, ours = Vault([Fernet.generate_key().decode()]), Vault([Fernet.generate_key().decode()])
    Credentials(engine, lost).add(stored("old"))
    Credentials(engine, ours).add(stored("new"))
    with caplog.at_level(logging.ERROR):
        found = readable(engine, ours)
    assert (found["old"].paused, dict(found["old"].secrets)) == (True, {})
    assert (found["new"].paused, dict(found["new"].secrets)) == (False, {"app_secret": "s3"})
    assert [vars(record)["lane"] for record in caplog.records] == ["a:meizu:old"]
    assert "add the key" in vars(caplog.records[0])["reason"]
    with pytest.raises(VaultError):
        Credentials(engine, ours).all()


def test_with_the_key_back_in_the_file_it_flows_again(engine: Engine) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    Credentials(engine, Vault([old])).add(stored("old"))
    found = readable(engine, Vault([new, old]))["old"]
    assert (found.paused, dict(found.secrets)) == (False, {"app_secret": "s3"})
