-- rate_lease: leave to send so many requests or pushes of one lane within the next second.
-- KEYS[1] push:rate:<lane>      hash, see rate_now.lua
-- KEYS[2] push:inflight:<lane>  hash: <word> -> "<pushes>|<until>"
-- ARGV    1 sender's word, 2 rate per s, 3 burst, 4 ramp in s, 5 urgency number (0 call, 1 chat, 2 group, 3 bulk), 6 how many, 7 pushes
--         that go with them, 8 seconds a round may take, 9 in tests only, the time
-- returns {how many, seconds until the first, time of the last, rate}
-- why     asked right before the send: tokens that wait for claims and access tokens would be late, and who is late may not catch up, as others
--         send meanwhile
local now = tonumber(ARGV[9])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
local level, wanted = tonumber(ARGV[5]), tonumber(ARGV[6])
local r = rate_now(KEYS[1], now, tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), level)
local tokens = r.hold and 0 or math.min(r.avail, wanted)
if tokens < 1 then
  redis.pcall('HSET', KEYS[1], 'p' .. level, '0')
  return {0, '0', '0', tostring(r.rate)}
end
local tat = r.start + tokens / r.rate
redis.call('HDEL', KEYS[2], ARGV[1]) -- the first write frees: a full server judges a script by it
r.news.t, r.news.l = tat, now
if level < 3 then r.news['p' .. level] = 0 end
if level < 2 then r.news.w0 = now elseif r.starved > 0 then r.news['s' .. level] = 0 end
local fields = {}
for field, value in pairs(r.news) do
  fields[#fields + 1] = field
  fields[#fields + 1] = string.format('%.6f', value)
end
redis.call('HSET', KEYS[1], unpack(fields))
if r.fresh then redis.call('EXPIRE', KEYS[1], 172800) end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%d|%.3f', ARGV[7], now + tonumber(ARGV[8])))
redis.call('EXPIRE', KEYS[2], math.max(60, 2 * tonumber(ARGV[8])))
return {tokens, string.format('%.6f', r.start - now), string.format('%.6f', tat), string.format('%.6f', r.rate)}
