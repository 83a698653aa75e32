-- lane_reap: entries of some lanes whose senders fell silent go back to where they stood in their queues, and are counted.
-- KEYS    eight per lane: push:{<lane>}:leases, :holders, :tries, :load, :queue:<urgency> (call, chat, group, bulk), see lane_take.lua
-- ARGV    1 most entries of all these lanes: who has more is looked after again
-- returns per lane {how many came back, when the next lease ends or -1, entries in the four queues}
-- why     only a sender's death counts as a delivery; whoever gives entries back by itself does not call this
local call, left = redis.call, tonumber(ARGV[1])
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local found = {}
-- while the lane flows all up to that order were noted before they were taken, see lane_take.lua; behind a stopped one it is looked at anew
local function noted(load, u, order)
  local known = call('HMGET', load, 'n' .. u, 'g' .. u)
  return known[1] and known[2] ~= 'shut' and tonumber(order) <= tonumber(known[1])
end
for at = 0, #KEYS - 1, 8 do
  local over = call('ZRANGEBYSCORE', KEYS[at + 1], '-inf', now, 'LIMIT', 0, left)
  left = left - #over
  for _, id in ipairs(over) do
    local u, order, n = string.match(id, '^[^;]*;(%d);(%d+);(%d+);')
    call('ZREM', KEYS[at + 1], id)
    call('HDEL', KEYS[at + 2], id)
    call('HINCRBY', KEYS[at + 3], id, 1)
    call('ZADD', KEYS[at + 5 + tonumber(u)], noted(KEYS[at + 4], u, order) and order - NOTED or order, id)
    call('HINCRBY', KEYS[at + 4], 'w', n)
  end
  local first = call('ZRANGE', KEYS[at + 1], 0, 0, 'WITHSCORES')
  local out = {#over, first[2] and tonumber(first[2]) or -1}
  for u = 0, 3 do out[3 + u] = call('ZCARD', KEYS[at + 5 + u]) end
  found[#found + 1] = out
end
return found
