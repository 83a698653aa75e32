-- held: pushes that an outage holds join their groups.
-- KEYS[2i-1] push:backlog:<group>    zset: push id -> ts of its event, ms: the group's pushes that wait and are not decided
-- KEYS[2i]   push:backlog:<group>:m  hash: since (when the first of those who wait was received, ms), upto, patience: see backlog.lua
-- ARGV[1] seconds to keep, then per push: its id, ts of its event, when it was received, ms
-- returns how many joined
-- why     whether a backlog is old enough to fold is the group's age, not a push's: a push that joins late is a part of it. The age
--         begins anew with the first push that joins an empty group
local keep, joined = tonumber(ARGV[1]), 0
for i = 1, #KEYS / 2 do
  local group, marks = KEYS[2 * i - 1], KEYS[2 * i]
  local id, ts, received = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]
  local since = redis.call('EXISTS', group) == 1 and redis.call('HGET', marks, 'since')
  if not since or tonumber(received) < tonumber(since) then redis.call('HSET', marks, 'since', received) end
  joined = joined + redis.call('ZADD', group, ts, id)
  redis.call('EXPIRE', group, keep)
  redis.call('EXPIRE', marks, keep)
end
return joined
