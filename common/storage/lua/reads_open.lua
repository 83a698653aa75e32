-- reads_open: this reader may read entries of the core's stream without a list of them, for some seconds; one reader at a time.
-- KEYS    [1] push:{s0}:open-reads  string: who did so last; [2] push:{s0}:open-read  string: who does so now
-- ARGV    consumer, milliseconds, "1": of this consumer's own reads of before nothing can be left behind
-- returns 1, or 0 while another one may, or may have left entries behind (reads_sweep.lua)
-- why     what nobody has listed is told from what somebody holds only as long as there is one such reader
local last = redis.call('GET', KEYS[1])
if last and not (last == ARGV[1] and ARGV[3] == '1') then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
