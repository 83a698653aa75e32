-- release: moves due entries of the delayed set (or of a lane's parking lot) to their belts, atomically.
-- KEYS[1]    push:delayed | push:parked:<lane>   zset: "<2 digits: belt index><8 random bytes><blob>" by due time, ms
-- KEYS[2..]  the belts, in the fixed order of common/storage/keys.py
-- ARGV       due time in ms ("+inf": all; "now": by this server's clock), most entries to move, "1": the last ones instead of the first
-- returns    per belt that got something: its index as text, the id of its last entry
-- why        read here and written there in two calls would lose or double what a killed worker was moving
local until_ms = ARGV[1]
if until_ms == 'now' then
  local time = redis.call('TIME')
  until_ms = time[1] * 1000 + math.floor(time[2] / 1000)
end
local due
if ARGV[3] == '1' then
  due = redis.call('ZREVRANGEBYSCORE', KEYS[1], until_ms, '-inf', 'LIMIT', 0, ARGV[2])
else
  due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', until_ms, 'LIMIT', 0, ARGV[2])
end
local went = {}
for _, member in ipairs(due) do
  local index = tonumber(string.sub(member, 1, 2))
  went[tostring(index)] = redis.call('XADD', KEYS[2 + index], '*', 'b', string.sub(member, 11))
  redis.call('ZREM', KEYS[1], member)
end
local out = {}
for index, id in pairs(went) do
  out[#out + 1] = index
  out[#out + 1] = id
end
return out
