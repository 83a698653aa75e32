-- screen: takes places on screens, so that an older push never overwrites a newer one with its collapse id.
-- KEYS[1..n]  push:screen:<digest>  hash: ts of the newest that was shown, by: push id on the wire, until: ms, then its reader is dead
-- ARGV[1]     how long a place may be held, ms; then per key push id ("": it takes no place), ts of its event
-- returns     per key 0 it may go, 1 a newer one was shown, 2 another is on the wire
-- why         asking and taking in two calls lets two pushes of one place out together, and the vendor shows the one that came last
local at = redis.call('TIME')
local now, hold = at[1] * 1000 + math.floor(at[2] / 1000), tonumber(ARGV[1])
local told = {}
redis.call('HDEL', KEYS[1], '') -- a delete first: a server without free memory refuses a script that begins by adding
for i, key in ipairs(KEYS) do
  local id, ts = ARGV[i * 2], tonumber(ARGV[i * 2 + 1])
  local old = redis.call('HMGET', key, 'ts', 'by', 'until')
  if old[1] and tonumber(old[1]) > ts then
    told[i] = 1
  elseif old[2] and old[2] ~= id and tonumber(old[3]) > now then
    told[i] = 2
  elseif id == '' then
    told[i] = 0
  else
    redis.call('HSET', key, 'by', id, 'until', now + hold)
    if redis.call('PTTL', key) < hold then redis.call('PEXPIRE', key, hold) end
    told[i] = 0
  end
end
return told
