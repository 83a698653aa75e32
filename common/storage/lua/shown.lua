-- shown: settles pushes in their places on screens.
-- KEYS[1..n]  push:screen:<digest>  hash: ts of the newest that was shown, by: push id on the wire, until: ms
-- ARGV        per key push id, ts of its event ("": it was not shown), how long an older push may still come, ms
-- returns     nothing
-- why         inside the MULTI that settles the push; what is written twice changes nothing
for i, key in ipairs(KEYS) do
  local id, ts, keep = ARGV[i * 3 - 2], ARGV[i * 3 - 1], tonumber(ARGV[i * 3])
  local old = redis.call('HMGET', key, 'ts', 'by')
  if ts ~= '' and (not old[1] or tonumber(old[1]) < tonumber(ts)) then redis.call('HSET', key, 'ts', ts) end
  -- a push that waits keeps the place known until its own end: a newer one that is shown meanwhile must be remembered as long
  if ts == '' then redis.call('HSETNX', key, 'ts', '0') end
  if old[2] == id then redis.call('HDEL', key, 'by', 'until') end
  if redis.call('PTTL', key) < keep then redis.call('PEXPIRE', key, keep) end
end
