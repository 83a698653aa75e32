"""One owner for a token, whichever kind it is registered as: the latest registration keeps it.

VoIP tokens had owners of their own, under the vendor's name with the suffix `:voip`. Registrations
wait for the second half of this, about 4 s for a million VoIP tokens: they lock their owners by
key, this would lock all of them in another order, and what came between two statements would be
lost. What takes longest, the copies, is made before; then those of what came meanwhile.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_COPIED = r"""
INSERT INTO token_owners (app, vendor, token, "user", device_id, at_ms)
  SELECT app, left(vendor, -5), token, "user", device_id, at_ms FROM token_owners AS old WHERE vendor LIKE '%\:voip'
  AND NOT EXISTS (SELECT FROM token_owners AS o WHERE o.app = old.app AND o.vendor = left(old.vendor, -5) AND o.token = old.token
    AND (o.at_ms > old.at_ms OR (o.at_ms, o."user", o.device_id) = (old.at_ms, old."user", old.device_id)))
  ON CONFLICT (app, vendor, token) DO UPDATE SET "user" = excluded."user", device_id = excluded.device_id, at_ms = excluded.at_ms
  WHERE token_owners.at_ms <= excluded.at_ms"""  # noqa: E501
_STATEMENTS = (
    _COPIED,
    "LOCK TABLE token_owners IN SHARE ROW EXCLUSIVE MODE",
    _COPIED,
    r"DELETE FROM token_owners WHERE vendor LIKE '%\:voip'",
    """
UPDATE devices d SET state = 'moved', reason = 'another user or device registered this token later', state_ms = o.at_ms
  FROM token_owners o WHERE o.app = d.app AND o.vendor = d.vendor AND o.token = d.token AND d.registered_ms <= o.at_ms
  AND (d."user" <> o."user" OR d.device_id <> o.device_id) AND d.state IN ('active', 'retired', 'silenced') AND d.device_id <> ''""",  # noqa: E501
    """
UPDATE devices d SET voip_token = NULL
  FROM token_owners o WHERE o.app = d.app AND o.vendor = d.vendor AND o.token = d.voip_token AND d.registered_ms <= o.at_ms
  AND (d."user" <> o."user" OR d.device_id <> o.device_id) AND d.device_id <> ''""",  # noqa: E501
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
