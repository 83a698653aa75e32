-- reclaim: takes over entries whose readers fell silent, counts one delivery more, and reads them within a bound of bytes.
-- KEYS[1]  the stream
-- KEYS[2]  push:{s0}:takeovers  string: how often entries were taken over, so that the reader before us writes nothing of them any more
-- ARGV     group, consumer, idle ms, id to look from, entries, bytes of one read, bytes of one entry (0: any), bytes kept of a larger one
-- returns  {id to look from next time ('-': all was seen), list of {id, fields, deliveries, size}}; size as in take.lua
-- why      XAUTOCLAIM loads all payloads before anybody has seen how large they are
local budget, limit, head = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

local most = tonumber(ARGV[5])
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], ARGV[4], '+', most)
local found, bytes, at, more = {}, 0, '-', #pending == most
for i = 1, #pending do
  if bytes >= budget then
    more = true
    break
  end
  local id, deliveries = pending[i][1], pending[i][4] + 1
  at = '(' .. id
  local raws = redis.call('XRANGE', KEYS[1], id, id)
  if raws[1] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id, 'RETRYCOUNT', deliveries, 'JUSTID')
    local fields, kept, size = bounded(raws[1][2], limit, head)
    found[#found + 1] = { id, fields, deliveries, size }
    bytes = bytes + kept
  else
    redis.call('XACK', KEYS[1], ARGV[1], id)
  end
end
if #found > 0 then
  redis.call('INCR', KEYS[2])
end
return { more and at or '-', found }
