-- rate_now: functions that lane_take and rate_lease share: what a lane's rate allows at this moment.
-- The hash push:rate:<lane> has t theoretical arrival time of the last token (GCRA), r, ra, h, ha, l, b: see admit.lua; w0 when calls or chats
-- last asked, p0 to p2 when calls, chats and groups were taken from their queues that have not leased yet (0: none), s2 and s3 since when groups
-- and bulk have got nothing.
-- A lease reaches one second ahead at most: a crash wastes no more. Where calls and chats ask, the others' leases are shorter, so that those
-- never wait for a second of them; who has starved for STARVED_S gets one all the same.
local HORIZON_S, YIELD_S, STARVED_S, URGENT_S, LEAD_S, PENDING_S, PASSED_S = 1, {[2] = 0.3, [3] = 0.2}, 5, 5, 0.2, 2, 0.5

-- {rate, lim: how much earlier than its time a token may be used, start: time of the next token, avail: how many may be leased, hold: until
-- when nothing may be sent, or nil, due: when to ask again, fresh: the hash is new, news: fields to be written}
local function rate_now(key, now, limit, burst, ramp, level)
  local r = redis.call('HMGET', key, 't', 'r', 'ra', 'h', 'ha', 'l', 'b', 'w0', 's' .. level, 'p0', 'p1', 'p2')
  local tat, slow, since, hold, held_at = tonumber(r[1] or '0'), tonumber(r[2]), tonumber(r[3] or '0'), tonumber(r[4] or '0'), tonumber(r[5] or '0')
  local last, began, wanted, starved = tonumber(r[6] or '0'), tonumber(r[7] or '0'), tonumber(r[8] or '0'), tonumber(r[9] or '0')
  local news, rate = {}, limit
  if slow then
    if now < since then since = now; news.ra = since end -- the clock stepped back: the climb begins again
    rate = math.min(limit, slow + 0.1 * limit * math.floor((now - since) / 10))
  end
  if ramp > 0 then
    if now - last >= ramp or now < began then began = now; news.b = began end
    rate = math.min(rate, limit * math.min(1, (math.floor(now - began) + 1) / ramp))
  end
  rate = math.max(rate, math.min(1, limit))
  if now < held_at then hold = now + (hold - held_at) end -- the clock stepped back
  local lim, most = math.max(1, burst * rate / limit) / rate, HORIZON_S
  if level > 1 and now >= wanted and now - wanted < URGENT_S then
    most = YIELD_S[level]
    if starved > 0 and math.abs(now - starved) > STARVED_S then most = HORIZON_S + most end
  end
  if tat > now + lim + HORIZON_S + 1 then tat = now + lim end -- longer than ever set: the clock stepped back
  local start = math.max(now, tat)
  local avail = math.floor((now + lim + most - start) * rate + 1e-6)
  if start + 1 / rate <= now + lim + 1e-6 then avail = math.max(avail, 1) end -- less than one a second
  local due = math.max(now + 0.001, math.max(start - lim - LEAD_S, start + 1 / rate - lim - most))
  -- the more urgent are about to lease: whoever leased before them would keep them waiting
  local passed = starved > 0 and math.abs(now - starved) > PASSED_S -- not for ever: they may come one after the other
  for above = 0, level - 1 do
    if math.abs(now - tonumber(r[10 + above] or '0')) < PENDING_S and not passed then avail, due = 0, math.max(due, now + 0.05) end
  end
  return {rate = rate, lim = lim, start = start, avail = avail, hold = now < hold and hold or nil, due = due, fresh = not r[1], news = news, starved = starved}
end
