-- badge: sets a device's base and starts its count of pushes again, unless a newer word is known.
-- KEYS[1] push:badge:{app:user}  hash: <device>:b base, <device>:n pushes since, <device>:t time of the last word;
--                                the device "" holds the last word on all devices: it counts for those without a word of their own
-- ARGV    device ("" = every device), ts_ms, base (-1: leave it), seconds to keep
-- returns number of devices changed
-- why     two replicas may read the two events in either order: the newer ts must win, field by field
local ts, base = tonumber(ARGV[2]), tonumber(ARGV[3])
local devices, seen = {ARGV[1]}, {[ARGV[1]] = true}
if ARGV[1] == '' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local device = string.sub(field, 1, -3)
    if not seen[device] then seen[device] = true; devices[#devices + 1] = device end
  end
end
local for_all = tonumber(redis.call('HGET', KEYS[1], ':t') or '0')
local changed = 0
for _, device in ipairs(devices) do
  local own = tonumber(redis.call('HGET', KEYS[1], device .. ':t') or '0')
  if ts >= own and ts >= for_all then
    redis.call('HSET', KEYS[1], device .. ':t', ARGV[2], device .. ':n', '0')
    if base >= 0 then redis.call('HSET', KEYS[1], device .. ':b', ARGV[3]) end
    changed = changed + 1
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return changed
