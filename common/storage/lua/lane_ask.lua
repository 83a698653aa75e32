-- lane_ask: may this lane send now?
-- KEYS[1] push:lane:<lane>  hash: state, why, until (s), version, strikes, probe_until (s), window, n, f
-- ARGV    1 version of the credential, 2 the time in tests, else "", 3 seconds that a probe may take
-- returns {state, why, probe}  probe 1: this caller alone may send one push to see whether the lane works again
-- why     half-open with one probe for the whole fleet: the first who asks after the pause takes it, for a bounded time
local PROBE_S, PAUSE_MAX_S = tonumber(ARGV[3]), 600
local now = tonumber(ARGV[2])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
local h = redis.call('HMGET', KEYS[1], 'state', 'why', 'until', 'version', 'probe_until')
local state, why, pause, probe = h[1] or 'flowing', h[2] or '', tonumber(h[3] or '0') - now, tonumber(h[5] or '0') - now
if state == 'flowing' then return {'flowing', '', 0} end
if why == 'credential_refused' and h[4] ~= ARGV[1] then -- another version of the credential has done nothing wrong yet
  redis.call('HSET', KEYS[1], 'until', '0', 'version', ARGV[1])
  pause = 0
  if state == 'stopped' then probe = 0 end
end
-- Longer than ever set: the clock stepped back. What is set is rounded.
if pause > 0 and pause <= PAUSE_MAX_S then return {'stopped', why, 0} end
if probe > 0 and probe <= PROBE_S + 0.001 then return {'probing', why, 0} end
redis.call('HSET', KEYS[1], 'state', 'probing', 'until', '0', 'probe_until', string.format('%.3f', now + PROBE_S))
return {'probing', why, 1}
