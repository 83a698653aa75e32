-- ready_pop: takes the lanes of one vendor that may send now out of the ready sets of some shards.
-- KEYS       six per shard, those that are served first in front:
--            [1..4] push:ready:<vendor>:<urgency>  zset: lane -> when it may send next, ms (0: at once); call, chat, group, bulk
--            [5]    push:popped:<vendor>           zset: lane -> until when its taker must have been heard of, ms
--            [6]    push:                          prefix + {<lane>}:load, see lane_take.lua
-- ARGV       1 ms a taker may be silent, 2-5 most lanes of each urgency, 6 pushes that there is room for, 7 those of them that may be groups
--            or bulk, 8 most that one lane counts for, 9 most that one lane may have, 10 urgency number of the sets to be read first, then
--            "<urgency number>|<lane>" that the caller works on already
-- returns    {now in ms (0 where no lane waits), when the next lane is due or -1, then per lane: urgency number, lane, pushes that wait (of
--            the only lane that waits a large number), number of the shard from 0 on}
-- why        a taker that dies between this call and the next has its lanes looked after when `popped` is due: none is forgotten;
--            it is not put off by the next taker, or what a dead one holds of a busy lane would never come back; it changes by 1 ms, so that
--            lane_looked.lua sees that somebody took the lane meanwhile; who was served longest ago is first, as its time is the oldest;
--            no more lanes than there is room for what they hold: each costs the same for one push and for all it has; a lane in several
--            shards is one lane: what it may have comes from as few shards as hold it, in whole entries
local call, shards = redis.call, #KEYS / 6
local names = {}
for i = 1, #KEYS do if (i - 1) % 6 < 4 then names[#names + 1] = KEYS[i] end end
local sets = call('EXISTS', unpack(names))
if sets == 0 then return {0, -1} end -- asked dozens of times a second
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local room, rest, most_each, lane_most = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local busy, taken = {}, 0
for i = 11, #ARGV do busy[ARGV[i]] = true; taken = taken + 1 end
local function first(s, u, most) -- who comes anew is behind those that were there: else a lane with old work starves while others get new work
  local key = KEYS[6 * s + u + 1]
  local due = call('ZRANGE', key, 0, most + taken, 'WITHSCORES')
  if due[2] ~= '0' or #due == 2 then return due end -- there is none that a single one could be put before
  local fresh, adds = call('ZRANGEBYSCORE', key, 0, 0, 'LIMIT', 0, 1000), {}
  for _, lane in ipairs(fresh) do
    adds[#adds + 1] = now
    adds[#adds + 1] = lane
  end
  call('ZREM', KEYS[6 * s + 5], '') -- the first write frees: a full server judges a script by it
  call('ZADD', key, unpack(adds))
  return call('ZRANGE', key, 0, most + taken, 'WITHSCORES')
end

-- what waits, by urgency and shard; behind the last set that is there nothing is asked
local hint, order, dues = tonumber(ARGV[10]), {}, {[0] = {}, {}, {}, {}}
order[1] = hint
for u = 0, 3 do if u ~= hint then order[#order + 1] = u end end
local alone, left = false, sets
for _, u in ipairs(order) do
  for s = 0, shards - 1 do
    local due = left > 0 and first(s, u, tonumber(ARGV[u + 2])) or {}
    if #due > 0 then
      dues[u][s], left = due, left - 1
      alone = sets == 1 and #due == 2
    end
  end
end
if shards > 1 then -- what one lane may have, as others are due
  local each, lanes = {}, 0
  for u = 0, 3 do
    for _, due in pairs(dues[u]) do
      for i = 1, #due, 2 do
        if tonumber(due[i + 1]) <= now and not each[due[i]] then each[due[i]] = true; lanes = lanes + 1 end
      end
    end
  end
  lane_most = math.min(lane_most, math.max(most_each, room / math.max(lanes, 1)))
end

local found, popped, next_due, counted = {[0] = {}, {}, {}, {}}, {}, nil, {}
local MANY = 1000000000
local function waits(s, lane)
  if alone then return MANY end -- one lane alone has all the room
  return math.max(tonumber(call('HGET', KEYS[6 * s + 6] .. '{' .. lane .. '}:load', 'w') or '0'), 1)
end
local function pop(s, u, lane, waiting)
  call('ZREM', KEYS[6 * s + u + 1], lane)
  popped[s] = popped[s] or {}
  popped[s][#popped[s] + 1] = lane
  found[u][#found[u] + 1] = {lane, waiting, s}
  local name = u .. '|' .. lane
  local before = counted[name] or 0
  counted[name] = before + waiting
  local more = math.min(counted[name], most_each) - math.min(before, most_each)
  room = room - more
  if u > 1 then rest = rest - more end
end
for u = 0, 3 do
  local most, got = tonumber(ARGV[u + 2]), 0
  for s = 0, shards - 1 do
    local due = dues[u][s] or {}
    for i = 1, #due, 2 do
      local lane, score = due[i], tonumber(due[i + 1])
      local name = u .. '|' .. lane
      if not busy[name] then
        local over = score > now or got >= most or room <= 0 or (u > 1 and rest <= 0)
        local waiting = not over and waits(s, lane)
        -- a part of a shard's entries would be cut out of one of them
        local whole = not over and counted[name] and counted[name] + waiting > lane_most
        if over or whole then
          if not next_due or score < next_due then next_due = score end
          if over then break end
        else
          for v = 0, u - 1 do -- what is more urgent and waits for the same lane goes with it, and first
            if dues[v][s] and not busy[v .. '|' .. lane] and call('ZSCORE', KEYS[6 * s + v + 1], lane) then pop(s, v, lane, waiting) end
          end
          pop(s, u, lane, waiting)
          got = got + 1
        end
      end
    end
  end
end
local till = now + tonumber(ARGV[1])
for s, lanes in pairs(popped) do
  local one = #lanes == 1 and call('ZADD', KEYS[6 * s + 5], 'XX', 'INCR', -1, lanes[1]) -- as below, mostly in one command
  for at = 1, (one and tonumber(one) <= till) and 0 or #lanes, 1000 do
    local adds = {}
    local known = call('ZMSCORE', KEYS[6 * s + 5], unpack(lanes, at, math.min(at + 999, #lanes)))
    for i, since in ipairs(known) do
      adds[#adds + 1] = since and math.min(since - 1, till) or till
      adds[#adds + 1] = lanes[at + i - 1]
    end
    call('ZADD', KEYS[6 * s + 5], unpack(adds))
  end
end
local out = {now, next_due and math.floor(next_due) or -1}
for u = 0, 3 do
  for _, one in ipairs(found[u]) do
    out[#out + 1] = u
    out[#out + 1] = one[1]
    out[#out + 1] = one[2]
    out[#out + 1] = one[3]
  end
end
return out
