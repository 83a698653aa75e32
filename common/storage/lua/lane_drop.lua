-- lane_drop: forgets what is counted of a lane whose account was removed.
-- KEYS    push:{<lane>}:load, :tries, see lane_take.lua
-- returns 1 when they are gone, 0 while the lane holds something
-- why     an account that comes and goes would leave a hash each time
if tonumber(redis.call('HGET', KEYS[1], 'b') or '0') > 0 then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
