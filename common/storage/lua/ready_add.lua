-- ready_add: these lanes of one vendor and urgency may send from some time on.
-- KEYS[1] push:ready:<vendor>:<urgency>  zset: lane -> when it may send next, ms
-- ARGV    per lane: its id, the time in ms
-- returns how many had no time yet
-- why     who has said a time already is not overruled; a delete first: a server without free memory refuses what begins by adding, and
--         a lane without a time would be forgotten
redis.call('ZREM', KEYS[1], '')
local added = 0
for i = 1, #ARGV, 2 do added = added + redis.call('ZADD', KEYS[1], 'NX', ARGV[i + 1], ARGV[i]) end
return added
