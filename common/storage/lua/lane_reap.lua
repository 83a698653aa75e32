-- lane_reap: entries whose senders fell silent go back to where they stood in their queues, and are counted.
-- KEYS[1] push:{<lane>}:leases, [2] :holders, [3] :tries, [4] :load, [5..8] :queue:<urgency> (call, chat, group, bulk), see lane_take.lua
-- ARGV    1 the time in tests, else ""
-- returns {how many came back, when the next lease ends or -1, entries in the four queues}
-- why     only a sender's death counts as a delivery; whoever gives entries back by itself does not call this
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 500)
for _, id in ipairs(over) do
  local u, order, n = string.match(id, '^[^;]*;(%d);(%d+);(%d+);')
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('HINCRBY', KEYS[3], id, 1)
  redis.call('ZADD', KEYS[5 + tonumber(u)], order, id)
  redis.call('HINCRBY', KEYS[4], 'w', n)
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local out = {#over, first[2] and tonumber(first[2]) or -1}
for u = 0, 3 do out[3 + u] = redis.call('ZCARD', KEYS[5 + u]) end
return out
