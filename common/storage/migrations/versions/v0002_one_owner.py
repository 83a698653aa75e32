"""One spelling for APNs tokens, one owner for each token and each VoIP token: the latest
registration keeps it.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

#: APNs takes hexadecimal digits in both cases: what was kept as two tokens is one phone.
_SPELLING = """
UPDATE devices SET token = lower(token) WHERE vendor = 'apns' AND token ~ '^[0-9a-fA-F]+$' AND token <> lower(token);
UPDATE devices SET voip_token = lower(voip_token)
  WHERE vendor = 'apns' AND voip_token ~ '^[0-9a-fA-F]+$' AND voip_token <> lower(voip_token);
INSERT INTO token_owners (app, vendor, token, "user", device_id, at_ms)
  SELECT DISTINCT ON (app, lower(token)) app, vendor, lower(token), "user", device_id, at_ms FROM token_owners
  WHERE vendor = 'apns' AND token ~ '^[0-9a-fA-F]+$' AND token <> lower(token) ORDER BY app, lower(token), at_ms DESC
  ON CONFLICT (app, vendor, token) DO UPDATE SET "user" = excluded."user", device_id = excluded.device_id, at_ms = excluded.at_ms
  WHERE token_owners.at_ms <= excluded.at_ms;
DELETE FROM token_owners WHERE vendor = 'apns' AND token ~ '^[0-9a-fA-F]+$' AND token <> lower(token);
UPDATE devices d SET state = 'moved', reason = 'another user or device registered this token later', state_ms = o.at_ms
  FROM token_owners o WHERE o.app = d.app AND o.vendor = d.vendor AND o.token = d.token AND d.vendor = 'apns'
  AND d.registered_ms <= o.at_ms AND (d."user" <> o."user" OR d.device_id <> o.device_id)
  AND d.state IN ('active', 'retired', 'silenced') AND d.device_id <> ''
"""  # noqa: E501

_VOIP = """
CREATE INDEX IF NOT EXISTS devices_by_voip_token ON devices (app, vendor, voip_token) WHERE voip_token IS NOT NULL;
INSERT INTO token_owners (app, vendor, token, "user", device_id, at_ms)
  SELECT DISTINCT ON (app, vendor, voip_token) app, vendor || '\\:voip', voip_token, "user", device_id, registered_ms FROM devices
  WHERE voip_token <> '' AND device_id <> '' ORDER BY app, vendor, voip_token, registered_ms DESC, state = 'active' DESC, "user", device_id
  ON CONFLICT (app, vendor, token) DO NOTHING;
UPDATE devices d SET voip_token = NULL FROM token_owners o
  WHERE o.app = d.app AND o.vendor = d.vendor || '\\:voip' AND o.token = d.voip_token AND d.registered_ms <= o.at_ms
  AND (d."user" <> o."user" OR d.device_id <> o.device_id) AND d.device_id <> ''
"""  # noqa: E501


def upgrade() -> None:
    for statement in (*_SPELLING.split(";\n"), *_VOIP.split(";\n")):
        op.execute(statement)
