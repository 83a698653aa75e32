-- admit: leave to send for a batch of one lane: rate (GCRA), the day's quota of each bucket, caps per device. All or nothing per push.
-- KEYS[1] push:rate:<lane>      hash: t theoretical arrival time, r rate after a throttle, ra since when, h hold until, ha since when,
--                               l last grant, b begin of the ramp (all in seconds of the server's clock); per level of urgency 0 to 2
--                               w<n> what it was refused lately (cost), u<n> until when that counts, s<n> since when it
--                               has waited without a grant (0: it does not)
-- KEYS[2] push:quota:<lane>:    prefix, the script appends the day of the vendor's calendar: hash: <bucket> used, <bucket>:<class number>
--                               used by that class, <bucket>:limit and <bucket>:spent as the vendor told them; 3 days
-- KEYS[3] push:cap:             prefix + day + ":" + 4 hex: hash: <bucket's letter><digest of lane and device token> -> pushes of that
--                               day; until the day is over everywhere
-- KEYS[4] push:held:            prefix + day + ":" + 4 hex: hash: <push id mixed with the lane> -> bucket number * 100 + class number; 2 days
-- KEYS[5] push:counted:<lane>   string: the buckets that are counted; missing or another: the counts are not to be trusted
-- KEYS[6] push:inflight:<lane>  hash: <round> -> "<pushes>|<until>"
-- ARGV    1 seconds east of UTC, 2 rate per s, 3 burst (< 0: leased already), 4 ramp in s, 5 buckets to be counted ("": none), 6-7 quota and 8-9 whether the
--         vendor's word on the limit wins, 10-11 cap per device (private, public; -1: none), 12 reserve "<bucket number>:<class
--         number>:<share>,…", 13 round, 14 seconds a round may take, 15 n, 16 the pushes packed as STRUCT says: 4 hex and field of its
--         reservation, cost, request (pushes of one request pay once), bucket number, class number, level of urgency (0 calls and
--         chats, 1 groups, 2 bulk), 4 hex and field of its device; 17 in tests only, the time
-- returns {1, now in ms, rate now in thousandths, per push: 0 granted, > 0 ask again in so many ms, -1 quota spent, -2 device cap}
--         or {0, now in ms}: rebuild the counts first
-- why     two calls would let the first be paid when the second refuses. What quota or cap refuse pays no rate and blocks nobody; the
--         rate is given from the front. An id that was granted and not refunded is granted again without quota or cap, as it is the
--         same push; it pays the rate, because it is one more request on the vendor's side
--         who waits for the rate comes back within tenths of a second, and meanwhile a campaign would have taken every grant: so the
--         less urgent leave as much of the burst free as the more urgent were refused lately, groups a half and bulk three quarters
--         of it at most. They take all of it when nobody more urgent waits, and once when they have waited for STARVED_S in vain
local HELD_S, DAY_S, CAP_S, RATE_S, WAIT_MAX_MS, BYTES = 2 * 86400, 3 * 86400, 2 * 86400, 2 * 86400, 10000, 47
local STRUCT = '<c4c14di4BBBc4c10'
local GRACE_S, STARVED_S, YIELD_MAX = 1, 5, {[0] = 0, [1] = 0.5, [2] = 0.75}
local BUCKETS, LETTERS = {[0] = 'private', [1] = 'public'}, {[0] = 'a', [1] = 'b'}
local n = tonumber(ARGV[15])
if n > 0 then redis.call('DEL', KEYS[3]) end -- no key but a prefix; a delete first: a server without free memory refuses a script that begins by adding
local now = tonumber(ARGV[17])
if not now then
  local t = redis.call('TIME')
  now = tonumber(t[1]) + tonumber(t[2]) / 1e6
end
local now_ms = math.floor(now * 1000)
local offset, limit, burst, ramp = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local leased = burst < 0 -- the rate was leased by rate_lease.lua: only quotas and caps are asked
if n > 0 and ARGV[5] ~= '' and redis.call('GET', KEYS[5]) ~= ARGV[5] then return {0, now_ms} end

-- the rate now: halved by the vendor's flow control, climbing back; and rising after a silence
local h = redis.call('HMGET', KEYS[1], 't', 'r', 'ra', 'h', 'ha', 'l', 'b')
local tat, slow, since, hold, held_at = tonumber(h[1] or '0'), tonumber(h[2]), tonumber(h[3] or '0'), tonumber(h[4] or '0'), tonumber(h[5] or '0')
local last, began = tonumber(h[6] or '0'), tonumber(h[7] or '0')
local news = {}
local function note(field, value)
  news[#news + 1] = field
  news[#news + 1] = string.format('%.6f', value)
end
local rate = limit
if slow then
  if now < since then since = now; note('ra', since) end -- the clock stepped back: the climb begins again
  rate = math.min(limit, slow + 0.1 * limit * math.floor((now - since) / 10))
end
if ramp > 0 then
  if now - last >= ramp or now < began then began = now; note('b', began) end
  rate = math.min(rate, limit * math.min(1, (math.floor(now - began) + 1) / ramp))
end
rate = math.max(rate, math.min(1, limit))
if now < held_at then hold = now + (hold - held_at); note('h', hold); note('ha', now) end
if n == 0 then return {1, now_ms, now < hold and 0 or math.floor(rate * 1000 + 0.5)} end
if leased then tat, hold = 0, 0 end
local lim = math.max(1, burst * rate / limit) / rate
-- A grant never leaves the arrival time beyond now + lim, so if it is there, the clock stepped back: clamp, and keep the clamp even if
-- this call grants nothing, or the lane stays shut for the length of the step. 1e-6: doubles near 1.8e9 resolve 2.4e-7.
if tat > now + lim + 1e-6 then tat = now + lim; note('t', tat) end

-- who steps aside for whom: room[level] is how far ahead of now its grants may reach
local w = redis.call('HMGET', KEYS[1], 'w0', 'u0', 'w1', 'u1', 's1', 's2')
local function wanted(cost, till)
  local left = tonumber(till or '0') - now -- longer than ever set: the clock stepped back
  return left > 0 and left <= WAIT_MAX_MS / 1000 + GRACE_S and tonumber(cost) or 0
end
local want = {[0] = wanted(w[1], w[2]), [1] = wanted(w[3], w[4])}
local starves = {tonumber(w[5] or '0'), tonumber(w[6] or '0')}
local function room_of(level, above)
  if starves[level] > 0 and math.abs(now - starves[level]) > STARVED_S then return lim end
  return lim - math.min(above / rate, YIELD_MAX[level] * lim)
end
local room = {[0] = lim, [1] = room_of(1, want[0]), [2] = room_of(2, want[0] + want[1])}

-- the day's counts
local day = math.floor((now + offset) / 86400)
local today = string.format('%d', day)
local before = string.format('%d', day - 1)
local counts, added = {}, {}
local flat = redis.call('HGETALL', KEYS[2] .. today)
for i = 1, #flat, 2 do counts[flat[i]] = tonumber(flat[i + 1]) end
local function count(field) return (counts[field] or 0) + (added[field] or 0) end
local function add(field) added[field] = (added[field] or 0) + 1 end
local quota, wins, cap = {[0] = tonumber(ARGV[6]), tonumber(ARGV[7])}, {[0] = ARGV[8] == '1', ARGV[9] == '1'}, {[0] = tonumber(ARGV[10]), tonumber(ARGV[11])}
local reserve = {}
for b, class, share in string.gmatch(ARGV[12], '(%d+):(%d+):([%d.]+)') do reserve[#reserve + 1] = {tonumber(b), class, tonumber(share)} end
for b = 0, 1 do
  local told = counts[BUCKETS[b] .. ':limit']
  if told and quota[b] >= 0 and (wins[b] or told < quota[b]) then quota[b] = told end
end

local function has_room(b, class)
  local name = BUCKETS[b]
  if counts[name .. ':spent'] then return false end
  if quota[b] < 0 then return true end
  local kept = 0 -- what is left of the shares of other classes
  for _, one in ipairs(reserve) do
    if one[1] == b and one[2] ~= class then
      kept = kept + math.max(0, math.floor(one[3] * quota[b] + 0.5) - count(name .. ':' .. one[2]))
    end
  end
  return count(name) + 1 <= quota[b] - kept
end

-- counted from now on: sums of small steps onto 1.8e9 would lose a push in a thousand
local ahead = math.max(0, tat - now)
-- dry: the level from which on everybody waits. behind: of each level, what waits before the next of it
local dry, granted, paid, waiting = now < hold and 0 or 3, 0, {}, {}
local behind, got, refused, longest = {[0] = 0, 0, 0}, {[0] = 0, 0, 0}, {[0] = 0, 0, 0}, {[0] = 0, 0, 0}
local out = {1, now_ms, math.floor(rate * 1000 + 0.5)}
for i = 1, n do
  local place, id, cost, request, b, class, level, area, digest = struct.unpack(STRUCT, ARGV[16], (i - 1) * BYTES + 1)
  class = tostring(class)
  local counted = quota[b] >= 0 or cap[b] >= 0
  local again = counted and (redis.call('HEXISTS', KEYS[4] .. today .. ':' .. place, id) == 1 or redis.call('HEXISTS', KEYS[4] .. before .. ':' .. place, id) == 1)
  local caps, device = KEYS[3] .. today .. ':' .. area, LETTERS[b] .. digest
  local verdict = 0
  if not again and not has_room(b, class) then
    verdict = -1
  elseif not again and cap[b] >= 0 and tonumber(redis.call('HGET', caps, device) or '0') >= cap[b] then
    verdict = -2
  else
    local step = paid[request] and 0 or cost / rate
    if level < dry and step > 0 and ahead + step > room[level] + 1e-6 then dry = level end
    if level >= dry then
      if waiting[request] then step = 0 end
      waiting[request] = true
      for other = level, 2 do behind[other] = behind[other] + step end
      local wait = math.max(math.max(ahead, hold - now) + behind[level] - room[level], hold - now)
      verdict = math.min(WAIT_MAX_MS + math.max(0, math.ceil((hold - now) * 1000)), math.max(1, math.ceil(wait * 1000)))
      refused[level] = refused[level] + step * rate
      longest[level] = math.max(longest[level], verdict)
    else
      paid[request] = true
      ahead = ahead + step
      got[level] = got[level] + step * rate
      granted = granted + 1
      if not again then
        add(BUCKETS[b])
        add(BUCKETS[b] .. ':' .. class)
        if counted then
          redis.call('HSET', KEYS[4] .. today .. ':' .. place, id, b * 100 + tonumber(class))
          redis.call('EXPIRE', KEYS[4] .. today .. ':' .. place, HELD_S)
        end
        if cap[b] >= 0 then
          redis.call('HINCRBY', caps, device, 1)
          redis.call('EXPIRE', caps, CAP_S)
        end
      end
    end
  end
  out[3 + i] = verdict
end

for level = 0, 1 do -- the largest refusal, less what was granted since: who asks again is not counted again
  local left = math.max(want[level] - got[level], now < hold and 0 or refused[level])
  if left ~= want[level] then note('w' .. level, left) end
  if refused[level] > 0 and now >= hold then note('u' .. level, now + longest[level] / 1000 + GRACE_S) end
end
for level = 1, 2 do
  if got[level] > 0 then
    if starves[level] > 0 then note('s' .. level, 0) end
  elseif refused[level] > 0 and starves[level] == 0 then
    note('s' .. level, now)
  end
end
if granted > 0 and not leased then
  note('t', now + ahead)
  note('l', now)
  redis.call('HSET', KEYS[6], ARGV[13], string.format('%d|%.3f', granted, now + tonumber(ARGV[14])))
  redis.call('EXPIRE', KEYS[6], math.max(60, 2 * tonumber(ARGV[14])))
end
if #news > 0 and not leased then
  redis.call('HSET', KEYS[1], unpack(news))
  redis.call('EXPIRE', KEYS[1], RATE_S)
end
if next(added) then
  for field, more in pairs(added) do redis.call('HINCRBY', KEYS[2] .. today, field, more) end
  redis.call('EXPIRE', KEYS[2] .. today, DAY_S)
end
return out
