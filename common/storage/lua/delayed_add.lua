-- delayed_add: due entries of one stream go there.
-- KEYS[1] push:delayed  zset: see common/storage/delayed.py
-- KEYS[2] the stream
-- ARGV    per entry: the member, where its blob begins
-- returns how many moved
-- why     what another process moved in between must not be added again
local moved = 0
for i = 1, #ARGV, 2 do
  if redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then
    redis.call('XADD', KEYS[2], '*', 'b', string.sub(ARGV[i], tonumber(ARGV[i + 1])))
    moved = moved + 1
  end
end
return moved
