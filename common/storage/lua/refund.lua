-- refund: ends a round of a lane and gives back what was taken for pushes that the vendor definitely did not take.
-- KEYS[1] push:quota:<lane>:    prefix + day, see admit.lua
-- KEYS[2] push:cap:             prefix + day + ":" + 4 hex
-- KEYS[3] push:held:            prefix + day + ":" + 4 hex
-- KEYS[4] push:inflight:<lane>  hash: <round> -> "<pushes>|<until>"
-- ARGV    1 seconds east of UTC, 2 round, 3-4 "1": this bucket (private, public) is counted exactly, 5 n, 6 the pushes packed as
--         STRUCT says: 4 hex and field of its reservation, bucket number, 4 hex and field of its device; 7 in tests only, the time
-- returns how many pushes were given back
-- why     to the day they were taken from: a refund after midnight must not open the new day's quota wider. Only what is held is
--         given back, so a repeated refund gives nothing. A bucket without any limit keeps no reservations: its count is for people
local STRUCT, BYTES = '<c4c14Bc4c10', 33
local BUCKETS, LETTERS = {[0] = 'private', [1] = 'public'}, {[0] = 'a', [1] = 'b'}
local n = tonumber(ARGV[5])
local now = tonumber(ARGV[7])
if not now then now = tonumber(redis.call('TIME')[1]) end
local day = math.floor((now + tonumber(ARGV[1])) / 86400)
local function less(key, field)
  local value = tonumber(redis.call('HGET', key, field) or '0')
  if value > 0 then redis.call('HINCRBY', key, field, -1) end
end
redis.call('HDEL', KEYS[4], ARGV[2])
local back = 0
for i = 1, n do
  local place, id, bucket, area, digest = struct.unpack(STRUCT, ARGV[6], (i - 1) * BYTES + 1)
  local found = false
  for taken = day, day - 1, -1 do
    local name = string.format('%d', taken)
    local held = KEYS[3] .. name .. ':' .. place
    local what = tonumber(redis.call('HGET', held, id))
    if what and not found then
      found = true
      local b = math.floor(what / 100)
      redis.call('HDEL', held, id)
      less(KEYS[1] .. name, BUCKETS[b])
      less(KEYS[1] .. name, BUCKETS[b] .. ':' .. (what % 100))
      less(KEYS[2] .. name .. ':' .. area, LETTERS[b] .. digest)
      back = back + 1
    end
  end
  if not found and ARGV[3 + bucket] ~= '1' then less(KEYS[1] .. string.format('%d', day), BUCKETS[bucket]) end
end
return back
