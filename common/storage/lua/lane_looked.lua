-- lane_looked: when some lanes must be looked after again, once lane_reap has seen what is leased of them.
-- KEYS[1] push:popped:<vendor>  zset: see ready_pop.lua
-- ARGV    per lane: the lane, time that was set before lane_reap, when the next lease ends or -1
-- returns per lane 1, or 0 when somebody took it meanwhile: then it stays as it is
-- why     a taker that came between the look and this call would be forgotten, if it died
local call, known = redis.call, {}
for i = 1, #ARGV, 3 do
  local since = call('ZSCORE', KEYS[1], ARGV[i])
  if since and tonumber(since) == tonumber(ARGV[i + 1]) then
    call('ZREM', KEYS[1], ARGV[i])
    if ARGV[i + 2] ~= '-1' then call('ZADD', KEYS[1], ARGV[i + 2], ARGV[i]) end
    known[#known + 1] = 1
  else
    known[#known + 1] = 0
  end
end
return known
