-- withdraw: advances one wish of a withdrawal, with the entries that its page gave.
-- KEYS[1] push:withdrawals  zset: "<look><wish>" by due time, s
-- KEYS[2] push:routing  stream: who gets the withdrawal
-- KEYS[3] push:lease-epoch:<role>  how often the lease changed hands
-- ARGV    the asker's epoch (0: none), the wish, what takes its place ("": nothing), its due time, entries for routing
-- returns 1; 0 when the wish is not there any more, or the lease is another's
-- why     a process that stood still would send once more what its successor has sent
if ARGV[1] ~= '0' and redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
if redis.call('ZREM', KEYS[1], ARGV[2]) == 0 then return 0 end
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[1], ARGV[4], ARGV[3]) end
for index = 5, #ARGV do redis.call('XADD', KEYS[2], '*', 'b', ARGV[index]) end
return 1
