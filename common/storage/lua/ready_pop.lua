-- ready_pop: takes the lanes of one vendor that may send now out of its ready sets.
-- KEYS[1..4] push:ready:<vendor>:<urgency>  zset: lane -> when it may send next, ms (0: at once); call, chat, group, bulk
-- KEYS[5]    push:popped:<vendor>           zset: lane -> until when its taker must have been heard of, ms
-- ARGV       1 ms a taker may be silent, 2-5 most lanes of each urgency, then "<urgency number>|<lane>" that the caller works on already
-- returns    {now in ms, when the next lane is due or -1, then per lane: urgency number, lane}
-- why        a taker that dies between this call and the next has its lanes looked after when `popped` is due: none is forgotten;
--            who was served longest ago is first, as its time is the oldest
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local busy, taken = {}, 0
for i = 6, #ARGV do busy[ARGV[i]] = true; taken = taken + 1 end
local out, next_due = {now, -1}, nil
for u = 0, 3 do
  local most = tonumber(ARGV[u + 2])
  local due = redis.call('ZRANGE', KEYS[u + 1], 0, most + taken, 'WITHSCORES')
  local got = 0
  for i = 1, #due, 2 do
    if not busy[u .. '|' .. due[i]] then
      local score = tonumber(due[i + 1])
      if score <= now and got < most then
        redis.call('ZREM', KEYS[u + 1], due[i])
        redis.call('ZADD', KEYS[5], now + tonumber(ARGV[1]), due[i])
        out[#out + 1] = u
        out[#out + 1] = due[i]
        got = got + 1
      else
        if not next_due or score < next_due then next_due = score end
        break
      end
    end
  end
end
if next_due then out[2] = math.floor(next_due) end
return out
