-- lane_tell: what a lane's answers were; stops it on a refused credential at once, on a failure rate after a few.
-- KEYS[1] push:lane:<lane>  hash: state, why, until (s), version, strikes, probe_until (s), n:<window>, f:<window>
-- ARGV    version, good answers, failed (no answer or the vendor is down), 1 = the credential was refused, seconds the vendor wants us to wait
-- returns state
-- why     counted for the whole fleet in windows of 10 s: no replica alone would see enough
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
local good, failed, refused, wait = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local function stop(why, least, most)
  local strikes = redis.call('HINCRBY', KEYS[1], 'strikes', 1)
  local pause = math.min(most, least * 2 ^ math.min(strikes - 1, 10))
  redis.call('HSET', KEYS[1], 'state', 'stopped', 'why', why, 'version', ARGV[1], 'until', string.format('%.3f', now + pause), 'probe_until', '0')
  redis.call('EXPIRE', KEYS[1], 86400)
  return 'stopped'
end
if refused then return stop('credential_refused', 60, 600) end
local state = redis.call('HGET', KEYS[1], 'state') or 'flowing'
if state ~= 'flowing' then
  if good > 0 then
    redis.call('DEL', KEYS[1])
    return 'flowing'
  end
  if failed > 0 then return stop('unavailable', 2, 60) end
  return state
end
if failed == 0 then
  if good > 0 and redis.call('EXISTS', KEYS[1]) == 0 then return 'flowing' end
end
local window = math.floor(now / 10)
local n = redis.call('HINCRBY', KEYS[1], 'n:' .. window, good + failed)
local f = redis.call('HINCRBY', KEYS[1], 'f:' .. window, failed)
redis.call('EXPIRE', KEYS[1], 60)
if f >= 20 and f * 2 >= n then return stop('unavailable', 2, 60) end
return 'flowing'
