-- lane_over: entries of lanes' queues whose last push has run out of time.
-- KEYS    push:{<lane>}:queue:<urgency>, see lane_take.lua
-- ARGV    1 the time in ms, 2 how many entries are looked at from each place on, then per key the place of a second look, 0 for none
-- returns per key its entries, in their order
local now, window, out = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for i, key in ipairs(KEYS) do
  local found, further = {}, tonumber(ARGV[2 + i])
  for _, start in ipairs(further > 0 and {0, further} or {0}) do
    for _, id in ipairs(redis.call('ZRANGE', key, start, start + window - 1)) do
      if tonumber(string.match(id, ';(%d+)$')) <= now then found[#found + 1] = id end
    end
  end
  out[i] = found
end
return out
