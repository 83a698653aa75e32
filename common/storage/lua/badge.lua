-- badge: sets a device's base and starts its count of pushes again, each unless a newer word on it is known.
-- KEYS[1] push:badge:{app:user}  hash: <device>:b base, <device>:s time of its word; <device>:n pushes since, <device>:t time of its word;
--                                the device "" holds the last words on all devices: they count for those without a word of their own
-- ARGV    device ("" = every device), ts_ms, base (-1: leave it), seconds to keep
-- returns number of devices changed
-- why     two replicas may read the two events in either order: the newer ts must win, field by field; who came back to the front
--         says nothing of the base, so an older base that is read later still holds
local ts, base = tonumber(ARGV[2]), tonumber(ARGV[3])
local devices, seen = {ARGV[1]}, {[ARGV[1]] = true}
if ARGV[1] == '' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local device = string.sub(field, 1, -3)
    if not seen[device] then seen[device] = true; devices[#devices + 1] = device end
  end
end
-- is this the newest word on such a field (:t, :s) of the device?
local function newest(device, field)
  local told = redis.call('HMGET', KEYS[1], device .. field, field)
  return ts >= tonumber(told[1] or '0') and ts >= tonumber(told[2] or '0')
end
local changed = 0
for _, device in ipairs(devices) do
  local count, unread = newest(device, ':t'), base >= 0 and newest(device, ':s')
  if count then redis.call('HSET', KEYS[1], device .. ':t', ARGV[2], device .. ':n', '0') end
  if unread then redis.call('HSET', KEYS[1], device .. ':s', ARGV[2], device .. ':b', ARGV[3]) end
  if count or unread then changed = changed + 1 end
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return changed
