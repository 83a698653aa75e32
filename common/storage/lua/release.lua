-- release: moves due entries of the delayed set (or of a lane's parking lot) to their belts, atomically.
-- KEYS[1]    push:delayed | push:parked:<lane>   zset: "<2 digits: belt index><8 random bytes><blob>" by due time, ms
-- KEYS[2..]  the belts, in the fixed order of common/storage/keys.py
-- ARGV       due time in ms ("+inf": all), most entries to move
-- returns    {entries moved, the belt indexes they went to, as text}
-- why        read here and written there in two calls would lose or double what a killed worker was moving
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
local went = {}
for _, member in ipairs(due) do
  local index = tonumber(string.sub(member, 1, 2))
  redis.call('XADD', KEYS[2 + index], '*', 'b', string.sub(member, 11))
  redis.call('ZREM', KEYS[1], member)
  went[tostring(index)] = true
end
local names = {}
for index in pairs(went) do names[#names + 1] = index end
return {#due, names}
