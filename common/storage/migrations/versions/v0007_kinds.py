"""One owner for a token, whichever kind it is registered as: the latest registration keeps it.

VoIP tokens had owners of their own, under the vendor's name with the suffix `:voip`. Registrations
wait for this, about 15 s for a million VoIP tokens: they lock their owners by key, this would lock
all of them in another order, and what came between two statements would be lost.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS = r"""
LOCK TABLE token_owners IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO token_owners (app, vendor, token, "user", device_id, at_ms)
  SELECT app, left(vendor, -5), token, "user", device_id, at_ms FROM token_owners WHERE vendor LIKE '%\:voip'
  ON CONFLICT (app, vendor, token) DO UPDATE SET "user" = excluded."user", device_id = excluded.device_id, at_ms = excluded.at_ms
  WHERE token_owners.at_ms <= excluded.at_ms;
DELETE FROM token_owners WHERE vendor LIKE '%\:voip';
UPDATE devices d SET state = 'moved', reason = 'another user or device registered this token later', state_ms = o.at_ms
  FROM token_owners o WHERE o.app = d.app AND o.vendor = d.vendor AND o.token = d.token AND d.registered_ms <= o.at_ms
  AND (d."user" <> o."user" OR d.device_id <> o.device_id) AND d.state IN ('active', 'retired', 'silenced') AND d.device_id <> '';
UPDATE devices d SET voip_token = NULL
  FROM token_owners o WHERE o.app = d.app AND o.vendor = d.vendor AND o.token = d.voip_token AND d.registered_ms <= o.at_ms
  AND (d."user" <> o."user" OR d.device_id <> o.device_id) AND d.device_id <> ''
"""  # noqa: E501


def upgrade() -> None:
    for statement in _STATEMENTS.split(";\n"):
        op.execute(statement)
