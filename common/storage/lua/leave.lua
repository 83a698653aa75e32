-- leave: entries of one stream are acknowledged and deleted by their reader, and nothing follows from them.
-- KEYS[1] push:{s0}:takeovers  counter: how often a reader claimed entries of another, see reclaim.lua
-- KEYS[2] the stream
-- ARGV    group, the counter as it was when the entries were read, then their ids
-- returns 1, or 0 when entries were claimed meanwhile: the caller looks whose they are, nothing was written
-- why     the same under WATCH in a MULTI is three commands and two round trips more
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[2] then return 0 end
redis.call('XACK', KEYS[2], ARGV[1], unpack(ARGV, 3))
redis.call('XDEL', KEYS[2], unpack(ARGV, 3))
return 1
