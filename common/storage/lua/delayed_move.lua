-- delayed_move: due retries of one lane go back to its queue, and the lane is ready.
-- KEYS[1] push:delayed              zset: see common/storage/delayed.py
-- KEYS[2] push:{<lane>}:queue:<urgency>, [3] :blobs, [4] :load, see lane_take.lua
-- KEYS[5] push:loaded-lanes  set, [6] push:ready:<vendor>:<urgency>, see ready_pop.lua
-- ARGV    1 the lane, 2 bytes that are not in its load yet, then per entry: the member, where its batch begins, the entry
-- returns how many moved
-- why     what another process moved in between must not be added again; who dies after the move and before the lane is ready would leave
--         what nobody takes; the first write frees memory (see lane_commit.lua)
local moved = 0
for i = 3, #ARGV, 3 do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    local order, n = string.match(ARGV[i + 2], '^[^;]*;%d;(%d+);(%d+);')
    redis.call('HSET', KEYS[3], ARGV[i + 2], string.sub(ARGV[i], tonumber(ARGV[i + 1])))
    redis.call('ZADD', KEYS[2], order, ARGV[i + 2])
    redis.call('HINCRBY', KEYS[4], 'w', n)
    moved = moved + 1
  end
end
if moved > 0 then
  if ARGV[2] ~= '0' then redis.call('HINCRBY', KEYS[4], 'b', ARGV[2]) end
  redis.call('SADD', KEYS[5], ARGV[1])
  redis.call('ZADD', KEYS[6], 'NX', 0, ARGV[1])
end
return moved
