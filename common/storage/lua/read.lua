-- read: remembers what one person has read, or that they answered a call. The newer word wins, in whatever order the two come.
-- KEYS[1] push:read:{app:user}  hash: <conversation> -> read up to this ts, ms; m:<conversation>\0<message> -> time of the word, ms;
--                               c:<call> -> ts of the answer, ms; d:<device> -> since when its token is theirs no more, ms
-- ARGV    field, value (ms), seconds to keep, how many m: and c: fields the hash may hold
-- returns 1 when the field changed
-- why     reading and writing in two calls lets an older word overwrite a newer one; a person who never stops reading
--         keeps the hash alive, so it forgets the older half of its single words when there are too many
local old = redis.call('HGET', KEYS[1], ARGV[1])
local changed = 0
if not old or tonumber(old) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  changed = 1
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
local most = tonumber(ARGV[4])
if changed == 1 and redis.call('HLEN', KEYS[1]) > most then
  local all, singles = redis.call('HGETALL', KEYS[1]), {}
  for i = 1, #all, 2 do
    local kind = string.sub(all[i], 1, 2)
    if kind == 'm:' or kind == 'c:' then singles[#singles + 1] = {all[i], tonumber(all[i + 1])} end
  end
  if #singles > most / 2 then
    table.sort(singles, function(a, b) return a[2] < b[2] end)
    for i = 1, math.floor(#singles / 2) do redis.call('HDEL', KEYS[1], singles[i][1]) end
  end
end
return changed
