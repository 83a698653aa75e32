"""The keys that encrypt what is secret at rest: given, or generated for embedded use."""

from __future__ import annotations

import base64
import logging
import os
from pathlib import Path
from typing import Final

from common import runfile
from common.config import SettingError, Settings
from common.setting_checks import fernet_file

log = logging.getLogger(__name__)


SECRET_KEYS_NAME: Final = "secret.keys"


def secret_keys(settings: Settings) -> tuple[str, ...]:
    """The Fernet keys; the first one encrypts. The result must never be logged.

    They come from the file, from the variable, or are generated in DATA_DIR for embedded use.
    Raises SettingError when there is none, or one is invalid.
    """
    if settings.secret_keys_file is not None:
        return _keys_in(settings.secret_keys_file)
    if settings.secret_keys:
        log.warning(
            "PUSHFLEET_SECRET_KEYS is readable by whoever sees the environment: use "
            "PUSHFLEET_SECRET_KEYS_FILE"
        )
        return settings.secret_keys
    generated = settings.data_dir / SECRET_KEYS_NAME
    if generated.is_file():
        return _keys_in(generated)
    if (
        not settings.embedded_database
        and runfile.read(settings.data_dir).get("database_url") != settings.database_url
    ):
        raise SettingError(
            "PUSHFLEET_SECRET_KEYS_FILE takes the path of a readable file with Fernet keys, "
            "one a line; it has no default here"
        )
    return _generate_key(generated)


def _generate_key(path: Path) -> tuple[str, ...]:
    """Two processes may come here at once: the first one's file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    runfile.write_private(new, base64.urlsafe_b64encode(os.urandom(32)) + b"\n")
    try:
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()
    return _keys_in(path)


def _keys_in(path: Path) -> tuple[str, ...]:
    try:
        keys = fernet_file(path)
    except (OSError, ValueError):
        raise SettingError(
            "PUSHFLEET_SECRET_KEYS_FILE takes the path of a readable file with Fernet keys, "
            "one a line"
        ) from None
    if path.stat().st_mode & 0o007:  # a mounted secret may belong to a group of ours
        log.warning(
            "the file of PUSHFLEET_SECRET_KEYS_FILE can be read by every user of this host: "
            "chmod o= it"
        )
    return keys
