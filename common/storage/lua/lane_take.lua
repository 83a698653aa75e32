-- lane_take: entries of a lane's queue for one sender, with leave to send them: what the breaker and the rate allow of the next second.
-- KEYS[1] push:{<lane>}:queue:<urgency>  zset: entry -> its order
-- KEYS[2] push:{<lane>}:blobs            hash: entry -> batch
-- KEYS[3] push:{<lane>}:leases           zset: entry -> until when its sender must have been heard of, ms
-- KEYS[4] push:{<lane>}:holders          hash: entry -> its sender's word
-- KEYS[5] push:{<lane>}:tries            hash: entry -> how many senders died with it
-- KEYS[6] push:{<lane>}:load             hash: b bytes, w pushes that wait, n<urgency> order up to which an outage was noted, why<urgency>,
--                                        r<urgency> order up to which the rate has held entries up
-- KEYS[7] push:lane:<lane>               hash: the breaker, see lane_ask.lua
-- KEYS[8] push:rate:<lane>               hash: t theoretical arrival time of the last token, r, ra, h, ha, l, b: see admit.lua; w0 when
--                                        calls or chats last asked, s1 and s2 since when groups and bulk have got nothing
-- KEYS[9] push:inflight:<lane>           hash: <word> -> "<pushes>|<until>"
-- ARGV    1 sender's word, 2 ms of a lease, 3 most entries, 4 most pushes, 5 most bytes, 6 version of the credential, 7 seconds a probe may
--         take, 8 rate per s, 9 burst, 10 ramp in s, 11 "1": the rate counts requests, 12 level of urgency (0 calls and chats, 1 groups,
--         2 bulk), 13 "1": the account is gone, nothing is asked, 14 urgency number, 15 seconds a round may take, 16 in tests only, the time
-- returns {what, now ms, why, due ms, tokens, time of the first, time of the last, rate, order noted, why noted, order held up by the rate,
--         entries left, then per entry: entry, batch, deliveries}
--         what: "go" (all of these), "probe" (one push), "wait" (until due: rate or Retry-After), "shut" (until due: why), "empty"
-- why     an entry is "<owner>;<urgency>;<order>;<pushes>;<requests>;<bytes>;<expires>", so nothing is read that is not taken.
--         tokens are leased for a second at most (GCRA): they are this sender's at their times and nobody else's, a crash wastes no more
--         the first write frees memory (ZREM), so a full server does not refuse the rest
local HORIZON_S, YIELD_S, STARVED_S, URGENT_S, LEAD_S, PAUSE_MAX_S = 1, {[0] = 1, [1] = 0.3, [2] = 0.2}, 5, 5, 0.04, 600
local call = redis.call
local now = tonumber(ARGV[16])
if not now then
  local t = call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
local now_ms, word, gone = math.floor(now * 1000), ARGV[1], ARGV[13] == '1'
local level, urgency = tonumber(ARGV[12]), ARGV[14]
local ids = call('ZRANGE', KEYS[1], 0, tonumber(ARGV[3]) - 1)
local noted = call('HMGET', KEYS[6], 'n' .. urgency, 'why' .. urgency, 'r' .. urgency)
local function no(what, why, due)
  -- on a full server this one mark is not worth an error
  if what == 'wait' then redis.pcall('HSET', KEYS[6], 'r' .. urgency, string.format('%d', now_ms * 1000)) end
  return {what, now_ms, why, math.ceil(due * 1000), 0, '0', '0', '1', tonumber(noted[1] or '0'), noted[2] or '', tonumber(noted[3] or '0'), call('ZCARD', KEYS[1])}
end
if #ids == 0 then return no('empty', '', 0) end

-- the breaker
local probe, h = false, not gone and call('HMGET', KEYS[7], 'state', 'why', 'until', 'version', 'probe_until') or {}
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
local limit, burst, ramp = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local avail, rate, start, news, fresh = math.huge, limit, now, {}, false
local function note(field, value)
  news[#news + 1] = field
  news[#news + 1] = string.format('%.6f', value)
end
if not gone then
  local r = call('HMGET', KEYS[8], 't', 'r', 'ra', 'h', 'ha', 'l', 'b', 'w0', 's' .. level)
  local tat, slow, since, hold, held_at = tonumber(r[1] or '0'), tonumber(r[2]), tonumber(r[3] or '0'), tonumber(r[4] or '0'), tonumber(r[5] or '0')
  local last, began, wanted, starved = tonumber(r[6] or '0'), tonumber(r[7] or '0'), tonumber(r[8] or '0'), tonumber(r[9] or '0')
  fresh = not r[1]
  if slow then
    if now < since then since = now; note('ra', since) end -- the clock stepped back: the climb begins again
    rate = math.min(limit, slow + 0.1 * limit * math.floor((now - since) / 10))
  end
  if ramp > 0 then
    if now - last >= ramp or now < began then began = now; note('b', began) end
    rate = math.min(rate, limit * math.min(1, (math.floor(now - began) + 1) / ramp))
  end
  rate = math.max(rate, math.min(1, limit))
  if now < held_at then hold = now + (hold - held_at) end -- the clock stepped back
  if now < hold then return no('wait', 'throttled', hold) end
  local lim = math.max(1, burst * rate / limit) / rate
  local most = HORIZON_S
  if level == 0 then
    note('w0', now)
  elseif now >= wanted and now - wanted < URGENT_S then
    most = YIELD_S[level]
    if starved > 0 and math.abs(now - starved) > STARVED_S then most = HORIZON_S + YIELD_S[level] end
  end
  if tat > now + lim + HORIZON_S + 1 then tat = now + lim end -- longer than ever set: the clock stepped back
  start = math.max(now, tat)
  avail = math.floor((now + lim + most - start) * rate + 1e-6)
  if start + 1 / rate <= now + lim + 1e-6 then avail = math.max(avail, 1) end -- less than one a second
  if avail < 1 then
    if level > 0 and starved == 0 then call('HSET', KEYS[8], 's' .. level, string.format('%.6f', now)) end
    return no('wait', 'throttled', math.max(now + 0.001, math.max(start - lim - LEAD_S, start + 1 / rate - lim - most)))
  end
  if level > 0 and starved > 0 then note('s' .. level, 0) end
end

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
local tokens = probe and 1 or math.min(avail, cost)
if gone then tokens = cost end
if probe then
  if h[2] == 'credential_refused' and h[4] ~= ARGV[6] then call('HSET', KEYS[7], 'version', ARGV[6]) end
  call('HSET', KEYS[7], 'state', 'probing', 'until', '0', 'probe_until', string.format('%.3f', now + tonumber(ARGV[7])))
end
if not gone then
  note('t', start + tokens / rate)
  note('l', now)
  call('HSET', KEYS[8], unpack(news))
  if fresh then call('EXPIRE', KEYS[8], 172800) end
  call('HSET', KEYS[9], word, string.format('%d|%.3f', math.min(tokens, pushes), now + tonumber(ARGV[15])))
end
local left = call('ZCARD', KEYS[1])
local due = now
if not gone and cost > tokens then left = left + 1 end -- an entry is cut: its rest comes back
if not gone and avail <= cost then
  call('HSET', KEYS[6], 'r' .. urgency, string.format('%d', now_ms * 1000))
  due = math.max(now, start + tokens / rate - math.max(1, burst * rate / limit) / rate - LEAD_S)
end
local out = {probe and 'probe' or 'go', now_ms, h[2] or '', math.floor(due * 1000), tokens, string.format('%.6f', start - now),
  string.format('%.6f', start + tokens / rate), string.format('%.6f', rate), tonumber(noted[1] or '0'), noted[2] or '', tonumber(noted[3] or '0'), left}
for i, id in ipairs(chosen) do
  out[#out + 1] = id
  out[#out + 1] = blobs[i] or ''
  out[#out + 1] = tonumber(tries[i] or '0') + 1
end
return out
