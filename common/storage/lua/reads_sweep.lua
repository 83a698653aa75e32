-- reads_sweep: entries that were read without a list of them, and whose reader fell silent, are listed as its own, for reclaim.lua.
-- KEYS    [1] the stream, [2] push:{s0}:open-reads, [3] push:{s0}:open-read (reads_open.lua), [4] push:{s0}:takeovers (reclaim.lua)
-- ARGV    group, milliseconds for which they were idle, id to look from, "1": look although nobody is known to have read so, "1": the last of
--         the streams: nothing is left then
-- returns id to look from next time, '-': all was seen
-- why     such an entry is known by nothing but that the group has read it, that nobody holds it, and that it is there still
local STEP, STEPS = 20, 50 -- entries that this server holds at once; looks of one call
local last = redis.call('GET', KEYS[2])
if redis.call('EXISTS', KEYS[3]) == 1 or not (last or ARGV[4] == '1') then return '-' end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local read
for _, group in ipairs(groups.err and {} or groups) do
  local told = {}
  for i = 1, #group, 2 do told[group[i]] = group[i + 1] end
  if told.name == ARGV[1] then read = told['last-delivered-id'] end
end
local at, found, more = ARGV[3], false, read ~= nil
for _ = 1, STEPS do
  local raws = more and redis.call('XRANGE', KEYS[1], at, read, 'COUNT', STEP) or {}
  for i = 1, #raws do
    local id = raws[i][1]
    if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 0 then
      redis.call('XCLAIM', KEYS[1], ARGV[1], last or 'nobody', 0, id, 'IDLE', ARGV[2], 'RETRYCOUNT', 1, 'FORCE', 'JUSTID')
      found = true
    end
    at = '(' .. id
  end
  more = #raws == STEP
  if not more then break end
end
if found then redis.call('INCR', KEYS[4]) end
if more then return at end
if ARGV[5] == '1' then redis.call('DEL', KEYS[2]) end
return '-'
