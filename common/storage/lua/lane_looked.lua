-- lane_looked: when the lane must be looked after again, once lane_reap has seen what is leased of it.
-- KEYS[1] push:popped:<vendor>  zset: see ready_pop.lua
-- ARGV    1 the lane, 2 time that was set before lane_reap, 3 when the next lease ends or -1
-- returns 1, or 0 when somebody took the lane meanwhile: then it stays as it is
-- why     a taker that came between the look and this call would be forgotten, if it died
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known or tonumber(known) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
if ARGV[3] ~= '-1' then redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end
return 1
