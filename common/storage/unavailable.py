"""The errors of a store that does not answer. The work is not to blame, so it is kept."""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError

from common.storage.sql import DATABASE_UNAVAILABLE

#: Redis or PostgreSQL unavailable: waiting helps.
STORE_UNAVAILABLE: Final = (RedisError, OSError, *DATABASE_UNAVAILABLE)
