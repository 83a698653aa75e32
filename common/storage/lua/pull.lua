-- pull: moves chosen entries of a waiting set to their belts before they are due.
-- KEYS[1]    push:delayed | push:parked:<lane>   zset, members as in release.lua
-- KEYS[2..]  the belts, in the fixed order of common/storage/keys.py
-- ARGV       the members
-- returns    the belt indexes that got something, as text
-- why        what another process moved in between must not be added again
local went = {}
for _, member in ipairs(ARGV) do
  if redis.call('ZREM', KEYS[1], member) == 1 then
    local index = tonumber(string.sub(member, 1, 2))
    redis.call('XADD', KEYS[2 + index], '*', 'b', string.sub(member, 11))
    went[tostring(index)] = true
  end
end
local names = {}
for index in pairs(went) do names[#names + 1] = index end
return names
