-- lane_loads: what lanes hold.
-- KEYS    per lane push:{<lane>}:load, then :queue:<urgency> four times (call, chat, group, bulk), see lane_take.lua
-- returns MessagePack, flat: per lane bytes, pushes that wait, and per urgency: entries in the queue, order of the first one (0: none)
-- why     with many lanes an answer a queue is what the look at them costs
local call, out, n = redis.call, {}, 0
for at = 1, #KEYS, 5 do
  local load = call('HMGET', KEYS[at], 'b', 'w')
  out[n + 1], out[n + 2] = tonumber(load[1] or '0'), tonumber(load[2] or '0')
  n = n + 2
  for u = 1, 4 do
    local count, first = load[1] and load[1] ~= '0' and call('ZCARD', KEYS[at + u]) or 0, 0 -- without bytes there is no entry
    if count > 0 then first = tonumber(call('ZRANGE', KEYS[at + u], 0, 0, 'WITHSCORES')[2]) end
    if first < 0 then -- of each kind the first is the oldest
      local unnoted = call('ZRANGEBYSCORE', KEYS[at + u], 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      first = math.min(first + NOTED, tonumber(unnoted[2] or 'inf'))
    end
    out[n + 1], out[n + 2] = count, first
    n = n + 2
  end
end
return cmsgpack.pack(out)
