-- ring: says that a queue has work, to a worker that listens at the moment or by a wake-up.
-- KEYS[1] push:bell:<queue>   string: "1" a wake-up is waiting, "l" a worker listens
-- KEYS[2] push:ring:<queue>   list: words for the one that listens
-- ARGV    ms after which a wake-up counts as lost
-- returns 1 if the caller is to send a wake-up, else 0
-- why     a wake-up through the broker costs its sender and the worker milliseconds; who has just worked and waits for more needs none
local state = redis.call('GET', KEYS[1])
if state and state ~= 'l' then return 0 end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
if not state then return 1 end
redis.call('LPUSH', KEYS[2], '1')
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 0
