-- hold: sets how long entries have been idle, and how often they were handed out, while their reader still owns them.
-- KEYS[1]  the stream
-- ARGV     group, consumer, idle ms, then per entry: id, deliveries (-1: leave the counter as it is)
-- returns  the ids that are this consumer's still
-- why      asking who owns an entry and claiming it in two calls could steal it from the reader that took it over in between
local mine = {}
for i = 4, #ARGV, 2 do
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if found[1] and found[1][2] == ARGV[2] then
    local held
    if ARGV[i + 1] == '-1' then
      held = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'JUSTID')
    else
      held = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
    end
    -- what another reader has written may be listed, and is not there (open_reads.py); Redis 6.2, which has no such name, claims it all the same
    if held[1] and (redis.REDIS_VERSION or redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]) then
      mine[#mine + 1] = ARGV[i]
    end
  end
end
return mine
