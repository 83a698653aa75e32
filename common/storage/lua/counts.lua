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

-- takes the step off again; false where there is no such count
local function count_less(hashes, field, step)
  local left = count_of(hashes, field) - step
  if left < 0 then return false end
  if left > 0 then
    count_is(hashes, field, left)
  else
    for place = 1, 3 do redis.call('HDEL', hashes[place], field) end
  end
  return true
end
