-- lease: takes or renews the lease of one role of the maintenance process.
-- KEYS[1] push:{s0}:lease:<role>  string: the holder's word, with a time to live
-- KEYS[2] push:{s0}:lease-epoch:<role>  counter: how often the lease changed hands
-- ARGV    the asker's word, time to live in ms
-- returns the epoch when the asker holds the lease, else 0
-- why     an epoch that is older than the counter belongs to a process that stood still: what it writes is refused
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if not holder then
  redis.call('DEL', KEYS[1]) -- a delete first: a server without free memory refuses a script that begins by adding
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(redis.call('GET', KEYS[2]) or redis.call('INCR', KEYS[2]))
end
return redis.call('INCR', KEYS[2])
