-- lane_take: entries of a lane's queue for one sender, as many as the breaker and the rate allow of the next second.
-- KEYS[1] push:{<lane>}:queue:<urgency>  zset: entry -> its order
-- KEYS[2] push:{<lane>}:blobs            hash: entry -> batch
-- KEYS[3] push:{<lane>}:leases           zset: entry -> until when its sender must have been heard of, ms
-- KEYS[4] push:{<lane>}:holders          hash: entry -> its sender's word
-- KEYS[5] push:{<lane>}:tries            hash: entry -> how many senders died with it
-- KEYS[6] push:{<lane>}:load             hash: b bytes, w pushes that wait, n<urgency> order up to which an outage was noted, why<urgency>,
--                                        r<urgency> order up to which the rate has held entries up
-- KEYS[7] push:lane:<lane>               hash: the breaker, see lane_ask.lua
-- KEYS[8] push:rate:<lane>               hash: see rate_now.lua
-- ARGV    1 sender's word, 2 ms of a lease, 3 most entries, 4 most pushes, 5 most bytes, 6 version of the credential, 7 seconds a probe may
--         take, 8 rate per s, 9 burst, 10 ramp in s, 11 "1": the rate counts requests, 12 urgency number (0 call, 1 chat, 2 group,
--         3 bulk), 13 "1": the account is gone, nothing is asked, 14 in tests only, the time
-- returns {what, now ms, why, due ms, what the rate allows, rate, order noted, why noted, order held up by the rate, entries left, 1 if the
--         breaker counts answers, then per entry: entry, batch, deliveries}
--         what: "go" (all of these), "probe" (one push), "wait" (until due: rate or Retry-After), "shut" (until due: why), "empty"
-- why     an entry is "<owner>;<urgency>;<order>;<pushes>;<requests>;<bytes>;<expires>", so nothing is read that is not taken; the first write
--         frees memory (ZREM), so that a full server, which judges a script by it, lets it pass
local PAUSE_MAX_S = 600
local call = redis.call
local now = tonumber(ARGV[14])
if not now then
  local t = call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
local now_ms, word, gone = math.floor(now * 1000), ARGV[1], ARGV[13] == '1'
local level, urgency = tonumber(ARGV[12]), ARGV[12]
local ids = call('ZRANGE', KEYS[1], 0, tonumber(ARGV[3]) - 1)
local noted = call('HMGET', KEYS[6], 'n' .. urgency, 'why' .. urgency, 'r' .. urgency)
local function slowed() return string.format('%d', now_ms * 1000) end
local function no(what, why, due)
  -- on a full server this mark is not worth an error
  if what == 'wait' then redis.pcall('HSET', KEYS[6], 'r' .. urgency, slowed()) end
  return {what, now_ms, why, math.ceil(due * 1000), 0, '1', tonumber(noted[1] or '0'), noted[2] or '', tonumber(noted[3] or '0'), call('ZCARD', KEYS[1]), 1}
end
if #ids == 0 then return no('empty', '', 0) end

-- the breaker
local probe, h = false, not gone and call('HMGET', KEYS[7], 'state', 'why', 'until', 'version', 'probe_until', 'window') or {}
if h[1] and h[1] ~= 'flowing' then
  local pause, trying = tonumber(h[3] or '0') - now, tonumber(h[5] or '0') - now
  if h[2] == 'credential_refused' and h[4] ~= ARGV[6] then -- another version of the credential has done nothing wrong yet
    pause = 0
    if h[1] == 'stopped' then trying = 0 end
  end
  if pause > 0 and pause <= PAUSE_MAX_S then return no('shut', h[2] or '', now + pause) end
  if trying > 0 and trying <= tonumber(ARGV[7]) then return no('shut', h[2] or '', now + trying) end
  probe = true
end

-- the rate
local r
if not gone then
  r = rate_now(KEYS[8], now, tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), level)
  if r.hold then return no('wait', 'throttled', r.hold) end
  if r.avail < 1 then
    if level > 1 and r.starved == 0 then redis.pcall('HSET', KEYS[8], 's' .. level, string.format('%.6f', now)) end
    return no('wait', 'throttled', r.due)
  end
end
local avail = gone and math.huge or r.avail

-- whole entries until the leave, the pushes or the bytes are used up
local chosen, pushes, bytes, cost = {}, 0, 0, 0
local by_request = ARGV[11] == '1'
for i, id in ipairs(ids) do
  local n, m, size = string.match(id, '^[^;]*;%d;%d+;(%d+);(%d+);(%d+);')
  n, m, size = tonumber(n), tonumber(m), tonumber(size)
  if i > 1 and (pushes + n > tonumber(ARGV[4]) or bytes + size > tonumber(ARGV[5])) then break end
  chosen[i] = id
  pushes, bytes, cost = pushes + n, bytes + size, cost + (by_request and m or n)
  if probe or cost >= avail then break end
end
call('ZREM', KEYS[1], unpack(chosen))
call('HINCRBY', KEYS[6], 'w', -pushes)
local till, adds, sets = now_ms + tonumber(ARGV[2]), {}, {}
for i, id in ipairs(chosen) do
  adds[2 * i - 1], adds[2 * i] = till, id
  sets[2 * i - 1], sets[2 * i] = id, word
end
call('ZADD', KEYS[3], unpack(adds))
call('HSET', KEYS[4], unpack(sets))
local blobs, tries = call('HMGET', KEYS[2], unpack(chosen)), call('HMGET', KEYS[5], unpack(chosen))
if probe then
  if h[2] == 'credential_refused' and h[4] ~= ARGV[6] then call('HSET', KEYS[7], 'version', ARGV[6]) end
  call('HSET', KEYS[7], 'state', 'probing', 'until', '0', 'probe_until', string.format('%.3f', now + tonumber(ARGV[7])))
end
if not gone and level < 3 then -- the less urgent leave room for these, which lease in a moment
  local at = string.format('%.6f', now)
  if level < 2 then call('HSET', KEYS[8], 'p' .. level, at, 'w0', at) else call('HSET', KEYS[8], 'p' .. level, at) end
  if r.fresh then call('EXPIRE', KEYS[8], 172800) end
end
local left, due = #ids < tonumber(ARGV[3]) and #ids - #chosen or call('ZCARD', KEYS[1]), now
if not gone and cost >= avail then -- the lane is at its rate: the next may ask a little before these have gone
  call('HSET', KEYS[6], 'r' .. urgency, slowed())
  due = math.max(now, r.start + avail / r.rate - r.lim - LEAD_S)
end
local out = {probe and 'probe' or 'go', now_ms, h[2] or '', math.floor(due * 1000), gone and cost or math.min(avail, cost),
  string.format('%.6f', gone and 1 or r.rate), tonumber(noted[1] or '0'), noted[2] or '', tonumber(noted[3] or '0'), left, (h[1] or h[6]) and 1 or 0}
for i, id in ipairs(chosen) do
  out[#out + 1] = id
  out[#out + 1] = blobs[i] or ''
  out[#out + 1] = tonumber(tries[i] or '0') + 1
end
return out
