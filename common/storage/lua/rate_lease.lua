-- rate_lease: leave to send so many requests or pushes of each of some lanes within the next second.
-- KEYS    two per lane:
--         [1] push:rate:<lane>      hash, see rate_now.lua
--         [2] push:inflight:<lane>  hash: <word> -> "<pushes>|<until>"
-- ARGV    1 seconds a round may take, 2 MessagePack, per lane: sender's word, rate per s, burst, ramp in s, urgency number (0 call, 1 chat, 2 group,
--         3 bulk), how many, pushes that go with them, 3 in tests only, the time
-- returns per lane {how many, seconds until the first, time of the last, rate}
-- why     asked right before the send: tokens that wait for claims and access tokens would be late, and who is late may not catch up, as others
--         send meanwhile; many lanes in one call, see lane_take.lua
local now, round_s, call = tonumber(ARGV[3]), tonumber(ARGV[1]), redis.call
if not now then
  local t = call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
local keep_s, till, freed = math.max(60, 2 * round_s), string.format('|%.3f', now + round_s), false

local function lease(RATE, INFLIGHT, word, limit, burst, ramp, level, wanted, pushes)
  local r = rate_now(RATE, now, limit, burst, ramp, level)
  local tokens = r.hold and 0 or math.min(r.avail, wanted)
  if not freed then -- the first write frees: a full server judges a script by it
    freed = true
    call('HDEL', INFLIGHT, word)
  end
  if tokens < 1 then
    redis.pcall('HSET', RATE, 'p' .. level, '0')
    return {0, '0', '0', tostring(r.rate)}
  end
  local tat = r.start + tokens / r.rate
  r.news.t, r.news.l = tat, now
  if level < 3 then r.news['p' .. level] = 0 end
  if level < 2 then r.news.w0 = now elseif r.starved > 0 then r.news['s' .. level] = 0 end
  local fields = {}
  for field, value in pairs(r.news) do
    fields[#fields + 1] = field
    fields[#fields + 1] = string.format('%.6f', value)
  end
  call('HSET', RATE, unpack(fields))
  if r.fresh then call('EXPIRE', RATE, 172800) end
  call('HSET', INFLIGHT, word, string.format('%d', pushes) .. till)
  call('EXPIRE', INFLIGHT, keep_s)
  return {tokens, string.format('%.6f', r.start - now), string.format('%.6f', tat), string.format('%.6f', r.rate)}
end

local leases = {}
for i, one in ipairs(cmsgpack.unpack(ARGV[2])) do leases[i] = lease(KEYS[2 * i - 1], KEYS[2 * i], unpack(one)) end
return leases
