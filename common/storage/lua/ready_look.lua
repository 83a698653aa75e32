-- ready_look: when each of several shards has the first lane of one vendor that may send.
-- KEYS    four a shard: push:ready:<vendor>:<urgency>, see ready_pop.lua
-- returns {now in ms, then per shard: when its first lane is due, ms (0: at once), or -1}
-- why     shards that lie on one server are looked at in one step; one whose lanes wait costs its sender nothing
local t = redis.call('TIME')
local out = {t[1] * 1000 + math.floor(t[2] / 1000)}
for start = 1, #KEYS, 4 do
  local due = -1
  for u = 0, 3 do
    local first = redis.call('ZRANGE', KEYS[start + u], 0, 0, 'WITHSCORES')
    local at = first[2] and math.floor(tonumber(first[2]))
    if at and (due < 0 or at < due) then due = at end
  end
  out[#out + 1] = due
end
return out
