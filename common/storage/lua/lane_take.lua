-- lane_take: entries of some lanes' queues for one sender, of each as many as the breaker and the rate allow of the next second.
-- KEYS    eight per lane:
--         [1] push:{<lane>}:queue:<urgency>  zset: entry -> its order; of noted ones see noted.lua
--         [2] push:{<lane>}:blobs            hash: entry -> batch
--         [3] push:{<lane>}:leases           zset: entry -> until when its sender must have been heard of, ms
--         [4] push:{<lane>}:holders          hash: entry -> its sender's word
--         [5] push:{<lane>}:tries            hash: entry -> how many senders died with it
--         [6] push:{<lane>}:load             hash: b bytes, w pushes that wait, n<urgency> order up to which an outage was noted, why<urgency>,
--                                            r<urgency> order up to which the rate has held entries up, g<urgency> "shut" since it was
--                                            found stopped while something waits, then until when nothing goes before all that waited is noted, ms
--         [7] push:lane:<lane>               hash: the breaker, see lane_ask.lua
--         [8] push:rate:<lane>               hash: see rate_now.lua
-- ARGV    1 ms of a lease, 2 most entries of a lane, 3 most bytes of a lane, 4 seconds a probe may take, 5 MessagePack, per lane: sender's word, most
--         pushes, version of the credential (a string), rate per s, burst, ramp in s, true: the rate counts requests, urgency number (0 call,
--         1 chat, 2 group, 3 bulk), true: the account is gone, nothing is asked
-- returns per lane {what, now ms, why, due ms, what the rate allows, rate, order noted, why noted, order held up by the rate, entries left, 1 if
--         the breaker counts answers, then per entry: entry, batch, deliveries}
--         what: "go" (all of these), "probe" (one push), "wait" (until due: rate or Retry-After), "shut" (until due: why; due now: what waits
--         is to be noted, then it may be asked again), "empty"
--         several of one lane are its parts in several shards: what is one for the lane is asked once
-- why     an entry is "<owner>;<urgency>;<order>;<pushes>;<requests>;<bytes>;<expires>", so nothing is read that is not taken; the first write
--         frees memory (ZREM), so that a full server, which judges a script by it, lets it pass; many lanes in one call, as a call costs more
--         than what it does for a lane with one push
local PAUSE_MAX_S = 600
local NOTING_MS = 1000 -- the longest time that a lane which may send waits for its notes
local call = redis.call
local t = call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
local now_ms = math.floor(now * 1000)
local stamp, slowed = string.format('%.6f', now), string.format('%d', now_ms * 1000)
local till, entries_max, bytes_max, probe_s = now_ms + tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local breakers, rates = {}, {} -- by key, as they stand now
local fields = {} -- of a load, by level
local function breaker(key)
  if not breakers[key] then breakers[key] = call('HMGET', key, 'state', 'why', 'until', 'version', 'probe_until', 'window') end
  return breakers[key]
end
local function rate(key, limit, burst, ramp, level)
  local known = rates[key]
  if not known or known.level ~= level then
    known = rate_now(key, now, limit, burst, ramp, level)
    known.level, rates[key] = level, known
  end
  return known
end

-- which lanes have entries whose senders died: as a rule none
local dead = {}
for i = 5, #KEYS, 8 do dead[#dead + 1] = KEYS[i] end
dead = call('EXISTS', unpack(dead)) > 0

-- noted: as HMGET has it below
local function found_shut(LOAD, level, noted, why)
  if noted[4] ~= 'shut' then redis.pcall('HSET', LOAD, 'g' .. level, 'shut', 'why' .. level, why) end
end
-- nothing waits any more: who comes when the lane is open has met no outage
local function none_waits(LOAD, level, noted)
  if noted[4] == 'shut' then call('HDEL', LOAD, 'g' .. level) end
end
-- whoever goes must know of all that waited with it: true while some of what was here when the lane opened is not noted
local function to_be_noted(QUEUE, LOAD, level, noted)
  if noted[4] == 'shut' then
    noted[1], noted[4] = noted[1] or '0', string.format('%d', now_ms + NOTING_MS)
    local last = tonumber(call('ZRANGE', QUEUE, -1, -1, 'WITHSCORES')[2])
    if last > tonumber(noted[1]) then noted[1] = string.format('%d', last) end
    call('HDEL', LOAD, 'g' .. level) -- the first write frees
    call('HSET', LOAD, 'g' .. level, noted[4], 'n' .. level, noted[1])
  end
  local left_ms = tonumber(noted[4]) - now_ms
  return left_ms > 0 and left_ms <= NOTING_MS and #call('ZRANGEBYSCORE', QUEUE, 0, noted[1], 'LIMIT', 0, 1) > 0
end

-- whole entries until the leave, the pushes or the bytes are used up; what they cost of the rate
local function fitting(ids, avail, pushes_max, by_request, probe)
  local chosen, pushes, bytes, cost = {}, 0, 0, 0
  for i, id in ipairs(ids) do
    local n, m, size = string.match(id, '^[^;]*;%d;%d+;(%d+);(%d+);(%d+);')
    n, m, size = tonumber(n), tonumber(m), tonumber(size)
    if i > 1 and (pushes + n > pushes_max or bytes + size > bytes_max) then break end
    chosen[i] = id
    pushes, bytes, cost = pushes + n, bytes + size, cost + (by_request and m or n)
    if probe or cost >= avail then break end
  end
  return chosen, pushes, cost
end

local function take(QUEUE, BLOBS, LEASES, HOLDERS, TRIES, LOAD, STATE, RATE, word, pushes_max, version, limit, burst, ramp, by_request, level, gone)
  local most = math.min(entries_max, math.max(pushes_max, 1)) -- each has one push at least
  local ids = call('ZRANGE', QUEUE, 0, most - 1)
  if not fields[level] then fields[level] = {'n' .. level, 'why' .. level, 'r' .. level, 'g' .. level} end
  local noted = call('HMGET', LOAD, unpack(fields[level]))
  local function no(what, why, due)
    -- on a full server this mark is not worth an error
    if what == 'wait' then redis.pcall('HSET', LOAD, 'r' .. level, slowed) end
    return {what, now_ms, why, math.ceil(due * 1000), 0, '1', tonumber(noted[1] or '0'), noted[2] or '', tonumber(noted[3] or '0'), call('ZCARD', QUEUE), 1}
  end
  if #ids == 0 then
    none_waits(LOAD, level, noted)
    return no('empty', '', 0)
  end

  -- the breaker
  local probe, h = false, not gone and breaker(STATE) or {}
  if h[1] and h[1] ~= 'flowing' then
    local pause, trying = tonumber(h[3] or '0') - now, tonumber(h[5] or '0') - now
    if h[2] == 'credential_refused' and h[4] ~= version then -- another version of the credential has done nothing wrong yet
      pause = 0
      if h[1] == 'stopped' then trying = 0 end
    end
    local due = pause > 0 and pause <= PAUSE_MAX_S and pause or trying > 0 and trying <= probe_s + 0.001 and trying -- it was rounded
    if due then
      found_shut(LOAD, level, noted, h[2] or '')
      return no('shut', h[2] or '', now + due)
    end
    probe = true
  end
  -- calls never fold
  if noted[4] and not gone and level > 0 and to_be_noted(QUEUE, LOAD, level, noted) then return no('shut', noted[2] or '', now) end

  -- the rate
  local r
  if not gone then
    r = rate(RATE, limit, burst, ramp, level)
    if r.hold then return no('wait', 'throttled', r.hold) end
    if r.avail < 1 then
      if level > 1 and r.starved == 0 then redis.pcall('HSET', RATE, 's' .. level, stamp) end
      return no('wait', 'throttled', r.due)
    end
  end
  local avail = gone and math.huge or r.avail

  local chosen, pushes, cost = fitting(ids, avail, pushes_max, by_request, probe)
  local unnoted = probe and tonumber(call('ZSCORE', QUEUE, chosen[1])) >= 0
  call('ZREM', QUEUE, unpack(chosen))
  call('HINCRBY', LOAD, 'w', -pushes)
  local left, due = #ids < most and #ids - #chosen or call('ZCARD', QUEUE), now
  local adds, sets = {}, {}
  for i, id in ipairs(chosen) do
    adds[2 * i - 1], adds[2 * i] = till, id
    sets[2 * i - 1], sets[2 * i] = id, word
  end
  call('ZADD', LEASES, unpack(adds))
  call('HSET', HOLDERS, unpack(sets))
  local blobs, tries = call('HMGET', BLOBS, unpack(chosen)), dead and call('HMGET', TRIES, unpack(chosen)) or {}
  if probe then
    if h[2] == 'credential_refused' and h[4] ~= version then call('HSET', STATE, 'version', version) end
    call('HSET', STATE, 'state', 'probing', 'until', '0', 'probe_until', string.format('%.3f', now + probe_s))
    breakers[STATE] = nil
    if left > 0 then found_shut(LOAD, level, noted, h[2] or '') else none_waits(LOAD, level, noted) end
    if unnoted then noted[1] = '0' end
  end
  if not gone and level < 3 and not r.told then -- the less urgent leave room for these, which lease in a moment
    if level < 2 then call('HSET', RATE, 'p' .. level, stamp, 'w0', stamp) else call('HSET', RATE, 'p' .. level, stamp) end
    if r.fresh then call('EXPIRE', RATE, 172800) end
    r.told = true
  end
  if not gone and cost >= avail then -- the lane is at its rate: the next may ask a little before these have gone
    call('HSET', LOAD, 'r' .. level, slowed)
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
end

local taken = {}
for i, one in ipairs(cmsgpack.unpack(ARGV[5])) do
  local at = 8 * (i - 1)
  taken[i] = take(KEYS[at + 1], KEYS[at + 2], KEYS[at + 3], KEYS[at + 4], KEYS[at + 5], KEYS[at + 6], KEYS[at + 7], KEYS[at + 8], unpack(one))
end
return taken
