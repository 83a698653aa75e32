-- read: remembers what one person has read, or that they answered a call. The newer word wins, in whatever order the two come.
-- KEYS[1] push:read:{app:user}  hash: <conversation> -> read up to this ts, ms; m:<conversation>\0<message> -> time of the word, ms;
--                               c:<call> -> ts of the answer, ms; d:<device> -> since when its token is theirs no more, ms
-- ARGV    field, value (ms), seconds to keep, how many fields the hash may hold
-- returns 1 when the field changed
-- why     reading and writing in two calls lets an older word overwrite a newer one; a person who never stops reading
--         keeps the hash alive, so it forgets the older half of its single words when there are too many fields, else of
--         all its words: what it costs does not grow with the conversations that a person ever had
local old = redis.call('HGET', KEYS[1], ARGV[1])
local changed = 0
if not old or tonumber(old) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  changed = 1
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
local most = tonumber(ARGV[4])
if changed == 1 and redis.call('HLEN', KEYS[1]) > most then
  local all, singles, every = redis.call('HGETALL', KEYS[1]), {}, {}
  for i = 1, #all, 2 do
    local kind, one = string.sub(all[i], 1, 2), {all[i], tonumber(all[i + 1])}
    if kind ~= 'd:' then every[#every + 1] = one end
    if kind == 'm:' or kind == 'c:' then singles[#singles + 1] = one end
  end
  local least = #singles > most / 2 and singles or every
  table.sort(least, function(a, b) return a[2] < b[2] end)
  for i = 1, math.max(math.floor(#least / 2), #every - most) do
    if least[i] then redis.call('HDEL', KEYS[1], least[i][1]) end
  end
end
return changed
