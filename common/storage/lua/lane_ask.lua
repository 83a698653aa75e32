-- lane_ask: may this lane send now?
-- KEYS[1] push:lane:<lane>  hash: state, why, until (s), version, strikes, probe_until (s), n:<window>, f:<window>
-- ARGV    version of the credential
-- returns {state, why, probe}  probe 1: this caller alone may send one push to see whether the lane works again
-- why     half-open with one probe for the whole fleet: the first who asks after the pause takes it, for a bounded time
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
local h = redis.call('HMGET', KEYS[1], 'state', 'why', 'until', 'version', 'probe_until')
local state = h[1] or 'flowing'
if state == 'flowing' then return {'flowing', '', 0} end
if h[2] == 'credential_refused' and h[4] ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', 'probing', 'until', '0', 'probe_until', '0', 'version', ARGV[1])
  h[3], h[5] = '0', '0'
end
if now < tonumber(h[3] or '0') then return {'stopped', h[2] or '', 0} end
if now < tonumber(h[5] or '0') then return {'probing', h[2] or '', 0} end
redis.call('HSET', KEYS[1], 'state', 'probing', 'probe_until', string.format('%.3f', now + 15))
return {'probing', h[2] or '', 1}
