-- ready_put: as ZADD NX, also on a server that is full.
-- KEYS    ready sets, see ready_pop.lua
-- ARGV    per set: when the lane may send next, ms, the lane
-- returns how many were added
-- why     a full server refuses ZADD, and lets a script pass whose first write frees memory: what cannot be made ready is never sent, and
--         the server stays full
local added = 0
for i, key in ipairs(KEYS) do
  local due, lane = ARGV[2 * i - 1], ARGV[2 * i]
  if not redis.call('ZSCORE', key, lane) then
    redis.call('ZREM', key, lane)
    added = added + redis.call('ZADD', key, due, lane)
  end
end
return added
