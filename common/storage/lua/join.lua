-- join: what scripts share that let a push join the group of those that an outage holds.
-- group   push:backlog:<group>    zset: push id -> ts of its event, ms: the group's pushes that wait and are not decided
-- marks   push:backlog:<group>:m  hash: since (when the first of those who wait was received, ms), upto, patience: see backlog.lua
-- keep    seconds to keep both
-- why     whether a backlog is old enough to fold is the group's age, not a push's: a push that joins late is a part of it. The age
--         begins anew with the first push that joins an empty group
local function join(group, marks, id, ts, received, keep)
  local since = redis.call('EXISTS', group) == 1 and redis.call('HGET', marks, 'since')
  if not since or tonumber(received) < tonumber(since) then redis.call('HSET', marks, 'since', received) end
  redis.call('ZADD', group, ts, id)
  redis.call('EXPIRE', group, keep)
  redis.call('EXPIRE', marks, keep)
end
