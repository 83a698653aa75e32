-- slow: the vendor's flow control has answered: half the rate for the whole fleet, and nothing at all before its Retry-After is over.
-- KEYS[1] push:rate:<lane>  hash, see admit.lua
-- ARGV    1 rate per s that the lane may have, 2 "1": halve it, 3 seconds to hold (0: none), 4 the time in tests, else ""
-- returns the rate now in thousandths
-- why     halved at most once a second: the answers of all replicas to what was sent at the old rate are one piece of news, not many
if KEYS[1] then redis.call('HDEL', KEYS[1], '') end -- a full server judges a script by its first write: one that frees is let pass
local RATE_S, NEWS_S = 2 * 86400, 1
local now = tonumber(ARGV[4])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
local limit, wait = tonumber(ARGV[1]), tonumber(ARGV[3])
local h = redis.call('HMGET', KEYS[1], 'r', 'ra', 'h', 'ha')
local slow, since, hold, held_at = tonumber(h[1]), tonumber(h[2] or '0'), tonumber(h[3] or '0'), tonumber(h[4] or '0')
local rate = limit
if slow then rate = math.min(limit, slow + 0.1 * limit * math.max(0, math.floor((now - since) / 10))) end
if ARGV[2] == '1' and (not slow or now - since >= NEWS_S or now < since) then
  rate = math.max(rate / 2, math.min(1, limit))
  redis.call('HSET', KEYS[1], 'r', string.format('%.6f', rate), 'ra', string.format('%.6f', now))
end
if wait > 0 and (now + wait > hold or now < held_at) then
  redis.call('HSET', KEYS[1], 'h', string.format('%.6f', now + wait), 'ha', string.format('%.6f', now))
end
redis.call('EXPIRE', KEYS[1], RATE_S)
return math.floor(rate * 1000 + 0.5)
