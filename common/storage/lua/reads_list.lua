-- reads_list: entries that this reader has read without a list of them are listed as its own from now on.
-- KEYS    [1] the stream, [2] push:{s0}:open-read (reads_open.lua)
-- ARGV    group, consumer, then the ids
-- returns nothing
-- why     what is not listed has no idle time and no counter; entries that another reader swept (reads_sweep.lua) stay its own
local who = redis.call('GET', KEYS[2])
if who and who ~= ARGV[2] then return end
for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1) == 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'RETRYCOUNT', 1, 'FORCE', 'JUSTID')
  end
end
