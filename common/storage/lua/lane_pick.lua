-- lane_pick: leases named entries out of the middle of a queue, or its last ones, to end them.
-- KEYS[1] push:{<lane>}:queue:<urgency>, [2] :blobs, [3] :leases, [4] :holders, [5] :load, see lane_take.lua
-- ARGV    1 sender's word, 2 ms of a lease, 3 most entries from the end (0: the named ones), then the entries
-- returns per entry: entry, batch, 1 if it is noted, see noted.lua
-- why     an entry that is being sent meanwhile is not in the queue and is left alone
local t = redis.call('TIME')
local till = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2])
local wanted, out = {}, {}
if ARGV[3] ~= '0' then
  wanted = redis.call('ZRANGE', KEYS[1], -tonumber(ARGV[3]), -1)
else
  for i = 4, #ARGV do wanted[i - 3] = ARGV[i] end
end
for _, id in ipairs(wanted) do
  local score = redis.call('ZSCORE', KEYS[1], id)
  if score then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HINCRBY', KEYS[5], 'w', -tonumber(string.match(id, '^[^;]*;%d;%d+;(%d+);')))
    redis.call('ZADD', KEYS[3], till, id)
    redis.call('HSET', KEYS[4], id, ARGV[1])
    out[#out + 1] = id
    out[#out + 1] = redis.call('HGET', KEYS[2], id) or ''
    out[#out + 1] = tonumber(score) < 0 and 1 or 0
  end
end
return out
