-- counts: what scripts that count single pushes share (counting.py): the counts of devices of which no word is known.
-- hashes  keys of one bucket: push:{s0}:counts:<period>:<bucket> of now, of one and two periods ago, and the one to be dropped
-- field   <app>:<user>\0<device>
local COUNTS_KEEP_S = 90 * 86400

-- key: push:badge:{app:user}
local function field_of(key, device) return string.match(key, ':badge:{(.*)}$') .. '\0' .. device end

local function count_of(hashes, field)
  for place = 1, 3 do
    local found = redis.call('HGET', hashes[place], field)
    if found then return tonumber(found) end
  end
  return 0
end

local function count_is(hashes, field, count)
  redis.call('HSET', hashes[1], field, count)
  if redis.call('TTL', hashes[1]) < 0 then
    redis.call('EXPIRE', hashes[1], COUNTS_KEEP_S)
    redis.call('UNLINK', hashes[4])
  end
end

-- takes the step off again; false where there is no such count. older: by name of a bucket's first hash, whether it has older ones
local function count_less(hashes, field, step, older)
  local left = count_of(hashes, field) - step
  if left < 0 then return false end
  local first = hashes[1]
  if older[first] == nil then older[first] = redis.call('EXISTS', hashes[2], hashes[3]) > 0 end
  if left > 0 or older[first] then -- a count of before must not come back
    count_is(hashes, field, left)
  else
    redis.call('HDEL', first, field)
  end
  return true
end
