-- delayed_move: due retries of one lane go back to its queue.
-- KEYS[1] push:delayed              zset: see common/storage/delayed.py
-- KEYS[2] push:{<lane>}:queue:<urgency>, [3] :blobs, [4] :load, see lane_take.lua
-- ARGV    per entry: the member, where its batch begins, the entry
-- returns how many moved
-- why     what another process moved in between must not be added again; the first write frees memory (see lane_commit.lua)
local moved = 0
for i = 1, #ARGV, 3 do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    local order, n = string.match(ARGV[i + 2], '^[^;]*;%d;(%d+);(%d+);')
    redis.call('HSET', KEYS[3], ARGV[i + 2], string.sub(ARGV[i], tonumber(ARGV[i + 1])))
    redis.call('ZADD', KEYS[2], order, ARGV[i + 2])
    redis.call('HINCRBY', KEYS[4], 'w', n)
    moved = moved + 1
  end
end
return moved
