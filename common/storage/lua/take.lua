-- take: reads new entries of some streams for one reader of the group, within a bound of bytes.
-- KEYS     the streams, the most urgent first
-- ARGV     group, consumer, bytes of one read, bytes of one entry (0: any), bytes kept of a larger one, then entries by stream
-- returns  for each stream a list of {id, fields, size}; size: 0, or that of an entry over the limit, whose fields are cut.
--          One element more, an error's text, where a stream could not be read: what was read of the others must not get lost
-- why      XREADGROUP bounds a read in entries only: five hundred of 10 MiB end their reader, whoever it is
local budget, limit, head = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local STEP = 16 -- entries that this server holds at once beyond the bound, should they all be large
local FIRST = limit > 0 and 1 or 4 -- of a size that nobody knows yet; those that we write ourselves have a bound

local out, bytes = {}, 0
for i = 1, #KEYS do
  local left, largest, found = tonumber(ARGV[5 + i]), 0, {}
  local step = math.min(FIRST, math.max(left, 1))
  while left > 0 and bytes < budget do
    local got = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', step, 'STREAMS', KEYS[i], '>')
    if got and got.err then
      if bytes == 0 then
        return got
      end
      out[#KEYS + 1] = got.err
      break
    end
    local raws = got and got[1][2] or {}
    for j = 1, #raws do
      local fields, kept, size = bounded(raws[j][2], limit, head)
      found[#found + 1] = { raws[j][1], fields, size }
      bytes = bytes + kept
      largest = math.max(largest, kept, size)
    end
    if #raws < step then
      break
    end
    left = left - #raws
    step = math.max(1, math.min(STEP, left, math.floor((budget - bytes) / math.max(largest, 1))))
  end
  out[i] = found
end
return out
