-- ready_pop: takes the lanes of one vendor that may send now out of its ready sets.
-- KEYS[1..4] push:ready:<vendor>:<urgency>  zset: lane -> when it may send next, ms (0: at once); call, chat, group, bulk
-- KEYS[5]    push:popped:<vendor>           zset: lane -> until when its taker must have been heard of, ms
-- KEYS[6]    push:                          prefix + {<lane>}:load, see lane_take.lua
-- ARGV       1 ms a taker may be silent, 2-5 most lanes of each urgency, 6 pushes that there is room for, 7 those of them that may be groups
--            or bulk, 8 most that one lane counts for, 9 urgency number of the set to be read first where only one is there, then
--            "<urgency number>|<lane>" that the caller works on already
-- returns    {now in ms (0 where no lane waits), when the next lane is due or -1, then per lane: urgency number, lane, pushes that wait (of
--            the only lane that waits a large number)}
-- why        a taker that dies between this call and the next has its lanes looked after when `popped` is due: none is forgotten;
--            it is not put off by the next taker, or what a dead one holds of a busy lane would never come back; it changes by 1 ms, so that
--            lane_looked.lua sees that somebody took the lane meanwhile; who was served longest ago is first, as its time is the oldest;
--            no more lanes than there is room for what they hold: each costs the same for one push and for all it has
local sets = redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
if sets == 0 then return {0, -1} end -- asked dozens of times a second
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local room, rest, most_each = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local busy, taken = {}, 0
for i = 10, #ARGV do busy[ARGV[i]] = true; taken = taken + 1 end
local found, popped, next_due, waits = {[0] = {}, {}, {}, {}}, {}, nil, {}
local MANY, one_set, alone = 1000000000, sets == 1, false
local function pop(u, lane)
  redis.call('ZREM', KEYS[u + 1], lane)
  popped[#popped + 1] = lane
  local waiting = MANY -- of one lane alone, which has all the room
  if not alone then
    waiting = math.max(tonumber(redis.call('HGET', KEYS[6] .. '{' .. lane .. '}:load', 'w') or '0'), 1)
  end
  found[u][#found[u] + 1] = {lane, waiting}
  room = room - math.min(waiting, most_each)
  if u > 1 then rest = rest - math.min(waiting, most_each) end
end
local function first(u, most) -- who comes anew is behind those that were there: else a lane with old work starves while others get new work
  local due = redis.call('ZRANGE', KEYS[u + 1], 0, most + taken, 'WITHSCORES')
  if due[2] ~= '0' or #due == 2 then return due end -- there is none that a single one could be put before
  local fresh, adds = redis.call('ZRANGEBYSCORE', KEYS[u + 1], 0, 0, 'LIMIT', 0, 1000), {}
  for _, lane in ipairs(fresh) do
    adds[#adds + 1] = now
    adds[#adds + 1] = lane
  end
  redis.call('ZREM', KEYS[5], '') -- the first write frees: a full server judges a script by it
  redis.call('ZADD', KEYS[u + 1], unpack(adds))
  return redis.call('ZRANGE', KEYS[u + 1], 0, most + taken, 'WITHSCORES')
end
local order = {0, 1, 2, 3} -- the most urgent first, as those go before all others
if one_set then
  local hint = tonumber(ARGV[9])
  table.remove(order, hint + 1)
  table.insert(order, 1, hint)
end
for _, u in ipairs(order) do
  local most = tonumber(ARGV[u + 2])
  local due = sets > 0 and first(u, most) or {} -- behind the last set that is there nothing is asked
  waits[u] = #due > 0
  if waits[u] then sets = sets - 1 end
  alone = one_set and #due == 2
  local got = 0
  for i = 1, #due, 2 do
    local lane, score = due[i], tonumber(due[i + 1])
    if not busy[u .. '|' .. lane] then
      if score > now or got >= most or room <= 0 or (u > 1 and rest <= 0) then
        if not next_due or score < next_due then next_due = score end
        break
      end
      for v = 0, u - 1 do -- what is more urgent and waits for the same lane goes with it, and first
        if waits[v] and not busy[v .. '|' .. lane] and redis.call('ZSCORE', KEYS[v + 1], lane) then pop(v, lane) end
      end
      pop(u, lane)
      got = got + 1
    end
  end
end
for at = 1, #popped, 1000 do
  local till, adds = now + tonumber(ARGV[1]), {}
  local known = redis.call('ZMSCORE', KEYS[5], unpack(popped, at, math.min(at + 999, #popped)))
  for i, since in ipairs(known) do
    adds[#adds + 1] = since and math.min(since - 1, till) or till
    adds[#adds + 1] = popped[at + i - 1]
  end
  redis.call('ZADD', KEYS[5], unpack(adds))
end
local out = {now, next_due and math.floor(next_due) or -1}
for u = 0, 3 do
  for _, one in ipairs(found[u]) do
    out[#out + 1] = u
    out[#out + 1] = one[1]
    out[#out + 1] = one[2]
  end
end
return out
