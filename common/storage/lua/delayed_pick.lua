-- delayed_pick: leases entries of one lane that wait in the delayed set, before they are due, to end some of their pushes.
-- KEYS[1] push:delayed              zset: see common/storage/delayed.py
-- KEYS[2] push:{<lane>}:blobs, [3] :leases, [4] :holders, [5] :load, see lane_take.lua, [6] push:loaded-lanes  set, [7] push:popped:<vendor>
-- ARGV    1 sender's word, 2 ms of a lease, 3 the lane, then per entry: the member, where its batch begins, 1 if its bytes are in the load, the entry
-- returns per entry: entry, batch, ms until it is due
-- why     one that was released meanwhile is left alone; of a process that dies here the entries go to the queue, see lane_reap.lua: they are
--         tried sooner, never lost, as the lane is looked after: in `popped` as in ready_pop.lua
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out = {}
for i = 4, #ARGV, 4 do
  local due, id = redis.call('ZSCORE', KEYS[1], ARGV[i]), ARGV[i + 3]
  if due then
    local batch = string.sub(ARGV[i], tonumber(ARGV[i + 1]))
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('HSET', KEYS[2], id, batch)
    redis.call('ZADD', KEYS[3], now + tonumber(ARGV[2]), id)
    redis.call('HSET', KEYS[4], id, ARGV[1])
    if ARGV[i + 2] ~= '1' then redis.call('HINCRBY', KEYS[5], 'b', #batch) end
    redis.call('SADD', KEYS[6], ARGV[3])
    out[#out + 1] = id
    out[#out + 1] = batch
    out[#out + 1] = math.max(math.floor(tonumber(due)) - now, 0)
  end
end
if #out > 0 then
  local since, till = redis.call('ZSCORE', KEYS[7], ARGV[3]), now + tonumber(ARGV[2])
  redis.call('ZADD', KEYS[7], since and math.min(since - 1, till) or till, ARGV[3])
end
return out
