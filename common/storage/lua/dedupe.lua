-- dedupe: which of these events are new? Notes the times of the new messages among them.
-- KEYS    [1] push:{s0}:ts:<bucket>  hash: message -> its time in ms; [2] push:{s0}:ev:<half day> of now, then those in which they may
--         stand as well  hash: event -> <entry mark><epoch seconds>
-- ARGV    1 seconds to remember, 2 seconds a hash of events is kept, 3 seconds a hash of times is kept,
--         4 the events, 20 bytes each: its field (12), the mark of the entry that brings it (8),
--         5 the messages, 32 bytes each: number of the event from 1 on (4 digits), the message's field (12), its time (16 digits),
--         6 "1": the hash of events of now is known to have an end, 7 the same of the hash of times
-- returns {one character an event, '0': new, or our own reading again (a redelivery), '1': a repeat; 1 if the hash of events of now has an
--         end, 1 if the hash of times has one}
-- why     test and set in one step; a redelivery of our own entry must not be taken for a repeat, or the message is lost; a hash for
--         half a day holds an event in a third of the memory of a key of its own, and is written once a batch; few and long arguments,
--         as a client spends more on packing them than on all else
local now, keep = tonumber(redis.call('TIME')[1]), tonumber(ARGV[1])
local sub = string.sub
local events, messages = ARGV[4], ARGV[5]
local fields, found = {}, {}
for i = 1, #events, 20 do fields[#fields + 1] = sub(events, i, i + 11) end
local others = #KEYS > 2 and redis.call('EXISTS', unpack(KEYS, 3)) or 0
for k = 2, #KEYS do
  local there = k == 2 or others > 0 and redis.call('EXISTS', KEYS[k]) == 1
  for i, value in ipairs(there and redis.call('HMGET', KEYS[k], unpack(fields)) or {}) do
    if value and now - tonumber(sub(value, 9)) < keep then found[i] = sub(value, 1, 8) end
  end
end
local out, adds, own, seconds = {}, {}, {}, string.format('%d', now)
for i = 1, #fields do
  local field = fields[i]
  local mark = sub(events, 20 * i - 7, 20 * i)
  local taken = found[i] or own[field]
  if not taken then
    own[field] = mark
    adds[#adds + 1] = field
    adds[#adds + 1] = mark .. seconds
  end
  out[i] = (not taken or taken == mark) and '0' or '1'
end
local ends, times_end = ARGV[6] == '1', ARGV[7] == '1'
if #adds > 0 then
  redis.call('HSET', KEYS[2], unpack(adds))
  if not ends and redis.call('TTL', KEYS[2]) < 0 then redis.call('EXPIRE', KEYS[2], ARGV[2]) end
  ends = true
end
local times = {}
for i = 1, #messages, 32 do
  if out[tonumber(sub(messages, i, i + 3))] == '0' then
    times[#times + 1] = sub(messages, i + 4, i + 15)
    times[#times + 1] = sub(messages, i + 16, i + 31)
  end
end
if #times > 0 then
  redis.call('HSET', KEYS[1], unpack(times))
  if not times_end then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
  times_end = true
end
return {table.concat(out), ends and 1 or 0, times_end and 1 or 0}
