-- lane_tell: what a lane's answers were; stops it on a refused credential at once, on a failure rate after a few.
-- KEYS[1] push:lane:<lane>  hash: state, why, until (s), version, strikes, probe_until (s), window, n, f
-- KEYS[2] push:lane-log:<lane>  list, the newest first: <ms>|<state>|<why>|<cause>
-- ARGV    1 version, 2 good answers, 3 failed (no answer or the vendor is down), 4 "1" the credential was refused, 5 the time in tests,
--         else "", 6 cause of the failures
-- returns {state, 1 if the lane opened, stopped, or goes on being stopped for another cause}
-- why     counted for the whole fleet in windows of 10 s: no replica alone would see enough. A stopped lane opens by its probe only: late
--         answers to what was sent before the stop say nothing about now. Each stop without an opening between doubles the pause
local WINDOW_S, FAILED_MIN, KEEP_S = 10, 20, 86400
local LOG_MAX, LOG_KEEP_S = 50, 30 * 86400
local now = tonumber(ARGV[5])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
redis.call('HDEL', KEYS[1], '') -- a delete first: a server without free memory refuses a script that begins by adding
local good, failed, refused = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local h = redis.call('HMGET', KEYS[1], 'state', 'version', 'window', 'why')
local state, version = h[1] or 'flowing', tonumber(h[2] or '0')
local function changed(to, why, cause)
  local last = redis.call('LINDEX', KEYS[2], 0)
  if last and string.match(last, '|(.*)$') == to .. '|' .. why .. '|' .. cause then return 0 end
  redis.call('LPUSH', KEYS[2], string.format('%d', math.floor(now * 1000)) .. '|' .. to .. '|' .. why .. '|' .. cause)
  redis.call('LTRIM', KEYS[2], 0, LOG_MAX - 1)
  redis.call('EXPIRE', KEYS[2], LOG_KEEP_S)
  return 1
end
local function stop(why, least, most)
  local strikes = redis.call('HINCRBY', KEYS[1], 'strikes', 1)
  local pause = math.min(most, least * 2 ^ math.min(strikes - 1, 10))
  redis.call('HSET', KEYS[1], 'state', 'stopped', 'why', why, 'version', ARGV[1], 'until', string.format('%.3f', now + pause), 'probe_until', '0')
  redis.call('HDEL', KEYS[1], 'window', 'n', 'f')
  redis.call('EXPIRE', KEYS[1], KEEP_S)
  return {'stopped', changed('stopped', why, ARGV[6])}
end
if refused then
  if tonumber(ARGV[1]) < version then return {state, 0} end -- a newer version is in use: the old one's refusal is no news
  if state == 'stopped' and h[4] == 'credential_refused' then return {state, 0} end -- the answers of all replicas are one refusal, one strike
  return stop('credential_refused', 60, 600)
end
if state == 'stopped' then return {state, 0} end
if state == 'probing' then
  if good > 0 then
    redis.call('DEL', KEYS[1])
    return {'flowing', changed('flowing', '', '')}
  end
  if failed > 0 then return stop(h[4] or 'unavailable', 2, 60) end
  redis.call('HSET', KEYS[1], 'probe_until', '0') -- the probe was not sent after all: the next who asks is it
  return {state, 0}
end
if failed == 0 and not h[3] then return {'flowing', 0} end
local window = string.format('%d', math.floor(now / WINDOW_S))
if h[3] ~= window then redis.call('HSET', KEYS[1], 'window', window, 'n', 0, 'f', 0) end
local n = redis.call('HINCRBY', KEYS[1], 'n', good + failed)
local f = redis.call('HINCRBY', KEYS[1], 'f', failed)
redis.call('EXPIRE', KEYS[1], 6 * WINDOW_S)
if f >= FAILED_MIN and f * 2 >= n then return stop('unavailable', 2, 60) end
return {'flowing', 0}
