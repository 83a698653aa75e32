-- dedupe: which of these events are new?
-- KEYS    [1] push:{s0}:ev:<half day> of now, then those in which they may stand as well  hash: event -> <entry mark><epoch seconds>
-- ARGV    1 seconds to remember, 2 seconds a hash is kept, then per event: its field, the mark (8 bytes) of the entry that brings it
-- returns per event 0: new, or our own reading again (a redelivery), 1: a repeat
-- why     test and set in one step; a redelivery of our own entry must not be taken for a repeat, or the message is lost; a hash for
--         half a day holds an event in a third of the memory of a key of its own, and is written once a batch
local now, keep = tonumber(redis.call('TIME')[1]), tonumber(ARGV[1])
local fields, found = {}, {}
for i = 3, #ARGV, 2 do fields[#fields + 1] = ARGV[i] end
for _, key in ipairs(KEYS) do
  local told = redis.call('EXISTS', key) == 1 and redis.call('HMGET', key, unpack(fields)) or {}
  for i, value in ipairs(told) do
    if value and now - tonumber(string.sub(value, 9)) < keep then found[i] = string.sub(value, 1, 8) end
  end
end
local out, adds, own = {}, {}, {}
for i, field in ipairs(fields) do
  local mark = ARGV[2 + 2 * i]
  local taken = found[i] or own[field]
  if not taken then
    own[field] = mark
    adds[#adds + 1] = field
    adds[#adds + 1] = mark .. string.format('%d', now)
  end
  out[i] = (not taken or taken == mark) and 0 or 1
end
if #adds > 0 then
  redis.call('HSET', KEYS[1], unpack(adds))
  if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
end
return out
