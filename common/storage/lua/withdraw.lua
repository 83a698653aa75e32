-- withdraw: advances one wish of a withdrawal, with the entries that its page gave.
-- KEYS[1]   push:{s0}:withdrawals  zset: "<look><wish>" by due time, s
-- KEYS[2]   push:{s0}:lease-epoch:<role>  how often the lease changed hands
-- KEYS[3..] push:{s0}:routing:<urgency>, then push:{s0}:out:<urgency>  streams: who gets the withdrawal
-- ARGV      the asker's epoch (0: none), the wish, what takes its place ("": nothing), its due time;
--           per entry for routing: the number of its stream (from 0), the entry
-- returns   1; 0 when the wish is not there any more, or the lease is another's
-- why       a process that stood still would send once more what its successor has sent
if ARGV[1] ~= '0' and redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if redis.call('ZREM', KEYS[1], ARGV[2]) == 0 then return 0 end
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[1], ARGV[4], ARGV[3]) end
for index = 5, #ARGV, 2 do redis.call('XADD', KEYS[3 + ARGV[index]], '*', 'b', ARGV[index + 1]) end
return 1
