-- gone: remembers why nothing of a message, or no invitation up to a time, may be sent any more.
-- KEYS[1] push:gone:<app>:<conversation>\0<message>  string: "<why>|<ts>"; ts: of the end of a call, 0 = for good
-- ARGV    why, ts (ms), seconds to keep
-- returns nothing
-- why     of two ends of one call the later one stands, in whatever order they come
local old = redis.call('GET', KEYS[1])
local known = old and tonumber(string.match(old, '|(%d+)$') or '0') or -1
if known < tonumber(ARGV[2]) or known == -1 then
  redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[2], 'EX', ARGV[3])
else
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
