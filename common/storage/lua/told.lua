-- told: the vendor's own word on a lane's day is laid over our counts.
-- KEYS[1] push:quota:<lane>:  prefix + day, see admit.lua
-- KEYS[2] push:cap:           prefix + day + ":" + 4 hex
-- ARGV    1 seconds east of UTC, 2 what: "spent" (nothing more of this bucket today), "open" (an operator knows better), "quota" (used and
--         limit as the vendor counts them), "capped" (these devices had enough today), 3 bucket number; then for "quota" used and limit,
--         for "capped" the cap and per device 4 hex and field. 4: the time in tests, else ""
-- returns 1
-- why     a mark of its own says "spent": a refund that follows would open a counter that was only raised to its limit
--         in a day's first minute the vendor speaks of the day before: its answer was on its way, or its clock is behind ours. Taken for
--         the new day's, one such word would shut the lane until the next midnight
if KEYS[1] then redis.call('HDEL', KEYS[1], '') end -- a full server judges a script by its first write: one that frees is let pass
local DAY_S, CAP_S, MIDNIGHT_S = 3 * 86400, 2 * 86400, 60
local BUCKETS, LETTERS = {[0] = 'private', [1] = 'public'}, {[0] = 'a', [1] = 'b'}
local now = tonumber(ARGV[4]) or tonumber(redis.call('TIME')[1])
local day = math.floor((now + tonumber(ARGV[1]) - (ARGV[2] == 'open' and 0 or MIDNIGHT_S)) / 86400)
local key, b = KEYS[1] .. string.format('%d', day), tonumber(ARGV[3])
local name = BUCKETS[b]
if ARGV[2] == 'capped' then
  for i = 6, #ARGV, 2 do
    local caps, device = KEYS[2] .. string.format('%d', day) .. ':' .. ARGV[i], LETTERS[b] .. ARGV[i + 1]
    if tonumber(redis.call('HGET', caps, device) or '0') < tonumber(ARGV[5]) then redis.call('HSET', caps, device, ARGV[5]) end
    redis.call('EXPIRE', caps, CAP_S)
  end
  return 1
end
if ARGV[2] == 'spent' then
  redis.call('HSET', key, name .. ':spent', 1)
elseif ARGV[2] == 'open' then
  redis.call('HDEL', key, name .. ':spent', name .. ':limit')
else
  if tonumber(redis.call('HGET', key, name) or '0') < tonumber(ARGV[5]) then redis.call('HSET', key, name, ARGV[5]) end
  redis.call('HSET', key, name .. ':limit', ARGV[6])
end
redis.call('EXPIRE', key, DAY_S)
return 1
